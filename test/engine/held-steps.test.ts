/** Steps under the writer's lock: one for each where nobody else has it, as many as the wait for it was long where others have. */

import { expect, test } from "bun:test";
import type { Core } from "../../src/engine/core.ts";
import { heldSteps, inSlices } from "../../src/engine/threads/held-steps.ts";

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

/** Takes steps in slices, and tells in which order everything was done. `has` says of each step whether its lock can be had at once. */
async function orderOf(
  count: number,
  { has = () => true, isDue = () => false, endsAtCheck = Infinity }: SliceOptions = {},
): Promise<string[]> {
  const order: string[] = [];
  let [steps, checks] = [0, 0];
  const check = (): void => {
    order.push("check");
    if (++checks === endsAtCheck) throw new Error("given up");
  };
  const mutex = {
    beginStep: () => has(steps),
    endStep: () => void order.push("end"),
    inTurns: async (before: () => void, body: () => boolean): Promise<boolean> => {
      order.push("wait");
      before();
      return body();
    },
  };
  const step = (): boolean => {
    order.push("step");
    return ++steps < count;
  };
  const turn = async (): Promise<void> => void order.push("turn");
  const working = inSlices({ mutex } as unknown as Pick<Core, "mutex">, { step, isTurnDue: isDue, turn, check });
  await working.catch((error: unknown) => order.push((error as Error).message));
  return order;
}

interface SliceOptions {
  readonly has?: (step: number) => boolean;
  readonly isDue?: () => boolean;
  readonly endsAtCheck?: number;
}

test("the loop turns when that is due, and behind no other step whose lock was free", async () => {
  expect(await orderOf(3)).toEqual(["step", "end", "step", "end", "step", "end"]);
  const turning = await orderOf(2, { isDue: () => true });
  expect(turning).toEqual(["step", "end", "turn", "check", "step", "end"]);
});

test("behind a step that had to wait the loop turns, and before and behind that it is asked whether the work goes on", async () => {
  const has = (step: number): boolean => step !== 0;
  const waited = ["wait", "check", "step", "check"];
  expect(await orderOf(2, { has })).toEqual([...waited, "turn", "check", "step", "end"]);
  expect(await orderOf(2, { has, endsAtCheck: 2 })).toEqual([...waited, "given up"]);
  expect(await orderOf(2, { has, endsAtCheck: 3 })).toEqual([...waited, "turn", "check", "given up"]);
});

test("work that is given up while the loop turns takes no other step", async () => {
  const order = await orderOf(2, { isDue: () => true, endsAtCheck: 1 });
  expect(order).toEqual(["step", "end", "turn", "check", "given up"]);
});
