/** Waiting for another process to close a database: for as long as is asked for, seldom, and not for this process itself. */

import { afterEach, expect, spyOn, test } from "bun:test";
import { LockFile } from "../../src/engine/files/lock-file.ts";
import { LockWait } from "../../src/engine/files/lock-wait.ts";
import { lockPath } from "../../src/engine/files/siblings.ts";
import { EmdbError } from "../../src/errors.ts";
import { Machine } from "../sim/machine.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { faulty } from "./engine-fixture.ts";

const PATH = "/db/store";
const LONGEST_PAUSE_MS = 64;
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

/** A process that has the lock, another one that waits for it, what it pauses, and a clock that goes on by that alone. */
class Waiting implements Disposable {
  readonly holder: SimulatedSystem;
  readonly waiter: SimulatedSystem;
  readonly lock: LockFile;
  readonly pauses: number[] = [];
  /** Called with each pause. */
  onPause: (count: number) => void = () => undefined;
  readonly #slept = spyOn(Atomics, "wait");
  #nowMs = 0;

  constructor(waiterId = 2) {
    const machine = new Machine();
    machines.push(machine);
    [this.holder, this.waiter] = [machine.boot({ processId: 1 }), machine.boot({ processId: waiterId })];
    this.holder.close(this.holder.open(PATH, "create"));
    this.lock = LockFile.take(this.holder, PATH);
    this.lock.record();
    this.#slept.mockImplementation((_words, _at, _value, timeoutMs) => {
      this.pauses.push(timeoutMs!);
      this.#nowMs += timeoutMs!;
      this.onPause(this.pauses.length);
      return "timed-out";
    });
  }

  /** What an open that is refused throws; its own pauses, of a lock that is only asked about, are not counted. */
  refused(): unknown {
    try {
      LockFile.take(this.waiter, PATH).release(true);
    } catch (error) {
      return error;
    } finally {
      this.pauses.length = 0;
    }
    throw new Error("nobody has the lock");
  }

  wait(timeoutMs: number, who = this.waiter): LockWait {
    const system = faulty(who, (call) => (call === "monotonic" ? this.#nowMs : undefined));
    return new LockWait(system, PATH, timeoutMs);
  }

  [Symbol.dispose](): void {
    this.#slept.mockRestore();
  }
}

test("it is over as soon as the holder has let go, and not before", () => {
  using waiting = new Waiting();
  const wait = waiting.wait(Infinity);
  const error = waiting.refused();
  waiting.onPause = (count) => {
    if (count === 20) waiting.lock.release(false);
  };
  expect(wait.isOver(error)).toBe(true);
  expect(waiting.pauses).toHaveLength(20);
  LockFile.take(waiting.waiter, PATH).release(true);
  expect([waiting.waiter.held(), waiting.holder.held()]).toEqual([[], []]);
});

test("each pause is drawn between half and all of one that doubles up to 64 ms, also over several tries", () => {
  using waiting = new Waiting();
  const wait = waiting.wait(Infinity);
  const error = waiting.refused();
  waiting.onPause = (count) => {
    if (count === 4) waiting.lock.release(false);
  };
  expect(wait.isOver(error)).toBe(true);
  // Another one was quicker.
  const other = LockFile.take(waiting.holder, PATH);
  waiting.onPause = (count) => {
    if (count === 40) other.release(false);
  };
  expect(wait.isOver(error)).toBe(true);
  let mostMs = 2;
  for (const pauseMs of waiting.pauses) {
    expect(pauseMs).toBeGreaterThanOrEqual(mostMs / 2);
    expect(pauseMs).toBeLessThanOrEqual(mostMs);
    mostMs = Math.min(2 * mostMs, LONGEST_PAUSE_MS);
  }
  expect(new Set(waiting.pauses).size).toBeGreaterThan(10);
});

test("when the time is up there is one more try, whose error counts, and none behind it", () => {
  using waiting = new Waiting();
  const error = waiting.refused();
  const wait = waiting.wait(1000);
  expect(wait.isOver(error)).toBe(true);
  const sum = waiting.pauses.reduce((all, pauseMs) => all + pauseMs, 0);
  expect(sum).toBe(1000);
  expect(wait.isOver(error)).toBe(false);
  expect(waiting.pauses.reduce((all, pauseMs) => all + pauseMs, 0)).toBe(1000);
});

test("nobody waits without time, for what is no lock, or for this process itself", () => {
  using waiting = new Waiting();
  const error = waiting.refused();
  expect(waiting.wait(0).isOver(error)).toBe(false);
  for (const other of [new EmdbError("EMDB_IO", "EMDB_LOCKED"), new Error("EMDB_LOCKED"), undefined])
    expect(waiting.wait(1000).isOver(other)).toBe(false);
  const own = new EmdbError("EMDB_LOCKED", "a test", {
    path: lockPath(PATH),
    holder: { pid: 1, hostname: "simulated", acquiredAtMs: 0, packageVersion: "0", isHeld: true },
  });
  expect(waiting.wait(1000, waiting.holder).isOver(own)).toBe(false);
  expect(waiting.pauses).toEqual([]);
});
