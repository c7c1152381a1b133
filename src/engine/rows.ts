/**
 * The rows of the Workers that have a database open: who is there, and who has died without a word.
 *
 * Invariants
 * 1. `RECLAIM_ATTACHED` is the number of rows whose thread word is not 0; it is raised before the new Worker
 *    reads anything.
 * 2. A dead thread's row is cleared whole: its era, its snapshots, its place.
 */

import { EmdbError } from "../errors.ts";
import { IDLE, RECLAIM_ATTACHED, RECLAIM_ERA, ROW_ERA_AT, ROW_THREAD_AT } from "../ffi/reclaim.ts";
import type { System } from "../ffi/system.ts";
import { ATTACHED_MAX } from "../limits.ts";
import { SNAPSHOTS, SNAPSHOT_ROWS, type Control } from "./control.ts";

/** Takes a free row for the calling thread. */
export function claimRow(control: Control, system: System): number {
  const rows = control.reclaim;
  const name = system.threadId() + 1;
  reapDeadRows(control, system);
  for (let row = 0; row < ATTACHED_MAX; row++) {
    if (Atomics.compareExchange(rows, ROW_THREAD_AT + row, 0, name) !== 0) continue;
    Atomics.add(rows, RECLAIM_ATTACHED, 1);
    Atomics.add(rows, RECLAIM_ERA, 1);
    return row;
  }
  throw new EmdbError("EMDB_FULL", `the database is open in ${ATTACHED_MAX} Workers, which is the limit`);
}

/** Gives a row back. */
export function clearRow(control: Control, row: number): void {
  const rows = control.reclaim;
  Atomics.store(rows, ROW_ERA_AT + row, IDLE);
  if (control.numbers[SNAPSHOT_ROWS + row] !== Infinity) {
    control.numbers[SNAPSHOT_ROWS + row] = Infinity;
    Atomics.sub(control.flags, SNAPSHOTS, 1);
  }
  Atomics.store(rows, ROW_THREAD_AT + row, 0);
  Atomics.sub(rows, RECLAIM_ATTACHED, 1);
}

/** Clears the rows of threads that have ended. Under the writer's lock, or before anything is shared. */
export function reapDeadRows(control: Control, system: System): void {
  const rows = control.reclaim;
  for (let row = 0; row < ATTACHED_MAX; row++) {
    const name = Atomics.load(rows, ROW_THREAD_AT + row);
    if (name !== 0 && !system.isThreadAlive(name - 1)) clearRow(control, row);
  }
}
