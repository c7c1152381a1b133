/**
 * Steps of long work that each need the writer's lock. Where it is free they take it one by one. Where one had to wait for
 * it others write long batches, and the next one would wait for the next batch: then as many steps are taken before it is
 * given back as take about as long as that wait was, so that they and the writers have half of the time each.
 */

import type { Core } from "../core.ts";

/** Writers are held for so long at most, and this thread's event loop. */
const HELD_MS_MAX = 20;

/** Takes one step, or several; false when there is none left. Between two of them `mayGoOn` is asked. */
export function heldSteps(
  { mutex, system }: Pick<Core, "mutex" | "system">,
  step: () => boolean,
  mayGoOn: () => boolean = () => true,
): boolean {
  const asked = system.monotonic();
  mutex.lock();
  try {
    const held = system.monotonic();
    const until = held + Math.min(held - asked, HELD_MS_MAX);
    for (;;) {
      if (!step()) return false;
      if (system.monotonic() >= until || !mayGoOn()) return true;
    }
  } finally {
    mutex.unlock();
  }
}
