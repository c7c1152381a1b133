/**
 * Many keys at once: the memory's latency overlapped over a group, of at most 64 keys, or as many as its memory takes.
 *
 * The processor overlaps the misses of loads that do not depend on each other; a loop of `get` gives it one
 * chain at a time. So a group is gone over in steps: hash every key, copy every bucket, copy every frame, and
 * only then compare and return. Measured at 1 GiB: a dependent 64-byte copy takes 362 ns, one of many
 * independent ones 40 ns.
 *
 * Invariants
 * 1. Only the plain case is answered here (a short key found in its home bucket, its frame in the file, short,
 *    visible, without expiry); for every other key `answer` gives undefined, and the caller looks it up.
 * 2. A key is copied once, and hashed, compared and written as that copy: the caller's bytes may lie in memory that
 *    another thread writes to, and a key under another one's hash would never be found.
 */

import { assert } from "../../errors.ts";
import { copy, sharedScratch } from "../../ffi/memory.ts";
import type { KeyHash } from "../../keydir/hash.ts";
import { HASH_SHIFT } from "../../keydir/shard.ts";
import { isTombstone, type Keydir } from "../../keydir/keydir.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_PUT,
  SHAPE_EXPIRY,
  SHAPE_WIDE_PREV,
  SHAPE_WIDE_SPACE,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
} from "../../log/frame.ts";
import type { LogReader } from "../../log/log-words.ts";
import { KEY_BYTES_MAX } from "../../limits.ts";
import type { Bytes } from "../contract.ts";
import { outgrown, type KeyBuffer } from "./key-buffer.ts";

/** Keys that are gone over together, at most. */
export const GROUP_KEYS = 64;
const BUCKET_BYTES = 64;
/** Keys of a kibibyte, a group of them; of the longest there is one in a group. */
const KEYS_BYTES = 64 * 1024;
assert(KEY_BYTES_MAX <= KEYS_BYTES, "the longest key is a group at least by itself");
const FRAME_BYTES = 256;
/** Groups of new keys that are passed over behind one: in a load of nothing else looking for frames is 2 % of the work. */
const GROUPS_PASSED = 7;
const ANY_EXTENSION = SHAPE_EXPIRY | SHAPE_WIDE_SPACE | SHAPE_WIDE_PREV;

const sharedKeys = sharedScratch(KEYS_BYTES);
const sharedBuckets = sharedScratch(GROUP_KEYS * BUCKET_BYTES);
const sharedFrames = sharedScratch(GROUP_KEYS * FRAME_BYTES);

export class Prefetch {
  readonly #keydir: Keydir;
  readonly #log: LogReader;
  readonly #key: KeyBuffer;
  readonly #hash: KeyHash;
  /** How many keys the group has. */
  #count = 0;
  readonly #hashes = new Int32Array(GROUP_KEYS);
  /** Where each key begins in `#keys`, at multiples of four, and how long it is. */
  readonly #starts = new Int32Array(GROUP_KEYS);
  readonly #lengths = new Int32Array(GROUP_KEYS);
  /** Where each bucket, then each frame is; 0: to be looked up. */
  readonly #places = new Float64Array(GROUP_KEYS);
  readonly #copied = new Int32Array(GROUP_KEYS);
  /** What the longest frame of the last group took, 0 if nothing is known: so much is copied, since each line is a miss. */
  #longest = 0;
  /** How many groups of writes are still passed over. */
  #passed = 0;
  readonly #keys = sharedKeys();
  readonly #buckets = sharedBuckets();
  readonly #frames = sharedFrames();

  constructor(keydir: Keydir, log: LogReader, keys: { readonly buffer: KeyBuffer; readonly hash: KeyHash }) {
    this.#keydir = keydir;
    this.#log = log;
    this.#key = keys.buffer;
    this.#hash = keys.hash;
  }

  /** Makes a key of the group the one at hand, with the hash that was taken. */
  load(index: number): void {
    const key = this.#key;
    key.takeFrom(this.#keys.address + this.#starts[index]!, this.#lengths[index]!);
    key.hash = this.#hashes[index]!;
  }

  /**
   * Copies and hashes the keys from the one at `first` on, and brings their buckets into the cache. Returns how many make
   * the group: one at least.
   *
   * @throws {EmdbError} EMDB_TOO_LARGE
   */
  touchBuckets(root: number, keys: readonly Bytes[], first: number): number {
    this.#count = this.#take(keys, first);
    if (root !== 0) this.#touch(root);
    return this.#count;
  }

  #take(keys: readonly Bytes[], first: number): number {
    const most = Math.min(GROUP_KEYS, keys.length - first);
    let at = 0;
    for (let index = 0; index < most; index++) {
      const key = keys[first + index]!;
      const length = typeof key === "string" ? this.#takeText(key, index, at) : this.#takeBytes(key, index, at);
      if (length < 0) return index;
      this.#starts[index] = at;
      this.#lengths[index] = length;
      at += (length + 3) & ~3;
    }
    return most;
  }

