/**
 * A thread dies in a sync that fails, and takes with it what the system said, once: the next sync succeeds. Who syncs then
 * has acknowledged nothing that is not on the disk.
 */

import { afterEach, expect, test } from "bun:test";
import { EmdbError } from "../../src/index.ts";
import { SYNC_OWNER } from "../../src/engine/control.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import type { System } from "../../src/ffi/system.ts";
import { openFile, type OpenedEngine } from "../engine/open-engine.ts";
import type { SyncFailure } from "./inode.ts";
import { Machine } from "./machine.ts";

const PATH = "/db/store";
const KEY = new Uint8Array(32).fill(5);
/** A row that nobody has, and a thread that there is not. */
const ROW = 7;
const THREAD = 8;
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

const textsOf = ({ engine }: OpenedEngine): string[] =>
  [...engine.snapshot(engine.defaultSpace)].map(({ key }) => Buffer.from(key).toString()).sort();

/** Says that the thread of a row is in a sync; it is dead. */
function leaveInSync({ engine }: OpenedEngine): void {
  const { flags, reclaim } = engine.core.control;
  Atomics.store(reclaim, ROW_THREAD_AT + ROW, THREAD + 1);
  Atomics.store(flags, SYNC_OWNER, ROW + 1);
}

function removeRow({ engine }: OpenedEngine): void {
  Atomics.store(engine.core.control.reclaim, ROW_THREAD_AT + ROW, 0);
}

/** Some records are durable, more are in the file when a thread dies in a failing sync, and then somebody flushes and the power goes. */
function flushBehind(
  syncFailure: SyncFailure,
  seed: number,
  changes: Parameters<typeof openFile>[2],
  change: (system: System) => void = () => undefined,
): { readonly isAcknowledged: boolean; readonly before: string[]; readonly after: string[] } {
  const machine = new Machine({ syncFailure, seed });
  machines.push(machine);
  const system = machine.boot();
  const opened = openFile(system, PATH, changes);
  const { engine } = opened;
  const before: string[] = [];
  const write = (key: string, bytes: number): void => {
    engine.insert(engine.defaultSpace, key, new Uint8Array(bytes).fill(seed + 1), 0);
    before.push(key);
  };
  write("durable", 700);
  opened.sync!.flush();
  for (let index = 0; index < 40; index++) write(`record ${index}`, index === 20 ? 100_000 : 9000);
  opened.sync!.spill();
  machine.failSync(machine.inodeAt(PATH)!);
  leaveInSync(opened);
  change(system);
  let isAcknowledged = true;
  try {
    opened.sync!.flush();
  } catch (error) {
    if (!(error instanceof EmdbError) || error.code !== "EMDB_POISONED") throw error;
    isAcknowledged = false;
  }
  removeRow(opened);
  system.kill();
  const next = Machine.restore(machine.capture(), { kind: "none" });
  machines.push(next);
  const again = openFile(next.boot(), PATH, changes);
  const after = textsOf(again);
  again.leave();
  return { isAcknowledged, before: before.sort(), after };
}

for (const [name, changes] of [
  ["plain", {}],
  ["encrypted", { encryption: { key: KEY } }],
] as const) {
  test(`${name}: what the kernel still has is written again, and then acknowledged`, () => {
    for (let seed = 0; seed < 8; seed++) {
      const { isAcknowledged, before, after } = flushBehind("clean", seed, changes);
      expect(isAcknowledged).toBe(true);
      expect(after).toEqual(before);
    }
  });

  test(`${name}: what the kernel has dropped is not acknowledged`, () => {
    for (let seed = 0; seed < 8; seed++) {
      const { isAcknowledged, before, after } = flushBehind("revert", seed, changes);
      if (isAcknowledged) expect(after).toEqual(before);
      expect(after).toContain("durable");
    }
  });

  test(`${name}: a disk that refuses the second time poisons`, () => {
    for (const call of ["read", "write"] as const) {
      const refuse = (system: System): void => void (system[call] = (() => -Errno.EIO) as never);
      expect(flushBehind("clean", 1, changes, refuse).isAcknowledged).toBe(false);
    }
  });
}
