/** The rows of attached threads, over a system whose threads live and die as a test says. */

import { expect, test } from "bun:test";
import {
  AUDIT,
  CLOSING,
  COMMIT_HOST,
  Control,
  LONG_WORK,
  MUTEX,
  MUTEX_WAITERS,
  MUTEX_WAITS,
  SYNC_DONE,
  SYNC_JOINED,
  SYNC_JOINS,
  SYNC_OWNER,
  SYNC_UNHEARD,
  countForRow,
  folderOf,
} from "../../src/engine/threads/control.ts";
import type { Core } from "../../src/engine/core.ts";
import { LongWork } from "../../src/engine/background/long-work.ts";
import { Mutex, rowOfHolder, type LockSystem } from "../../src/engine/threads/mutex.ts";
import {
  claimRow,
  clearRow,
  hasLivingRow,
  isAnotherStaying,
  isGone,
  markLeaving,
  reapDeadRows,
} from "../../src/engine/threads/rows.ts";
import { ATTACHED_MAX } from "../../src/limits.ts";
import { RECLAIM_ATTACHED, ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import type { FileStatus, System } from "../../src/ffi/system.ts";
import { lendFile, namedHandle } from "../../src/log/shared-file.ts";

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
    return new Mutex(
      control,
      row,
      lockSystem((thread) => !this.dead.has(thread)),
    );
  }
}

/** A system whose clock stands still. */
const lockSystem = (isThreadAlive: (thread: number) => boolean): LockSystem => ({ isThreadAlive, monotonic: () => 0 });

const ATOMICS = ["add", "compareExchange", "load", "store", "sub"] as const;

/** Runs something with a look before each atomic operation that it makes; whoever looks may throw, as a thread dies there. */
function watched(look: (operation: number) => void, body: () => void): void {
  const plain = ATOMICS.map((name) => [name, Atomics[name]] as const);
  const atomics = Atomics as unknown as Record<string, unknown>;
  const unwatch = (): void => plain.forEach(([name, operate]) => (atomics[name] = operate));
  let operations = 0;
  const watch = (): void => {
    for (const [name, operate] of plain)
      atomics[name] = (...args: unknown[]): unknown => {
        unwatch();
        look(operations++);
        watch();
        return (operate as (...all: unknown[]) => unknown)(...args);
      };
  };
  watch();
  try {
    body();
  } finally {
    unwatch();
  }
}

/** Runs something for each atomic operation that it makes up to there, as a thread that dies before that one. */
function deaths(begin: () => { readonly body: () => void; readonly afterDeath: () => void }): number {
  for (let death = 0; ; death++) {
    const { body, afterDeath } = begin();
    let isDead = false;
    const die = (operation: number): void => {
      if (operation !== death) return;
      isDead = true;
      throw new Error("dead");
    };
    try {
      watched(die, body);
    } catch (error) {
      if (!isDead) throw error;
    }
    if (!isDead) return death;
    afterDeath();
  }
}

/** Rows that are taken. */
function takenRows(control: Control): number {
  const names = Array.from({ length: ATTACHED_MAX }, (_, row) => Atomics.load(control.reclaim, ROW_THREAD_AT + row));
  return names.filter((name) => name !== 0).length;
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
  expect(rowOfHolder(Atomics.load(control.flags, MUTEX))).toBe(comer);
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

test("a dead thread hosts no commits, waits for nothing and does no long work, once its row is cleared", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const [row, other] = [claimRow(control, threads.as(1)), claimRow(control, threads.as(2))];
  const { flags } = control;
  const counts = [
    { total: MUTEX_WAITERS, rows: MUTEX_WAITS },
    { total: SYNC_JOINED, rows: SYNC_JOINS },
  ];
  for (const count of counts) for (const of of [row, other]) countForRow(control, { ...count, row: of }, 3);
  for (const word of [COMMIT_HOST, LONG_WORK]) Atomics.store(flags, word, row + 1);
  threads.dead.add(1);
  reapDeadRows(control, threads.as(2));
  expect([COMMIT_HOST, LONG_WORK, MUTEX_WAITERS, SYNC_JOINED].map((word) => flags[word])).toEqual([0, 0, 3, 3]);
  expect([MUTEX_WAITS, SYNC_JOINS].map((rows) => flags[rows + row])).toEqual([0, 0]);
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
  const system = lockSystem(() => true);
  const [dead, own] = [new Mutex(control, 0, system), new Mutex(control, 1, system)];
  control.reclaim[ROW_THREAD_AT] = 78;
  control.reclaim[ROW_THREAD_AT + 1] = 78;
  dead.lock();
  own.lock();
  expect(own.isHeld).toBe(true);
  expect(control.flags[AUDIT]).toBe(1);
  own.unlock();
});

test("wherever a thread dies while it takes a row or gives it back, the others are counted", () => {
  for (const isLeaving of [false, true]) {
    const count = deaths(() => {
      const [control, threads] = [Control.create(), new Threads()];
      claimRow(control, threads.as(1));
      claimRow(control, threads.as(2));
      const system = threads.as(3);
      const row = isLeaving ? claimRow(control, system) : -1;
      const afterDeath = (): void => {
        threads.dead.add(3);
        reapDeadRows(control, threads.as(2));
        expect(takenRows(control)).toBe(2);
        expect(attached(control)).toBeGreaterThanOrEqual(2);
      };
      return { body: () => (isLeaving ? clearRow(control, row) : claimRow(control, system)), afterDeath };
    });
    expect(count).toBeGreaterThan(1);
  }
});

