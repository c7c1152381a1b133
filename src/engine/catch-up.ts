/**
 * Catching up: what was written while a log was copied is copied as it is, until so little is left that the rest can be
 * copied under the writer's lock.
 *
 * Each step copies more than was written since the one before, so whoever writes in the turns of the event loop is caught.
 * Others write during the steps as well. Where they are about as fast, the steps
 * hold the writer's lock, each for twice what was written before it: then they wait for it, most often some tens of
 * milliseconds, and at most for as long as 64 MiB take to be copied, in the end also to be synced.
 */

import type { Engine } from "./engine.ts";
import type { LogCopy } from "./log-copy.ts";
import type { Sync } from "./sync.ts";

/** What is left at most to be copied in the end. */
const LAST_BYTES_MAX = 128 * 1024;
/** A step, at least: one or two milliseconds. And at most: in longer ones others would only write more. */
const STEP_BYTES_MIN = 256 * 1024;
const STEP_BYTES_MAX = 16 * 1024 * 1024;
/** If in so many steps more than such a share of what was copied has been written, the writers are held. */
const STEPS_PER_JUDGEMENT = 2;
const WRITTEN_SHARE_MAX = 0.8;
/** What is copied with the writers held, at least and at most: some milliseconds, and what no writer outruns. */
const HELD_BYTES_MIN = 1024 * 1024;
const HELD_BYTES_MAX = 64 * 1024 * 1024;
/** How often it looks again in one step for what other Workers have written meanwhile. */
const LOOKS_MAX = 4;

function clamped(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}

/** The steps of catching up; yields how far into the log it is. */
export function* catchUpSteps(engine: Engine, sync: Sync | undefined, copying: LogCopy): Generator<number, void> {
  const { core } = engine;
  const written = (): number => (sync === undefined ? core.visible : sync.spill()) - core.base;
  let looks = 0;
  let isHolding = false;
  let before = core.visible - core.base;
  // Of what was written before it begins nothing is said.
  let judged = { end: Infinity, done: copying.done };
  for (let step = 0; ; step++) {
    const end = written();
    if (step % STEPS_PER_JUDGEMENT === 0) {
      isHolding ||= end - judged.end > (copying.done - judged.done) * WRITTEN_SHARE_MAX;
      judged = { end, done: copying.done };
    }
    const wanted = 2 * (end - before);
    const held = isHolding ? clamped(wanted, HELD_BYTES_MIN, HELD_BYTES_MAX) : 0;
    if (end - copying.done <= Math.max(LAST_BYTES_MAX, held)) return;
    if (held === 0) copying.catchUp(end, clamped(wanted, STEP_BYTES_MIN, STEP_BYTES_MAX));
    else {
      engine.exclusively(() => copying.catchUp(written(), held));
      core.mutex.giveWay();
    }
    copying.syncNowAndThen();
    before = end;
    // At the end it looks once more within the same step: in a turn of the loop more may be written than the last bytes.
    looks = copying.done < end ? 0 : looks + 1;
    if (looks % LOOKS_MAX === 0) yield copying.done;
  }
}
