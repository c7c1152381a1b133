/**
 * One shard of the hash index: up to seven pages of slots, and how they are laid out anew.
 *
 *     slot (8 bytes)      low word:  position of the frame as stored (`ffi/positions.ts`), low 32 bits
 *                         high word: bits 31-5 hash, 4 tombstone, 3-0 high bits of what is stored
 *     bucket              8 slots, one cache line
 *     page                64 buckets
 *     descriptor (unit)   0 pages, 1 depth, 2-8 page numbers, 10 live slots, 11 used slots; f64 6 the position of
 *                         the log that the image stood for which the shard comes from (0: from none)
 *
 * A shard of depth d holds the hashes that begin with its d bits. The bits behind them, as a fraction, times
 * the number of buckets, are the home bucket; a slot lies there or in the first bucket behind it in the same
 * page that had room. Because a slot keeps the whole hash, a shard is laid out anew, split or merged
 * without a look at the log. A full shard of five pages gets seven, and one of seven is split into two of five, so that
 * memory per record stays between 10 and 14.6 bytes and every free block fits every shard. Going from four to seven page
 * by page kept it below 12.5, moved each slot twice as often, and made inserts 5 to 10 % slower.
 *
 * Invariants
 * 1. A slot goes from empty to one key and stays that key's (live or tombstone) as long as its page lives.
 * 2. A page, once reachable, changes by stores of whole slots only; any other layout is a new page.
 * 3. used <= 80 % of the slots of the shard; a new layout leaves room in each page.
 */

import { assert } from "../errors.ts";
import { copy, fill, sharedScratch, type Pinned } from "../ffi/memory.ts";
import { HASH_BITS } from "./hash.ts";
import { PAGE_BYTES, type Heap } from "../ffi/heap.ts";
import { storedIn } from "../ffi/positions.ts";

export const SHARD_PAGES_MAX = 7;
export const PAGE_SLOTS = PAGE_BYTES / 8;
export const PAGE_BUCKETS = PAGE_SLOTS / 8;
/** Most used slots a page on average, 80 %. */
export const PAGE_USED_MAX = 410;
/** Slots a page that a new layout stays below, 75 %: halves of a full shard of seven then fit four pages each. */
const PAGE_USED_AIM = 384;
/** Slots of a whole shard that a new layout stays below, and most that it gets to hold. */
export const SHARD_SLOTS_AIM = SHARD_PAGES_MAX * PAGE_USED_AIM;
export const SHARD_SLOTS_MAX = SHARD_PAGES_MAX * PAGE_USED_MAX;
/** Slots that a new layout puts in one page at most: some room is left in it, and a search for what is not there ends. */
const PAGE_LAID_OUT_MAX = PAGE_SLOTS - 16;
/** The directory's depth beyond which a shard's remaining hash bits would be fewer than its buckets. */
export const DEPTH_MAX = 18;

export const TOMBSTONE = 16;
export const HASH_SHIFT = 5;

export const DESCRIPTOR_PAGES = 0;
export const DESCRIPTOR_DEPTH = 1;
export const DESCRIPTOR_FIRST_PAGE = 2;
export const DESCRIPTOR_LIVE = 10;
export const DESCRIPTOR_USED = 11;
/** Index of a 64-bit number. */
export const DESCRIPTOR_STANDS_FOR = 6;
export const DESCRIPTOR_BYTES = 56;

const sharedPile = sharedScratch((2 * SHARD_PAGES_MAX + 1) * PAGE_BYTES);
const sharedPages = sharedScratch(SHARD_PAGES_MAX * PAGE_BYTES);
const sharedDescriptor = sharedScratch(DESCRIPTOR_BYTES);
const sharedFacts = sharedScratch(DESCRIPTOR_BYTES);

/** The home bucket of a hash, counted over all pages of its shard: the 16 bits behind the shard's own, as a fraction. */
export function homeBucket(hash: number, depth: number, pages: number): number {
  const fraction = ((hash << (32 - HASH_BITS + depth)) >>> 16) | 0;
  return Math.imul(fraction, pages * PAGE_BUCKETS) >>> 16;
}

/** Slots gathered from old pages, to be laid out in new ones. */
export class SlotPile {
  readonly memory: Pinned = sharedPile();
  count = 0;
  live = 0;

  clear(): void {
    this.count = 0;
    this.live = 0;
  }