test("wherever a thread dies while it counts for its row, those that live are counted", () => {
  for (const change of [1, -1]) {
    const count = deaths(() => {
      const [control, threads] = [Control.create(), new Threads()];
      const countWaiting = (row: number, by: number): void =>
        countForRow(control, { total: MUTEX_WAITERS, rows: MUTEX_WAITS, row }, by);
      countWaiting(claimRow(control, threads.as(1)), 1);
      const row = claimRow(control, threads.as(2));
      if (change < 0) countWaiting(row, 1);
      const afterDeath = (): void => {
        threads.dead.add(2);
        reapDeadRows(control, threads.as(1));
        expect(Atomics.load(control.flags, MUTEX_WAITERS)).toBeGreaterThanOrEqual(1);
      };
      return { body: () => countWaiting(row, change), afterDeath };
    });
    expect(count).toBe(2);
  }
});

test("a folder that a dead thread had open is closed with its row, if the handle still is that folder", () => {
  const [own, other] = ["folder", "another file"].map((identity) => ({ identity }) as unknown as FileStatus);
  for (const now of [own!, other!]) {
    const [control, threads] = [Control.create(), new Threads()];
    const row = claimRow(control, threads.as(1));
    lendFile(folderOf(control, row), 7, own!);
    threads.dead.add(1);
    const closed: number[] = [];
    const files = { statusOf: () => now, close: (handle: number) => closed.push(handle) };
    reapDeadRows(control, { ...threads.as(2), ...files });
    expect(closed).toEqual(now === own ? [7] : []);
    expect(namedHandle(folderOf(control, row))).toBeUndefined();
  }
});

test("who finds no row is not counted", () => {
  const [control, threads] = [Control.create(), new Threads()];
  for (let thread = 1; thread <= ATTACHED_MAX; thread++) claimRow(control, threads.as(thread));
  expect(() => claimRow(control, threads.as(ATTACHED_MAX + 1))).toThrow("which is the limit");
  expect(attached(control)).toBe(ATTACHED_MAX);
});

test("of threads that leave at the same time one is the last, wherever the other is in giving its row back", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const [one, other] = [claimRow(control, threads.as(1)), claimRow(control, threads.as(2))];
  markLeaving(control, one);
  const staying: boolean[] = [];
  watched(
    () => staying.push(isAnotherStaying(control, other)),
    () => clearRow(control, one),
  );
  expect(staying.length).toBeGreaterThan(1);
  expect(staying).not.toContain(true);
  // Who gets the row next stays.
  expect(claimRow(control, threads.as(3))).toBe(one);
  expect(isAnotherStaying(control, other)).toBe(true);
});

test("the lock of a thread that has the row of a dead holder by now is not taken over", () => {
  const [control, threads] = [Control.create(), new Threads()];
  const holder = claimRow(control, threads.as(1));
  threads.mutex(control, holder).lock();
  const [quick, slow] = [claimRow(control, threads.as(2)), claimRow(control, threads.as(3))];
  threads.dead.add(1);
  let next: Mutex | undefined;
  // Between the look at the dead holder and what follows from it another one takes over, and the row goes to a newcomer.
  const isAlive = (thread: number): boolean => {
    if (next !== undefined) return !threads.dead.has(thread);
    const first = threads.mutex(control, quick);
    first.lock();
    first.unlock();
    expect(claimRow(control, threads.as(4))).toBe(holder);
    next = threads.mutex(control, holder);
    next.lock();
    return false;
  };
  expect(new Mutex(control, slow, lockSystem(isAlive)).tryLock()).toBe(false);
  next!.unlock();
  expect(control.flags[MUTEX]).toBe(0);
});

test("wherever a holder leaves and another gets its row while a thread tries for the lock, one has it at most", () => {
  let operations = 0;
  for (let leave = 0; leave <= operations; leave++) {
    for (let come = leave; come <= operations + 1; come++) {
      const [control, threads] = [Control.create(), new Threads()];
      const row = claimRow(control, threads.as(1));
      const holder = threads.mutex(control, row);
      holder.lock();
      const slow = threads.mutex(control, claimRow(control, threads.as(2)));
      let next: Mutex | undefined;
      const look = (operation: number): void => {
        operations = Math.max(operations, operation);
        if (operation === leave) {
          holder.unlock();
          clearRow(control, row);
        }
        if (operation !== come) return;
        expect(claimRow(control, threads.as(1))).toBe(row);
        next = threads.mutex(control, row);
        next.tryLock();
      };
      watched(look, () => slow.tryLock());
      expect([leave, come, slow.isHeld && next?.isHeld === true]).toEqual([leave, come, false]);
    }
  }
  expect(operations).toBeGreaterThan(2);
});

test("wherever one gives long work up and leaves while a thread tries for it, it has one place at most", () => {
  let operations = 0;
  for (let leave = 0; leave <= operations; leave++) {
    for (let come = leave; come <= operations + 1; come++) {
      const [control, threads] = [Control.create(), new Threads()];
      const work = (row: number): LongWork =>
        new LongWork({ control, row, system: threads.as(row) } as unknown as Core, () => undefined);
      const row = claimRow(control, threads.as(1));
      const holder = work(row);
      holder.tryTake();
      const slow = work(claimRow(control, threads.as(2)));
      let next: LongWork | undefined;
      const look = (operation: number): void => {
        operations = Math.max(operations, operation);
        if (operation === leave) {
          holder.give();
          clearRow(control, row);
        }
        if (operation !== come) return;
        expect(claimRow(control, threads.as(1))).toBe(row);
        next = work(row);
        next.tryTake();
      };
      watched(look, () => slow.tryTake());
      expect([leave, come, slow.isOurs && next?.isOurs === true]).toEqual([leave, come, false]);
    }
  }
  expect(operations).toBeGreaterThan(0);
});
