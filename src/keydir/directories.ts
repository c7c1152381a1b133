/**
 * What this Worker knows of the directories: the pages that a hash belongs to, without a look at the shared memory.
 *
 * A directory entry, the descriptor it names and the bucket are three reads that wait for each other. The first two
 * change only when a shard is laid out anew, so each Worker keeps what it read of them; one shared number, the
 * *layout*, counts the changes.
 *
 *     entry (8 words of 32 bits)   0 unit of the descriptor (0: not read yet)
 *                                  1 bits 0-23 first page, 24-28 depth, 29-31 pages   2-7 the other pages
 *
 * Invariants
 * 1. The writer changes directory or root, then the layout, then retires what was replaced. A reader compares the
 *    layout after its era and after `visible`: what it knows then leads to every frame that it may see, through
 *    memory that is not given away meanwhile.
 * 2. The writer takes its own changes into account; any other Worker forgets everything when the layout has changed.
 */

import { copy, sharedScratch } from "../ffi/memory.ts";
import { UNIT_BYTES, type Heap } from "../ffi/heap.ts";
import { RECLAIM_LAYOUT } from "../ffi/reclaim.ts";
import { HASH_BITS } from "./hash.ts";
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_DEPTH,
  DESCRIPTOR_FIRST_PAGE,
  DESCRIPTOR_PAGES,
  PAGE_BUCKETS,
  SHARD_PAGES_MAX,
} from "./shard.ts";

const ENTRY_WORDS_SHIFT = 3;
const PAGE_BITS = 24;
const PAGE_MASK = (1 << PAGE_BITS) - 1;
const NONE: Int32Array = new Int32Array(0);

const sharedDescriptor = sharedScratch(DESCRIPTOR_BYTES);

export class Directories {
  readonly #heap: Heap;
  readonly #flags: Int32Array;
  readonly #memory = sharedDescriptor();
  /** The layout that everything known stands for. */
  #layout = 0;
  /** The directory asked for last, and what is known of it. */
  #root = -1;
  #shift = 0;
  #entries: Int32Array = NONE;
  readonly #known = new Map<number, Int32Array>();
  /** What `locate` found: the descriptor's unit, the page of the home bucket and the bucket's number in it. */
  unit = 0;
  page = 0;
  bucket = 0;

  constructor(heap: Heap, flags: Int32Array) {
    this.#heap = heap;
    this.#flags = flags;
    this.#layout = flags[RECLAIM_LAYOUT]!;
  }

  /** Counts the changes of roots, directories and shards. */
  get layout(): number {
    return this.#flags[RECLAIM_LAYOUT]!;
  }

  /** Finds the home bucket of a hash. */
  locate(root: number, hash: number): void {
    if (this.#flags[RECLAIM_LAYOUT] !== this.#layout) this.#forget();
    if (root !== this.#root) this.#take(root);
    const entries = this.#entries;
    const at = (hash >>> this.#shift) << ENTRY_WORDS_SHIFT;
    if (entries[at] === 0) this.#read(root, at);
    const facts = entries[at + 1]!;
    const depth = (facts >>> PAGE_BITS) & 31;
    // The bits behind the shard's own, as a fraction of its buckets: `homeBucket` over what is at hand.
    const fraction = (hash << (32 - HASH_BITS + depth)) >>> 16;
    const home = Math.imul(fraction, (facts >>> 29) * PAGE_BUCKETS) >>> 16;
    this.unit = entries[at]!;
    this.page = entries[at + 1 + (home >> 6)]! & PAGE_MASK;
    this.bucket = home & 63;
  }

  /** Everything is to be read anew as it is now. */
  #forget(): void {
    // Not a plain load: what is read from now on is at least as new as the layout that it is taken for.
    this.#layout = Atomics.load(this.#flags, RECLAIM_LAYOUT);
    this.#known.clear();
    this.#root = -1;
    this.#entries = NONE;
  }

  #take(root: number): void {
    const depth = root % 32;
    let entries = this.#known.get(root);
    if (entries === undefined) {
      entries = new Int32Array(1 << (depth + ENTRY_WORDS_SHIFT));
      this.#known.set(root, entries);
    }
    this.#root = root;
    this.#shift = HASH_BITS - depth;
    this.#entries = entries;
  }

  #read(root: number, at: number): void {
    const heap = this.#heap;
    const { i32, address } = this.#memory;
    const directory = heap.unitAddress((root - (root % 32)) / 32);
    const unit = heap.read32(directory + (at >> ENTRY_WORDS_SHIFT) * 4);
    copy(address, heap.pagesAt + unit * UNIT_BYTES, DESCRIPTOR_BYTES);
    const entries = this.#entries;
    for (let index = 0; index < SHARD_PAGES_MAX; index++)
      entries[at + 1 + index] = i32[DESCRIPTOR_FIRST_PAGE + index]! & PAGE_MASK;
    entries[at + 1]! |= (i32[DESCRIPTOR_DEPTH]! << PAGE_BITS) | (i32[DESCRIPTOR_PAGES]! << 29);
    entries[at] = unit;
  }

  /** To be called by the writer when entries of a directory name another shard. */
  entriesChanged(root: number, first: number, count: number): void {
    if (this.#advance()) {
      this.#known.get(root)?.fill(0, first << ENTRY_WORDS_SHIFT, (first + count) << ENTRY_WORDS_SHIFT);
    }
  }

  /** To be called by the writer when the root of a namespace has changed. */
  rootChanged(before: number, after: number): void {
    if (!this.#advance()) return;
    // Of the new one too: a directory that was retired may have stood in the same place.
    for (const root of [before, after]) this.#known.delete(root);
    this.#root = -1;
    this.#entries = NONE;
  }

  /** To be called by the writer when anything may have changed. */
  allChanged(): void {
    Atomics.add(this.#flags, RECLAIM_LAYOUT, 1);
    this.#forget();
  }

  /** Tells the others; whether what is known here was up to date and so still is, but for this change. */
  #advance(): boolean {
    const before = Atomics.add(this.#flags, RECLAIM_LAYOUT, 1);
    if (before !== this.#layout) return false;
    this.#layout = (before + 1) | 0;
    return true;
  }
}
