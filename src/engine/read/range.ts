/**
 * A range: the records of a key space in key order as of one moment, while writes go on.
 *
 * Positions are taken from the ordered index a leaf at a time, and read some at a time (`record-walk.ts`).
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
import { isBefore, remainderOf, type Bound, type Remainder } from "../../ordered/range-reader.ts";
import type { RangeBounds, RecordSource, WantedInOrder } from "../contract.ts";
import type { Core } from "../core.ts";
import type { Ordering } from "../ordering/ordering.ts";
import { BatchedRecords, RecordList } from "./record-batches.ts";
import { PIECE_BYTES, RecordWalk, readPart, type Hold, type Moment } from "./record-walk.ts";
import type { Snapshots } from "./snapshot.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

/** Positions that are taken at a time: the most that a leaf holds. */
const PART_MAX = 64;
/** A range of so few records is read within the call: of those that the caller has said it wants, of those there happen to be. */
const WANTED_AT_ONCE_MAX = 64;
const AT_ONCE_MAX = 32;
// Of the range being begun; used within one call only.
const firstUnits = new Float64Array(PART_MAX);

/** What a range works with. */
export interface RangeParts {
  readonly core: Core;
  readonly spaces: Spaces;
  readonly snapshots: Snapshots;
  readonly ordering: Ordering;
  readonly wanted: WantedInOrder;
}

/** A range whose first positions have been taken, into `firstUnits`; `list` has all of it, if it is short. */
interface Begun {
  readonly clears: number;
  readonly rest: Remainder;
  readonly count: number;
  readonly list: RecordList | undefined;
}

/** Begins a range over a key space as of now. */
export function beginRange(parts: RangeParts, space: SpaceState, bounds: RangeBounds): RecordSource {
  const { core, spaces, snapshots, ordering } = parts;
  core.enter();
  spaces.mustBeLive(space);
  ordering.mayRead();
  let hold: Hold | undefined;
  try {
    for (;;) {
      const lsn = hold === undefined ? core.present() : hold.lsn;
      const begun = beginAt(parts, { space, bounds, lsn });
      if (begun.list !== undefined && (hold !== undefined || hasStoodStill(core, lsn))) {
        return new BatchedRecords(begun.list, undefined);
      }
      if (hold === undefined) {
        hold = snapshots.hold(space);
        // What was taken before the moment was noted is of that moment only if nothing happened in between.
        if (begun.list !== undefined || hold.lsn !== lsn) continue;
      }
      const walk = keepOpen(parts, { hold, begun, limit: bounds.limit ?? Infinity });
      hold = undefined;
      return new BatchedRecords(undefined, walk);
    }
  } finally {
    if (hold !== undefined) snapshots.close(hold);
  }
}

/** Whether nothing has become visible since `lsn` did: no tombstone can have gone that its readers need. */
function hasStoodStill(core: Core, lsn: number): boolean {
  if (!core.isShared) return true;
  core.log.barrier();
  return core.visible === lsn;
}

/** A short range, whole, or the beginning of a long one. */
function beginAt(
  parts: RangeParts,
  range: { readonly space: SpaceState; readonly bounds: RangeBounds; readonly lsn: number },
): Begun {
  const { core, spaces } = parts;
  const { space, bounds, lsn } = range;
  // Alone, there is no clear that could be under way.
  const clears = core.isShared ? spaces.clearsAt(space, lsn) : -1;
  const tree = clears === -1 ? spaces.tree(space) : spaces.treeBefore(space, clears);
  const rest = remainderOf(bounds);
  const limit = bounds.limit ?? Infinity;
  // The first record is read in any case; whether it is one of the range shows then.
  const near = limit <= WANTED_AT_ONCE_MAX ? rest.near : undefined;
  rest.isUnsure = near !== undefined;
  const count = takePart(parts, { tree, rest, lsn }, firstUnits, limit < PART_MAX ? limit : PART_MAX);
  const isShort = limit <= WANTED_AT_ONCE_MAX || (count <= AT_ONCE_MAX && (rest.isDone || count === 0));
  const list = isShort ? readAtOnce(parts, { tree, rest, count, limit, lsn, near }) : undefined;
  // One that cannot be read to its end begins anew, piece by piece: its caller gets what is before that.
  if (isShort && list === undefined) return { clears, rest: remainderOf(bounds), count: 0, list };
  return { clears, rest, count, list };
}

