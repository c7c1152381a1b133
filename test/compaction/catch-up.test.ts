/** A copy catches up with whoever writes, however fast: writers that are faster are held, others never. */

import { expect, test } from "bun:test";
import { catchUpSteps } from "../../src/engine/catch-up.ts";

/** Runs the steps beside writers that write so many bytes for each that is copied, but not while they are held. */
function run(written: number, left: number): { readonly steps: number; readonly holds: number; readonly left: number } {
  let holds = 0;
  let isHeld = false;
  const core = { visible: left, base: 0, mutex: { giveWay: () => {} } };
  const engine = {
    core,
    exclusively: (body: () => void) => {
      holds += 1;
      isHeld = true;
      body();
      isHeld = false;
    },
  };
  const copying = {
    done: 0,
    catchUp(end: number, bytesMax: number) {
      const bytes = Math.min(end - this.done, bytesMax);
      this.done += bytes;
      if (!isHeld) core.visible += bytes * written;
    },
    syncNowAndThen: () => {},
  };
  let steps = 0;
  for (const _ of catchUpSteps(engine as never, undefined, copying as never)) if (++steps > 1000) break;
  return { steps, holds, left: core.visible - copying.done };
}

test.each([
  { written: 0, left: 100e6, holds: false },
  { written: 0.5, left: 100e6, holds: false },
  { written: 1, left: 100e6, holds: true },
  { written: 1.3, left: 10e6, holds: true },
  { written: 3, left: 1e6, holds: true },
])("beside writers that are $written times as fast, $left bytes behind", ({ written, left, holds }) => {
  const ran = run(written, left);
  expect(ran.steps).toBeLessThan(1000);
  // What is left is copied with the writers held.
  expect(ran.holds > 0 || ran.left > 128 * 1024).toBe(holds);
  expect(ran.left).toBeLessThanOrEqual(64 * 1024 * 1024);
});
