/**
 * Bringing index buckets and frames of many keys into the cache at once.
 *
 * The processor overlaps misses of loads that do not depend on each other; a loop of `get` gives it one chain
 * at a time. So this goes over the keys three times: hash, touch the buckets, touch the frames. Measured at
 * 1 GiB: a dependent 64-byte copy takes 362 ns, one of many independent ones 40 ns.
 */

import { copy, pinned } from "../ffi/memory.ts";
import type { Address } from "../ffi/system.ts";
import { positionHigh, type Keydir } from "../keydir/keydir.ts";
import type { LogReader } from "../log/log-words.ts";
import type { Bytes } from "./contract.ts";
import type { KeyBuffer } from "./key-buffer.ts";

const GROUP = 32;
const BUCKET_BYTES = 64;
/** A header and the first bytes of the key: a cache line. */
const FRAME_TOUCH_BYTES = 64;

export class Prefetch {
  readonly groupMax = GROUP;
  readonly #keydir: Keydir;
  readonly #log: LogReader;
  readonly #key: KeyBuffer;
  readonly #hashes = new Int32Array(GROUP);
  readonly #buckets: Address[] = new Array<Address>(GROUP).fill(0);
  readonly #memory = pinned(GROUP * BUCKET_BYTES);

  constructor(keydir: Keydir, log: LogReader, key: KeyBuffer) {
    this.#keydir = keydir;
    this.#log = log;
    this.#key = key;
  }

  /** Touches what lookups of `count` keys from `first` on will need. */
  touch(root: number, keys: readonly Bytes[], part: { readonly first: number; readonly count: number }): void {
    if (root === 0) return;
    this.touchBuckets(root, keys, part);
    for (let index = 0; index < part.count; index++) this.#touchFrame(index);
  }

  /** The same without the frames: for writes, which mostly find nothing. */
  touchBuckets(root: number, keys: readonly Bytes[], part: { readonly first: number; readonly count: number }): void {
    if (root === 0) return;
    const { first, count } = part;
    for (let index = 0; index < count; index++) {
      this.#key.load(keys[first + index]!);
      this.#hashes[index] = this.#key.hash;
    }
    for (let index = 0; index < count; index++)
      this.#buckets[index] = this.#keydir.bucketOf(root, this.#hashes[index]!);
    const memory = this.#memory.address;
    for (let index = 0; index < count; index++)
      copy(memory + index * BUCKET_BYTES, this.#buckets[index]!, BUCKET_BYTES);
  }

  #touchFrame(index: number): void {
    const words = this.#memory.u32;
    const hash = this.#hashes[index]!;
    const first = (index * BUCKET_BYTES) >> 2;
    for (let word = first; word < first + 16; word += 2) {
      const high = words[word + 1]!;
      if (high >>> 5 !== hash) continue;
      const address = this.#log.at(words[word]!, positionHigh(high));
      if (address !== 0 && this.#log.limit >= FRAME_TOUCH_BYTES)
        copy(this.#memory.address + first * 4, address, FRAME_TOUCH_BYTES);
      return;
    }
  }
}
