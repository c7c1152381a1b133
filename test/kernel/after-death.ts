/** What is looked at when a child is dead: the database opens, shows what it has to, twice, and nothing lies about. */

import { readdirSync } from "node:fs";
import { basename, dirname } from "node:path";
import { ALL_TIME, canonical, stateOf } from "../sim/model.ts";
import { PublicStore } from "./public-store.ts";
import type { Oracle, Progress } from "../sim/oracle.ts";
import type { StoreRecord } from "../sim/store.ts";

/** @throws when a property of the oracle's list is broken. */
export function expectSoundAfterDeath(
  path: string,
  { oracle, progress }: { readonly oracle: Oracle; readonly progress: Progress },
): void {
  const first = look(path);
  const problem = oracle.checkRecovered(first, { progress, nowMs: 0 });
  if (problem !== undefined) {
    throw new Error(`property ${problem.property}: ${problem.detail} (${JSON.stringify(progress)})`);
  }
  if (shown(look(path)) !== shown(first)) throw new Error("property 5: a second open shows something else");
  const name = basename(path);
  const expected = new Set([name, `${name}.hint`, `${name}.lock`, "lost+found"]);
  const strangers = readdirSync(dirname(path)).filter((one) => !expected.has(one));
  if (strangers.length > 0) throw new Error(`property 8: ${strangers.join(", ")} lie about`);
}

function look(path: string): StoreRecord[] {
  const store = new PublicStore(path);
  try {
    if (store.db.recovery.missingBytes > 0) throw new Error("property 2: durable bytes are said to be missing");
    return store.records();
  } finally {
    store.close();
  }
}

function shown(records: readonly StoreRecord[]): string {
  return canonical(stateOf(records), ALL_TIME);
}
