/**
 * Records that replay has read and not yet put into the index: up to 65 536 at a time, sorted by their hashes, so that
 * shards and buckets are filled one after the other and not at random. Versions that they replace lie anywhere in the
 * log; the misses of those overlap over a part of the group.
 *
 * Invariants
 * 1. A group is put into the index before anything that is no record is. Within it the records of one hash, so of one
 *    key, keep the order of the log; others do not depend on each other.
 * 2. What the log's words call written covers the whole group: a record may replace one of its own group.
 * 3. No tombstone is dropped that the batch at hand, or one of this group, may need back.
 */

import { copy, pinned } from "../ffi/memory.ts";
import { HASH_BITS } from "../keydir/hash.ts";
import { isTombstone, positionHigh } from "../keydir/keydir.ts";
import { FRAME_HEADER_BYTES, KIND_PUT, KIND_REMOVE, SHAPE_EXPIRY, TWO_32, kindOf } from "../log/frame.ts";
import { unitHigh, unitLow } from "../log/log-words.ts";
import type { Scanner } from "../log/scanner.ts";
import type { Core } from "./core.ts";
import { noteDeadline } from "./deadlines.ts";
import type { Gates } from "./gates.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

/** Most records of a group: their rows take 2 MiB, and stay in the processor's cache. */
const GROUP_MAX = 65_536;
/** What a group holds at first: a small log needs no more. */
const GROUP_MIN = 1024;
/** Sorted by so many first bits of the hash: parts as small as the shards of five million records. */
const SORT_BITS = 12;
const SORT_SHIFT = HASH_BITS - SORT_BITS;
/** Enough to keep the memory busy, few enough for what was touched to be still in the nearest cache. */
const TOUCH = 128;

/** In a row: the record is a removal. */
const REMOVAL = 1 << 31;

/** Groups from this many records on have room made for them first. */
const PREPARE_MIN = 8192;

/**
 * The records of a group, one row of 32 bytes each, so that one is in one cache line:
 *
 *     f64 0 position   f64 1 previous version, 0: none   f64 2 deadline, 0: never
 *     i32 6 hash       i32 7 bits 0-30 bytes of the frame, 31 a removal
 */
class Rows {
  readonly capacity: number;
  readonly f64: Float64Array;
  readonly i32: Int32Array;
  readonly ids: Uint32Array;
  /** Where the record's batch began, in units; Infinity for one of its own. A tombstone behind that is still needed. */
  readonly batches: Float64Array;
  /** Numbers of the rows in the order in which they go into the index. */
  order: Uint32Array;
  spare: Uint32Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.f64 = new Float64Array(capacity * 4);
    this.i32 = new Int32Array(this.f64.buffer);
    this.ids = new Uint32Array(capacity);
    this.batches = new Float64Array(capacity);
    this.order = new Uint32Array(capacity);
    this.spare = new Uint32Array(capacity);
  }

  /** The same records with room for more. */
  enlarged(): Rows {
    const larger = new Rows(Math.min(this.capacity * 8, GROUP_MAX));
    larger.f64.set(this.f64);
    larger.ids.set(this.ids);
    larger.batches.set(this.batches);
    return larger;
  }
}

export class ReplayGroup {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #gates: Gates | undefined;
  /** Finds the namespace of the record at a position, or throws that there is none. */
  readonly #space: (id: number, lsn: number) => SpaceState;
  #rows = new Rows(GROUP_MIN);
  #count = 0;
  /** Tombstones before this position, in units, may go: before the first batch that the group has records of. */
  #keepFrom = Infinity;
  /** Whether the group's records belong to more than one namespace. */
  #isMixed = false;
  #hasPrev = false;
  /** Where the parts of the sorted order end, by the first bits of the hash; and how many of the new keys lie before that. */
  readonly #ends = new Uint32Array((1 << SORT_BITS) + 1);
  readonly #newKeys = new Uint32Array((1 << SORT_BITS) + 1);
  readonly #touched = pinned(FRAME_HEADER_BYTES);

  // Counts of the namespace at hand that are not in its entry yet.
  #counted: SpaceState | undefined;
  #records = 0;
  #liveBytes = 0;

