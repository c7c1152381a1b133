/**
 * A range: the records of a key space in key order as of one moment, while writes go on.
 *
 * Positions are taken from the ordered index a leaf at a time, their frames some at a time (`frame-batch.ts`), few at
 * first, so that a range of which ten are taken costs ten. A record that was current at the moment of the call is
 * made from the copy of its frame; any other is followed back through its versions when it is its turn.
 *
 * A range that is short for certain (a small limit, or bounds that lie within one leaf) is read within the call: it
 * then holds nothing, and nobody has to see when it is dropped. Where no other Worker can write meanwhile, its
 * moment needs no noting either.
 *
 * Invariants
 * 1. While it is open no tombstone at or behind its moment leaves the index, and the tree of a key space that is
 *    cleared stays in a grave (`snapshot.ts`): what was there can still be reached.
 * 2. Between two records it holds no memory of the index: it goes on at a key.
 */

import { EmdbError } from "../errors.ts";
import { SHAPE_EXPIRY } from "../log/frame.ts";
import { remainderOf, type Bound, type Remainder } from "../ordered/range-reader.ts";
import type { RangeBounds, RecordSource, SnapshotRecord } from "./contract.ts";
import { verifyFound } from "./body-check.ts";
import type { Core } from "./core.ts";
import { FRAMES_MAX } from "./frame-batch.ts";
import type { Ordering } from "./ordering.ts";
import type { Hold, Snapshots } from "./snapshot.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

/** Positions that are taken at a time: the most that a leaf holds. */
const PART_MAX = 64;
/** Frames that are read ahead at first; twice as many each time. */
const FRAMES_MIN = 8;
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
}

/** Begins a range over a key space as of now. */
export function beginRange(parts: RangeParts, space: SpaceState, bounds: RangeBounds): RecordSource {
  const { core, spaces, snapshots, ordering } = parts;
  core.enter();
  spaces.mustBeLive(space);
  ordering.mayRead();
  // Alone, nothing can change before this call returns.
  const hold = core.isShared ? snapshots.hold(space) : undefined;
  let isKept = false;
  try {
    const lsn = hold?.lsn ?? core.present();
    const begun = beginAt(parts, { space, bounds, lsn });
    if (begun instanceof ReadyRange) return begun;
    isKept = true;
    return keepOpen(parts, hold ?? snapshots.hold(space), begun);
  } finally {
    if (hold !== undefined && !isKept) snapshots.close(hold);
  }
}

/** A short range, whole, or the beginning of a long one. */
function beginAt(
  parts: RangeParts,
  range: { readonly space: SpaceState; readonly bounds: RangeBounds; readonly lsn: number },
): ReadyRange | Begun {
  const { spaces, ordering } = parts;
  const { space, bounds, lsn } = range;
  const clears = spaces.clearsAt(space, lsn);
  const tree = spaces.treeBefore(space, clears);
  const rest = remainderOf(bounds);
  const limit = bounds.limit ?? Infinity;
  const room = limit < PART_MAX ? limit : PART_MAX;
  const count = tree === 0 ? 0 : ordering.reader.take(tree, rest, firstUnits, room);
  if (limit <= WANTED_AT_ONCE_MAX || (count <= AT_ONCE_MAX && (rest.isDone || count === 0))) {
    const records = readAtOnce(parts, { tree, rest, count, limit, lsn });
    return records === undefined ? { rest: remainderOf(bounds), clears, count: 0 } : new ReadyRange(records);
  }
  return { rest, clears, count };
}

/** A range that goes on, piece by piece, until it is at its end or dropped. */
function keepOpen(parts: RangeParts, hold: Hold, begun: Begun): RangeWalk {
  begun.rest.near = ownBound(begun.rest.near);
  begun.rest.far = ownBound(begun.rest.far);
  const walk = new RangeWalk(parts, hold, begun);
  parts.snapshots.letGoWith(walk, hold);
  return walk;
}

/** What is left of a range of which `count` positions have been taken, into `firstUnits`. */
interface Begun {
  readonly rest: Remainder;
  readonly clears: number;
  readonly count: number;
}

/** The same bound, whatever becomes of the caller's array. */
function ownBound(bound: Bound | undefined): Bound | undefined {
  return bound === undefined ? undefined : { key: new Uint8Array(bound.key), isInclusive: bound.isInclusive };
}

/** All of a short range; undefined when one of its records cannot be read: its caller gets those before it first. */
function readAtOnce(
  parts: RangeParts,
  range: {
    readonly tree: number;
    readonly rest: Remainder;
    readonly limit: number;
    readonly lsn: number;
    count: number;
  },
): SnapshotRecord[] | undefined {
  const { core, ordering } = parts;
  const { limit, lsn } = range;
  const records: SnapshotRecord[] = [];
  const moment: Moment = { lsn, now: undefined };
  let { count } = range;
  try {
    while (count > 0) {
      loadFrames(core, firstUnits, { from: 0, count, lsn });
      for (let index = 0; index < count && records.length < limit; index++) {
        const record = core.frames.record(index) ?? recordAt(core, firstUnits[index]! * 8, moment);
        if (record !== undefined) records.push(record);
      }
      if (records.length >= limit || range.rest.isDone) break;
      const left = limit - records.length;
      count = ordering.reader.take(range.tree, range.rest, firstUnits, left < PART_MAX ? left : PART_MAX);
    }
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    return undefined;
  }
  return records;
}

