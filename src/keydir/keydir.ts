/**
 * The hash index: for each namespace a directory of shards, from the hash of a key to the position of its
 * newest frame. It knows no keys: it offers candidates with the same 27 hash bits, and its caller compares.
 *
 *     entry of a namespace (unit)   f64 0 root (unit of the directory * 32 + depth; 0: empty)   f64 1 records
 *                                   f64 2 live bytes   f64 3 position of its creation   u32 8 state   u32 9 clears
 *                                   u32 10 first grave   u32 11 queue of deadlines
 *     directory                     2^depth units (u32) of descriptors; the entry is picked by the first
 *                                   `depth` bits of the hash; several entries may name one shard
 *
 * Invariants
 * 1. One writer at a time, under the writer's lock; readers take none. A shard is replaced as a whole: the new
 *    one is complete before a directory entry names it, the old one is retired, not reused, until every
 *    Worker has been seen past it.
 * 2. A slot's store (8 bytes, aligned) is the publication of a frame whose bytes are already in place.
 * 3. Live and used counts are exact under the lock; `recount` restores them after a writer died.
 */

import { EmdbError, assert } from "../errors.ts";
import { copy, sharedScratch } from "../ffi/memory.ts";
import type { Address } from "../ffi/system.ts";
import { HASH_BITS, hashBehind } from "./hash.ts";
import { PAGE_BYTES, type Heap } from "../ffi/heap.ts";
import { withStored, type Positions } from "../ffi/positions.ts";
import type { Reclaim } from "../ffi/reclaim.ts";
import { Directories } from "./directories.ts";
import { DirectoryWriter } from "./directory-writer.ts";
import {
  DEPTH_MAX,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_DEPTH,
  DESCRIPTOR_FIRST_PAGE,
  DESCRIPTOR_LIVE,
  DESCRIPTOR_PAGES,
  DESCRIPTOR_STANDS_FOR,
  DESCRIPTOR_USED,
  HASH_SHIFT,
  PAGE_BUCKETS,
  PAGE_USED_MAX,
  SHARD_SLOTS_AIM,
  SHARD_SLOTS_MAX,
  ShardBuilder,
  SlotPile,
  TOMBSTONE,
  describeShard,
  type ShardFacts,
  type Share,
  type Span,
} from "./shard.ts";

const BUCKET_BYTES = 64;

/** A shard that is full gets room for so many times its slots. */
const GROWTH = 1.3;

/** A shard is looked at for shrinking at each multiple of this many tombstones, when it ... */
const SHRINK_TOMBSTONES_STEP = 128;
/** ... holds fewer live slots a page than this, 35 %. */
const SHRINK_LIVE_MAX = 180;
/** Free pages that keep their memory, whatever the size of the index. */
const IDLE_PAGES_MAX = 256;

const sharedBucket = sharedScratch(BUCKET_BYTES);
const sharedDescriptor = sharedScratch(DESCRIPTOR_BYTES);
const sharedSlot = sharedScratch(8);

/** How many keys are to come whose hashes begin with the first `depth` bits of `hash`. */
type Ahead = (hash: number, depth: number) => number;
/** How many slots a part of a shard that has `count` now should have room for. */
type Expected = (count: number, hash: number, depth: number) => number;

export class Keydir {
  readonly heap: Heap;
  readonly #positions: Positions;
  readonly #reclaim: Reclaim;
  readonly #builder: ShardBuilder;
  readonly #pile = new SlotPile();
  readonly #directories: Directories;
  readonly #tree: DirectoryWriter;
  /** The bucket being looked at, the descriptor of its shard once it is asked for, and a slot to be written. */
  readonly #bucket = sharedBucket();
  readonly #words = this.#bucket.i32;
  readonly #descriptor = sharedDescriptor();
  readonly #slot = sharedSlot();

  // Where a search stands; filled in by `seek` and `next`.
  #unit = 0;
  #page: Address = 0;
  #home = 0;
  #step = 0;
  /** Word of the next slot in the bucket. */
  #at = 0;
  #hash = 0;
  #isDescribed = false;
  /** Nobody else looks at counts, or changes anything: a descriptor is read and written once for all changes in a row. */
  #isExclusive = false;
  #isCountDue = false;
  /** The candidate that `next` found: the two words of its slot, the higher one signed, and where the slot is. */
  low = 0;
  high = 0;
  #slotAt: Address = 0;
  /** The empty slot that ended a search without a hit; 0 when its page is full. */
  #emptyAt: Address = 0;