  constructor(
    core: Core,
    spaces: Spaces,
    options: { readonly gates: Gates | undefined; readonly space: (id: number, lsn: number) => SpaceState },
  ) {
    this.#core = core;
    this.#spaces = spaces;
    this.#gates = options.gates;
    this.#space = options.space;
  }

  /** Takes the record that the scanner stands at. */
  add(scanner: Scanner, batchStart: number): void {
    const { facts, lsn, head, headAt } = scanner;
    if (this.#gates !== undefined && lsn < this.#gates.of(facts.space)) return;
    const index = this.#count;
    if (index === this.#rows.capacity) this.#rows = this.#rows.enlarged();
    const { f64, i32, ids, batches } = this.#rows;
    const row = index * 4;
    f64[row] = lsn;
    f64[row + 1] = facts.prev;
    f64[row + 2] = facts.expiresAtMs;
    i32[2 * row + 6] = this.#core.hash.at(head, headAt + FRAME_HEADER_BYTES, facts.keyBytes);
    i32[2 * row + 7] = facts.frameBytes | (facts.kind === KIND_REMOVE ? REMOVAL : 0);
    ids[index] = facts.space;
    if (facts.prev !== 0) this.#hasPrev = true;
    if (index > 0 && ids[index - 1] !== facts.space) this.#isMixed = true;
    const batch = batchStart === 0 ? Infinity : batchStart / 8;
    batches[index] = batch;
    if (batch < this.#keepFrom) this.#keepFrom = batch;
    this.#count = index + 1;
    if (this.#count === GROUP_MAX) this.flush();
  }

  /** Puts the group into the index. */
  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    this.#count = 0;
    this.#sort(count);
    this.#core.keydir.exclusively(() => {
      if (!this.#isMixed && count >= PREPARE_MIN) this.#prepare();
      this.#applyAll(count);
    });
    this.#writeCounts();
    this.#keepFrom = Infinity;
    this.#isMixed = false;
    this.#hasPrev = false;
  }

  #prepare(): void {
    const { ids, f64 } = this.#rows;
    const space = this.#space(ids[0]!, f64[0]!);
    this.#core.keydir.prepare(space.address, this.#keepFrom, (hash, depth) => this.#newKeysOf(hash, depth));
  }

  /** By the hash, and of more than one namespace by that first; what is equal stays in the order of the log. */
  #sort(count: number): void {
    const rows = this.#rows;
    const { i32, f64, ids, order } = rows;
    const ends = this.#ends.fill(0);
    const newKeys = this.#newKeys.fill(0);
    for (let index = 0; index < count; index++) {
      const part = i32[8 * index + 6]! >>> SORT_SHIFT;
      ends[part + 1]! += 1;
      if (f64[4 * index + 1] === 0 && i32[8 * index + 7]! > 0) newKeys[part + 1]! += 1;
    }
    for (let part = 1; part < ends.length; part++) {
      ends[part]! += ends[part - 1]!;
      newKeys[part]! += newKeys[part - 1]!;
    }
    for (let index = 0; index < count; index++) order[ends[i32[8 * index + 6]! >>> SORT_SHIFT]!++] = index;
    if (!this.#isMixed) return;
    const places = new Map<number, number>();
    for (let index = 0; index < count; index++) places.set(ids[index]!, (places.get(ids[index]!) ?? 0) + 1);
    let place = 0;
    for (const [id, records] of places) {
      places.set(id, place);
      place += records;
    }
    const sorted = rows.spare;
    for (let index = 0; index < count; index++) {
      const id = ids[order[index]!]!;
      const to = places.get(id)!;
      sorted[to] = order[index]!;
      places.set(id, to + 1);
    }
    rows.spare = order;
    rows.order = sorted;
  }

  /** How many new keys of the group have hashes that begin with the first `depth` bits of one; below the sorted parts, a share. */
  #newKeysOf(hash: number, depth: number): number {
    const newKeys = this.#newKeys;
    const part = hash >>> SORT_SHIFT;
    if (depth > SORT_BITS) return (newKeys[part + 1]! - newKeys[part]!) >>> (depth - SORT_BITS);
    const parts = 1 << (SORT_BITS - depth);
    const first = part - (part % parts);
    return newKeys[first + parts]! - newKeys[first]!;
  }

