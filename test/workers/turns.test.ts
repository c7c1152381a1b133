/**
 * Threads that wait for the writer's lock get it in turn, whatever the one does that has it: it would be quicker to take it
 * again. Two threads' locks in one thread: what happens while one of them sleeps is what the other does then.
 */

import { afterEach, expect, spyOn, test } from "bun:test";
import {
  AUDIT,
  Control,
  MUTEX,
  MUTEX_LONG,
  MUTEX_TURNS,
  MUTEX_TWICE,
  MUTEX_WAITERS,
  MUTEX_WAITS,
  ROWS_USED,
} from "../../src/engine/threads/control.ts";
import { Mutex, rowOfHolder } from "../../src/engine/threads/mutex.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";

type Outcome = "ok" | "not-equal" | "timed-out";

/** A writer, one who waits for it, and what each sleep comes to, in order. */
class Two {
  nowMs = 1000;
  isAlive = true;
  readonly control = Control.create();
  readonly flags = this.control.flags;
  readonly writer: Mutex;
  readonly other: Mutex;
  /** The words that were slept on, with the waiters that were counted then. */
  readonly slept: { readonly word: number; readonly waiters: number }[] = [];
  readonly #wait = spyOn(Atomics, "wait");
  /** Waiting in turns. */
  readonly asleep = spyOn(Atomics, "waitAsync");

