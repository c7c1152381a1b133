/** Logs that are long enough for helpers to open frames ahead, and helpers of a test's own. */

import { rmSync, writeFileSync } from "node:fs";
import type { Cipher } from "../../src/crypto/cipher.ts";
import type { Environment } from "../../src/engine/assemble.ts";
import type { AheadOrders } from "../../src/engine/sealed/open-ahead-script.ts";
import type { AheadHelpers } from "../../src/engine/sealed/open-ahead.ts";
import { openFile } from "../../src/engine/open/open.ts";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { CONFIG, type Config } from "../engine/open-engine.ts";
import { KEY } from "./rekey-fixture.ts";

export const SECRET = { encryption: { key: KEY } };
const RECORDS = 9000;
/** Longer than a piece. */
const LONG_BYTES = 300_000;

export const keyOf = (index: number): string => `key ${String(index).padStart(6, "0")}`;
export const valueOf = (index: number): Uint8Array => new Uint8Array(700 + ((index * 37) % 600)).fill(index % 251);

/** A log of three sessions, with all kinds of frames and a few values that are longer than a piece. */
export function writeLog(path: string, cipher: Cipher = "aes-256-gcm"): void {
  {
    using db = Emdb.open(path, { ...SECRET, cipher });
    const some = Array.from({ length: 2000 }, (_, index) => [keyOf(index), valueOf(index)] as const);
    db.insertMany(some);
    for (let index = 2000; index < 4000; index++) db.insert(keyOf(index), valueOf(index));
    db.insert("long", new Uint8Array(LONG_BYTES).fill(7));
  }
  {
    using db = Emdb.open(path, SECRET);
    const other = db.namespace("other");
    for (let index = 4000; index < RECORDS; index++) {
      if (index % 100 === 0) db.remove(keyOf(index - 50));
      if (index % 101 === 0) db.insert(keyOf(index - 1000), valueOf(index), { ttlMs: 10 ** 9 });
      (index % 3 === 0 ? other : db).insert(keyOf(index), valueOf(index));
    }
    db.namespace("emptied").insert("k", "v");
    db.namespace("emptied").clear();
    db.insert("long too", new Uint8Array(LONG_BYTES).fill(8));
  }
  {
    using db = Emdb.open(path, SECRET);
    for (let index = 0; index < 600; index++) db.insert(`late ${index}`, valueOf(index));
  }
}

/** What came of an open: everything that the database holds, or the error. */
export type Found =
  | { readonly records: readonly string[]; readonly replayed: number; readonly tornBytes: number }
  | { readonly code: string; readonly offset: number | undefined };

export interface Opening {
  readonly bytes: Uint8Array;
  readonly readOnly?: boolean;
  readonly environment?: Partial<Environment>;
}

/** Lays a log at a path and opens it, without an image. */
export function openAt(path: string, { bytes, readOnly = false, environment = {} }: Opening): Found {
  for (const sidecar of [".hint", ".lock"]) rmSync(path + sidecar, { force: true });
  writeFileSync(path, bytes);
  const config: Config = { ...CONFIG, ...SECRET, createIfMissing: false, readOnly };
  const whole = { system: hostSystem(), defer: () => undefined, hasWorkers: false, ...environment };
  try {
    const opened = openFile(whole, { path, createFolders: false, config });
    const { engine, base } = opened;
    const records = [engine.defaultSpace, ...engine.spaces.list()].map((space) => {
      let sum = 0n;
      for (const { key, value, expiresAtMs } of engine.snapshot(space))
        sum ^= Bun.hash.wyhash(value, Bun.hash.wyhash(key, BigInt(expiresAtMs)));
      return `${space.name}: ${engine.count(space)} ${sum}`;
    });
    opened.leave();
    return { records, replayed: base.recovery.replayedRecords, tornBytes: base.recovery.tornBytes };
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    return { code: error.code, offset: error.offset };
  }
}

/** Slots of a block in a state, as indexes of the words that say so. */
export function slotsIn(orders: Pick<AheadOrders, "buffer" | "layout">, ...states: number[]): number[] {
  const { layout, buffer } = orders;
  const words = new Int32Array(buffer);
  const all = Array.from({ length: layout.slots }, (_, slot) => (layout.slotsAt + slot * layout.slotBytes) / 4);
  return all.map((word) => word + layout.wordState).filter((word) => states.includes(Atomics.load(words, word)));
}

const TURNS_MAX = 600;

/** Waits until a helper has done with all that is offered. */
export function awaitHelper(orders: AheadOrders): void {
  const { filled, taken } = orders.layout;
  const words = new Int32Array(orders.buffer);
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    const [word] = slotsIn(orders, filled, taken);
    if (word === undefined) return;
    Atomics.wait(words, word, Atomics.load(words, word), 100);
  }
  throw new Error("the helper does not come");
}

/** An environment in which `ahead` is called before each piece is read ahead. */
export function helped(
  start: (orders: AheadOrders) => void,
  ahead: (orders: AheadOrders) => void,
): { readonly environment: Partial<Environment>; readonly pieces: () => number; readonly orders: () => AheadOrders } {
  let told: AheadOrders | undefined;
  let pieces = 0;
  const helpers: AheadHelpers = {
    count: 1,
    start: (orders) => {
      told = orders;
      start(orders);
    },
  };
  const system = faulty(hostSystem(), (call, [, into]) => {
    const isAhead = call === "read" && (into as Uint8Array).buffer instanceof SharedArrayBuffer;
    if (!isAhead || told === undefined) return undefined;
    pieces += 1;
    ahead(told);
    return undefined;
  });
  return { environment: { system, helpers }, pieces: () => pieces, orders: () => told! };
}