  #applyAll(count: number): void {
    const { order, ids, f64 } = this.#rows;
    const isMixed = this.#isMixed;
    let space: SpaceState | undefined;
    for (let at = 0; at < count; at++) {
      if (this.#hasPrev && at % TOUCH === 0) this.#touch(at, Math.min(at + TOUCH, count));
      const index = order[at]!;
      if (space === undefined || (isMixed && space.id !== ids[index]))
        space = this.#space(ids[index]!, f64[4 * index]!);
      this.#apply(index, space);
    }
  }

  /** Brings replaced versions into the cache. */
  #touch(from: number, to: number): void {
    const { log } = this.#core;
    const { order, f64 } = this.#rows;
    const touched = this.#touched.address;
    for (let at = from; at < to; at++) {
      const prev = f64[4 * order[at]! + 1]!;
      if (prev === 0) continue;
      const address = log.at(unitLow(prev), unitHigh(prev));
      if (address !== 0 && log.limit >= FRAME_HEADER_BYTES) copy(touched, address, FRAME_HEADER_BYTES);
    }
  }

  #apply(index: number, space: SpaceState): void {
    const { keydir, key, lookup, isReadOnly } = this.#core;
    const { f64, i32 } = this.#rows;
    const lsn = f64[4 * index]!;
    const prev = f64[4 * index + 1]!;
    const expiresAtMs = f64[4 * index + 2]!;
    const bytes = i32[8 * index + 7]! & ~REMOVAL;
    const isRemoval = i32[8 * index + 7]! < 0;
    const keepFrom = this.#keepFrom;
    key.hash = i32[8 * index + 6]!;
    const hasSlot = this.#findSlot(space, index);
    // Only an image's shards hold what stands behind the place where replay began.
    const isHeld = this.#gates !== undefined && lsn < keydir.standsFor;
    let wasLive = false;
    let hadDeadline = false;
    let oldBytes = 0;
    if (prev !== 0 && (hasSlot || isHeld)) {
      lookup.loadAnyAt(prev);
      wasLive = kindOf(lookup.shape) === KIND_PUT;
      if (wasLive) oldBytes = lookup.frameBytes();
      hadDeadline = wasLive && (lookup.shape & SHAPE_EXPIRY) !== 0;
    }
    if (!isHeld) {
      if (hasSlot) keydir.replace(unitLow(lsn), unitHigh(lsn), isRemoval);
      else if (!isRemoval) keydir.add(space.address, unitLow(lsn), unitHigh(lsn), keepFrom);
    }
    if (this.#counted !== space) this.#writeCounts();
    this.#counted = space;
    this.#records += (isRemoval ? 0 : 1) - (wasLive ? 1 : 0);
    this.#liveBytes += (isRemoval ? 0 : bytes) - oldBytes;
    if ((hadDeadline || expiresAtMs !== 0) && !isReadOnly)
      noteDeadline(this.#core, space, { hadDeadline, expiresAtMs, lsn });
    const { ordering } = this.#core;
    if (ordering === undefined) return;
    lookup.loadAnyAt(lsn);
    key.takeFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
    ordering.replay(this.#spaces, space, { lsn, prev, isRemoval, keepFrom });
  }

  #writeCounts(): void {
    if (this.#counted !== undefined) this.#spaces.count(this.#counted, this.#records, this.#liveBytes);
    this.#counted = undefined;
    this.#records = 0;
    this.#liveBytes = 0;
  }

  /** Finds the slot that points to the previous version; for a new key, one that a removed key no longer needs. */
  #findSlot(space: SpaceState, index: number): boolean {
    const { keydir, key } = this.#core;
    const { f64, batches } = this.#rows;
    if (!keydir.seek(this.#spaces.root(space), key.hash)) return false;
    const prevUnits = f64[4 * index + 1]! / 8;
    while (keydir.next()) {
      const units = positionHigh(keydir.high) * TWO_32 + keydir.low;
      if (prevUnits === 0 ? isTombstone(keydir.high) && units < batches[index]! : units === prevUnits) return true;
    }
    return false;
  }
}
