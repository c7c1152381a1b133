/**
 * A copy of one shard of the hash index, and what is wrong with it by the index's own invariants (`shard.ts`),
 * without a look at the log. The copy is good until the event loop turns: its memory is shared.
 *
 * A slot must be where a search finds it: in its home bucket or behind it in the same page, with no empty slot
 * before it on the way.
 */

import { copy, sharedScratch } from "../ffi/memory.ts";
import { PAGE_BYTES, type Heap } from "../ffi/heap.ts";
import { Positions } from "../ffi/positions.ts";
import { HASH_BITS } from "./hash.ts";
import { isTombstone, type Keydir } from "./keydir.ts";
import { HASH_SHIFT, PAGE_BUCKETS, PAGE_SLOTS, SHARD_PAGES_MAX, homeBucket, type ShardFacts } from "./shard.ts";

const BUCKET_SLOTS = 8;

const sharedPages = sharedScratch(SHARD_PAGES_MAX * PAGE_BYTES);

/** Something wrong; `slot` is -1 when it is about the shard as a whole. */
export interface ShardFault {
  readonly slot: number;
  readonly reason: string;
}

export class ShardCopy {
  readonly #memory = sharedPages();
  readonly #words = this.#memory.u32;
  #shard: ShardFacts = { unit: 0, pages: [], depth: 0, live: 0, used: 0, standsFor: 0 };
  #positions = Positions.ofFile();
  #prefix = 0;
  #isNamedByAll = true;

  /** Takes a copy of the shard of a hash. Under the writer's lock; nothing else of this class needs it. */
  take(keydir: Keydir, root: number, hash: number): void {
    const shard = keydir.shardOf(root, hash);
    this.#shard = shard;
    this.#positions = keydir.heap.positions;
    this.#prefix = hash >>> (HASH_BITS - shard.depth);
    this.#isNamedByAll = isNamedByAll(keydir.heap, { root, hash }, shard);
    for (const [index, page] of shard.pages.entries()) {
      copy(this.#memory.address + index * PAGE_BYTES, keydir.heap.pageAddress(page), PAGE_BYTES);
    }
  }

  /** How many leading bits all hashes of the shard share. */
  get depth(): number {
    return this.#shard.depth;
  }

  get slotCount(): number {
    return this.#shard.pages.length * PAGE_SLOTS;
  }

  get bytes(): number {
    return this.#shard.pages.length * PAGE_BYTES;
  }

  isEmpty(slot: number): boolean {
    return this.#words[2 * slot] === 0 && this.#words[2 * slot + 1] === 0;
  }

  hashOf(slot: number): number {
    return this.#words[2 * slot + 1]! >>> HASH_SHIFT;
  }

  isRemoval(slot: number): boolean {
    return isTombstone(this.#words[2 * slot + 1]!);
  }

  /** The position that a slot holds, in bytes. */
  lsnOf(slot: number): number {
    return this.#positions.units(this.#words[2 * slot]!, this.#words[2 * slot + 1]!) * 8;
  }

  /** Everything that is wrong with the shard itself. */
  faults(): ShardFault[] {
    const faults: ShardFault[] = [];
    if (!this.#isNamedByAll) faults.push({ slot: -1, reason: "the directory's entries disagree about a shard" });
    let live = 0;
    let used = 0;
    for (let page = 0; page < this.#shard.pages.length; page++) {
      for (let slot = page * PAGE_SLOTS; slot < (page + 1) * PAGE_SLOTS; slot++) {
        if (this.isEmpty(slot)) continue;
        used += 1;
        if (!this.isRemoval(slot)) live += 1;
        const reason = this.#slotFault(slot);
        if (reason !== undefined) faults.push({ slot, reason });
      }
    }
    const { live: countedLive, used: countedUsed } = this.#shard;
    if (live !== countedLive) {
      faults.push({ slot: -1, reason: `a shard counts ${countedLive} live slots and holds ${live}` });
    }
    if (used !== countedUsed) {
      faults.push({ slot: -1, reason: `a shard counts ${countedUsed} used slots and holds ${used}` });
    }
    return faults;
  }

  #slotFault(slot: number): string | undefined {
    const { depth, pages } = this.#shard;
    const hash = this.hashOf(slot);
    if (hash >>> (HASH_BITS - depth) !== this.#prefix) return "a slot of the index stands in a shard of other hashes";
    const home = homeBucket(hash, depth, pages.length);
    const page = Math.floor(slot / PAGE_SLOTS);
    if (Math.floor(home / PAGE_BUCKETS) !== page) return "a slot of the index stands in another page than its home";
    for (const before of this.#slotsBefore(slot)) {
      if (this.isEmpty(before)) return "no search finds a slot of the index: an empty one stands before it";
    }
    return undefined;
  }

  /** The slots that a search for this one passes first. */
  *#slotsBefore(slot: number): Generator<number, undefined> {
    const { depth, pages } = this.#shard;
    const page = Math.floor(slot / PAGE_SLOTS);
    let bucket = homeBucket(this.hashOf(slot), depth, pages.length) % PAGE_BUCKETS;
    for (let step = 0; step < PAGE_BUCKETS; step++) {
      const first = page * PAGE_SLOTS + bucket * BUCKET_SLOTS;
      for (let index = first; index < first + BUCKET_SLOTS; index++) {
        if (index === slot) return;
        yield index;
      }
      bucket = (bucket + 1) % PAGE_BUCKETS;
    }
  }

  /** The slots with the same hash that a search for this one meets first. */
  rivals(slot: number): number[] {
    const hash = this.hashOf(slot);
    const rivals: number[] = [];
    for (const other of this.#slotsBefore(slot)) {
      if (!this.isEmpty(other) && this.hashOf(other) === hash) rivals.push(other);
    }
    return rivals;
  }
}

/** Whether all entries of the directory that a shard covers name it. */
function isNamedByAll(heap: Heap, place: { readonly root: number; readonly hash: number }, shard: ShardFacts): boolean {
  const depth = place.root % 32;
  if (shard.depth > depth) return false;
  const directory = heap.unitAddress((place.root - depth) / 32);
  const count = 1 << (depth - shard.depth);
  const first = (place.hash >>> (HASH_BITS - shard.depth)) * count;
  for (let index = first; index < first + count; index++) {
    if (heap.read32(directory + index * 4) !== shard.unit) return false;
  }
  return true;
}
