/**
 * A namespace's shards from an image: pages that were laid out before, given descriptors and a directory again.
 *
 * Invariants
 * 1. Shards come in the order of their hashes without a gap; one that begins earlier covers whole shards that
 *    came before and replaces them.
 * 2. Nothing names the shards before `finish`.
 */

import { copy, pinned } from "../ffi/memory.ts";
import { UNIT_BYTES, type Heap } from "../ffi/heap.ts";
import { HASH_BITS } from "./hash.ts";
import { takeDirectory } from "./directory-writer.ts";
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_DEPTH,
  DESCRIPTOR_FIRST_PAGE,
  DESCRIPTOR_LIVE,
  DESCRIPTOR_PAGES,
  DESCRIPTOR_STANDS_FOR,
  DESCRIPTOR_USED,
} from "./shard.ts";

const HASHES = 1 << HASH_BITS;

/** A shard whose pages lie side by side in the heap already. */
export interface AdoptedShard {
  readonly firstHash: number;
  readonly depth: number;
  readonly firstPage: number;
  readonly pages: number;
  readonly live: number;
  readonly used: number;
  /** Everything before this position of the log is in the shard. */
  readonly standsFor: number;
}

export class Adoption {
  readonly #heap: Heap;
  readonly #descriptor = pinned(DESCRIPTOR_BYTES);
  readonly #firstHashes: number[] = [];
  readonly #depths: number[] = [];
  readonly #units: number[] = [];
  /** Every smaller hash has its shard. */
  #reached = 0;

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** Takes a shard; false when it does not fit behind, or over, what came before. */
  add(shard: AdoptedShard): boolean {
    const width = 1 << (HASH_BITS - shard.depth);
    if (shard.firstHash % width !== 0 || shard.firstHash > this.#reached) return false;
    if (shard.firstHash + width <= this.#reached) return false;
    while ((this.#firstHashes.at(-1) ?? -1) >= shard.firstHash) this.#dropLast();
    const last = this.#units.length - 1;
    const end = last < 0 ? 0 : this.#firstHashes[last]! + (1 << (HASH_BITS - this.#depths[last]!));
    if (end !== shard.firstHash) return false;
    this.#firstHashes.push(shard.firstHash);
    this.#depths.push(shard.depth);
    this.#units.push(this.#describe(shard));
    this.#reached = shard.firstHash + width;
    return true;
  }

  /** The root over all shards; undefined when some hashes have none. */
  finish(): number | undefined {
    if (this.#units.length === 0) return 0;
    if (this.#reached !== HASHES) return undefined;
    const depth = this.#depths.reduce((most, one) => Math.max(most, one), 0);
    const directory = takeDirectory(this.#heap, depth);
    const entries = pinned(4 << depth);
    for (const [index, unit] of this.#units.entries()) {
      const first = this.#firstHashes[index]! >>> (HASH_BITS - depth);
      entries.u32.fill(unit, first, first + (1 << (depth - this.#depths[index]!)));
    }
    copy(this.#heap.unitAddress(directory), entries.address, 4 << depth);
    this.#clear();
    return directory * 32 + depth;
  }

  /** Gives everything back that was taken since the last `finish`. */
  abandon(): void {
    while (this.#units.length > 0) this.#dropLast();
    this.#clear();
  }

  #clear(): void {
    this.#firstHashes.length = 0;
    this.#depths.length = 0;
    this.#units.length = 0;
    this.#reached = 0;
  }

  #describe(shard: AdoptedShard): number {
    const words = this.#descriptor.u32;
    words.fill(0, 0, DESCRIPTOR_BYTES / 4);
    words[DESCRIPTOR_PAGES] = shard.pages;
    words[DESCRIPTOR_DEPTH] = shard.depth;
    for (let index = 0; index < shard.pages; index++) words[DESCRIPTOR_FIRST_PAGE + index] = shard.firstPage + index;
    words[DESCRIPTOR_LIVE] = shard.live;
    words[DESCRIPTOR_USED] = shard.used;
    this.#descriptor.f64[DESCRIPTOR_STANDS_FOR] = shard.standsFor;
    const unit = this.#heap.takeUnit();
    copy(this.#heap.pagesAt + unit * UNIT_BYTES, this.#descriptor.address, DESCRIPTOR_BYTES);
    return unit;
  }

  #dropLast(): void {
    this.#firstHashes.pop();
    this.#depths.pop();
    const unit = this.#units.pop()!;
    const address = this.#heap.unitAddress(unit);
    const pages = this.#heap.read32(address + DESCRIPTOR_PAGES * 4);
    for (let index = 0; index < pages; index++) {
      this.#heap.givePage(this.#heap.read32(address + (DESCRIPTOR_FIRST_PAGE + index) * 4));
    }
    this.#heap.giveUnit(unit);
  }
}