  /** Adds the slots of a page, without tombstones older than `keepFrom` (a position in units). */
  addPage(heap: Heap, page: number, keepFrom: number): void {
    const at = this.count * 8;
    copy(this.memory.address + at, heap.pageAddress(page), PAGE_BYTES);
    const words = this.memory.u32;
    const { positions } = heap;
    let to = this.count * 2;
    let from = to;
    for (let index = 0; index < PAGE_SLOTS; index++, from += 2) {
      const low = words[from]!;
      const high = words[from + 1]!;
      if ((high & TOMBSTONE) !== 0) {
        if (positions.units(low, high) < keepFrom) continue;
      } else if (storedIn(low, high) === 0) {
        continue;
      } else {
        this.live += 1;
      }
      words[to] = low;
      words[to + 1] = high;
      to += 2;
    }
    this.count = to / 2;
  }

  /** How many of the slots have this hash bit (counted from the top of the hash) set. */
  countWithBit(depth: number): number {
    const mask = 1 << (HASH_BITS - 1 - depth);
    const words = this.memory.u32;
    let count = 0;
    for (let index = 0; index < this.count; index++) {
      if (((words[2 * index + 1]! >>> HASH_SHIFT) & mask) !== 0) count += 1;
    }
    return count;
  }
}

/** What a descriptor says about its shard. */
export interface ShardFacts {
  readonly unit: number;
  readonly pages: readonly number[];
  readonly depth: number;
  readonly live: number;
  readonly used: number;
  readonly standsFor: number;
}

/** What the descriptor in a unit says. */
export function describeShard(heap: Heap, unit: number): ShardFacts {
  const memory = sharedFacts();
  copy(memory.address, heap.unitAddress(unit), DESCRIPTOR_BYTES);
  const words = memory.u32;
  return {
    unit,
    pages: Array.from(words.subarray(DESCRIPTOR_FIRST_PAGE, DESCRIPTOR_FIRST_PAGE + words[DESCRIPTOR_PAGES]!)),
    depth: words[DESCRIPTOR_DEPTH]!,
    live: words[DESCRIPTOR_LIVE]!,
    used: words[DESCRIPTOR_USED]!,
    standsFor: memory.f64[DESCRIPTOR_STANDS_FOR]!,
  };
}

/** Which of a pile's slots a new shard takes: those whose hash bit at `depth - 1` is `bit`, or all. */
export interface Share {
  readonly depth: number;
  readonly bit: 0 | 1 | undefined;
  /** Everything before this position of the log is in it. */
  readonly standsFor: number;
}

/** Some of the slots in an array, by their numbers. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** Pages that so many slots should have. */
function pagesFor(count: number): number {
  return Math.max(1, Math.ceil(count / PAGE_USED_AIM));
}

