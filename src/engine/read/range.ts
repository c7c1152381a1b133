/**
 * A range: the records of a key space in key order as of one moment, while writes go on.
 *
 * Positions are taken from the ordered index some at a time, and the records there are read in pieces of their own
 * (`record-walk.ts`).
 *
 * A range that is short for certain (a small limit, or bounds that lie within one leaf) is read within the call: it
 * then holds nothing, and nobody has to see when it is dropped. Its moment needs no noting either, if nothing was
 * written meanwhile: what it has read is then what was there when it began.
 *
 * Invariants
 * 1. While a range that goes on is open, no tombstone at or behind its moment leaves the index, and the tree of a key
 *    space that is cleared stays in a grave (`snapshot.ts`): what was there can still be reached.
 * 2. Between two pieces it holds no memory of the index, and no position at or behind its moment: where it goes on is
 *    a key, or the position of a frame that stays.
 */

import { EmdbError } from "../../errors.ts";
import { PART_MAX, isBefore, remainderOf, type Bound, type Remainder } from "../../ordered/range-reader.ts";
import type { RangeBounds, RecordSource, WantedInOrder } from "../contract.ts";
import type { Core } from "../core.ts";
import type { Ordering } from "../ordering/ordering.ts";
import { BatchedRecords, RecordList } from "./record-batches.ts";
import { PIECE_BYTES, RecordWalk, readPart, type Hold, type Moment } from "./record-walk.ts";
import type { Snapshots } from "./snapshot.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

/** A range of so few records is read within the call: of those that the caller has said it wants, of those there happen to be. */
const WANTED_AT_ONCE_MAX = 64;
const AT_ONCE_MAX = 32;
// Of the range being begun; used within one call only.
const firstUnits = new Float64Array(PART_MAX);

/** A part of a tree that is left to a range with a moment. */
interface Stretch {
  readonly tree: number;
  readonly rest: Remainder;
  readonly lsn: number;
}

/** A range whose first positions have been taken, into `firstUnits`; `list` has all of it, if it is short. */
interface Begun extends Stretch {
  readonly clears: number;
  count: number;
  list: RecordList | undefined;
}

/** The ranges of one thread. */
export class Ranges {
  readonly core: Core;
  readonly spaces: Spaces;
  readonly snapshots: Snapshots;
  readonly #ordering: Ordering;

  constructor(core: Core, spaces: Spaces, parts: { readonly snapshots: Snapshots; readonly ordering: Ordering }) {
    this.core = core;
    this.spaces = spaces;
    this.snapshots = parts.snapshots;
    this.#ordering = parts.ordering;
  }

  /** Begins a range over a key space as of now. */
  begin(space: SpaceState, bounds: RangeBounds, wanted: WantedInOrder): RecordSource {
    this.core.enter();
    this.spaces.mustBeLive(space);
    this.#ordering.mayRead();
    const lsn = this.core.present();
    const begun = this.#beginAt(lsn, space, bounds, wanted);
    if (begun.list !== undefined && this.#hasStoodStill(lsn)) return new BatchedRecords(begun.list, undefined);
    return this.#beginHeld(begun, space, bounds, wanted);
  }

  /** The same with a moment that is noted. */
  #beginHeld(unheld: Begun, space: SpaceState, bounds: RangeBounds, wanted: WantedInOrder): RecordSource {
    const hold = this.snapshots.hold(space);
    let isKept = false;
    try {
      // What was taken before the moment was noted is of that moment only if nothing happened in between.
      const isOfThen = unheld.list === undefined && hold.lsn === unheld.lsn;
      const begun = isOfThen ? unheld : this.#beginAt(hold.lsn, space, bounds, wanted);
      if (begun.list !== undefined) return new BatchedRecords(begun.list, undefined);
      const walk = this.#keepOpen(begun, hold, { wanted, limit: bounds.limit ?? Infinity });
      isKept = true;
      return new BatchedRecords(undefined, walk);
    } finally {
      if (!isKept) this.snapshots.close(hold);
    }
  }