/** Copies frames; none when each has to be checked or opened, which the long way does. */
function loadFrames(
  core: Core,
  units: Float64Array,
  part: { readonly from: number; readonly count: number; readonly lsn: number },
): void {
  const isPlain = !core.verifyReads && core.vault === undefined;
  core.frames.load(units, part, isPlain ? part.lsn : 0);
}

/** What a range shows. */
interface Moment {
  readonly lsn: number;
  /** By the clock; asked for when the first deadline is met, if all is read within one call. */
  now: number | undefined;
}

/** The record that a moment shows, if it shows one, followed back from the newest version of its key. */
function recordAt(core: Core, newest: number, moment: Moment): SnapshotRecord | undefined {
  const { lookup } = core;
  lookup.loadAt(newest);
  if (!lookup.walkBack(moment.lsn)) return undefined;
  const expiresAtMs = (lookup.shape & SHAPE_EXPIRY) === 0 ? 0 : lookup.expiresAtMs();
  if (expiresAtMs !== 0 && expiresAtMs <= (moment.now ??= core.now())) return undefined;
  if (core.verifyReads) verifyFound(core);
  const key = lookup.keyCopy();
  return { key, value: lookup.value(), expiresAtMs };
}

function resultOf(record: SnapshotRecord | undefined): IteratorResult<SnapshotRecord> {
  return record === undefined ? { done: true, value: undefined } : { done: false, value: record };
}

/** Records that have been read already. */
class ReadyRange implements RecordSource {
  #records: readonly SnapshotRecord[];
  #index = 0;

  constructor(records: readonly SnapshotRecord[]) {
    this.#records = records;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<SnapshotRecord> {
    return resultOf(this.pull());
  }

  pull(): SnapshotRecord | undefined {
    const index = this.#index;
    if (index >= this.#records.length) return undefined;
    this.#index = index + 1;
    return this.#records[index];
  }

  return(): IteratorResult<SnapshotRecord> {
    this.#records = [];
    return { done: true, value: undefined };
  }
}

class RangeWalk implements RecordSource {
  readonly #parts: RangeParts;
  readonly #hold: Hold;
  readonly #clears: number;
  readonly #moment: Moment;
  readonly #rest: Remainder;
  /** Positions of the leaf at hand, in 8-byte units; those before `#next` have been read. */
  readonly #units = new Float64Array(PART_MAX);
  #count: number;
  #next = 0;
  /** The records of the last frames that were read, and of those that are still to be followed back nothing. */
  #records: (SnapshotRecord | undefined)[] = [];
  #first = 0;
  #index = 0;
  #ahead = FRAMES_MIN;

  constructor(parts: RangeParts, hold: Hold, begun: Begun) {
    this.#parts = parts;
    this.#hold = hold;
    this.#clears = begun.clears;
    this.#moment = { lsn: hold.lsn, now: parts.core.now() };
    this.#rest = begun.rest;
    this.#count = begun.count;
    for (let index = 0; index < this.#count; index++) this.#units[index] = firstUnits[index]!;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<SnapshotRecord> {
    return resultOf(this.pull());
  }

  pull(): SnapshotRecord | undefined {
    if (!this.#hold.isOpen) return undefined;
    const { core } = this.#parts;
    core.enter();
    for (;;) {
      while (this.#index < this.#records.length) {
        const index = this.#index++;
        const record = this.#records[index] ?? this.#recordAt(this.#first + index);
        if (record !== undefined) return record;
      }
      if (this.#read()) continue;
      this.return();
      return undefined;
    }
  }

  return(): IteratorResult<SnapshotRecord> {
    this.#parts.snapshots.close(this.#hold);
    this.#count = 0;
    this.#records = [];
    return { done: true, value: undefined };
  }

  #recordAt(index: number): SnapshotRecord | undefined {
    return recordAt(this.#parts.core, this.#units[index]! * 8, this.#moment);
  }

  /** Reads some more frames; false when there are none. */
  #read(): boolean {
    const { core } = this.#parts;
    if (this.#next === this.#count && !this.#takePart()) return false;
    const from = this.#next;
    const count = Math.min(this.#count - from, this.#ahead);
    loadFrames(core, this.#units, { from, count, lsn: this.#hold.lsn });
    const records = this.#records;
    records.length = count;
    for (let index = 0; index < count; index++) records[index] = core.frames.record(index);
    this.#first = from;
    this.#index = 0;
    this.#next = from + count;
    this.#ahead = Math.min(this.#ahead * 2, FRAMES_MAX);
    return true;
  }

  #takePart(): boolean {
    const { spaces, ordering } = this.#parts;
    const tree = spaces.treeBefore(this.#hold.space, this.#clears);
    this.#next = 0;
    this.#count = tree === 0 ? 0 : ordering.reader.take(tree, this.#rest, this.#units, PART_MAX);
    return this.#count > 0;
  }
}
