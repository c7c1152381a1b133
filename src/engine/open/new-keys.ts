/**
 * New keys that replay has read and not yet put into the index: up to a million at a time, so that each shard is filled
 * in one go, in the cache, by stores into an array. One by one each of them would pay for a bucket fetched and a slot stored
 * by calls.
 *
 * Invariants
 * 1. Only what needs no look at the index is taken: keys without an earlier version, of one namespace, and none whose hash
 *    the log may have removed a key of. A removed key's slot may still stand in the index, and a new version has to take it.
 * 2. No tombstone is dropped that a batch, whose keys are among them, may need back.
 */

import { HASH_BITS } from "../../keydir/hash.ts";
import type { Keydir } from "../../keydir/keydir.ts";
import { HASH_SHIFT, type Span } from "../../keydir/shard.ts";
import { storedIn, withStored } from "../../ffi/positions.ts";
import type { Address } from "../../ffi/system.ts";

/** Most keys at a time: 16 MiB with the sorted copy. The more there are, the less often each shard is fetched and stored. */
const KEYS_MAX = 1 << 20;
/** Room at first: a small log needs no more, and opening it costs no more memory. */
const KEYS_MIN = 256;
/** Fewer go in one by one, as they come: room is counted, and keys are sorted, for many only. */
const SORTED_MIN = 4096;
/** Keys are counted, and sorted, by so many first bits of the hash. */
const PART_BITS = 16;
/** A shard is fetched and stored whole, up to 28 KiB each way: fewer keys for it go in one by one. */
const KEYS_PER_SHARD_MIN = 64;

/** Bits of a hash that tell removed keys apart, at most: half a megabyte, of which a hundred thousand removals mark a fortieth. */
const FILTER_BITS_MAX = 22;
const FILTER_BITS_MIN = 10;

/** The hashes of removed keys, and some others: a set of their first bits. */
export class RemovedHashes {
  readonly #shift: number;
  readonly #marks: Uint32Array;

  /** For so many records at most: those of a small log need a small set, which its open has to make. */
  constructor(recordCountMax: number) {
    const bits = Math.ceil(Math.log2(Math.max(1, recordCountMax))) + 2;
    const bitCount = Math.min(Math.max(bits, FILTER_BITS_MIN), FILTER_BITS_MAX);
    this.#shift = HASH_BITS - bitCount;
    this.#marks = new Uint32Array(1 << (bitCount - 5));
  }

  note(hash: number): void {
    const bits = hash >>> this.#shift;
    this.#marks[bits >>> 5]! |= 1 << (bits & 31);
  }

  /** False only for a hash that was never noted. */
  mayHave(hash: number): boolean {
    const bits = hash >>> this.#shift;
    return (this.#marks[bits >>> 5]! & (1 << (bits & 31))) !== 0;
  }
}

/** Hashes counted by their first bits. */
export class HashCounts {
  readonly #shift: number;
  readonly #bits: number;
  /** Once finished: how many there are before each part. */
  readonly #before: Uint32Array;

  constructor(bits: number) {
    this.#bits = bits;
    this.#shift = HASH_BITS - bits;
    this.#before = new Uint32Array((1 << bits) + 1);
  }

  clear(): void {
    this.#before.fill(0);
  }

  note(hash: number): void {
    this.#before[(hash >>> this.#shift) + 1]! += 1;
  }

  finish(): void {
    const before = this.#before;
    for (let part = 1; part < before.length; part++) before[part]! += before[part - 1]!;
  }

  /** How many hashes lie before one, which begins a part. */
  before(hash: number): number {
    return this.#before[hash >>> this.#shift]!;
  }

