/**
 * A range: the records of a key space in key order as of one moment, while writes go on.
 *
 * Positions are taken from the ordered index a part at a time, few at first, so that a range of ten costs ten.
 * The frames of a part are copied side by side, so that the memory's latency overlaps. A short record that was
 * current at the moment of the call is made from its copy at once; any other is followed back through its
 * versions when it is its turn.
 *
 * Invariants
 * 1. While it is open no tombstone at or behind its moment leaves the index, and the tree of a key space that is
 *    cleared stays in a grave (`snapshot.ts`): what was there can still be reached.
 * 2. Between two records it holds no memory of the index: it goes on at a key.
 */

import { EmdbError } from "../errors.ts";
import { copy, sharedScratch } from "../ffi/memory.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_PUT,
  SHAPE_EXPIRY,
  TWO_32,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
  extensionBytes,
  kindOf,
} from "../log/frame.ts";
import type { Address } from "../ffi/system.ts";
import type { Remainder } from "../ordered/range-reader.ts";
import type { RangeBounds, SnapshotRecord } from "./contract.ts";
import { verifyFound } from "./body-check.ts";
import type { Core } from "./core.ts";
import type { Ordering } from "./ordering.ts";
import type { Hold, Snapshots } from "./snapshot.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

const PART_MIN = 8;
const PART_MAX = 64;
/** A range of so few is read within the call: it then holds nothing, and nobody has to see when it is dropped. */
const AT_ONCE_MAX = 32;
const FRAME_BYTES = 256;
// Of the part being fetched; used within one call only.
const sharedFrames = sharedScratch(PART_MAX * FRAME_BYTES);
const copied = new Int32Array(PART_MAX);
const places: Address[] = Array.from({ length: PART_MAX }, () => 0);

/** What a range works with. */
export interface RangeParts {
  readonly core: Core;
  readonly spaces: Spaces;
  readonly snapshots: Snapshots;
  readonly ordering: Ordering;
}

/** Begins a range over a key space as of now. */
export function beginRange(
  parts: RangeParts,
  space: SpaceState,
  bounds: RangeBounds,
): IterableIterator<SnapshotRecord> {
  const { core, spaces, snapshots, ordering } = parts;
  core.enter();
  spaces.mustBeLive(space);
  ordering.mayRead();
  const hold = snapshots.hold(space);
  const { limit = Infinity } = bounds;
  if (limit <= AT_ONCE_MAX) {
    const short = new RangeWalk(parts, hold, bounds);
    if (short.fetch(limit)) return short;
  }
  const walk = new RangeWalk(parts, hold, bounds);
  snapshots.letGoWith(walk, hold);
  return walk;
}

class RangeWalk implements IterableIterator<SnapshotRecord> {
  readonly #parts: RangeParts;
  readonly #hold: Hold;
  readonly #clears: number;
  readonly #now: number;
  readonly #rest: Remainder;
  /** Positions of the part at hand, in 8-byte units. */
  #units: Float64Array;
  /** Its records, those that are made already. */
  #records: (SnapshotRecord | undefined)[] = [];
  /** Records that were read before they were asked for. */
  #ready: readonly SnapshotRecord[] = [];
  #readyIndex = 0;
  #count = 0;
  #index = 0;

  constructor(parts: RangeParts, hold: Hold, bounds: RangeBounds) {
    this.#parts = parts;
    this.#hold = hold;
    this.#clears = parts.spaces.clearsAt(hold.space, hold.lsn);
    this.#now = parts.core.now();
    const { lower, upper, isReverse, limit = PART_MIN } = bounds;
    this.#units = new Float64Array(Math.min(limit === Infinity ? PART_MIN : limit, PART_MAX));
    this.#rest = { isReverse, near: isReverse ? upper : lower, far: isReverse ? lower : upper, isDone: false };
  }

  [Symbol.iterator](): this {
    return this;
  }

  /** Reads as many records as will be asked for and lets go of the moment; false when one of them cannot be read. */
  fetch(limit: number): boolean {
    const fetched: SnapshotRecord[] = [];
    try {
      while (fetched.length < limit) {
        const step = this.next();
        if (step.done === true) break;
        fetched.push(step.value);
      }
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      // The caller gets the records before it, and the error when it is its turn.
      return false;
    }
    this.return();
    this.#ready = fetched;
    return true;
  }

