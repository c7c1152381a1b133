/** A hash index on its own, over memory of the host, and a slow twin of it. */

import { Heap, HEAP_NUMBERS, PAGE_BYTES } from "../../src/ffi/heap.ts";
import { NewKeys } from "../../src/engine/open/new-keys.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { copy, pinned } from "../../src/ffi/memory.ts";
import { RECLAIM_ATTACHED, RECLAIM_FLAGS, Reclaim } from "../../src/ffi/reclaim.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { Keydir, isTombstone } from "../../src/keydir/keydir.ts";
import { HASH_SHIFT, PAGE_BUCKETS, homeBucket } from "../../src/keydir/shard.ts";

/** Whether each page of the heap is one of the system's; where those are larger `large-pages.test.ts` says what comes back. */
export const hasHeapPages = hostSystem().pageBytes === PAGE_BYTES;

export class HeapFixture implements Disposable {
  readonly numbers = new Float64Array(HEAP_NUMBERS);
  readonly heap = Heap.create(hostSystem(), this.numbers);

  [Symbol.dispose](): void {
    this.heap.release();
  }
}

/** A record as the index knows it: the hash of its key and where its newest frame is. */
export interface Entry {
  readonly hash: number;
  units: number;
  isRemoved: boolean;
}

export class IndexFixture extends HeapFixture {
  readonly flags = new Int32Array(RECLAIM_FLAGS);
  readonly reclaim = new Reclaim(this.heap, this.flags, () => true);
  readonly keydir = new Keydir(this.heap, this.reclaim);
  readonly space: number;
  /** By key: what must be found. */
  readonly model = new Map<number, Entry>();
  #nextUnits = 512;

  constructor() {
    super();
    this.flags[RECLAIM_ATTACHED] = 1;
    this.heap.ensureSpace(0);
    this.space = this.heap.spaceAddress(0);
  }

  get root(): number {
    return this.keydir.root(this.space);
  }

  /** Searches for a slot; the keydir then stands on it. Returns how many candidates were offered, or -1 when there is none. */
  find(hash: number, units: number): number {
    const { keydir } = this;
    if (!keydir.seek(this.root, hash)) return -1;
    for (let offered = 1; keydir.next(); offered += 1) {
      if (keydir.units === units) return offered;
    }
    return -1;
  }

  #takeUnits(): number {
    this.#nextUnits += 1;
    return this.#nextUnits;
  }

  /** From now on frames lie behind this position, for positions that need more than 32 bits. */
  skipTo(units: number): void {
    this.#nextUnits = units;
  }

  insert(key: number, hash: number): void {
    const known = this.model.get(key);
    const units = this.#takeUnits();
    if (known !== undefined && this.find(known.hash, known.units) > 0) {
      this.keydir.replace(units, false);
      this.model.set(key, { hash, units, isRemoved: false });
      return;
    }
    // A search to the end, as `add` wants it.
    if (this.find(hash, -1) > 0) throw new Error("nothing is at position -1");
    this.keydir.add(this.space, units, Infinity);
    this.model.set(key, { hash, units, isRemoved: false });
  }

  /** Keys that nobody knows yet, all at once; they get the numbers from `first` on. */
  insertNew(first: number, hashes: readonly number[]): void {
    const newKeys = new NewKeys();
    for (const [index, hash] of hashes.entries()) {
      const units = this.#takeUnits();
      newKeys.add(hash, units, Infinity);
      this.model.set(first + index, { hash, units, isRemoved: false });
    }
    this.keydir.exclusively(() => newKeys.flushInto(this.keydir, { space: this.space, keepFrom: Infinity }));
  }

  remove(key: number, keepFrom = Infinity): void {
    const known = this.model.get(key);
    if (known === undefined || known.isRemoved) return;
    if (this.find(known.hash, known.units) < 0) throw new Error(`key ${key} is lost`);
    known.units = this.#takeUnits();
    this.keydir.replace(known.units, true);
    known.isRemoved = true;
    this.keydir.shrink(this.space, keepFrom);
    if (keepFrom === Infinity) this.model.delete(key);
  }

  /** From now on nobody asks for removed records. */
  forgetRemoved(): void {
    for (const [key, entry] of this.model) if (entry.isRemoved) this.model.delete(key);
  }

  liveCount(): number {
    let count = 0;
    for (const entry of this.model.values()) if (!entry.isRemoved) count += 1;
    return count;
  }

  /** Every shard once, in order of the hash. */
  *shards(): Generator<ReturnType<Keydir["describe"]>> {
    let hash = 0;
    while (this.root !== 0 && hash < 1 << HASH_BITS) {
      const shard = this.keydir.shardOf(this.root, hash);
      yield shard;
      hash += 1 << (HASH_BITS - shard.depth);
    }
  }

  /** Every slot in use, with how many buckets behind its home it lies. */
  *slots(): Generator<{ units: number; hash: number; isRemoved: boolean; displacement: number }> {
    const memory = pinned(PAGE_BYTES);
    for (const shard of this.shards()) {
      for (const [index, page] of shard.pages.entries()) {
        copy(memory.address, this.heap.pageAddress(page), PAGE_BYTES);
        for (let word = 0; word < PAGE_BYTES / 4; word += 2) {
          const low = memory.u32[word]!;
          const high = memory.u32[word + 1]!;
          if (low === 0 && high === 0) continue;
          const hash = high >>> HASH_SHIFT;
          const home = homeBucket(hash, shard.depth, shard.pages.length);
          if (home >> 6 !== index) throw new Error("a slot lies in another page than its home bucket");
          const displacement = ((word >> 4) - (home & 63) + PAGE_BUCKETS) % PAGE_BUCKETS;
          yield { units: this.heap.positions.units(low, high), hash, isRemoved: isTombstone(high), displacement };
        }
      }
    }
  }

  /** Throws unless the index holds what the model holds, is counted right, and every live record is found. */
  check(): void {
    let live = 0;
    let used = 0;
    const seen = new Set<number>();
    for (const slot of this.slots()) {
      used += 1;
      if (slot.isRemoved) continue;
      live += 1;
      seen.add(slot.units);
    }
    const counted = [...this.shards()].reduce((sum, shard) => sum + shard.live, 0);
    const countedUsed = [...this.shards()].reduce((sum, shard) => sum + shard.used, 0);
    const expected = this.liveCount();
    if (live !== expected || seen.size !== expected) throw new Error(`${live} live slots, ${expected} live records`);
    if (counted !== live || countedUsed !== used) {
      throw new Error(`shards count ${counted} live and ${countedUsed} used, and hold ${live} and ${used}`);
    }
    for (const [key, entry] of this.model) {
      if (this.find(entry.hash, entry.units) < 0) throw new Error(`key ${key} is not found`);
    }
  }

  /** Buckets looked at and candidates compared to find every record, on average. */
  cost(): { readonly buckets: number; readonly candidates: number; readonly bucketsMax: number } {
    let buckets = 0;
    let bucketsMax = 0;
    let count = 0;
    for (const slot of this.slots()) {
      buckets += slot.displacement + 1;
      bucketsMax = Math.max(bucketsMax, slot.displacement + 1);
      count += 1;
    }
    let candidates = 0;
    for (const entry of this.model.values()) candidates += this.find(entry.hash, entry.units);
    return { buckets: buckets / count, bucketsMax, candidates: candidates / this.model.size };
  }

  pageCount(): number {
    let pages = 0;
    for (const shard of this.shards()) pages += shard.pages.length;
    return pages;
  }
}
