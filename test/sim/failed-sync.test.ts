/**
 * After a failed sync the cache may hold pages that pass for written and are not. A reopen in the same running system
 * shows what the disk has; what it showed, no power loss takes back.
 */

import { afterEach, expect, test } from "bun:test";
import { EmdbError } from "../../src/index.ts";
import { engineAdapter } from "./engine-adapter.ts";
import { Machine } from "./machine.ts";
import type { SyncFailure } from "./inode.ts";
import type { OpenStore } from "./store.ts";

const PATH = "/db/store";
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

function insert(store: OpenStore, key: string): void {
  store.insert({ space: "", key, value: "x".repeat(700), expiresAtMs: 0 });
}

function keysOf(store: OpenStore): string[] {
  return [...store.records()].map(({ key }) => key).sort();
}

interface Outcome {
  /** Shown by the reopen, and after the power was lost behind it. */
  readonly reopened: string[];
  readonly afterwards: string[];
  readonly hasLostAcknowledged: boolean;
}

/** One record is flushed; the flush of another one fails; the process closes what it can and opens again. */
function failAndReopen(syncFailure: SyncFailure, seed: number, canForgetCached = true): Outcome {
  const machine = new Machine({ syncFailure, seed, canForgetCached });
  machines.push(machine);
  const first = machine.boot();
  const adapter = engineAdapter();
  const store = adapter.open(first, PATH);
  insert(store, "flushed");
  store.flush();
  insert(store, "not flushed");
  const inode = machine.inodeAt(PATH);
  const sync = first.sync.bind(first);
  first.sync = (file) => {
    first.sync = sync;
    machine.failSync(inode!);
    inode!.unaware = file + 1;
    return -5;
  };
  expect(() => store.flush()).toThrow(EmdbError);
  expect(() => store.close()).toThrow(EmdbError);
  const again = adapter.open(first, PATH);
  const reopened = keysOf(again);
  again.abandon?.();
  first.kill();
  const next = Machine.restore(machine.capture(), { kind: "none" });
  machines.push(next);
  const last = adapter.open(next.boot(), PATH);
  const afterwards = keysOf(last);
  last.close();
  return { reopened, afterwards, hasLostAcknowledged: machine.hasLostAcknowledged };
}

test.each<SyncFailure>(["clean", "revert"])(
  "what a reopen shows after a failed sync (%s) is on the disk, whatever the cache says",
  (syncFailure) => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 40; seed += 1) {
      const { reopened, afterwards, hasLostAcknowledged } = failAndReopen(syncFailure, seed);
      expect(reopened).toContain("flushed");
      expect(afterwards).toEqual(reopened);
      expect(hasLostAcknowledged).toBe(false);
      seen.add(reopened.join());
    }
    // What was not acknowledged may have reached the disk, or not.
    if (syncFailure === "clean") expect([...seen].sort()).toEqual(["flushed", "flushed,not flushed"]);
  },
);

test("where the system cannot be made to forget, a power loss takes back what a reopen showed", () => {
  const all = Array.from({ length: 40 }, (_, seed) => failAndReopen("clean", seed, false));
  expect(all.some(({ reopened, afterwards }) => reopened.length > afterwards.length)).toBe(true);
});