  constructor(heap: Heap, reclaim: Reclaim) {
    this.heap = heap;
    this.#positions = heap.positions;
    this.#reclaim = reclaim;
    this.#builder = new ShardBuilder(heap);
    this.#directories = new Directories(heap, reclaim.flags);
    this.#tree = new DirectoryWriter(heap, reclaim, this.#directories);
  }

  /** Counts the changes of roots: a root that was read stays good as long as this number. */
  get layout(): number {
    return this.#directories.layout;
  }

  /** Begins a search below a root; false when there is nothing. */
  seek(root: number, hash: number): boolean {
    this.#hash = hash;
    this.#emptyAt = 0;
    if (root === 0) {
      this.#writeCounts();
      this.#isDescribed = false;
      this.#unit = 0;
      return false;
    }
    const place = this.#directories;
    place.locate(root, hash);
    if (place.unit !== this.#unit || !this.#isExclusive) {
      this.#writeCounts();
      this.#isDescribed = false;
    }
    this.#unit = place.unit;
    this.#page = this.heap.pagesAt + place.page * PAGE_BYTES;
    this.#home = place.bucket;
    this.#step = 0;
    this.#at = 0;
    copy(this.#bucket.address, this.#page + place.bucket * BUCKET_BYTES, BUCKET_BYTES);
    return true;
  }

  /** The descriptor of the shard of the last search. */
  get #shard(): Uint32Array {
    this.#describe();
    return this.#descriptor.u32;
  }

