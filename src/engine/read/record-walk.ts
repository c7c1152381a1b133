/**
 * Walks over records as of a moment, a piece at a time, in whatever order an index gives their positions.
 *
 * Positions lie anywhere in the log: frames are read some at a time (`frame-batch.ts`), few at first, so that a walk of
 * which ten are taken costs ten. A record that was current at the moment is made from the copy of its frame; any other
 * is followed back through its versions.
 */

import { EmdbError } from "../../errors.ts";
import { SHAPE_EXPIRY } from "../../log/frame.ts";
import { verifyFound } from "./body-check.ts";
import type { KeyValue, Wanted } from "../contract.ts";
import type { Core } from "../core.ts";
import { FRAMES_MAX, NO_BYTES } from "./frame-batch.ts";
import { RecordList, type RecordBatches } from "./record-batches.ts";
import type { SpaceState } from "../spaces.ts";

/** Frames that are read ahead at first; twice as many each time. */
const FRAMES_MIN = 8;
/** Behind so many bytes of long records the rest of a piece waits: they are not all in memory at once. */
export const PIECE_BYTES = 1 << 20;
/** As many records of fewer bytes as a piece has are fewer bytes than that. */
const LONG_BYTES = PIECE_BYTES / FRAMES_MAX;

/** A moment that is kept for a walk; letting go of it twice is harmless. */
export interface Hold {
  readonly lsn: number;
  readonly space: SpaceState;
  isOpen: boolean;
}

/** What a walk shows. */
export interface Moment {
  readonly lsn: number;
  /** By the clock; asked for when the first deadline is met. */
  now: number | undefined;
}

/** Some positions, in 8-byte units, and what of the records there is read. */
export interface Part {
  readonly units: Float64Array;
  readonly from: number;
  readonly count: number;
  readonly moment: Moment;
  readonly wanted: Wanted;
}

/**
 * Adds the records of some positions that a moment shows to a list. Returns how many positions have been read: fewer
 * than there are when what they hold is long.
 */
export function readPart(core: Core, list: RecordList, part: Part): number {
  const { units, from, count, moment, wanted } = part;
  const { frames } = core;
  const { pairs } = list;
  // None when each has to be checked or opened, which the long way does.
  const isPlain = !core.verifyReads && core.vault === undefined;
  const given = frames.load(pairs, units, part, isPlain ? moment.lsn : 0);
  for (let index = given; index < count; index++) {
    let pair = frames.record(index, wanted);
    if (pair === undefined) {
      pair = recordAt(core, list, { lsn: units[from + index]! * 8, moment, wanted });
      if (pair === undefined) continue;
    }
    pairs.push(pair);
    const bytes = pair[0].length + pair[1].length;
    if (bytes < LONG_BYTES) continue;
    list.longBytes += bytes;
    if (list.longBytes >= PIECE_BYTES) return index + 1;
  }
  return count;
}

/**
 * What is wanted of the record that a moment shows, if it shows one, followed back from the newest version of its key;
 * its deadline is noted in the list, of which it is to be the next.
 */
function recordAt(
  core: Core,
  list: RecordList,
  at: { readonly lsn: number; readonly moment: Moment; readonly wanted: Wanted },
): KeyValue | undefined {
  const { moment, wanted } = at;
  const { lookup } = core;
  lookup.loadAt(at.lsn);
  if (!lookup.walkBack(moment.lsn)) return undefined;
  if (core.verifyReads) verifyFound(core);
  const expiresAtMs = (lookup.shape & SHAPE_EXPIRY) === 0 ? 0 : lookup.expiresAtMs();
  if (expiresAtMs !== 0 && expiresAtMs <= (moment.now ??= core.now())) return undefined;
  const pair: KeyValue = [
    wanted === "values" ? NO_BYTES : lookup.keyCopy(),
    wanted === "keys" ? NO_BYTES : lookup.value(),
  ];
  list.noteDeadline(expiresAtMs);
  return pair;
}

export abstract class RecordWalk implements RecordBatches {
  protected readonly core: Core;
  protected readonly hold: Hold;
  /** Positions at hand; those before `#next` have been read. */
  protected units = new Float64Array(0);
  readonly #moment: Moment;
  readonly #keeper: { close(hold: Hold): void };
  readonly #wanted: Wanted;
  #count = 0;
  #next = 0;
  #ahead = FRAMES_MIN;
  /** Records that may still be given. */
  #left: number;
  /** What is the matter with the record behind those that were given. */
  #failure: EmdbError | undefined;

  constructor(
    core: Core,
    keeper: { close(hold: Hold): void },
    walk: { readonly hold: Hold; readonly wanted: Wanted; readonly limit: number },
  ) {
    const { hold, wanted, limit } = walk;
    this.core = core;
    this.hold = hold;
    this.#moment = { lsn: hold.lsn, now: core.now() };
    this.#keeper = keeper;
    this.#wanted = wanted;
    this.#left = limit;
  }

  /** Fills `units` with the next positions; undefined at the end, otherwise how many, which may be none. */
  protected abstract takePart(): number | undefined;

  next(): RecordList | undefined {
    if (!this.hold.isOpen) return undefined;
    if (this.#failure !== undefined) throw this.#failure;
    this.core.enter();
    const list = new RecordList();
    while (list.pairs.length === 0 && this.#left > 0) {
      if (this.#next === this.#count && !this.#takePart()) break;
      this.#read(list);
    }
    this.#left -= list.pairs.length;
    const isAtEnd = list.pairs.length === 0 || this.#left === 0;
    if (isAtEnd) this.close();
    return list.pairs.length === 0 ? undefined : list;
  }

  close(): void {
    this.#keeper.close(this.hold);
    this.#count = 0;
    this.#next = 0;
  }

  /** The walk begins with positions that have been taken already. */
  protected beginWith(count: number): void {
    this.#count = count;
  }

  #takePart(): boolean {
    const count = this.takePart();
    this.#next = 0;
    this.#count = count ?? 0;
    return count !== undefined;
  }

  /** Reads some more frames. Behind a record that cannot be read there is none: those before it are given first. */
  #read(list: RecordList): void {
    const from = this.#next;
    const count = Math.min(this.#count - from, this.#ahead, this.#left);
    const part = { units: this.units, from, count, moment: this.#moment, wanted: this.#wanted };
    try {
      this.#next = from + readPart(this.core, list, part);
    } catch (error) {
      if (!(error instanceof EmdbError) || list.pairs.length === 0) throw error;
      this.#failure = error;
    }
    this.#ahead = Math.min(this.#ahead * 2, FRAMES_MAX);
  }
}