  /** Whether nothing has become visible since `lsn` did: no tombstone can have gone that its readers need. */
  #hasStoodStill(lsn: number): boolean {
    const core = this.core;
    if (!core.isShared) return true;
    core.log.barrier();
    return core.visible === lsn;
  }

  /** A short range, whole, or the beginning of a long one. */
  #beginAt(lsn: number, space: SpaceState, bounds: RangeBounds, wanted: WantedInOrder): Begun {
    const spaces = this.spaces;
    // Alone, there is no clear that could be under way.
    const clears = this.core.isShared ? spaces.clearsAt(space, lsn) : -1;
    const tree = clears === -1 ? spaces.tree(space) : spaces.treeBefore(space, clears);
    const rest = remainderOf(bounds);
    const limit = bounds.limit ?? Infinity;
    // The first record is read in any case; whether it is one of the range shows then.
    const near = limit <= WANTED_AT_ONCE_MAX ? rest.near : undefined;
    rest.isUnsure = near !== undefined;
    const begun: Begun = { tree, rest, lsn, clears, count: 0, list: undefined };
    const count = this.takePart(begun, firstUnits, limit < PART_MAX ? limit : PART_MAX);
    begun.count = count;
    const isShort = limit <= WANTED_AT_ONCE_MAX || (count <= AT_ONCE_MAX && (rest.isDone || count === 0));
    if (!isShort) return begun;
    begun.list = this.#readAtOnce(begun, near, limit, wanted);
    // One that cannot be read to its end begins anew, piece by piece: its caller gets what is before that.
    return begun.list === undefined ? { ...begun, rest: remainderOf(bounds), count: 0 } : begun;
  }

  /** A range that goes on, piece by piece, until it is at its end or dropped. */
  #keepOpen(begun: Begun, hold: Hold, walk: { readonly wanted: WantedInOrder; readonly limit: number }): RangeWalk {
    const { rest, count } = begun;
    const clears = begun.clears === -1 ? this.spaces.clearsAt(hold.space, hold.lsn) : begun.clears;
    const kept = new RangeWalk(this, { hold, clears, rest, count, ...walk });
    this.snapshots.letGoWith(kept, hold);
    return kept;
  }

  /** Takes the next positions (units) of a range, `room` at most; 0 only at its end. */
  takePart(stretch: Stretch, to: Float64Array, room: number): number {
    const { tree, rest, lsn } = stretch;
    if (tree === 0) return 0;
    const core = this.core;
    const { reader } = this.#ordering;
    if (!core.isShared) return reader.take(tree, rest, to, room);
    // Behind the moment another Worker may be writing, and take back what it wrote: later its place holds another frame.
    const before = { ...rest };
    return core.log.undisturbed(() => {
      Object.assign(rest, before);
      for (;;) {
        const count = reader.take(tree, rest, to, room);
        if (rest.behind * 8 >= lsn) reader.goOnAtKey(rest);
        const left = followBack(core, { units: to, count, lsn });
        if (left > 0 || count === 0) return left;
        // It goes on behind a key that was given, not at the bound that the caller looks at.
        rest.isUnsure = false;
      }
    });
  }

  /** All of a short range; undefined when one of its records cannot be read, or they are long. */
  #readAtOnce(begun: Begun, near: Bound | undefined, limit: number, wanted: WantedInOrder): RecordList | undefined {
    const { rest } = begun;
    const list = new RecordList();
    const { pairs } = list;
    const moment: Moment = { lsn: begun.lsn, now: undefined };
    let { count } = begun;
    try {
      while (count > 0) {
        const missing = limit - pairs.length;
        const isFirst = pairs.length === 0;
        const room = count < missing ? count : missing;
        const part = { units: firstUnits, from: 0, count: room, moment, wanted };
        const isAllRead = readPart(this.core, list, part) === room;
        if (isFirst && near !== undefined && pairs.length > 0 && isBefore(pairs[0]![0], near, rest.isReverse))
          list.dropFirst();
        rest.isUnsure = false;
        if (pairs.length >= limit || (isAllRead && rest.isDone)) break;
        // Long records are not all in memory at once.
        if (list.longBytes >= PIECE_BYTES) return undefined;
        const left = limit - pairs.length;
        count = this.takePart(begun, firstUnits, left < PART_MAX ? left : PART_MAX);
      }
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      return undefined;
    }
    return list;
  }
}

/** Leaves of some positions those that a moment shows, each of its own version; how many that are. */
function followBack(
  core: Core,
  part: { readonly units: Float64Array; readonly count: number; readonly lsn: number },
): number {
  const { units, count, lsn } = part;
  const { lookup } = core;
  let left = 0;
  for (let index = 0; index < count; index++) {
    const unit = units[index]!;
    if (unit * 8 < lsn) {
      units[left++] = unit;
      continue;
    }
    lookup.loadAt(unit * 8);
    if (lookup.walkBack(lsn)) units[left++] = lookup.lsn / 8;
  }
  return left;
}

class RangeWalk extends RecordWalk {
  readonly #ranges: Ranges;
  readonly #clears: number;
  readonly #rest: Remainder;

  constructor(
    ranges: Ranges,
    range: {
      readonly hold: Hold;
      readonly clears: number;
      readonly rest: Remainder;
      readonly count: number;
      readonly wanted: WantedInOrder;
      readonly limit: number;
    },
  ) {
    const { hold, count, wanted, limit } = range;
    super(ranges.core, ranges.snapshots, { hold, wanted, limit });
    this.#ranges = ranges;
    this.#clears = range.clears;
    this.#rest = range.rest;
    this.units = new Float64Array(PART_MAX);
    for (let index = 0; index < count; index++) this.units[index] = firstUnits[index]!;
    this.beginWith(count);
  }

  protected override takePart(): number | undefined {
    const tree = this.#ranges.spaces.treeBefore(this.hold.space, this.#clears);
    const stretch = { tree, rest: this.#rest, lsn: this.hold.lsn };
    return this.#ranges.takePart(stretch, this.units, PART_MAX) || undefined;
  }
}