/** A range that goes on, piece by piece, until it is at its end or dropped. */
function keepOpen(
  parts: RangeParts,
  range: { readonly hold: Hold; readonly begun: Begun; readonly limit: number },
): RangeWalk {
  const { hold, begun, limit } = range;
  const { rest, count } = begun;
  const clears = begun.clears === -1 ? parts.spaces.clearsAt(hold.space, hold.lsn) : begun.clears;
  const walk = new RangeWalk(parts, { hold, clears, rest, count, limit });
  parts.snapshots.letGoWith(walk, hold);
  return walk;
}

/** A part of a tree that is left to a range with a moment. */
interface Stretch {
  readonly tree: number;
  readonly rest: Remainder;
  readonly lsn: number;
}

/** Takes the next positions (units) of a range, `room` at most; 0 only at its end. */
function takePart(parts: RangeParts, stretch: Stretch, to: Float64Array, room: number): number {
  const { core, ordering } = parts;
  const { tree, rest, lsn } = stretch;
  if (tree === 0) return 0;
  if (!core.isShared) return ordering.reader.take(tree, rest, to, room);
  // Behind the moment another Worker may be writing, and take back what it wrote: later its place holds another frame.
  const before = { ...rest };
  return core.log.undisturbed(() => {
    Object.assign(rest, before);
    for (;;) {
      const count = ordering.reader.take(tree, rest, to, room);
      if (rest.behind * 8 >= lsn) ordering.reader.goOnAtKey(rest);
      const left = followBack(core, { units: to, count, lsn });
      if (left > 0 || count === 0) return left;
      // It goes on behind a key that was given, not at the bound that the caller looks at.
      rest.isUnsure = false;
    }
  });
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

/** All of a short range; undefined when one of its records cannot be read, or they are long. */
function readAtOnce(
  parts: RangeParts,
  range: Stretch & { readonly limit: number; readonly count: number; readonly near: Bound | undefined },
): RecordList | undefined {
  const { core, wanted } = parts;
  const { limit, lsn, rest, near } = range;
  const list = new RecordList();
  const moment: Moment = { lsn, now: undefined };
  let { count } = range;
  try {
    while (count > 0) {
      const missing = limit - list.pairs.length;
      const isFirst = list.pairs.length === 0;
      const room = count < missing ? count : missing;
      const part = { units: firstUnits, from: 0, count: room, moment, wanted };
      const isAllRead = readPart(core, list, part) === room;
      const first = list.pairs[0];
      if (isFirst && near !== undefined && first !== undefined && isBefore(first[0], near, rest.isReverse))
        list.dropFirst();
      rest.isUnsure = false;
      if (list.pairs.length >= limit || (isAllRead && rest.isDone)) break;
      // Long records are not all in memory at once.
      if (list.longBytes >= PIECE_BYTES) return undefined;
      const left = limit - list.pairs.length;
      count = takePart(parts, range, firstUnits, left < PART_MAX ? left : PART_MAX);
    }
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    return undefined;
  }
  return list;
}

class RangeWalk extends RecordWalk {
  readonly #parts: RangeParts;
  readonly #clears: number;
  readonly #rest: Remainder;

  constructor(
    parts: RangeParts,
    range: {
      readonly hold: Hold;
      readonly clears: number;
      readonly rest: Remainder;
      readonly count: number;
      readonly limit: number;
    },
  ) {
    const { hold, count, limit } = range;
    super(parts.core, parts.snapshots, { hold, wanted: parts.wanted, limit });
    this.#parts = parts;
    this.#clears = range.clears;
    this.#rest = range.rest;
    this.units = new Float64Array(PART_MAX);
    for (let index = 0; index < count; index++) this.units[index] = firstUnits[index]!;
    this.beginWith(count);
  }

  protected override takePart(): number | undefined {
    const parts = this.#parts;
    const tree = parts.spaces.treeBefore(this.hold.space, this.#clears);
    const stretch = { tree, rest: this.#rest, lsn: this.hold.lsn };
    return takePart(parts, stretch, this.units, PART_MAX) || undefined;
  }
}
