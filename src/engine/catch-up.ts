/**
 * Catching up: what was written while a log was copied is copied as it is, until so little is left that the rest can be
 * copied under the writer's lock.
 *
 * Each step copies more than was written since the one before, so whoever writes in the turns of the event loop is caught.
 * Others write during the steps as well. Where they are about as fast, the steps hold the writer's lock while they copy and
 * sync, each twice what was written since the last one: the others then write only while this thread's event loop turns,
 * and wait for as long as twice that takes to be copied and synced, most often some milliseconds. The end is such a step too.
 */

import type { Engine } from "./engine.ts";
import type { LogCopy } from "./log-copy.ts";
import type { Sync } from "./sync.ts";

/** What is left at most to be copied in the end. */
const LAST_BYTES_MAX = 128 * 1024;
/** A step, at least: one or two milliseconds. And at most: in longer ones others would only write more. */
const STEP_BYTES_MIN = 256 * 1024;
const STEP_BYTES_MAX = 16 * 1024 * 1024;
/** If while so much was copied, with a sync or two, more than such a share of it has been written, the writers are held. */
const JUDGED_BYTES_MIN = 8 * 1024 * 1024;
const WRITTEN_SHARE_MAX = 0.8;
/**
 * What is copied and synced with the writers held: at least, some milliseconds; and the first time at most, when it is not
 * known yet what they write between two such steps. Later there is no limit: whatever they write, such a step gains on them.
 */
const HELD_BYTES_MIN = 1024 * 1024;
const HELD_BYTES_FIRST = 4 * 1024 * 1024;
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
  let heldMax = HELD_BYTES_FIRST;
  let before = core.visible - core.base;
  let judged = { end: before, done: copying.done };
  // Both return whether so little is left that the rest can be copied under the writer's lock.
  const copyBeside = (): boolean => {
    const end = written();
    const copied = copying.done - judged.done;
    if (copied >= JUDGED_BYTES_MIN) {
      isHolding = end - judged.end > copied * WRITTEN_SHARE_MAX;
      judged = { end, done: copying.done };
      if (isHolding) return false;
    }
    const wanted = 2 * (end - before);
    before = end;
    if (end - copying.done <= LAST_BYTES_MAX) return true;
    copying.catchUp(end, clamped(wanted, STEP_BYTES_MIN, STEP_BYTES_MAX));
    copying.writeBackNowAndThen();
    return false;
  };
  // What others have written is asked for behind the wait for the lock, in which a whole batch may have come to its end.
  const copyHeld = (): boolean =>
    engine.exclusively(() => {
      const end = written();
      const bytes = clamped(2 * (end - before), HELD_BYTES_MIN, heldMax);
      heldMax = Infinity;
      before = end;
      if (end - copying.done <= bytes) return true;
      copying.catchUp(end, bytes);
      copying.writeBackNowAndThen();
      return false;
    });
  for (;;) {
    if (isHolding ? copyHeld() : copyBeside()) return;
    if (isHolding) core.mutex.giveWay();
    // At the end it looks once more within the same step: in a turn of the loop more may be written than the last bytes.
    looks = copying.done < before ? 0 : looks + 1;
    if (looks % LOOKS_MAX === 0) yield copying.done;
  }
}
