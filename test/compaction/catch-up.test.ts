/** A copy catches up with whoever writes, however fast: writers that are faster are held, others never. */

import { expect, test } from "bun:test";
import { Chase, catchUpSteps, roundSteps } from "../../src/engine/copy/catch-up.ts";

const MIB = 1024 * 1024;
/** So much is synced at once. */
const SYNC_BYTES = 4 * MIB;

interface Writers {
  /** How many bytes they write for each that is copied or synced, but not while they are held. */
  readonly share: number;
  /** What they write in each turn of the event loop, and whenever the lock is given back. */
  readonly turn: number;
  /** What is written while the steps wait for the lock: a batch, of which nobody sees anything before it is over. */
  readonly batch?: number;
}

/** Runs the steps beside writers, of a log that is so many bytes behind. */
function run(
  writers: Writers,
  behind: number,
): Record<"steps" | "holds" | "letBy" | "longest" | "left" | "still", number> {
  let holds = 0;
  let letBy = 0;
  let longest = 0;
  let held = 0;
  let isHeld = false;
  // How much is copied at most without a turn of the loop.
  let still = 0;
  let turnedAt = 0;
  const giveWay = (): void => {
    letBy += isHeld ? 0 : 1;
    core.visible += writers.turn;
  };
  const core = { visible: behind, base: 0, mutex: { giveWay } };
  const work = (bytes: number): void => {
    if (isHeld) held += bytes;
    else core.visible += bytes * writers.share;
  };
  const engine = {
    core,
    exclusively<T>(body: () => T): T {
      holds += 1;
      held = 0;
      core.visible += writers.batch ?? 0;
      isHeld = true;
      const result = body();
      isHeld = false;
      longest = Math.max(longest, held);
      return result;
    },
  };
  let synced = 0;
  const copying = {
    done: 0,
    catchUp(end: number, bytesMax: number) {
      const bytes = Math.min(end - this.done, bytesMax);
      this.done += bytes;
      work(bytes);
    },
    writeBackNowAndThen() {
      const bytes = this.done - synced;
      if (bytes < SYNC_BYTES) return;
      synced = this.done;
      work(bytes);
    },
  };
  let steps = 0;
  let left = NaN;
  const finish = (): void => {
    // Where they are held nothing comes in between.
    expect(isHeld).toBe(holds > 0);
    left = core.visible - copying.done;
  };
  const parts = { chase: new Chase(engine as never, 0), finish };
  for (const _ of catchUpSteps(engine as never, undefined, copying as never, parts)) {
    core.visible += writers.turn;
    if (holds === 0) still = Math.max(still, copying.done - turnedAt);
    turnedAt = copying.done;
    if (++steps > 1000) break;
  }
  return { steps, holds, letBy, longest, left, still };
}

test.each([
  { share: 0, turn: 0, behind: 100e6, left: 128 * 1024, holds: false },
  { share: 0.2, turn: 10e3, behind: 100e6, left: 128 * 1024, holds: false },
  { share: 0, turn: 200e3, behind: 100e6, left: 200e3, holds: false },
  { share: 0.6, turn: 10e3, behind: 100e6, left: MIB, holds: true },
  { share: 1, turn: 10e3, behind: 100e6, left: MIB, holds: true },
  { share: 1.3, turn: 100e3, behind: 10e6, left: MIB, holds: true },
  { share: 3, turn: 10e3, behind: 5e6, left: MIB, holds: true },
  { share: 1, turn: 10e6, behind: 100e6, left: 25e6, holds: true },
  { share: 1, turn: 80e6, behind: 100e6, left: 260e6, holds: true },
  { share: 1, turn: 0, batch: 6e6, behind: 100e6, left: 8e6, holds: true },
  { share: 1, turn: 10e3, batch: 60e6, behind: 100e6, left: 110e6, holds: true },
])("beside writers of $share of its speed, $turn bytes a turn, $batch in each batch, $behind bytes behind", (given) => {
  const ran = run(given, given.behind);
  expect(ran.steps).toBeLessThan(1000);
  expect(ran.holds > 0).toBe(given.holds);
  // Whoever was held may write before it is held again.
  expect(ran.letBy).toBe(ran.holds);
  // In the turns of a loop that copies for long its own callers go on.
  expect(ran.still).toBeLessThanOrEqual(16 * MIB);
  // What is left is copied and synced with the writers held, as what the longest step copies and syncs.
  expect(ran.left).toBeLessThanOrEqual(given.left);
  expect(ran.longest).toBeLessThanOrEqual(2 * Math.max(4 * MIB, 6 * given.turn + 2 * (given.batch ?? 0)) + SYNC_BYTES);
});

/** Runs a round over so many bytes beside a writer of one batch after the other, who lets it have the lock between two. */
function runRound(batch: number, bytes: number): { steps: number; holds: number; longest: number } {
  const core = { visible: bytes, base: 0, mutex: { giveWay: () => undefined } };
  let [holds, longest, isHeld] = [0, 0, false];
  const engine = {
    core,
    exclusively<T>(body: () => T): T {
      core.visible += batch;
      holds += 1;
      isHeld = true;
      const before = copying.done;
      const result = body();
      isHeld = false;
      longest = Math.max(longest, copying.done - before);
      return result;
    },
  };
  const copying = {
    done: 0,
    step() {
      if (this.done >= bytes) return false;
      this.done += 25e3;
      if (!isHeld) core.visible += batch;
      return true;
    },
  };
  let steps = 0;
  for (const _ of roundSteps(engine as never, copying as never, new Chase(engine as never, 0)))
    if (++steps > 1e4) break;
  expect(copying.done).toBeGreaterThanOrEqual(bytes);
  return { steps, holds, longest };
}

test("a round waits for no more batches than it is long, and holds who writes them no longer than it must", () => {
  for (const batch of [50e3, 6e6, 60e6]) {
    const { steps, holds, longest } = runRound(batch, 100e6);
    expect([holds > 0, steps < 500]).toEqual([true, true]);
    expect(longest).toBeLessThanOrEqual(Math.max(4 * MIB, 2 * batch) + 25e3);
  }
  // Who writes less than it reads is not held.
  expect(runRound(10e3, 100e6).holds).toBe(0);
});

test("who writes faster only later is held from then on", () => {
  const chase = new Chase({ core: { visible: 0, base: 0 } } as never, 0);
  chase.judge(0, 100 * MIB);
  expect(chase.isHolding).toBe(false);
  chase.judge(9 * MIB, 110 * MIB);
  expect(chase.isHolding).toBe(true);
});