/** Lays out slots in pages. */
export class ShardBuilder {
  readonly #heap: Heap;
  readonly #pages: Pinned = sharedPages();
  readonly #descriptor: Pinned = sharedDescriptor();
  readonly #counts = new Int32Array(SHARD_PAGES_MAX);
  /** Slots used in each bucket of the shard being built. */
  readonly #filled = new Uint8Array(SHARD_PAGES_MAX * PAGE_BUCKETS);

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /**
   * Builds a shard from its share of a pile; returns the unit of its descriptor, or 0 when that needs more
   * pages than a shard has (the whole of it, or one crowded part).
   */
  build(pile: SlotPile, share: Share, count: number): number {
    for (let pages = pagesFor(count); pages <= SHARD_PAGES_MAX; pages++) {
      if (this.#layOut(pile, share, pages)) return this.#publishable(pages, share);
    }
    return 0;
  }

  #layOut(pile: SlotPile, share: Share, pages: number): boolean {
    fill(this.#pages.address, 0, pages * PAGE_BYTES);
    const words = this.#pages.u32;
    const from = pile.memory.u32;
    const bit = share.bit;
    const shift = HASH_BITS - share.depth;
    const counts = this.#counts.fill(0);
    const filled = this.#filled.fill(0);
    let live = 0;
    let used = 0;
    for (let index = 0; index < pile.count; index++) {
      const high = from[2 * index + 1]!;
      const hash = high >>> HASH_SHIFT;
      if (bit !== undefined && ((hash >>> shift) & 1) !== bit) continue;
      const home = homeBucket(hash, share.depth, pages);
      const page = home >> 6;
      counts[page]! += 1;
      if (counts[page]! > PAGE_LAID_OUT_MAX) return false;
      const bucket = filled[home]! < 8 ? home : bucketWithRoom(filled, home);
      const slot = bucket * 8 + filled[bucket]!;
      filled[bucket]! += 1;
      words[2 * slot] = from[2 * index]!;
      words[2 * slot + 1] = high;
      used += 1;
      if ((high & TOMBSTONE) === 0) live += 1;
    }
    this.#descriptor.u32[DESCRIPTOR_LIVE] = live;
    this.#descriptor.u32[DESCRIPTOR_USED] = used;
    return true;
  }

  /**
   * Puts slots into the pages of the shard of a descriptor, where they stand. Returns how many found no room in their
   * page; they are the first of the span then.
   */
  put(shard: Uint32Array, slots: Uint32Array, span: Span): number {
    const heap = this.#heap;
    const pages = shard[DESCRIPTOR_PAGES]!;
    const depth = shard[DESCRIPTOR_DEPTH]!;
    assert(pages <= SHARD_PAGES_MAX, "a shard has at most seven pages");
    const memory = this.#pages.address;
    for (let index = 0; index < pages; index++)
      copy(memory + index * PAGE_BYTES, heap.pageAddress(shard[DESCRIPTOR_FIRST_PAGE + index]!), PAGE_BYTES);
    const words = this.#pages.u32;
    let left = span.from;
    for (let index = span.from; index < span.to; index++) {
      const low = slots[2 * index]!;
      const high = slots[2 * index + 1]!;
      const slot = emptySlot(words, homeBucket(high >>> HASH_SHIFT, depth, pages));
      const [into, at] = slot < 0 ? [slots, left++] : [words, slot];
      into[2 * at] = low;
      into[2 * at + 1] = high;
    }
    for (let index = 0; index < pages; index++)
      copy(heap.pageAddress(shard[DESCRIPTOR_FIRST_PAGE + index]!), memory + index * PAGE_BYTES, PAGE_BYTES);
    return left - span.from;
  }

  #publishable(pages: number, share: Share): number {
    assert(pages <= SHARD_PAGES_MAX, "a shard has at most seven pages");
    const heap = this.#heap;
    const words = this.#descriptor.u32;
    words[DESCRIPTOR_PAGES] = pages;
    words[DESCRIPTOR_DEPTH] = share.depth;
    this.#descriptor.f64[DESCRIPTOR_STANDS_FOR] = share.standsFor;
    const unit = this.#take(pages);
    for (let index = 0; index < pages; index++) {
      const page = words[DESCRIPTOR_FIRST_PAGE + index]!;
      copy(heap.pageAddress(page), this.#pages.address + index * PAGE_BYTES, PAGE_BYTES);
    }
    copy(heap.unitAddress(unit), this.#descriptor.address, DESCRIPTOR_BYTES);
    return unit;
  }

  /** Takes so many pages, which the descriptor then names, and its unit; all or nothing. */
  #take(pages: number): number {
    const heap = this.#heap;
    const named = this.#descriptor.u32.subarray(DESCRIPTOR_FIRST_PAGE, DESCRIPTOR_FIRST_PAGE + SHARD_PAGES_MAX).fill(0);
    try {
      for (let index = 0; index < pages; index++) named[index] = heap.takePage();
      return heap.takeUnit();
    } catch (error) {
      for (const page of named) if (page > 0) heap.givePage(page);
      throw error;
    }
  }
}

/** The first bucket with an empty slot behind `home`, within its page, which is not full. */
function bucketWithRoom(filled: Uint8Array, home: number): number {
  const pageFirst = home - (home % PAGE_BUCKETS);
  for (let step = 1; ; step++) {
    assert(step < PAGE_BUCKETS, "a page that is laid out has room");
    const bucket = pageFirst + ((home + step) % PAGE_BUCKETS);
    if (filled[bucket]! < 8) return bucket;
  }
}

/** The first empty slot of a page from a bucket on, as a search goes; -1 when the page is full. */
function emptySlot(words: Uint32Array, home: number): number {
  const pageFirst = home - (home % PAGE_BUCKETS);
  for (let step = 0; step < PAGE_BUCKETS; step++) {
    const first = (pageFirst + ((home + step) % PAGE_BUCKETS)) * 8;
    for (let slot = first; slot < first + 8; slot++)
      if (words[2 * slot] === 0 && words[2 * slot + 1] === 0) return slot;
  }
  return -1;
}
