/** The rows of attached threads, over a system whose threads live and die as a test says. */

import { expect, test } from "bun:test";
import { AUDIT, CLOSING, Control, MUTEX, SYNC_DONE, SYNC_OWNER, SYNC_UNHEARD } from "../../src/engine/control.ts";
import { Mutex } from "../../src/engine/mutex.ts";
import { claimRow, clearRow, hasLivingRow, isAnotherStaying, isGone, markLeaving } from "../../src/engine/rows.ts";
import { RECLAIM_ATTACHED, ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import type { System } from "../../src/ffi/system.ts";

class Threads {
  readonly dead = new Set<number>();
  current = 1;

  /** What a thread sees of the system. */
  as(thread: number): System {
    this.current = thread;
    const isThreadAlive = (other: number): boolean => !this.dead.has(other);
    return { threadId: () => this.current, isThreadAlive } as unknown as System;
  }

  mutex(control: Control, row: number): Mutex {
    return new Mutex(control, row, (thread) => !this.dead.has(thread));
  }
}

const attached = (control: Control): number => Atomics.load(control.reclaim, RECLAIM_ATTACHED);

test("a dead thread's row is given out again, but not while its number stands in the writer's lock", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const holder = claimRow(control, threads.as(1));
  threads.mutex(control, holder).lock();
  const other = claimRow(control, threads.as(2));
  threads.dead.add(1).add(2);
  const comer = claimRow(control, threads.as(3));
  expect(comer).not.toBe(holder);
  expect(comer).toBe(other);
  const mutex = threads.mutex(control, comer);
  mutex.lock();
  expect(Atomics.load(control.flags, MUTEX)).toBe(comer + 1);
  expect(isGone(control, threads.as(3))).toBe(false);
  mutex.unlock();
  expect(attached(control)).toBe(1);
  expect(claimRow(control, threads.as(4))).toBe(holder);
});

test("a thread that was clearing a dead one's row when it died has its work finished by the next", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const row = claimRow(control, threads.as(1));
  // Thread 2 has just begun to clear the row of thread 1.
  control.reclaim[2 + row] = -3;
  threads.dead.add(1);
  claimRow(control, threads.as(3));
  expect(attached(control)).toBe(2);
  threads.dead.add(2);
  expect(claimRow(control, threads.as(4))).toBe(row);
  expect(attached(control)).toBe(2);
});

test("a dead thread's sync and a dead closer's word are given up with its row", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const row = claimRow(control, threads.as(1));
  Atomics.store(control.flags, SYNC_OWNER, row + 1);
  Atomics.store(control.flags, CLOSING, row + 1);
  claimRow(control, threads.as(2));
  expect(isGone(control, threads.as(2))).toBe(true);
  threads.dead.add(1);
  expect(isGone(control, threads.as(2))).toBe(false);
  expect([Atomics.load(control.flags, SYNC_OWNER), Atomics.load(control.flags, SYNC_DONE)]).toEqual([SYNC_UNHEARD, 1]);
});

test("of threads that leave at the same time, the second to decide is the last", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const [one, other] = [claimRow(control, threads.as(1)), claimRow(control, threads.as(2))];
  expect(isAnotherStaying(control, one)).toBe(true);
  markLeaving(control, one);
  expect(isAnotherStaying(control, other)).toBe(false);
  clearRow(control, one);
  clearRow(control, other);
  expect([attached(control), hasLivingRow(control, threads.as(3))]).toEqual([0, false]);
});

test("a lock taken while nobody else could attach is seen to be held, and given back, once somebody can", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const row = claimRow(control, threads.as(1));
  const mutex = threads.mutex(control, row);
  mutex.beAlone();
  mutex.lock();
  mutex.lock();
  expect(mutex.isHeld).toBe(true);
  mutex.share();
  const other = threads.mutex(control, claimRow(control, threads.as(2)));
  mutex.unlock();
  expect(other.tryLock()).toBe(false);
  mutex.unlock();
  expect(mutex.isHeld).toBe(false);
  expect(other.tryLock()).toBe(true);
  expect(mutex.tryLock()).toBe(false);
});

test("who does not wait for the lock takes a dead holder's place too, and no living one's", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const holder = threads.mutex(control, claimRow(control, threads.as(1)));
  const other = threads.mutex(control, claimRow(control, threads.as(2)));
  holder.lock();
  expect([other.tryLock(), control.flags[AUDIT]]).toEqual([false, 0]);
  threads.dead.add(1);
  expect([other.tryLock(), control.flags[AUDIT]]).toEqual([true, 1]);
  other.unlock();
  expect(control.flags[MUTEX]).toBe(0);
});

test("a lock whose dead holder had the number that this thread has now is taken over", () => {
  const control = Control.create();
  const [dead, own] = [new Mutex(control, 0, () => true), new Mutex(control, 1, () => true)];
  control.reclaim[ROW_THREAD_AT] = 78;
  control.reclaim[ROW_THREAD_AT + 1] = 78;
  dead.lock();
  own.lock();
  expect(own.isHeld).toBe(true);
  expect(control.flags[AUDIT]).toBe(1);
  own.unlock();
});