  constructor() {
    const system = { isThreadAlive: () => this.isAlive, monotonic: () => this.nowMs };
    this.flags[ROWS_USED] = 2;
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

afterEach(() => {
  spyOn(Atomics, "wait").mockRestore();
  spyOn(Atomics, "waitAsync").mockRestore();
});

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
  flags[MUTEX_WAITERS] = flags[MUTEX_WAITS + 1] = 1 + MUTEX_LONG;
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

test("nobody is waited for who is in the sum alone, as one that has died between its two counts", () => {
  const two = new Two();
  two.flags[MUTEX_WAITERS] = 1 + MUTEX_LONG;
  two.during();
  two.writer.lock();
  two.writer.unlock();
  two.writer.giveWay();
  expect(two.slept).toEqual([]);
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

function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.catch((error: unknown) => error);
}

/** Waits in turns on `other`; `turns` says what happens while it waits for the first time, the second, and so on. */
function inTurns(two: Two, turns: readonly (() => void)[], body: () => void): Promise<void> {
  let next = 0;
  two.asleep.mockImplementation(() => {
    two.nowMs += 1;
    return { async: false, value: "timed-out" };
  });
  return two.other.inTurns(() => {
    const happens = turns[next++];
    if (happens === undefined) throw new Error("given up");
    happens();
  }, body);
}

test("who waits in turns counts as one who has waited for long, and has the lock when it runs", async () => {
  const two = new Two();
  const { writer, other, flags } = two;
  two.during(() => "timed-out");
  writer.lock();
  const counted: number[] = [];
  const turns = [() => counted.push(flags[MUTEX_WAITERS]!), () => writer.unlock()];
  await inTurns(two, turns, () => {
    counted.push(flags[MUTEX_WAITERS]!);
    expect([other.isFree, other.isHeld, other.lentMs, writer.isFree]).toEqual([true, false, 2, false]);
    other.lock();
    expect([other.isHeld, other.lentMs]).toEqual([true, 0]);
    other.unlock();
    expect(flags[MUTEX]).toBe(0);
  });
  expect(counted).toEqual([1 + MUTEX_LONG, 0]);
  // The writer, which gave the lock back, has waited for it to come.
  expect(two.slept).toEqual([{ word: MUTEX_TURNS, waiters: 1 + MUTEX_LONG }]);
  // Once of the try for which it did not wait.
  expect([flags[MUTEX], flags[MUTEX_TURNS], flags[MUTEX_WAITERS]]).toEqual([0, 2, 0]);
});

test("what is lent and not taken is given back, also where the work fails", async () => {
  const two = new Two();
  const isFree = (): never => {
    throw new Error("it is not waited for");
  };
  two.during();
  await two.other.inTurns(isFree, () => undefined);
  expect([two.flags[MUTEX], two.other.isHeld]).toEqual([0, false]);
  const fail = (): never => {
    throw new Error("rotten");
  };
  expect(await failureOf(two.other.inTurns(isFree, fail))).toMatchObject({
    message: "rotten",
  });
  expect([two.flags[MUTEX], two.other.isHeld]).toEqual([0, false]);
  two.other.lock();
  expect([two.flags[MUTEX] === 0, two.other.isHeld]).toEqual([false, true]);
});

test("what is lent is had by who would not wait, and takes no holder for a dead one", async () => {
  const two = new Two();
  const { other, flags } = two;
  two.during();
  const isFree = (): never => {
    throw new Error("it is not waited for");
  };
  await two.other.inTurns(isFree, () => {
    expect([other.tryLock(), other.isHeld, other.tryLock()]).toEqual([true, true, true]);
    other.unlock();
    other.unlock();
    expect([flags[MUTEX], other.isHeld, flags[AUDIT]]).toEqual([0, false, 0]);
  });
  expect([flags[MUTEX], other.isHeld]).toEqual([0, false]);
});

test("who has the lock keeps it behind a step", () => {
  const { other, flags } = new Two();
  other.lock();
  expect([other.beginStep({ needsLock: true }), other.isHeld]).toEqual([true, true]);
  other.endStep();
  expect([other.isHeld, flags[MUTEX] === 0]).toEqual([true, false]);
  other.unlock();
  expect([other.isHeld, flags[MUTEX]]).toEqual([false, 0]);
});

test("who gives way waits for one who waits, and with the lock in hand for nobody", () => {
  const two = new Two();
  const { writer, flags } = two;
  two.during(() => two.later(1));
  writer.giveWay();
  flags[MUTEX_WAITERS] = flags[MUTEX_WAITS + 1] = 1;
  writer.lock();
  writer.giveWay();
  writer.unlock();
  expect(two.slept).toEqual([]);
  writer.giveWay();
  expect(two.slept).toEqual([{ word: MUTEX_TURNS, waiters: 1 }]);
});

test("a thread that waits in turns, and meanwhile takes the lock and gives it back, does not wait for itself", async () => {
  const two = new Two();
  const { writer, other, flags } = two;
  two.during(() => "timed-out");
  writer.lock();
  let isDone = false;
  const meanwhile = (): void => {
    writer.unlock();
    other.lock();
    other.unlock();
    other.giveWay();
    writer.lock();
  };
  const working = inTurns(two, [meanwhile, () => writer.unlock()], () => (isDone = true));
  // By the writer alone, when it gave the lock back.
  await working;
  expect([isDone, two.slept.length, flags[MUTEX_WAITERS]]).toEqual([true, 1, 0]);
});

/** Who waits in turns does so until it is called. */
function inLine(two: Two): { readonly call: () => void } {
  const { promise, resolve } = Promise.withResolvers<"ok">();
  two.asleep.mockImplementation(() => ({ async: true, value: promise }));
  return { call: () => resolve("ok") };
}

test("who is in the line behind an event loop that stands still for its own thread's writes is called with it", async () => {
  const two = new Two();
  const { writer, other, flags } = two;
  const { call } = inLine(two);
  const notify = spyOn(Atomics, "notify");
  const called = (): readonly unknown[] =>
    notify.mock.calls.filter(([, word]) => word === MUTEX).map(([, , count]) => count);
  writer.lock();
  const working = [1, 2].map(() =>
    other.inTurns(
      () => undefined,
      () => undefined,
    ),
  );
  expect(two.asleep.mock.calls.length).toBe(1);
  two.during(
    () => {
      expect(flags[MUTEX_WAITERS]).toBe(1 + MUTEX_LONG + 1 + MUTEX_TWICE);
      writer.unlock();
      return "ok";
    },
    () => "ok",
  );
  other.lock();
  expect(called()).toEqual([2]);
  // The thread whose event loop is in the line gives it back itself, to one who waits beside it.
  flags[MUTEX_WAITERS]! += 1;
  other.unlock();
  expect(called()).toEqual([2, 2]);
  flags[MUTEX_WAITERS]! -= 1;
  call();
  await Promise.all(working);
  notify.mockRestore();
  expect([flags[MUTEX_WAITERS], flags[MUTEX]]).toEqual([0, 0]);
});

test("a call for one that leaves, and for one that gives up, is the next one's, and nobody waits for it to come", async () => {
  for (const leaves of [true, false]) {
    const two = new Two();
    const { writer, other, flags } = two;
    const { call } = inLine(two);
    two.during(() => "timed-out");
    writer.lock();
    const giveUp = (): never => {
      throw new Error("given up");
    };
    const failure = failureOf(other.inTurns(giveUp, () => undefined));
    writer.unlock();
    const notify = spyOn(Atomics, "notify");
    if (leaves) other.leave();
    call();
    expect(await failure).toMatchObject(leaves ? { code: "EMDB_CLOSED" } : { message: "given up" });
    expect(notify.mock.calls.map(([, word]) => word).slice(-2)).toEqual([MUTEX_TURNS, MUTEX]);
    notify.mockRestore();
    expect(flags[MUTEX_WAITERS]).toBe(0);
  }
});

test("who gives up, and who leaves, is not counted any more", async () => {
  const two = new Two();
  const { writer, other, flags } = two;
  writer.lock();
  expect(await failureOf(inTurns(two, [], () => undefined))).toMatchObject({ message: "given up" });
  expect(flags[MUTEX_WAITERS]).toBe(0);
  const leave = (): void => {
    other.leave();
    expect(flags[MUTEX_WAITERS]).toBe(0);
  };
  expect(await failureOf(inTurns(two, [leave], () => undefined))).toMatchObject({ code: "EMDB_CLOSED" });
  expect(flags[MUTEX_WAITERS]).toBe(0);
  two.asleep.mockClear();
  expect(await failureOf(inTurns(two, [], () => undefined))).toMatchObject({ code: "EMDB_CLOSED" });
  // Its row may be another's, for whom it would be counted.
  expect(two.asleep).not.toHaveBeenCalled();
});

test("who leaves with the lock in hand gives it back, and has it no more", () => {
  const { writer, other, flags } = new Two();
  other.lock();
  expect([other.tryLock(), flags[AUDIT]]).toEqual([true, 0]);
  other.leave();
  other.unlock();
  expect([flags[MUTEX] === 0, writer.tryLock()]).toEqual([false, false]);
  other.unlock();
  expect([flags[MUTEX], other.isHeld, other.tryLock()]).toEqual([0, false, false]);
  expect(flags[MUTEX_WAITERS]).toBe(0);
  expect(() => other.lock()).toThrow(expect.objectContaining({ code: "EMDB_CLOSED" }));
  // Whoever was refused it gives it back all the same.
  other.unlock();
  writer.lock();
  other.unlock();
  expect([other.isHeld, writer.isHeld, flags[MUTEX] === 0]).toEqual([false, true, false]);
});

test("who waits for a while has the lock of one that dies meanwhile, and the next one is to look at what was left", () => {
  const two = new Two();
  const { writer, other, flags } = two;
  writer.lock();
  two.during(() => {
    two.isAlive = false;
    return "timed-out";
  });
  expect([other.tryLock(2), other.isHeld, flags[AUDIT], flags[MUTEX_WAITERS]]).toEqual([true, true, 1, 0]);
  other.unlock();
  expect(flags[MUTEX]).toBe(0);
});

test("the word names the row of who has the lock, and tells a thread from the one that has its row next", () => {
  const { control, flags } = new Two();
  const words = [0, 1, 255].flatMap((row) =>
    [7, 8, 2 ** 30].map((thread) => {
      control.reclaim[ROW_THREAD_AT + row] = thread;
      new Mutex(control, row, { isThreadAlive: () => true, monotonic: () => 0 }).lock();
      const word = flags[MUTEX]!;
      flags[MUTEX] = 0;
      expect([rowOfHolder(word), word > 0]).toEqual([row, true]);
      return word;
    }),
  );
  expect(new Set(words).size).toBe(9);
});

test("what one who is alone has is had by nobody else as soon as others may come, and what it has not is free", () => {
  for (const take of ["lock", "tryLock", undefined] as const) {
    const { writer, other, flags } = new Two();
    const isHeld = take !== undefined;
    other.beAlone();
    other.lock();
    other.unlock();
    if (isHeld) other[take]();
    expect([flags[MUTEX], other.isFree, other.isHeld]).toEqual([0, true, isHeld]);
    other.share();
    expect(writer.tryLock()).toBe(!isHeld);
    (isHeld ? other : writer).unlock();
    expect([flags[MUTEX], writer.tryLock()]).toEqual([0, true]);
  }
});

test("two who wait in turns on one thread count as one", async () => {
  const two = new Two();
  const { writer, flags } = two;
  two.during(
    () => "timed-out",
    () => "timed-out",
  );
  writer.lock();
  const ran: string[] = [];
  const first = inTurns(two, [() => undefined, () => writer.unlock()], () => ran.push("first"));
  const second = inTurns(two, [() => undefined, () => undefined, () => undefined], () => ran.push("second"));
  expect(flags[MUTEX_WAITERS]).toBe(1 + MUTEX_LONG);
  await Promise.all([first, second]);
  expect([ran.toSorted(), flags[MUTEX_WAITERS], flags[MUTEX]]).toEqual([["first", "second"], 0, 0]);
});

test.each([
  ["has slept for the lock itself meanwhile", 0],
  ["has waited for two seconds", 2000],
])("a thread that waits in turns and %s sleeps for it", async (_, ms) => {
  const two = new Two();
  const { writer, other, flags } = two;
  two.during(
    ...(ms === 0 ? [() => two.later(0)] : []),
    // The last one, in which the writer is done.
    () => {
      two.flags[MUTEX] = 0;
      return "ok";
    },
  );
  writer.lock();
  const meanwhile = (): void => {
    if (ms === 0) expect(other.tryLock(1)).toBe(false);
    two.nowMs += ms;
  };
  await inTurns(two, [meanwhile], () => other.lock());
  expect(other.isHeld).toBe(true);
  other.unlock();
  expect(two.slept.map(({ word }) => word)).toEqual(ms === 0 ? [MUTEX, MUTEX] : [MUTEX]);
  expect([flags[MUTEX_WAITERS], flags[MUTEX], other.isHeld]).toEqual([0, 0, false]);
});

test("nor is anybody waited for who has had the lock by then", () => {
  const two = new Two();
  const { writer, flags } = two;
  flags[MUTEX_WAITERS] = 1 + MUTEX_LONG;
  const notify = spyOn(Atomics, "notify").mockImplementation(() => {
    // The one that is woken takes the lock, says so, and gives it back.
    flags[MUTEX_TURNS]! += 1;
    flags[MUTEX_WAITERS] = 0;
    return 1;
  });
  two.during();
  writer.lock();
  writer.unlock();
  notify.mockRestore();
  expect(two.slept.length).toBe(0);
});

test("a step has the lock lent that is free, and is not to be taken where it is not, unless its thread sleeps for it anyway", () => {
  const two = new Two();
  const { writer, other, flags } = two;
  const step = { needsLock: true };
  two.during(
    () => two.later(1),
    () => two.later(1),
  );
  expect([other.beginStep(step), other.isHeld, other.lentMs, writer.isFree]).toEqual([true, false, 0, false]);
  other.endStep();
  expect([writer.isFree, other.beginStep({ needsLock: false }), writer.isFree]).toEqual([true, true, true]);
  // Within a step, it is no write of the thread's own.
  writer.lock();
  expect([other.tryLock(1), other.sleepsAnyway]).toEqual([false, false]);
  other.endStep();
  expect(other.beginStep(step)).toBe(false);
  expect([other.tryLock(1), other.sleepsAnyway, other.beginStep(step)]).toEqual([false, true, true]);
  // Nor does who would not wait sleep.
  other.endStep();
  expect([other.tryLock(), other.sleepsAnyway, other.beginStep(step)]).toEqual([false, true, true]);
  other.endStep();
  two.nowMs += 1000;
  expect([other.sleepsAnyway, other.beginStep(step), flags[MUTEX_WAITERS]]).toEqual([false, false, 0]);
});
