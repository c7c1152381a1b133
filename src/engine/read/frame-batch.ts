/**
 * The frames at some positions, looked at side by side, and the records that can be made from them at once.
 *
 * Neighbours in key order are anywhere in the log: each frame is a miss of the cache and of the address translation.
 * A loop that makes one record after the other waits for each; one that only copies has several under way. So first as
 * much of each frame is copied as frames were long the last time, and only then keys and values, out of the log into the
 * arrays that are given. (With the headers alone copied first, a range of ten takes 1.1 times as long, one of 1000, for
 * which values were touched as well, 1.2 times.)
 * Records that came as one batch lie in the order of their keys (`batch-order.ts`): then one copy of all of them is what the
 * processor is fastest at (16 to 20 % off a range of ten), and tells what else has to be known of them.
 *
 * Invariant: a record is given only if it needs no more than its frame: the newest version of its key is what the
 * reader's moment shows, it holds a value for ever, and it is in the file, where it does not change. For any other the
 * answer is undefined, and the caller goes the long way.
 */

import { copy, copyOut, sharedScratch } from "../../ffi/memory.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_PUT,
  SHAPE_EXPIRY,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
  extensionBytes,
  kindOf,
} from "../../log/frame.ts";
import type { Address } from "../../ffi/system.ts";
import type { LogReader } from "../../log/log-words.ts";
import type { KeyValue, Wanted } from "../contract.ts";

export const FRAMES_MAX = 64;
/** Stands for what is not wanted. */
export const NO_BYTES: Uint8Array = new Uint8Array(0);
/** Most of one frame that is copied. Frames lie side by side where each has no more than this on average. */
const FRAME_BYTES_MAX = 512;
/** So much as long as nothing is known of others. */
const FRAME_BYTES = 256;
/** Most bytes of a record that is given without asking: the others are counted. */
const GIVEN_BYTES_MAX = 4096;
// Used within one call of the engine only.
const sharedFrames = sharedScratch((FRAMES_MAX + 1) * FRAME_BYTES_MAX);

/** Which of some positions are looked at, and what of the records there is wanted. */
interface Wish {
  readonly from: number;
  readonly count: number;
  readonly wanted: Wanted;
}

export class FrameBatch {
  readonly #log: LogReader;
  /** Where each frame is for good, 0 for one that goes the long way, and how many bytes may be read there. */
  readonly #places = new Float64Array(FRAMES_MAX);
  readonly #limits = new Float64Array(FRAMES_MAX);
  /** Copies of the beginnings of all, `#stride` bytes apart, or of the stretch that they lie in. */
  readonly #frames = sharedFrames();
  #stride = 0;
  /** How long keys and values were on average when frames were last looked at. */
  #keyBytes = 0;
  #valueBytes = FRAME_BYTES;

  constructor(log: LogReader) {
    this.#log = log;
  }

  /**
   * Looks at the frames at `count` positions (8-byte units) from `from` on; those at or behind `before` (lsn) are left out.
   * Returns how many records the list has got already, of frames that lie side by side; the others are for `record`.
   */
  load(pairs: KeyValue[], units: Float64Array, part: Wish, before: number): number {
    const { from, count, wanted } = part;
    const isBeside = wanted !== "keys" && this.#areBeside(units, from, count);
    const given = isBeside ? this.#giveBeside(pairs, units, part, before) : 0;
    if (given === count) return count;
    this.#locate(units, part, before);
    this.#copyBeginnings(count, wanted);
    return given;
  }

