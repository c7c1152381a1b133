/**
 * Records that replay has read and not yet put into the index. New keys go in by themselves (`new-keys.ts`); the others, and
 * those that may have been removed before, up to 65 536 at a time, sorted by the first bits of their
 * hashes, so that shards are filled one after the other and not at random. Versions that they replace lie anywhere in the
 * log; the misses of those overlap over a part of the group.
 *
 * Invariants
 * 1. A group is put into the index before anything that is no record is. Within it the records of one hash, so of one
 *    key, keep the order of the log; others do not depend on each other.
 * 2. What the log's words call written covers the whole group: a record may replace one of its own group.
 * 3. No tombstone is dropped that the batch at hand, or one of this group, may need back.
 * 4. The deadline of a new key is in the queue before the key is in the index. New keys go in before all others, so no
 *    stale entry is looked for meanwhile.
 */

import { copy, pinned } from "../../ffi/memory.ts";
import type { Address } from "../../ffi/system.ts";
import { HASH_BITS } from "../../keydir/hash.ts";
import { isTombstone } from "../../keydir/keydir.ts";
import { FRAME_HEADER_BYTES, KIND_PUT, KIND_REMOVE, SHAPE_EXPIRY, kindOf, type FrameFacts } from "../../log/frame.ts";
import type { Scanner } from "../../log/scanner.ts";
import type { Core } from "../core.ts";
import { noteDeadline, noteDeadlineAhead } from "../write/deadlines.ts";
import type { Gates } from "../hint/gates.ts";
import { HashCounts, NewKeys, RemovedHashes } from "./new-keys.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

/** Most records of a group: their rows take 2 MiB, and stay in the processor's cache. */
const GROUP_MAX = 65_536;
/** What a group holds at first: an open of a small log makes no room that it does not need. */
const GROUP_MIN = 64;
/** Smaller groups, and those of several namespaces, go in as they come. */
const SORTED_MIN = 8192;
/** Parts are sorted by at most so many first bits of the hash; new keys are counted by them. */
const PART_BITS_MAX = 12;
/**
 * A part holds four shards of the usual depth: their keys come at random then, as in the log. Filled from one end, a shard
 * would be crowded there and be laid out, or split, for nothing; four of them are still at hand in the cache.
 */
const PART_SHARDS_BITS = 2;
/** Enough to keep the memory busy, few enough for what was touched to be still in the nearest cache. */
const TOUCH = 128;
const BUCKET_BYTES = 64;

