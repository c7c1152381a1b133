/**
 * Catching up with those who write while a log is copied. First by rounds over what was written during the one before, which
 * leave out what has been overwritten by then; then what is behind them is copied as it is, until so little is left that
 * the rest can be copied under the writer's lock.
 *
 * Each step copies more than was written since the one before, so whoever writes in the turns of the event loop is caught.
 * Others write during the steps as well. Where they are about as fast, the steps hold the writer's lock while they copy and
 * sync, each twice what was written since the last one: the others then write only while this thread's event loop turns,
 * and wait for as long as twice that takes to be copied and synced, most often some milliseconds. The end is such a step too,
 * under one lock with what ends the copy: a batch that came in between would all have to be copied in that.
 * In the rounds they are held likewise: a step there needs the lock to look at the index, and whoever writes one long batch
 * after the other lets it have that once for each.
 */

import type { Engine } from "../engine.ts";
import type { LogCopy } from "./log-copy.ts";
import type { Sync } from "../sync/sync.ts";

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

/** A copy and those who write meanwhile: which of them is faster. */
export class Chase {
  readonly #engine: Engine;
  /** Whether the writers are held while it copies. */
  isHolding = false;
  #heldMax = HELD_BYTES_FIRST;
  /** Where the log ended when it was looked at last. */
  #seen: number;
  #judged: { readonly end: number; readonly done: number };

  constructor(engine: Engine, done: number) {
    const { core } = engine;
    this.#engine = engine;
    this.#seen = core.visible - core.base;
    this.#judged = { end: this.#seen, done };
  }

  /** How much has been written since the last call; the log ends at `end` by now. */
  grownTo(end: number): number {
    const grown = end - this.#seen;
    this.#seen = end;
    return grown;
  }

  /** Finds out whether the writers are to be held from now on, when the copy has come as far as `done`. */
  judge(end: number, done: number): void {
    const copied = done - this.#judged.done;
    const grown = end - this.#judged.end;
    // Where each step waits for a writer's long batch the copy gets nowhere.
    if (copied < JUDGED_BYTES_MIN && grown < 2 * JUDGED_BYTES_MIN) return;
    this.isHolding ||= grown > copied * WRITTEN_SHARE_MAX;
    this.#judged = { end, done };
  }

  /** Has some more copied with the writers held: twice what they have written since the last time, or so; what `copySome` gives. */
  held<T>(end: () => number, copySome: (bytes: number, end: number) => T): T {
    const result = this.#engine.exclusively(() => {
      // With the lock in hand: what came while it waited for it, a whole batch maybe, counts.
      const now = end();
      const bytes = clamped(2 * this.grownTo(now), HELD_BYTES_MIN, this.#heldMax);
      this.#heldMax = Infinity;
      return copySome(bytes, now);
    });
    this.#engine.core.mutex.giveWay();
    return result;
  }
}

/** The steps of a round by the index behind the first one (`LogCopy.step`), over what was written before it began; yields how far into the log it is. */
export function* roundSteps(engine: Engine, copying: LogCopy, chase: Chase): Generator<number, void> {
  const { core } = engine;
  const visible = (): number => core.visible - core.base;
  for (let isMore = true; isMore; yield copying.done) {
    if (chase.isHolding) {
      isMore = chase.held(visible, (bytes) => {
        for (const until = copying.done + bytes; copying.done < until;) if (!copying.step()) return false;
        return true;
      });
    } else {
      isMore = copying.step();
      const end = visible();
      chase.grownTo(end);
      chase.judge(end, copying.done);
    }
  }
}

/** The steps of catching up, and `finish`, which copies the rest; yields how far into the log it is. */
export function* catchUpSteps(
  engine: Engine,
  sync: Sync | undefined,
  copying: LogCopy,
  { chase, finish }: { readonly chase: Chase; readonly finish: () => void },
): Generator<number, void> {
  const { core } = engine;
  const written = (): number => (sync === undefined ? core.visible : sync.spill()) - core.base;
  const copySome = (bytes: number, end: number): void => {
    copying.catchUp(end, bytes);
    copying.writeBackNowAndThen();
  };
  let looks = 0;
  let end = 0;
  // Both return whether so little is left that the rest can be copied under the writer's lock; the second one has seen to it.
  const copyBeside = (): boolean => {
    end = written();
    chase.judge(end, copying.done);
    if (chase.isHolding) return false;
    const grown = chase.grownTo(end);
    if (end - copying.done <= LAST_BYTES_MAX) return true;
    copySome(clamped(2 * grown, STEP_BYTES_MIN, STEP_BYTES_MAX), end);
    return false;
  };
  const copyHeld = (): boolean =>
    chase.held(written, (bytes, now) => {
      end = now;
      if (end - copying.done > bytes) {
        copySome(bytes, end);
        return false;
      }
      finish();
      return true;
    });
  while (!(chase.isHolding ? copyHeld() : copyBeside())) {
    // At the end it looks once more within the same step: in a turn of the loop more may be written than the last bytes.
    looks = copying.done < end ? 0 : looks + 1;
    if (looks % LOOKS_MAX === 0) yield copying.done;
  }
  if (chase.isHolding) return;
  yield copying.done;
  finish();
}
