/**
 * Keys on their way into the ordered index: gathered with their first bytes, and handed over in order, well enough, so that
 * neighbours find their leaf in scratch.
 *
 * They are sorted by their first bytes behind what all have in common (`first-bytes.ts`), those that are alike there in the
 * order in which they came. So of two frames of one key the older comes first, and that the rest is not exact does no harm:
 * each key is searched for all the same. Memory: 80 bytes a key.
 */

import { assert } from "../../errors.ts";
import { copy, pinned, sharedScratch, type Pinned } from "../../ffi/memory.ts";
import { KEY_BYTES_MAX } from "../../limits.ts";
import { FRAME_HEADER_BYTES, WORD_SHAPE } from "../../log/frame.ts";
import type { ProbeKey } from "../../ordered/node.ts";
import type { KeySource } from "../../ordered/path.ts";
import { FirstBytes } from "../write/first-bytes.ts";
import type { KeyBuffer } from "../read/key-buffer.ts";

/** Keys at most. */
export const KEY_ORDER_MAX = 1 << 20;
/** A header and the key behind it, if it is no longer than 40 bytes. */
export const PEEK_BYTES = 64;
const PEEK_WORDS = PEEK_BYTES / 4;
/** Numbers that stand where nothing of the header is of use. */
const UNITS_NUMBER = 0;
const LAST_NUMBER = 2;
assert(WORD_SHAPE === 2, "the shape is kept between them");
export const KEY_PEEK_BYTES = PEEK_BYTES - FRAME_HEADER_BYTES;
/** Peeks that are brought together before their keys are entered. */
const GROUP = 64;
/** For so many keys the memory is kept. */
const KEPT_COUNT = 4096;

const sharedNear = sharedScratch(GROUP * PEEK_BYTES);
const sharedPeeks = sharedScratch(KEPT_COUNT * PEEK_BYTES);
const sharedKey = sharedScratch(KEY_BYTES_MAX);

/** Takes a key, the position of its frame and the one that the index has for it, as they were added. */
export type TakeKey = (key: ProbeKey, units: number, last: number) => void;

export class KeyOrder {
  readonly #keys: KeySource;
  /** Keys that there is room for. */
  readonly countMax: number;
  readonly #peeks: Pinned;
  /** The key that is entered. */
  readonly #key = { memory: sharedKey(), bytes: 0 };
  #count = 0;

  constructor(keys: KeySource, countMax: number) {
    this.#keys = keys;
    this.countMax = Math.min(countMax, KEY_ORDER_MAX);
    this.#peeks = countMax <= KEPT_COUNT ? sharedPeeks() : pinned(this.countMax * PEEK_BYTES);
  }

  get count(): number {
    return this.#count;
  }

  /** Whether no more keys may be added before they are taken. */
  get isFull(): boolean {
    return this.#count === this.countMax;
  }

  /** Where the first `PEEK_BYTES` of the next frame, as far as its key goes, are to be put before `add`. */
  get next(): number {
    assert(!this.isFull, "there is room for one more key");
    return this.#peeks.address + this.#count * PEEK_BYTES;
  }

  /**
   * Notes that the key at `next` has a frame at a position, below 0 for one that removes it, and where the index has it,
   * 0 for nowhere (in units).
   */
  add(units: number, last: number): void {
    const number = (this.#count++ * PEEK_BYTES) / 8;
    this.#peeks.f64[number + UNITS_NUMBER] = units;
    this.#peeks.f64[number + LAST_NUMBER] = last;
  }

  /** The same for a loaded key. */
  addLoaded(key: KeyBuffer, units: number, last: number): void {
    const { address, u32, f64 } = this.#peeks;
    const at = this.next - address;
    // Alike keys are to be alike behind their ends.
    for (let number = FRAME_HEADER_BYTES / 8; number < PEEK_BYTES / 8; number++) f64[at / 8 + number] = 0;
    if (key.bytes > 0) copy(address + at + FRAME_HEADER_BYTES, key.memory.address, Math.min(key.bytes, KEY_PEEK_BYTES));
    u32[at / 4 + WORD_SHAPE] = key.bytes << 16;
    this.add(units, last);
  }

  /** Hands all keys over, and begins anew. */
  take(takeKey: TakeKey): void {
    const near = sharedNear();
    const [key, count, peeks, keys] = [this.#key, this.#count, this.#peeks, this.#keys];
    const order = this.#order();
    this.#count = 0;
    for (let first = 0; first < count; first += GROUP) {
      const end = Math.min(first + GROUP, count);
      // Nothing but copies in this loop: the peeks are in no order, and their misses overlap.
      for (let rank = first; rank < end; rank++) {
        const number = order === undefined ? rank : order[rank]!;
        copy(near.address + (rank - first) * PEEK_BYTES, peeks.address + number * PEEK_BYTES, PEEK_BYTES);
      }
      for (let at = 0; at < end - first; at++) {
        const bytes = near.u32[at * PEEK_WORDS + WORD_SHAPE]! >>> 16;
        const number = (at * PEEK_BYTES) / 8;
        const units = near.f64[number + UNITS_NUMBER]!;
        if (bytes <= KEY_PEEK_BYTES) this.#takeKey(near.address + at * PEEK_BYTES + FRAME_HEADER_BYTES, bytes);
        else this.#takeKey(keys.memory.address + keys.keyAt, keys.loadKey(Math.abs(units)));
        takeKey(key, units, near.f64[number + LAST_NUMBER]!);
      }
    }
  }

  #takeKey(from: number, bytes: number): void {
    if (bytes > 0) copy(this.#key.memory.address, from, bytes);
    this.#key.bytes = bytes;
  }

  /** The keys' numbers in their order; undefined when they are in it. */
  #order(): Uint32Array | undefined {
    const { u8 } = this.#peeks;
    const count = this.#count;
    let shared = KEY_PEEK_BYTES - 8;
    for (let at = 1; at < count; at++) shared = sharedBytes(u8, at * PEEK_BYTES, shared);
    const firstBytes = new FirstBytes(count);
    for (let at = 0; at < count; at++) {
      const from = at * PEEK_BYTES + shared;
      firstBytes.note(at, firstWord(u8, from), firstWord(u8, from + 4));
    }
    return firstBytes.order();
  }
}

/** How many of the first `most` bytes of two keys are the same: of the first peek, and of the one at `at`. */
export function sharedBytes(u8: Uint8Array, at: number, most: number): number {
  let same = 0;
  while (same < most && u8[at + FRAME_HEADER_BYTES + same] === u8[FRAME_HEADER_BYTES + same]) same += 1;
  return same;
}

/** Four bytes of a key, from a byte of the peeks on, headers not counted. */
export function firstWord(u8: Uint8Array, from: number): number {
  const at = FRAME_HEADER_BYTES + from;
  return ((u8[at]! << 24) | (u8[at + 1]! << 16) | (u8[at + 2]! << 8) | u8[at + 3]!) >>> 0;
}