  #describe(): void {
    if (this.#isDescribed) return;
    copy(this.#descriptor.address, this.heap.unitAddress(this.#unit), DESCRIPTOR_BYTES);
    this.#isDescribed = true;
  }

  /** Everything before this position of the log is in the shard of the last search; 0 unless it came from an image. */
  get standsFor(): number {
    if (this.#unit === 0) return 0;
    this.#describe();
    return this.#descriptor.f64[DESCRIPTOR_STANDS_FOR]!;
  }

  /** Where the home bucket of a hash is. */
  bucketOf(root: number, hash: number): Address {
    const place = this.#directories;
    place.locate(root, hash);
    return this.heap.pagesAt + place.page * PAGE_BYTES + place.bucket * BUCKET_BYTES;
  }

  /** Goes on to the next slot with the hash; false at the end. */
  next(): boolean {
    const words = this.#words;
    const hash = this.#hash;
    let at = this.#at;
    for (;;) {
      for (; at < 16; at += 2) {
        const high = words[at + 1]!;
        if (high === 0 && words[at] === 0) {
          this.#at = at + 2;
          this.#emptyAt = this.#slotAddress(at);
          return false;
        }
        if (high >>> HASH_SHIFT === hash) {
          this.#at = at + 2;
          this.low = words[at]! >>> 0;
          this.high = high;
          this.#slotAt = this.#slotAddress(at);
          return true;
        }
      }
      this.#step += 1;
      if (this.#step === PAGE_BUCKETS) return false;
      at = 0;
      const bucket = (this.#home + this.#step) & 63;
      copy(this.#bucket.address, this.#page + bucket * BUCKET_BYTES, BUCKET_BYTES);
    }
  }

  #slotAddress(word: number): Address {
    return this.#page + (((this.#home + this.#step) & 63) * BUCKET_BYTES + word * 4);
  }

  /** Loads the candidate's slot again; false when it had not changed since `next` found it. */
  reload(): boolean {
    copy(this.#slot.address, this.#slotAt, 8);
    const low = this.#slot.u32[0]!;
    const high = this.#slot.i32[1]!;
    if (low === this.low && high === this.high) return false;
    this.low = low;
    this.high = high;
    return true;
  }

  #store(slotAt: Address, low: number, high: number): void {
    this.#slot.u32[0] = low;
    this.#slot.i32[1] = high;
    copy(slotAt, this.#slot.address, 8);
  }

  /** The position of the candidate in units; 0 for a removal that names nothing. */
  get units(): number {
    return this.#positions.units(this.low, this.high);
  }

  /** Points the candidate's slot to another frame of its key, by its position in units. */
  replace(units: number, isTombstone: boolean): void {
    const wasTombstone = (this.high & TOMBSTONE) !== 0;
    const stored = this.#positions.stored(units);
    this.low = stored >>> 0;
    this.high = withStored((this.#hash << HASH_SHIFT) | (isTombstone ? TOMBSTONE : 0), stored) | 0;
    this.#store(this.#slotAt, this.low, this.high);
    if (wasTombstone !== isTombstone) this.#countSlots(isTombstone ? -1 : 1, 0);
  }

  /** Runs changes while nobody else uses the index, nor this thread for anything else. */
  exclusively(change: () => void): void {
    // What was described before may have been given away since.
    this.#isDescribed = false;
    this.#isExclusive = true;
    try {
      change();
    } finally {
      this.#isExclusive = false;
      this.#writeCounts();
    }
  }

  /**
   * Makes room for many keys that are about to be added, so that no shard is laid out anew for each few of them.
   * Only tombstones at or behind `keepFrom` (units) survive.
   */
  prepare(space: Address, keepFrom: number, ahead: Ahead): void {
    const expect: Expected = (count, hash, depth) => count + ahead(hash, depth);
    for (let hash = 0; hash < 1 << HASH_BITS;) {
      if (!this.seek(this.root(space), hash)) this.#plant(space);
      const shard = this.#shard;
      const depth = shard[DESCRIPTOR_DEPTH]!;
      const old = this.#unit;
      const expected = expect(shard[DESCRIPTOR_USED]!, hash, depth);
      const needsMore = expected > shard[DESCRIPTOR_PAGES]! * PAGE_USED_MAX;
      if (needsMore) this.#gather(keepFrom);
      if (needsMore && expected > SHARD_SLOTS_MAX && this.#split(space, { hash, depth }, expect)) {
        this.#retireShard(old);
        continue;
      }
      const slots = Math.max(this.#pile.count, Math.min(expected, SHARD_SLOTS_AIM));
      const unit = needsMore ? this.#builder.build(this.#pile, this.#shareOf(depth), slots) : 0;
      if (unit > 0) {
        this.#tree.name(space, { hash, depth }, unit);
        this.#retireShard(old);
      }
      hash += 1 << (HASH_BITS - depth);
    }
  }

  /**
   * Adds new keys to the shard of the last search, where it stands: nobody else uses the index. Those whose pages are full
   * come to be the first of the span; returns how many they are.
   */
  addToShard(slots: Uint32Array, span: Span): number {
    const left = this.#builder.put(this.#shard, slots, span);
    const added = span.to - span.from - left;
    this.#countSlots(added, added);
    return left;
  }

  /** Adds a key that a search to the end has just not found, with the position of its frame in units. */
  add(space: Address, units: number, keepFrom: number): void {
    if (this.#unit === 0) this.#plant(space);
    const shard = this.#shard;
    if (shard[DESCRIPTOR_USED]! >= shard[DESCRIPTOR_PAGES]! * PAGE_USED_MAX || this.#emptyAt === 0) {
      this.#relayout(space, keepFrom, GROWTH);
    }
    const stored = this.#positions.stored(units);
    this.#store(this.#emptyAt, stored >>> 0, withStored(this.#hash << HASH_SHIFT, stored) | 0);
    this.#countSlots(1, 1);
  }

  /**
   * To be called after a candidate became a tombstone: gives memory back when the shard holds too little.
   * Only tombstones at or behind `keepFrom` (units) survive it.
   */
  shrink(space: Address, keepFrom: number): void {
    const shard = this.#shard;
    const live = shard[DESCRIPTOR_LIVE]!;
    const tombstones = shard[DESCRIPTOR_USED]! - live;
    // Not at every one from there on: those that must be kept would have the shard laid out again each time.
    if (tombstones === 0 || tombstones % SHRINK_TOMBSTONES_STEP !== 0) return;
    const pages = shard[DESCRIPTOR_PAGES]!;
    if (live >= pages * SHRINK_LIVE_MAX) return;
    if (pages > 1) this.#relayout(space, keepFrom);
    else this.#merge(space, keepFrom);
    this.trim();
  }

  /** The same for `most` shards from a hash on, whatever came to them; returns where to go on, 0 behind the last one. */
  shrinkSome(space: Address, keepFrom: number, work: { readonly from: number; readonly most: number }): number {
    let hash = work.from;
    for (let looks = work.most; looks > 0 && hash < 1 << HASH_BITS && this.seek(this.root(space), hash); looks--) {
      const { live, used, pages } = this.describe(this.#unit);
      const isThin = live < pages.length * SHRINK_LIVE_MAX;
      if (isThin && used > live && pages.length > 1) this.#relayout(space, keepFrom);
      if (isThin) while (this.#merge(space, keepFrom)) this.seek(this.root(space), hash);
      hash = hashBehind(hash, this.shardOf(this.root(space), hash).depth);
    }
    this.trim();
    return hash % (1 << HASH_BITS);
  }

  /** Much idle memory goes back to the system. */
  trim(): void {
    const idle = this.heap.idlePages;
    if (idle > IDLE_PAGES_MAX && idle * 4096 > this.heap.bytes / 4) this.heap.trim(IDLE_PAGES_MAX / 4);
  }

  /** Joins the shard of the current search with its sibling when both together fill less than half a page. */
  #merge(space: Address, keepFrom: number): boolean {
    const depth = this.#shard[DESCRIPTOR_DEPTH]!;
    if (depth === 0 || this.#shard[DESCRIPTOR_PAGES]! > 1) return false;
    const hash = this.#hash;
    const own = this.#unit;
    const sibling = this.shardOf(this.root(space), hash ^ (1 << (HASH_BITS - depth)));
    const both = this.describe(own).live + sibling.live;
    if (sibling.depth !== depth || sibling.pages.length > 1 || both > PAGE_USED_MAX / 2) return false;
    const pile = this.#pile;
    pile.clear();
    pile.addPage(this.heap, this.#shard[DESCRIPTOR_FIRST_PAGE]!, keepFrom);
    pile.addPage(this.heap, sibling.pages[0]!, keepFrom);
    if (pile.count > PAGE_USED_MAX) return false;
    const standsFor = Math.min(this.standsFor, sibling.standsFor);
    const unit = this.#builder.build(pile, { depth: depth - 1, bit: undefined, standsFor }, pile.count);
    this.#tree.name(space, { hash, depth: depth - 1 }, unit);
    this.#retireShard(own);
    this.#retireShard(sibling.unit);
    return true;
  }

  /** The shard that a hash belongs to. */
  shardOf(root: number, hash: number): ShardFacts {
    const depth = root % 32;
    const directory = this.heap.unitAddress((root - depth) / 32);
    return this.describe(this.heap.read32(directory + (hash >>> (HASH_BITS - depth)) * 4));
  }

  /** What a descriptor says. */
  describe(unit: number): ShardFacts {
    return describeShard(this.heap, unit);
  }

  /** To be called when roots, directories or shards may have changed without a word, before they are read again. */
  allChanged(): void {
    this.#directories.allChanged();
  }

  /** Retires a whole directory with its shards; nothing names it any more. */
  retireTree(root: number): void {
    let hash = 0;
    while (root !== 0 && hash < 1 << HASH_BITS) {
      const shard = this.shardOf(root, hash);
      this.#retireShard(shard.unit);
      hash += 1 << (HASH_BITS - shard.depth);
    }
    if (root !== 0) this.#tree.retire(root);
    this.trim();
  }

  /** The root of a namespace's directory. */
  root(space: Address): number {
    return this.heap.readNumber(space);
  }

  /** Gives a namespace another directory, complete already; 0: none. */
  setRoot(space: Address, root: number): void {
    this.#tree.setRoot(space, root);
  }

  #countSlots(live: number, used: number): void {
    const shard = this.#shard;
    shard[DESCRIPTOR_LIVE]! += live;
    shard[DESCRIPTOR_USED]! += used;
    this.#isCountDue = true;
    if (!this.#isExclusive) this.#writeCounts();
  }

  #writeCounts(): void {
    if (!this.#isCountDue) return;
    this.#isCountDue = false;
    copy(this.heap.unitAddress(this.#unit) + DESCRIPTOR_LIVE * 4, this.#descriptor.address + DESCRIPTOR_LIVE * 4, 8);
  }

  /** The first shard of an empty namespace, and the search repeated in it. */
  #plant(space: Address): void {
    const heap = this.heap;
    this.#pile.clear();
    const unit = this.#builder.build(this.#pile, { depth: 0, bit: undefined, standsFor: 0 }, 0);
    const directory = heap.takeUnit();
    heap.write32(heap.unitAddress(directory), unit);
    this.#tree.setRoot(space, directory * 32);
    this.#searchEnd(space);
  }

  #searchEnd(space: Address): void {
    const hash = this.#hash;
    const found = this.seek(this.root(space), hash);
    assert(found, "a namespace that holds a shard has a root");
    while (this.next());
    assert(this.#emptyAt !== 0, "a new layout has room");
  }

  /** Lays out the shard of the current search with more room, and repeats the search. */
  #relayout(space: Address, keepFrom: number, growth = 1): void {
    this.#gather(keepFrom);
    const depth = this.#shard[DESCRIPTOR_DEPTH]!;
    const hash = this.#hash;
    const old = this.#unit;
    const { count } = this.#pile;
    const expected = Math.max(count + 1, Math.min(count * growth, SHARD_SLOTS_AIM));
    const unit = this.#builder.build(this.#pile, this.#shareOf(depth), expected);
    if (unit > 0) this.#tree.name(space, { hash, depth }, unit);
    else if (!this.#split(space, { hash, depth }, (half) => half * growth))
      throw new EmdbError("EMDB_FULL", `the index has no more room for keys with the hash ${hash} (depth ${depth})`);
    this.#retireShard(old);
    this.#searchEnd(space);
  }

  /** All of the shard of the current search, in another layout. */
  #shareOf(depth: number): Share {
    return { depth, bit: undefined, standsFor: this.standsFor };
  }

  /** Piles up the slots of the shard of the current search. */
  #gather(keepFrom: number): void {
    this.#writeCounts();
    const shard = this.#shard;
    this.#pile.clear();
    for (let index = 0; index < shard[DESCRIPTOR_PAGES]!; index++) {
      this.#pile.addPage(this.heap, shard[DESCRIPTOR_FIRST_PAGE + index]!, keepFrom);
    }
  }

  /** Lays the pile out in two shards; false, and nothing changed, when there is no room for that. */
  #split(space: Address, shard: { readonly hash: number; readonly depth: number }, expect: Expected): boolean {
    const { hash } = shard;
    const depth = shard.depth + 1;
    if (depth > DEPTH_MAX) return false;
    const bit = 1 << (HASH_BITS - depth);
    const ones = this.#pile.countWithBit(shard.depth);
    const { standsFor } = this;
    const build = (of: 0 | 1, first: number, count: number): number => {
      const expected = Math.max(count, Math.min(expect(count, first, depth), SHARD_SLOTS_AIM));
      return this.#builder.build(this.#pile, { depth, bit: of, standsFor }, expected);
    };
    let [upper, lower, isReady] = [0, 0, false];
    try {
      upper = build(1, hash | bit, ones);
      lower = build(0, hash & ~bit, this.#pile.count - ones);
      if (upper === 0 || lower === 0) return false;
      if (this.root(space) % 32 === shard.depth) this.#tree.deepen(space);
      isReady = true;
    } finally {
      if (!isReady) for (const unit of [upper, lower]) if (unit > 0) this.#retireShard(unit);
    }
    this.#tree.name(space, { hash: hash | bit, depth }, upper);
    this.#tree.name(space, { hash: hash & ~bit, depth }, lower);
    return true;
  }

  #retireShard(unit: number): void {
    for (const page of this.describe(unit).pages) this.#reclaim.retirePage(page);
    this.#reclaim.retireUnit(unit);
  }
}

/** Whether a slot's high word says that the newest frame of the key removes it. */
export function isTombstone(high: number): boolean {
  return (high & TOMBSTONE) !== 0;
}
