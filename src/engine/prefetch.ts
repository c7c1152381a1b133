/**
 * Many keys at once: the memory's latency overlapped over a group.
 *
 * The processor overlaps the misses of loads that do not depend on each other; a loop of `get` gives it one
 * chain at a time. So a group is gone over in steps: hash every key, copy every bucket, copy every frame, and
 * only then compare and return. Measured at 1 GiB: a dependent 64-byte copy takes 362 ns, one of many
 * independent ones 40 ns.
 *
 * Invariant: only the plain case is answered here (a short key found in its home bucket, its frame in the file,
 * short, visible, without expiry); `isAnswered` is false for every other key, which the caller looks up.
 */

import { copy, sharedScratch } from "../ffi/memory.ts";
import type { KeyHash } from "../keydir/hash.ts";
import { HASH_SHIFT } from "../keydir/shard.ts";
import { isTombstone, type Keydir } from "../keydir/keydir.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_PUT,
  SHAPE_EXPIRY,
  SHAPE_WIDE_PREV,
  SHAPE_WIDE_SPACE,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
} from "../log/frame.ts";
import type { LogReader } from "../log/log-words.ts";
import type { Bytes } from "./contract.ts";
import type { KeyBuffer } from "./key-buffer.ts";

const GROUP = 64;
const BUCKET_BYTES = 64;
const KEY_BYTES = 64;
const FRAME_BYTES = 256;
const ANY_EXTENSION = SHAPE_EXPIRY | SHAPE_WIDE_SPACE | SHAPE_WIDE_PREV;

const sharedKeys = sharedScratch(GROUP * KEY_BYTES);
const sharedBuckets = sharedScratch(GROUP * BUCKET_BYTES);
const sharedFrames = sharedScratch(GROUP * FRAME_BYTES);

/** A part of a list of keys, at most `groupMax` long. */
export interface Part {
  readonly first: number;
  readonly count: number;
}

export class Prefetch {
  readonly groupMax = GROUP;
  readonly #keydir: Keydir;
  readonly #log: LogReader;
  readonly #key: KeyBuffer;
  readonly #hash: KeyHash;
  readonly #hashes = new Int32Array(GROUP);
  readonly #lengths = new Int32Array(GROUP);
  /** Where each bucket, then each frame is; 0: to be looked up. */
  readonly #places = new Float64Array(GROUP);
  readonly #copied = new Int32Array(GROUP);
  /** What the longest frame of the last group took, 0 if nothing is known: so much is copied, since each line is a miss. */
  #longest = 0;
  readonly #keys = sharedKeys();
  readonly #buckets = sharedBuckets();
  readonly #frames = sharedFrames();

  constructor(keydir: Keydir, log: LogReader, keys: { readonly buffer: KeyBuffer; readonly hash: KeyHash }) {
    this.#keydir = keydir;
    this.#log = log;
    this.#key = keys.buffer;
    this.#hash = keys.hash;
  }

  /** The hash of a key of the group, once its buckets have been touched. */
  hashAt(index: number): number {
    return this.#hashes[index]!;
  }

  /** Hashes the keys and brings their buckets into the cache. */
  touchBuckets(root: number, keys: readonly Bytes[], part: Part): void {
    const { first, count } = part;
    const key = this.#key;
    const hashes = this.#hashes;
    const memory = this.#keys;
    for (let index = 0; index < count; index++) {
      const bytes = keys[first + index]!;
      const at = index * KEY_BYTES;
      const length = typeof bytes === "string" ? 0 : bytes.length;
      if (length > 0 && length <= KEY_BYTES) {
        copy(memory.address + at, bytes as Uint8Array, length);
        this.#lengths[index] = length;
        hashes[index] = this.#hash.at(memory, at, length);
        continue;
      }
      key.load(bytes);
      hashes[index] = key.hash;
      this.#lengths[index] = key.bytes;
      if (key.bytes <= KEY_BYTES) copy(memory.address + at, key.memory.address, (key.bytes + 3) & ~3);
    }
    if (root === 0) return;
    const places = this.#places;
    for (let index = 0; index < count; index++) places[index] = this.#keydir.bucketOf(root, hashes[index]!);
    const buckets = this.#buckets.address;
    for (let index = 0; index < count; index++) copy(buckets + index * BUCKET_BYTES, places[index]!, BUCKET_BYTES);
  }

  /** Brings the frames that the keys' home buckets name into the cache, and into reach of `answer`. */
  touchFrames(part: Part, visible: number): void {
    const { count } = part;
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
    for (let index = 0; index < count; index++) {
      if (places[index] !== 0) copy(frames + index * FRAME_BYTES, places[index]!, copied[index]!);
    }
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
    if (shape >>> 16 !== keyBytes || keyBytes > KEY_BYTES || end > FRAME_BYTES) return undefined;
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
    const from = (index * KEY_BYTES) >> 2;
    const to = frameWord + (FRAME_HEADER_BYTES >> 2);
    const whole = keyBytes >> 2;
    for (let word = 0; word < whole; word++) {
      if (keys[from + word] !== frame[to + word]) return false;
    }
    const rest = keyBytes & 3;
    return rest === 0 || ((keys[from + whole]! ^ frame[to + whole]!) & ((1 << (8 * rest)) - 1)) === 0;
  }
}