  next(): IteratorResult<SnapshotRecord> {
    if (this.#readyIndex < this.#ready.length) return { done: false, value: this.#ready[this.#readyIndex++]! };
    if (!this.#hold.isOpen) return { done: true, value: undefined };
    this.#parts.core.enter();
    for (;;) {
      while (this.#index < this.#count) {
        const index = this.#index++;
        const record = this.#records[index] ?? this.#recordAt(this.#units[index]! * 8);
        if (record !== undefined) return { done: false, value: record };
      }
      if (!this.#takePart()) return this.return();
    }
  }

  return(): IteratorResult<SnapshotRecord> {
    this.#parts.snapshots.close(this.#hold);
    this.#count = 0;
    this.#ready = [];
    return { done: true, value: undefined };
  }

  /** The record that the moment shows, if it shows one. */
  #recordAt(newest: number): SnapshotRecord | undefined {
    const { lookup } = this.#parts.core;
    lookup.loadAt(newest);
    if (!lookup.walkBack(this.#hold.lsn)) return undefined;
    const expiresAtMs = (lookup.shape & SHAPE_EXPIRY) === 0 ? 0 : lookup.expiresAtMs();
    if (expiresAtMs !== 0 && expiresAtMs <= this.#now) return undefined;
    if (this.#parts.core.verifyReads) verifyFound(this.#parts.core);
    const key = lookup.keyCopy();
    return { key, value: lookup.value(), expiresAtMs };
  }

  #takePart(): boolean {
    const { spaces, ordering } = this.#parts;
    const tree = spaces.treeBefore(this.#hold.space, this.#clears);
    if (tree === 0) return false;
    if (this.#count > 0 && this.#units.length < PART_MAX) this.#units = new Float64Array(PART_MAX);
    this.#index = 0;
    this.#count = ordering.reader.take(tree, this.#rest, this.#units);
    this.#makeRecords();
    return this.#count > 0;
  }

  /** Copies the frames of the part, then makes the records that need no more than that. */
  #makeRecords(): void {
    const { log } = this.#parts.core;
    const frames = sharedFrames().address;
    const records = this.#records;
    for (let index = 0; index < this.#count; index++) {
      const units = this.#units[index]!;
      const address = units * 8 < this.#hold.lsn ? log.at(units >>> 0, Math.floor(units / TWO_32)) : 0;
      // What the ring holds may be overwritten meanwhile.
      const bytes = address === 0 || log.isInRing ? 0 : Math.min(log.limit, FRAME_BYTES);
      copied[index] = bytes;
      places[index] = address;
      // Eight bytes first: more misses run side by side than with whole frames.
      if (bytes > 0) copy(frames + index * FRAME_BYTES, address, 8);
    }
    for (let index = 0; index < this.#count; index++) {
      const bytes = copied[index]!;
      if (bytes > 0) copy(frames + index * FRAME_BYTES, places[index]!, bytes);
    }
    for (let index = 0; index < this.#count; index++) records[index] = this.#plainRecord(index);
  }

  /** The record in the copy of a frame, if it is whole there, holds a value, and that for ever. */
  #plainRecord(index: number): SnapshotRecord | undefined {
    const frames = sharedFrames();
    const from = index * FRAME_BYTES;
    const shape = frames.u32[from / 4 + WORD_SHAPE]!;
    const valueBytes = frames.u32[from / 4 + WORD_VALUE_BYTES]!;
    const keyBytes = shape >>> 16;
    const valueAt = FRAME_HEADER_BYTES + keyBytes + extensionBytes(shape);
    if (valueAt + valueBytes > copied[index]!) return undefined;
    if (kindOf(shape) !== KIND_PUT || (shape & SHAPE_EXPIRY) !== 0) return undefined;
    const key = new Uint8Array(keyBytes);
    if (keyBytes > 0) copy(key, frames.address + from + FRAME_HEADER_BYTES, keyBytes);
    const value = new Uint8Array(valueBytes);
    if (valueBytes > 0) copy(value, frames.address + from + valueAt, valueBytes);
    return { key, value, expiresAtMs: 0 };
  }
}
