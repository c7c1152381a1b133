/** Steps under the writer's lock: one for each where nobody else has it, as many as the wait for it was long where others have. */

import { expect, test } from "bun:test";
import type { Core } from "../../src/engine/core.ts";
import { heldSteps } from "../../src/engine/threads/held-steps.ts";

const STEP_MS = 2;

/** A lock that takes `waitMs` to be had, over a clock that its steps move. */
class Waits {
  nowMs = 1000;
  steps = 0;
  taken = 0;
  isHeld = false;
  readonly core: Pick<Core, "mutex" | "system">;

  constructor(waitMs: number) {
    const mutex = {
      lentMs: 0,
      lock: () => {
        this.nowMs += waitMs;
        this.taken += 1;
        this.isHeld = true;
      },
      unlock: () => (this.isHeld = false),
    };
    this.core = { mutex, system: { monotonic: () => this.nowMs } } as unknown as Pick<Core, "mutex" | "system">;
  }

  /** One of `count` steps. */
  step(count: number): boolean {
    expect(this.isHeld).toBe(true);
    if (this.steps === count) return false;
    this.steps += 1;
    this.nowMs += STEP_MS;
    return true;
  }
}

test.each([
  ["free", 0, 1],
  ["had after as long as a step takes", STEP_MS, 1],
  ["had after a while", 5 * STEP_MS, 5],
  ["had after a long batch", 1000, 10],
])("a lock that is %s", (_, waitMs, steps) => {
  const waits = new Waits(waitMs);
  expect(heldSteps(waits.core, () => waits.step(100))).toBe(true);
  expect([waits.steps, waits.taken, waits.isHeld]).toEqual([steps, 1, false]);
});

test("all of them are taken, and none behind the last one", () => {
  const waits = new Waits(3 * STEP_MS);
  while (heldSteps(waits.core, () => waits.step(10)));
  expect([waits.steps, waits.taken, waits.isHeld]).toEqual([10, 4, false]);
});

test("no more are taken when what they fill is full, and the lock is given back behind one that throws", () => {
  const waits = new Waits(1000);
  const mayGoOn = (): boolean => waits.steps < 3;
  expect(heldSteps(waits.core, () => waits.step(100), mayGoOn)).toBe(true);
  expect([waits.steps, waits.isHeld]).toEqual([3, false]);
  const fail = (): never => {
    throw new Error("rotten");
  };
  expect(() => heldSteps(waits.core, fail)).toThrow("rotten");
  expect(waits.isHeld).toBe(false);
});