  /** Copies a key to a place among the keys, and hashes it; returns how long it is, negative when it has no room. */
  #takeBytes(key: Uint8Array, index: number, at: number): number {
    const { length } = key;
    if (length > KEY_BYTES_MAX) throw outgrown(length);
    if (at + length > KEYS_BYTES) return -1;
    if (length > 0) copy(this.#keys.address + at, key, length);
    this.#hashes[index] = this.#hash.at(this.#keys, at, length);
    return length;
  }

  #takeText(text: string, index: number, at: number): number {
    const key = this.#key;
    key.load(text);
    const { bytes } = key;
    if (at + bytes > KEYS_BYTES) return -1;
    if (bytes > 0) copy(this.#keys.address + at, key.memory.address, bytes);
    this.#hashes[index] = key.hash;
    return bytes;
  }

  #touch(root: number): void {
    const count = this.#count;
    const hashes = this.#hashes;
    const places = this.#places;
    for (let index = 0; index < count; index++) places[index] = this.#keydir.bucketOf(root, hashes[index]!);
    const buckets = this.#buckets.address;
    for (let index = 0; index < count; index++) copy(buckets + index * BUCKET_BYTES, places[index]!, BUCKET_BYTES);
  }

  /** For writes, which read the frames that they replace: behind a group that has none, one of some is looked at. */
  touchReplaced(visible: number): void {
    if (this.#passed > 0) this.#passed -= 1;
    else if (this.touchFrames(visible) === 0) this.#passed = GROUPS_PASSED;
  }

  /** Brings the frames that the keys' home buckets name into the cache, and into reach of `answer`; returns how many. */
  touchFrames(visible: number): number {
    const count = this.#count;
    const places = this.#places;
    const copied = this.#copied;
    const log = this.#log;
    const end = log.mapEnd();
    const from = log.mapFrom;
    const origin = log.mapOrigin;
    const until = Math.min(visible, end - FRAME_HEADER_BYTES + 1);
    const most = this.#longest === 0 ? FRAME_BYTES : this.#longest;
    this.#longest = 0;
    for (let index = 0; index < count; index++) {
      const lsn = this.#locate(index);
      // No frame stands where a file begins; 0 is for no position.
      const isThere = lsn > from && lsn < until;
      places[index] = isThere ? origin + lsn : 0;
      copied[index] = isThere ? Math.min(most, end - lsn) : 0;
    }
    const frames = this.#frames.address;
    let touched = 0;
    for (let index = 0; index < count; index++) {
      if (places[index] === 0) continue;
      copy(frames + index * FRAME_BYTES, places[index]!, copied[index]!);
      touched += 1;
    }
    return touched;
  }

  /**
   * The position in the only slot of the home bucket that can be the key's, if there is one; otherwise 0. All slots are
   * looked at, by arithmetic: where the key's stands nobody can predict, and a wrong guess costs more than the others.
   */
  #locate(index: number): number {
    const words = this.#buckets.i32;
    const hash = this.#hashes[index]!;
    const first = (index * BUCKET_BYTES) >> 2;
    let found = 0;
    let count = 0;
    for (let word = first; word < first + BUCKET_BYTES / 4; word += 2) {
      // All ones where the hashes are the same.
      const isSame = (((words[word + 1]! >>> HASH_SHIFT) ^ hash) - 1) >> 31;
      found |= isSame & word;
      count -= isSame;
    }
    const high = words[found + 1]!;
    // Empty slots have the hash 0, which a key may have too.
    return count !== 1 || isTombstone(high) ? 0 : this.#keydir.heap.positions.units(words[found]! >>> 0, high) * 8;
  }

  /** The value of a key of the group, or undefined when it takes more than this class knows. */
  answer(index: number): Uint8Array | undefined {
    if (this.#places[index] === 0) return undefined;
    const word = (index * FRAME_BYTES) >> 2;
    const frame = this.#frames.u32;
    const shape = frame[word + WORD_SHAPE]!;
    const keyBytes = this.#lengths[index]!;
    const bytes = frame[word + WORD_VALUE_BYTES]!;
    const end = FRAME_HEADER_BYTES + keyBytes + bytes;
    if ((shape & 15) !== KIND_PUT || (shape & ANY_EXTENSION) !== 0) return undefined;
    if (shape >>> 16 !== keyBytes || end > FRAME_BYTES) return undefined;
    if (end > this.#longest) this.#longest = end;
    if (end > this.#copied[index]!) return undefined;
    if (!this.#equalsKey(index, word, keyBytes)) return undefined;
    const value = new Uint8Array(bytes);
    if (bytes > 0) copy(value, this.#frames.address + index * FRAME_BYTES + FRAME_HEADER_BYTES + keyBytes, bytes);
    return value;
  }

  #equalsKey(index: number, frameWord: number, keyBytes: number): boolean {
    const keys = this.#keys.i32;
    const frame = this.#frames.i32;
    const from = this.#starts[index]! >> 2;
    const to = frameWord + (FRAME_HEADER_BYTES >> 2);
    const whole = keyBytes >> 2;
    for (let word = 0; word < whole; word++) {
      if (keys[from + word] !== frame[to + word]) return false;
    }
    const rest = keyBytes & 3;
    return rest === 0 || ((keys[from + whole]! ^ frame[to + whole]!) & ((1 << (8 * rest)) - 1)) === 0;
  }
}
