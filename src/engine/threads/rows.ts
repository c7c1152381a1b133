/**
 * The rows of the Workers that have a database open: who is there, and who has died without a word.
 *
 * A row's thread word is 0 when the row is free, a thread's number + 1 when it is taken, and minus the reaper's
 * number - 1 while a dead thread's row is being cleared.
 *
 * Invariants
 * 1. `RECLAIM_ATTACHED` is at least the number of rows that are taken; it is raised before the new Worker reads
 *    anything, and before its row can be cleared by another. Who must know whether anybody is there looks at the rows.
 * 2. A dead thread's row is cleared whole, by one reaper: its era, its snapshots, what it held, its place.
 * 3. A row whose number stands in the writer's lock is not given out again: its next holder would be taken for
 *    the dead one. Who takes the lock over makes the row free to be reaped.
 * 4. A row keeps the era of who leaves until the next one has it: who looks whether others stay never takes a row that is
 *    being given back for one of them.
 * 5. The count of rows ever used grows before one is taken, and never shrinks: what a row says is looked for below it.
 */

import { EmdbError } from "../../errors.ts";
import { IDLE, RECLAIM_ATTACHED, ROW_ERA_AT, ROW_THREAD_AT, beginEra } from "../../ffi/reclaim.ts";
import type { System } from "../../ffi/system.ts";
import { ATTACHED_MAX } from "../../limits.ts";
import { closeFile } from "../../log/shared-file.ts";
import {
  CLOSING,
  COMMIT_HOST,
  LONG_WORK,
  MUTEX,
  MUTEX_WAITERS,
  MUTEX_WAITS,
  ROWS_USED,
  SNAPSHOTS,
  SNAPSHOT_ROWS,
  SYNC_DONE,
  SYNC_JOINED,
  SYNC_JOINS,
  SYNC_OWNER,
  SYNC_UNHEARD,
  countForRow,
  folderOf,
  type Control,
} from "./control.ts";
import { rowOfHolder } from "./mutex.ts";

/** In place of a row's era, even as IDLE is: its thread has nothing more to do with the database than to clear the row. */
const LEAVING = 2;

/** Takes a free row for the calling thread. */
export function claimRow(control: Control, system: System): number {
  const rows = control.reclaim;
  const name = system.threadId() + 1;
  reapDeadRows(control, system);
  // First: whoever clears the row of one who dies behind this takes it from the count.
  Atomics.add(rows, RECLAIM_ATTACHED, 1);
  for (let row = 0; row < ATTACHED_MAX; row++) {
    noteUsed(control, row);
    if (Atomics.compareExchange(rows, ROW_THREAD_AT + row, 0, name) !== 0) continue;
    Atomics.store(rows, ROW_ERA_AT + row, IDLE);
    beginEra(rows);
    return row;
  }
  Atomics.sub(rows, RECLAIM_ATTACHED, 1);
  throw new EmdbError("EMDB_FULL", `the database is open in ${ATTACHED_MAX} Workers, which is the limit`);
}

/** Whoever looks over all rows that may say something looks at this one from now on. */
function noteUsed({ flags }: Control, row: number): void {
  for (;;) {
    const count = Atomics.load(flags, ROWS_USED);
    if (count > row || Atomics.compareExchange(flags, ROWS_USED, count, row + 1) === count) return;
  }
}

/** Gives a row back; it is the caller's, or the one it reaps. */
export function clearRow(control: Control, row: number): void {
  const rows = control.reclaim;
  if (control.numbers[SNAPSHOT_ROWS + row] !== Infinity) {
    control.numbers[SNAPSHOT_ROWS + row] = Infinity;
    Atomics.sub(control.flags, SNAPSHOTS, 1);
  }
  Atomics.store(rows, ROW_THREAD_AT + row, 0);
  Atomics.sub(rows, RECLAIM_ATTACHED, 1);
}

/** Clears the rows of threads that have ended. Several threads may do so at a time. */
export function reapDeadRows(control: Control, system: System): void {
  const rows = control.reclaim;
  const reaper = -(system.threadId() + 1);
  for (let row = 0; row < ATTACHED_MAX; row++) {
    const name = Atomics.load(rows, ROW_THREAD_AT + row);
    if (name === 0 || name === reaper || system.isThreadAlive(Math.abs(name) - 1)) continue;
    if (rowOfHolder(Atomics.load(control.flags, MUTEX)) === row) continue;
    if (Atomics.compareExchange(rows, ROW_THREAD_AT + row, name, reaper) !== name) continue;
    closeFile(system, folderOf(control, row));
    letGo(control, row);
    clearRow(control, row);
  }
}

/** Gives up the places of a dead thread's row in what goes on outside the writer's lock. */
function letGo(control: Control, row: number): void {
  const { flags } = control;
  for (const [total, rows] of [
    [MUTEX_WAITERS, MUTEX_WAITS],
    [SYNC_JOINED, SYNC_JOINS],
  ] as const) {
    countForRow(control, { total, rows, row }, -Atomics.load(flags, rows + row));
  }
  Atomics.compareExchange(flags, COMMIT_HOST, row + 1, 0);
  if (Atomics.compareExchange(flags, SYNC_OWNER, row + 1, SYNC_UNHEARD) === row + 1) {
    Atomics.add(flags, SYNC_DONE, 1);
    Atomics.notify(flags, SYNC_DONE);
  }
  Atomics.compareExchange(flags, CLOSING, row + 1, 0);
  if (Atomics.compareExchange(flags, LONG_WORK, row + 1, 0) === row + 1) Atomics.notify(flags, LONG_WORK);
}

/** Whether any row is taken by a thread that still runs. */
export function hasLivingRow(control: Control, system: System): boolean {
  for (let row = 0; row < ATTACHED_MAX; row++) {
    const name = Atomics.load(control.reclaim, ROW_THREAD_AT + row);
    if (name > 0 && system.isThreadAlive(name - 1)) return true;
  }
  return false;
}

/** Says that the thread of a row is on its way out and reads nothing any more. Under the writer's lock. */
export function markLeaving(control: Control, row: number): void {
  Atomics.store(control.reclaim, ROW_ERA_AT + row, LEAVING);
}

/** Whether any row but this one is taken by a thread that stays. Under the writer's lock. */
export function isAnotherStaying(control: Control, row: number): boolean {
  const rows = control.reclaim;
  for (let other = 0; other < ATTACHED_MAX; other++) {
    if (other === row || Atomics.load(rows, ROW_THREAD_AT + other) === 0) continue;
    if (Atomics.load(rows, ROW_ERA_AT + other) !== LEAVING) return true;
  }
  return false;
}

/**
 * Whether the database is closing or closed, so that a thread that has just claimed a row must go. Under the
 * writer's lock: the last one out looks at the rows under it too, so one of the two sees the other.
 */
export function isGone(control: Control, system: System): boolean {
  // A dead closer's row, and with it the word, is cleared here: what it left unfinished is finished by the next one.
  reapDeadRows(control, system);
  return Atomics.load(control.flags, CLOSING) !== 0;
}