/** In a row: the record is a removal. */
const REMOVAL = 1 << 31;

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
  readonly order: Uint32Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.f64 = new Float64Array(capacity * 4);
    this.i32 = new Int32Array(this.f64.buffer);
    this.ids = new Uint32Array(capacity);
    this.batches = new Float64Array(capacity);
    this.order = new Uint32Array(capacity);
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
  readonly #recordCountMax: number;
  /** Finds the namespace of the record at a position, or throws that there is none. */
  readonly #space: (id: number, lsn: number) => SpaceState;
  #rows = new Rows(GROUP_MIN);
  #count = 0;
  /** Tombstones before this position, in units, may go: before the first batch that the group has records of. */
  #keepFrom = Infinity;
  /** Whether the group's records belong to more than one namespace. */
  #isMixed = false;
  /** Where the parts of the sorted order end, and how many new keys there are in each. */
  #ends: Uint32Array | undefined;
  #counts: HashCounts | undefined;
  /** New keys that need no look at the index go in before all others, and which namespace they are of. */
  readonly #newKeys = new NewKeys();
  #newSpace: SpaceState | undefined;
  #newBytes = 0;
  /** Whether there are such keys: nothing stands in the index but what was read. */
  #takesNew: boolean;
  #removed: RemovedHashes | undefined;
  readonly #touched = pinned(BUCKET_BYTES);

  // Counts of the namespace at hand that are not in its entry yet.
  #counted: SpaceState | undefined;
  #records = 0;
  #liveBytes = 0;

  constructor(
    core: Core,
    spaces: Spaces,
    options: {
      readonly gates: Gates | undefined;
      readonly space: (id: number, lsn: number) => SpaceState;
      readonly recordCountMax: number;
    },
  ) {
    this.#core = core;
    this.#spaces = spaces;
    this.#gates = options.gates;
    this.#space = options.space;
    this.#recordCountMax = options.recordCountMax;
    this.#takesNew = options.gates === undefined && core.ordering === undefined;
  }

  /** Takes the record that the scanner stands at. */
  add(scanner: Scanner, batchStart: number): void {
    const { facts, lsn, head, headAt } = scanner;
    if (this.#gates !== undefined && lsn < this.#gates.of(facts.space)) return;
    const hash = this.#core.hash.at(head, headAt + FRAME_HEADER_BYTES, facts.keyBytes);
    const batch = batchStart === 0 ? Infinity : batchStart / 8;
    if (this.#takesNew) {
      if (facts.kind === KIND_REMOVE) (this.#removed ??= new RemovedHashes(this.#recordCountMax)).note(hash);
      else if (facts.prev === 0 && this.#removed?.mayHave(hash) !== true && this.#takeNew(facts, { lsn, hash, batch }))
        return;
    }
    const index = this.#count;
    if (index === this.#rows.capacity) this.#rows = this.#rows.enlarged();
    const { f64, i32, ids, batches } = this.#rows;
    const row = index * 4;
    f64[row] = lsn;
    f64[row + 1] = facts.prev;
    f64[row + 2] = facts.expiresAtMs;
    i32[2 * row + 6] = hash;
    i32[2 * row + 7] = facts.liveBytes | (facts.kind === KIND_REMOVE ? REMOVAL : 0);
    ids[index] = facts.space;
    if (index > 0 && ids[index - 1] !== facts.space) this.#isMixed = true;
    batches[index] = batch;
    if (batch < this.#keepFrom) this.#keepFrom = batch;
    this.#count = index + 1;
    if (this.#count === GROUP_MAX) this.flush();
  }

  /** Takes a new key if it belongs to the namespace that new keys are taken of. */
  #takeNew(
    facts: FrameFacts,
    { lsn, hash, batch }: { readonly lsn: number; readonly hash: number; readonly batch: number },
  ): boolean {
    const newKeys = this.#newKeys;
    if (newKeys.count === 0) this.#newSpace = this.#space(facts.space, lsn);
    const space = this.#newSpace!;
    if (space.id !== facts.space) return false;
    newKeys.add(hash, lsn / 8, batch);
    this.#newBytes += facts.liveBytes;
    if (facts.expiresAtMs !== 0 && !this.#core.isReadOnly) {
      this.#core.key.hash = hash;
      noteDeadlineAhead(this.#core, space, { expiresAtMs: facts.expiresAtMs, lsn });
    }
    if (newKeys.isFull) this.flush();
    return true;
  }

  /** To be called when records were taken back: their slots may stand in the index. */
  wasUndone(): void {
    this.#takesNew = false;
  }

  /** Puts the group into the index. */
  flush(): void {
    this.#flushNew();
    const count = this.#count;
    if (count === 0) return;
    this.#count = 0;
    this.#core.keydir.exclusively(() => {
      if (this.#isMixed || count < SORTED_MIN) this.#applyAll(count, undefined);
      else this.#applySorted(count);
    });
    this.#writeCounts();
    this.#keepFrom = Infinity;
    this.#isMixed = false;
  }

  #flushNew(): void {
    const { keydir } = this.#core;
    const newKeys = this.#newKeys;
    const { count } = newKeys;
    if (count === 0) return;
    const space = this.#newSpace!;
    const keepFrom = this.#keepFrom;
    keydir.exclusively(() => newKeys.flushInto(keydir, { space: space.address, keepFrom }));
    this.#spaces.count(space, count, this.#newBytes);
    this.#newBytes = 0;
  }

  #applySorted(count: number): void {
    const { ids, f64 } = this.#rows;
    const { keydir } = this.#core;
    const space = this.#space(ids[0]!, f64[0]!);
    const counts = this.#countNewKeys(count);
    keydir.prepare(space.address, this.#keepFrom, (hash, depth) => counts.within(hash, depth));
    const depth = this.#spaces.root(space) % 32;
    this.#applyAll(count, this.#sorted(count, Math.min(Math.max(depth - PART_SHARDS_BITS, 0), PART_BITS_MAX)));
  }

  /** Counts the new keys of the group by the first bits of their hashes. */
  #countNewKeys(count: number): HashCounts {
    const { i32, f64 } = this.#rows;
    const counts = (this.#counts ??= new HashCounts(PART_BITS_MAX));
    counts.clear();
    for (let index = 0; index < count; index++) {
      if (f64[4 * index + 1] === 0 && i32[8 * index + 7]! > 0) counts.note(i32[8 * index + 6]!);
    }
    counts.finish();
    return counts;
  }

  /** The records by the first bits of their hashes; what is equal there stays in the order of the log. */
  #sorted(count: number, bits: number): Uint32Array {
    const { i32, order } = this.#rows;
    const shift = HASH_BITS - bits;
    const ends = (this.#ends ??= new Uint32Array((1 << PART_BITS_MAX) + 1)).fill(0);
    for (let index = 0; index < count; index++) ends[(i32[8 * index + 6]! >>> shift) + 1]! += 1;
    for (let part = 1; part < ends.length; part++) ends[part]! += ends[part - 1]!;
    for (let index = 0; index < count; index++) order[ends[i32[8 * index + 6]! >>> shift]!++] = index;
    return order;
  }

  /** Applies the records in an order, or in that of the log. */
  #applyAll(count: number, order: Uint32Array | undefined): void {
    const { ids, f64 } = this.#rows;
    let space: SpaceState | undefined;
    for (let first = 0; first < count; first += TOUCH) {
      const end = Math.min(first + TOUCH, count);
      this.#touch(first, end, order);
      for (let at = first; at < end; at++) {
        const index = order === undefined ? at : order[at]!;
        if (space?.id !== ids[index]) space = this.#space(ids[index]!, f64[4 * index]!);
        this.#apply(index, space!);
      }
    }
  }

  /** Brings replaced versions, and where the order is that of the log the buckets, into the cache. */
  #touch(first: number, end: number, order: Uint32Array | undefined): void {
    const { log, keydir } = this.#core;
    const { f64, i32, ids } = this.#rows;
    const touched = this.#touched.address;
    let id = -1;
    let root = 0;
    for (let at = first; at < end; at++) {
      const index = order === undefined ? at : order[at]!;
      const prev = f64[4 * index + 1]!;
      if (prev !== 0) {
        const address = log.at(prev);
        if (address !== 0 && log.limit >= FRAME_HEADER_BYTES) copy(touched, address, FRAME_HEADER_BYTES);
      }
      if (order !== undefined) continue;
      if (ids[index] !== id) {
        id = ids[index]!;
        const space = this.#spaces.byId(id);
        root = space === undefined ? 0 : this.#spaces.root(space);
      }
      if (root !== 0) copy(touched, keydir.bucketOf(root, i32[8 * index + 6]!), BUCKET_BYTES);
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
      if (wasLive) oldBytes = lookup.liveBytes();
      hadDeadline = wasLive && (lookup.shape & SHAPE_EXPIRY) !== 0;
    }
    if (!isHeld) {
      if (hasSlot) keydir.replace(lsn / 8, isRemoval);
      else if (!isRemoval) keydir.add(space.address, lsn / 8, keepFrom);
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
    const root = this.#spaces.root(space);
    if (!keydir.seek(root, key.hash)) return false;
    const prevUnits = f64[4 * index + 1]! / 8;
    if (prevUnits === 0) return this.#findRemoved(root, f64[4 * index]!, batches[index]!);
    while (keydir.next()) if (keydir.units === prevUnits) return true;
    return false;
  }

  /**
   * The slot of a removal before a position, of the hash that is sought: that of the record's own key if there are several,
   * or the removal could be met before the record.
   */
  #findRemoved(root: Address, lsn: number, before: number): boolean {
    const { keydir, key } = this.#core;
    let [found, others] = [0, 0];
    while (keydir.next()) {
      if (!isTombstone(keydir.high) || keydir.units >= before) continue;
      if (found === 0) found = keydir.units;
      else others += 1;
    }
    if (found === 0) return false;
    if (others > 0) found = this.#ownRemoval(root, lsn, before) || found;
    keydir.seek(root, key.hash);
    while (keydir.next()) if (keydir.units === found) return true;
    return false;
  }

  /** Where the key of a record was removed before, in units; 0 when no slot says so. */
  #ownRemoval(root: Address, lsn: number, before: number): number {
    const { keydir, key, lookup } = this.#core;
    lookup.loadAnyAt(lsn);
    const own = lookup.keyCopy();
    keydir.seek(root, key.hash);
    while (keydir.next()) {
      const { units } = keydir;
      // An undone first version leaves a removal that names nothing.
      if (units === 0 || !isTombstone(keydir.high) || units >= before) continue;
      lookup.loadAnyAt(units * 8);
      if (Buffer.from(lookup.keyCopy()).equals(own)) return units;
    }
    return 0;
  }
}