  /** How many hashes begin with the first `depth` bits of one; of more bits than are counted, a share. */
  within(hash: number, depth: number): number {
    const before = this.#before;
    const part = hash >>> this.#shift;
    if (depth > this.#bits) return (before[part + 1]! - before[part]!) >>> (depth - this.#bits);
    const parts = 1 << (this.#bits - depth);
    const first = part - (part % parts);
    return before[first + parts]! - before[first]!;
  }
}

export class NewKeys {
  count = 0;
  /** Tombstones before this position, in units, may go. */
  #keepFrom = Infinity;
  /** The slots, two words each: as they came, and sorted. */
  #slots = new Uint32Array(2 * KEYS_MIN);
  #sorted = new Uint32Array(0);
  #counts: HashCounts | undefined;

  get isFull(): boolean {
    return this.count === KEYS_MAX;
  }

  /**
   * Takes a key that is not in the index, with the position of its frame in units (its place in the file, at an open) and
   * where its batch began.
   */
  add(hash: number, units: number, batch: number): void {
    if (batch < this.#keepFrom) this.#keepFrom = batch;
    const at = 2 * this.count;
    if (at === this.#slots.length) this.#enlarge();
    this.#slots[at] = units >>> 0;
    this.#slots[at + 1] = withStored(hash << HASH_SHIFT, units);
    this.count += 1;
  }

  #enlarge(): void {
    const larger = new Uint32Array(this.#slots.length * 4);
    larger.set(this.#slots);
    this.#slots = larger;
  }

  /** Puts all of them into the index of a namespace; nobody else uses it. Tombstones at or behind `keepFrom` stay. */
  flushInto(keydir: Keydir, place: { readonly space: Address; readonly keepFrom: number }): void {
    const { count } = this;
    const into = { keydir, space: place.space, keepFrom: Math.min(place.keepFrom, this.#keepFrom) };
    this.count = 0;
    this.#keepFrom = Infinity;
    const slots = this.#slots;
    if (count < SORTED_MIN) {
      addEach(into, slots, { from: 0, to: count });
      return;
    }
    const counts = (this.#counts ??= new HashCounts(PART_BITS));
    counts.clear();
    for (let index = 0; index < count; index++) counts.note(slots[2 * index + 1]! >>> HASH_SHIFT);
    counts.finish();
    keydir.prepare(into.space, into.keepFrom, (hash, depth) => counts.within(hash, depth));
    const depth = keydir.root(into.space) % 32;
    const sorted = this.#sort(counts, count, Math.min(depth, PART_BITS));
    if (depth > PART_BITS || count < KEYS_PER_SHARD_MIN << depth) addEach(into, sorted, { from: 0, to: count });
    else addByShard(counts, into, sorted);
  }

  /** The slots by the first bits of their hashes. */
  #sort(counts: HashCounts, count: number, bits: number): Uint32Array {
    const from = this.#slots;
    if (this.#sorted.length < from.length) this.#sorted = new Uint32Array(from.length);
    const to = this.#sorted;
    const shift = HASH_BITS - bits;
    const ends = new Uint32Array(1 << bits);
    for (let part = 0; part < ends.length; part++) ends[part] = counts.before(part << shift);
    for (let index = 0; index < count; index++) {
      const high = from[2 * index + 1]!;
      const at = ends[(high >>> HASH_SHIFT) >>> shift]!++;
      to[2 * at] = from[2 * index]!;
      to[2 * at + 1] = high;
    }
    return to;
  }
}

/** Where new keys go. */
interface Into {
  readonly keydir: Keydir;
  readonly space: Address;
  readonly keepFrom: number;
}

/** Adds new keys one by one. */
function addEach({ keydir, space, keepFrom }: Into, slots: Uint32Array, span: Span): void {
  for (let index = span.from; index < span.to; index++) {
    const high = slots[2 * index + 1]!;
    if (keydir.seek(keydir.root(space), high >>> HASH_SHIFT)) while (keydir.next());
    keydir.add(space, storedIn(slots[2 * index]!, high), keepFrom);
  }
}

/** Adds sorted new keys, those of each shard in one go. */
function addByShard(counts: HashCounts, into: Into, sorted: Uint32Array): void {
  const { keydir, space } = into;
  for (let hash = 0, from = 0; hash < 1 << HASH_BITS;) {
    const root = keydir.root(space);
    hash += 1 << (HASH_BITS - keydir.shardOf(root, hash).depth);
    const to = counts.before(hash);
    if (from === to) continue;
    keydir.seek(root, sorted[2 * from + 1]! >>> HASH_SHIFT);
    const left = keydir.addToShard(sorted, { from, to });
    addEach(into, sorted, { from, to: from + left });
    from = to;
  }
}
