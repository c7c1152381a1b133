/** Long work pauses by the time that it takes, however far it has come. */

import { expect, test } from "bun:test";
import type { Core } from "../../src/engine/core.ts";
import { Pace } from "../../src/engine/progress.ts";

const FREE = { mutex: { beginStep: () => true, endStep: () => undefined } } as unknown as Pick<Core, "mutex">;

/** A clock that steps and turns move. */
class Clock {
  nowMs = 1000;
  turns = 0;
  readonly turnMs: number;
  readonly system = { monotonic: (): number => this.nowMs };

  constructor(turnMs: number) {
    this.turnMs = turnMs;
  }

  readonly defer = (work: () => void): void => {
    this.turns += 1;
    this.nowMs += this.turnMs;
    queueMicrotask(work);
  };
}

function* steps(clock: Clock, { count, ms, bytes }: { count: number; ms: number; bytes: number }): Generator<number> {
  for (let step = 1; step <= count; step++) {
    clock.nowMs += ms;
    yield step * bytes;
  }
}

test.each([
  // What is passed over is no work: a compaction goes over dead bytes at once.
  { bytes: 2 ** 30, turnMs: 0, turns: 20 },
  { bytes: 1, turnMs: 0, turns: 20 },
  // As long as the turns of the others, once it has seen one.
  { bytes: 2 ** 30, turnMs: 50, turns: 2 },
  // And half a second at most.
  { bytes: 1, turnMs: 5000, turns: 1 },
])("of a hundred milliseconds of work in steps of %j", async ({ bytes, turnMs, turns }) => {
  const clock = new Clock(turnMs);
  const pace = new Pace(clock, {}, 1);
  let checks = 0;
  await pace.drive(FREE, steps(clock, { count: 100, ms: 1, bytes }), { check: () => void checks++ });
  expect([clock.turns, checks]).toEqual([turns, turns]);
});

test("what is told begins with nothing, and is all at the last word alone, however much has been passed over before", async () => {
  const clock = new Clock(0);
  const told: number[] = [];
  const pace = new Pace(clock, { onProgress: ({ done }) => void told.push(done) }, 100);
  await pace.begin();
  await pace.drive(FREE, steps(clock, { count: 4, ms: 5, bytes: 40 }), { check: () => undefined });
  await pace.pause();
  pace.finish();
  expect(told).toEqual([0, 40, 80, 99, 99, 99, 100]);
});