  /** Whether frames lie side by side, as it seems: first and last tell enough of those that do not, which are most. */
  #areBeside(units: Float64Array, from: number, count: number): boolean {
    return count > 0 && Math.abs(units[from]! - units[from + count - 1]!) * 8 <= count * FRAME_BYTES_MAX;
  }

  /** Brings frames into the cache with one copy, and adds their records to a list up to the first that takes more. */
  #giveBeside(pairs: KeyValue[], units: Float64Array, part: Wish, before: number): number {
    const { from, count, wanted } = part;
    let low = units[from]!;
    let high = low;
    for (let index = from + 1; index < from + count; index++) {
      const unit = units[index]!;
      if (unit < low) low = unit;
      if (unit > high) high = unit;
    }
    const log = this.#log;
    const end = log.mapEnd();
    const origin = log.mapOrigin;
    const start = low * 8;
    const last = high * 8;
    if (last - start > count * FRAME_BYTES_MAX || start < log.mapFrom) return 0;
    if (last >= before || last + FRAME_HEADER_BYTES > end) return 0;
    // The last one is taken to be as long as the others are.
    const guess = count === 1 ? FRAME_BYTES : Math.min(Math.ceil((last - start) / (count - 1)), FRAME_BYTES_MAX);
    copy(this.#frames.address, origin + start, last - start + Math.min(guess, end - last));
    const words = this.#frames.i32;
    for (let index = 0; index < count; index++) {
      const unit = units[from + index]!;
      const word = (unit - low) * 2;
      const shape = words[word + WORD_SHAPE]!;
      if (kindOf(shape) !== KIND_PUT || (shape & SHAPE_EXPIRY) !== 0) return index;
      const keyBytes = shape >>> 16;
      const valueBytes = words[word + WORD_VALUE_BYTES]!;
      const keyAt = unit * 8 + FRAME_HEADER_BYTES;
      const valueAt = keyAt + keyBytes + extensionBytes(shape);
      // A long one is for the caller to count; what is longer than any is below 0 in these words.
      if (valueBytes < 0 || valueAt + valueBytes > Math.min(end, keyAt + GIVEN_BYTES_MAX)) return index;
      pairs.push(pairOf(wanted, { key: origin + keyAt, keyBytes, value: origin + valueAt, valueBytes }));
    }
    return count;
  }

  /** Finds out where frames are. */
  #locate(units: Float64Array, part: Wish, before: number): void {
    const { from, count } = part;
    const log = this.#log;
    const places = this.#places;
    const limits = this.#limits;
    const end = log.mapEnd();
    const first = log.mapFrom;
    const origin = log.mapOrigin;
    // Of a frame that begins before this the whole header may be read.
    const until = Math.min(before, end - FRAME_HEADER_BYTES + 1);
    for (let index = 0; index < count; index++) {
      const lsn = units[from + index]! * 8;
      if (lsn >= first && lsn < until) {
        places[index] = origin + lsn;
        limits[index] = end - lsn;
        continue;
      }
      places[index] = 0;
      if (lsn >= before) continue;
      const address = log.at(lsn);
      // What the ring holds may be overwritten meanwhile.
      if (address === 0 || log.isInRing || log.limit < FRAME_HEADER_BYTES) continue;
      places[index] = address;
      limits[index] = log.limit;
    }
  }

  #copyBeginnings(count: number, wanted: Wanted): void {
    const places = this.#places;
    const limits = this.#limits;
    const usual = FRAME_HEADER_BYTES + this.#keyBytes + (wanted === "keys" ? 0 : this.#valueBytes);
    const bytes = Math.min((usual + 7) & ~7, FRAME_BYTES_MAX);
    const { address, i32 } = this.#frames;
    this.#stride = bytes;
    // Nothing but copies in this loop: the fewer instructions lie between two misses, the more of them overlap.
    for (let index = 0; index < count; index++) {
      if (places[index] === 0) continue;
      copy(address + index * bytes, places[index]!, limits[index]! < bytes ? limits[index]! : bytes);
    }
    let seen = 0;
    let keyBytes = 0;
    let valueBytes = 0;
    for (let index = 0; index < count; index++) {
      if (places[index] === 0) continue;
      const word = (index * bytes) >> 2;
      const value = i32[word + WORD_VALUE_BYTES]!;
      seen += 1;
      keyBytes += i32[word + WORD_SHAPE]! >>> 16;
      valueBytes += value >= 0 && value < FRAME_BYTES_MAX ? value : FRAME_BYTES_MAX;
    }
    if (seen === 0) return;
    this.#keyBytes = Math.ceil(keyBytes / seen);
    this.#valueBytes = Math.ceil(valueBytes / seen);
  }

  /** What is wanted of the record in a frame of the batch, if it is one that its frame suffices for. */
  record(index: number, wanted: Wanted): KeyValue | undefined {
    const place = this.#places[index]!;
    const words = this.#frames.u32;
    const word = (index * this.#stride) >> 2;
    const shape = words[word + WORD_SHAPE]!;
    if (place === 0 || kindOf(shape) !== KIND_PUT || (shape & SHAPE_EXPIRY) !== 0) return undefined;
    const keyBytes = shape >>> 16;
    const valueBytes = words[word + WORD_VALUE_BYTES]!;
    const valueAt = FRAME_HEADER_BYTES + keyBytes + extensionBytes(shape);
    // One that reaches beyond the log is for the long way to complain about.
    if (valueAt + valueBytes > this.#limits[index]!) return undefined;
    return pairOf(wanted, { key: place + FRAME_HEADER_BYTES, keyBytes, value: place + valueAt, valueBytes });
  }
}

/** What is wanted of a record whose key and value are at two addresses. */
function pairOf(
  wanted: Wanted,
  at: { readonly key: Address; readonly keyBytes: number; readonly value: Address; readonly valueBytes: number },
): KeyValue {
  const key = wanted === "values" ? NO_BYTES : copyOut(at.key, at.keyBytes);
  return [key, wanted === "keys" ? NO_BYTES : copyOut(at.value, at.valueBytes)];
}
