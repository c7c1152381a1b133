/**
 * Steps of long work that need the writer's lock. Where it is free they take it one by one. Where one had to wait for
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
  const asked = system.monotonic() - mutex.lentMs;
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

/** What an event loop does in slices. */
export interface Slices {
  /** Takes one step, or several; false when there is none left. */
  readonly step: () => boolean;
  /** Whether the next one begins by taking the lock; it is taken to do so where this is not given. */
  readonly needsLock?: (() => boolean) | undefined;
  /** Behind each step: whether the event loop is to turn. */
  readonly isTurnDue: () => boolean;
  /** Lets it turn. */
  readonly turn: () => Promise<void>;
  /** Asked whenever the loop has turned, before anything else is; throws when the work is to be given up. */
  readonly check: () => void;
}

function stepIn(mutex: Core["mutex"], step: () => boolean): boolean {
  try {
    return step();
  } finally {
    mutex.endStep();
  }
}

/** Takes all steps; the event loop turns now and then, and where a step needs the lock for as long as another thread has it. */
export async function inSlices({ mutex }: Pick<Core, "mutex">, slices: Slices): Promise<void> {
  const { step, needsLock = () => true, isTurnDue, turn, check } = slices;
  for (;;) {
    const isWaiting = !mutex.beginStep({ needsLock: needsLock() });
    const isMore = isWaiting ? await mutex.inTurns(check, step) : stepIn(mutex, step);
    if (!isMore) return;
    // What else waited on this thread may have gone on since the step, and closed the database.
    if (isWaiting) check();
    if (!isTurnDue() && !isWaiting) continue;
    await turn();
    check();
  }
}
