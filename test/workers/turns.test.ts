/**
 * Threads that wait for the writer's lock get it in turn, whatever the one does that has it: it would be quicker to take it
 * again. Two threads' locks in one thread: what happens while one of them sleeps is what the other does then.
 */

import { afterEach, expect, spyOn, test } from "bun:test";
import { Control, MUTEX, MUTEX_LONG, MUTEX_TURNS, MUTEX_WAITERS } from "../../src/engine/threads/control.ts";
import { Mutex } from "../../src/engine/threads/mutex.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";

type Outcome = "ok" | "not-equal" | "timed-out";

/** A writer, one who waits for it, and what each sleep comes to, in order. */
class Two {
  nowMs = 1000;
  readonly control = Control.create();
  readonly flags = this.control.flags;
  readonly writer: Mutex;
  readonly other: Mutex;
  /** The words that were slept on, with the waiters that were counted then. */
  readonly slept: { readonly word: number; readonly waiters: number }[] = [];
  readonly #wait = spyOn(Atomics, "wait");

  constructor() {
    const system = { isThreadAlive: () => true, monotonic: () => this.nowMs };
    for (const row of [0, 1]) this.control.reclaim[ROW_THREAD_AT + row] = 10 + row;
    [this.writer, this.other] = [new Mutex(this.control, 0, system), new Mutex(this.control, 1, system)];
  }

  /** What each sleep comes to. */
  during(...sleeps: readonly (() => Outcome)[]): void {
    let next = 0;
    this.#wait.mockImplementation(((words: Int32Array, word: number, value: number) => {
      expect(words[word]).toBe(value);
      this.slept.push({ word, waiters: this.flags[MUTEX_WAITERS]! });
      const sleep = sleeps[next++];
      if (sleep === undefined) throw new Error("nobody was to sleep here");
      return sleep();
    }) as typeof Atomics.wait);
  }

  later(ms: number): Outcome {
    this.nowMs += ms;
    return "timed-out";
  }
}

afterEach(() => spyOn(Atomics, "wait").mockRestore());

test("who has waited for a millisecond is let by, and says that it has come", () => {
  const two = new Two();
  const { writer, other, flags } = two;
  writer.lock();
  two.during(
    () => two.later(2),
    () => {
      writer.unlock();
      return "ok";
    },
    // The writer's, who has given the lock back and is about to take it again.
    () => {
      expect(flags[MUTEX]).toBe(0);
      return "ok";
    },
  );
  other.lock();
  expect(two.slept).toEqual([
    { word: MUTEX, waiters: 1 },
    { word: MUTEX, waiters: 1 + MUTEX_LONG },
    { word: MUTEX_TURNS, waiters: 1 + MUTEX_LONG },
  ]);
  expect([other.isHeld, flags[MUTEX_TURNS], flags[MUTEX_WAITERS]]).toEqual([true, 1, 0]);
});

test("who has not waited for long is not waited for", () => {
  const two = new Two();
  two.writer.lock();
  two.during(() => {
    two.writer.unlock();
    return "ok";
  });
  two.other.lock();
  expect(two.slept).toEqual([{ word: MUTEX, waiters: 1 }]);
  expect([two.other.isHeld, two.flags[MUTEX_TURNS], two.flags[MUTEX_WAITERS]]).toEqual([true, 1, 0]);
});

test("where nobody comes nobody is waited for during some time", () => {
  const two = new Two();
  const { writer, flags } = two;
  // One that died while it waited.
  flags[MUTEX_WAITERS] = 1 + MUTEX_LONG;
  const again = (): number => {
    writer.lock();
    writer.unlock();
    return two.slept.length;
  };
  two.during(
    () => two.later(10),
    () => two.later(10),
  );
  expect([again(), again()]).toEqual([1, 1]);
  two.nowMs += 99;
  expect(again()).toBe(1);
  two.nowMs += 1;
  expect(again()).toBe(2);
});

test("nobody is waited for who has the lock by then", () => {
  const two = new Two();
  const { writer, other, flags } = two;
  flags[MUTEX_WAITERS] = 1 + MUTEX_LONG;
  const notify = spyOn(Atomics, "notify").mockImplementation(() => {
    if (!other.isHeld) other.lock();
    return 1;
  });
  two.during();
  writer.lock();
  writer.unlock();
  notify.mockRestore();
  expect([other.isHeld, two.slept.length]).toEqual([true, 0]);
});
