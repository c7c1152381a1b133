/**
 * The frames at some positions, copied side by side, and the records that can be made from the copies at once.
 *
 * Neighbours in key order are anywhere in the log: each frame is a miss of the cache and of the address translation.
 * A loop that reads one record after the other waits for each; one that only copies has several under way. So eight
 * bytes of each frame come first (its lengths; more misses run side by side than with whole frames), then the frames,
 * and only then the records.
 *
 * Invariant: a record is given only if it needs no more than its frame: the newest version of its key is what the
 * reader's moment shows, it holds a value for ever, and it is in the file, where it does not change. For any other the
 * answer is undefined, and the caller goes the long way.
 */

import { copy, sharedScratch } from "../ffi/memory.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_PUT,
  SHAPE_EXPIRY,
  TWO_32,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
  extensionBytes,
  kindOf,
} from "../log/frame.ts";
import type { LogReader } from "../log/log-words.ts";
import type { SnapshotRecord } from "./contract.ts";

export const FRAMES_MAX = 64;
/** What is copied of a frame: four cache lines, a whole short record. */
const FRAME_BYTES = 256;
const FRAME_WORDS = FRAME_BYTES / 4;
// Used within one call of the engine only.
const sharedFrames = sharedScratch(FRAMES_MAX * FRAME_BYTES);

export class FrameBatch {
  readonly #log: LogReader;
  readonly #frames = sharedFrames();
  /** Where each frame is for good, 0 for one that goes the long way, and how many bytes may be read there. */
  readonly #places = new Float64Array(FRAMES_MAX);
  readonly #limits = new Float64Array(FRAMES_MAX);
  /** How much of each frame is in the copy, and how much the longest plain record would have needed. */
  #reach = FRAME_BYTES;
  #longest = 0;

  constructor(log: LogReader) {
    this.#log = log;
  }

  /** Copies the frames at `count` positions (8-byte units) from `from` on; those at or behind `before` (lsn) are left out. */
  load(units: Float64Array, part: { readonly from: number; readonly count: number }, before: number): void {
    const { from, count } = part;
    const log = this.#log;
    const places = this.#places;
    const limits = this.#limits;
    const scratch = this.#frames.address;
    for (let index = 0; index < count; index++) {
      const unit = units[from + index]!;
      places[index] = 0;
      if (unit * 8 >= before) continue;
      const address = log.at(unit >>> 0, Math.floor(unit / TWO_32));
      // What the ring holds may be overwritten meanwhile.
      if (address === 0 || log.isInRing || log.limit < FRAME_HEADER_BYTES) continue;
      places[index] = address;
      limits[index] = log.limit;
    }
    // Nothing but copies in these loops: the fewer instructions lie between two misses, the more of them overlap.
    for (let index = 0; index < count; index++) {
      const place = places[index]!;
      if (place !== 0) copy(scratch + index * FRAME_BYTES, place, 8);
    }
    // As much of each as the frames before had: what is copied must not wait for what was read.
    const reach = this.#longest === 0 ? FRAME_BYTES : this.#longest;
    this.#reach = reach;
    this.#longest = 0;
    for (let index = 0; index < count; index++) {
      const limit = limits[index]!;
      if (places[index] !== 0) copy(scratch + index * FRAME_BYTES, places[index]!, limit < reach ? limit : reach);
    }
  }

  /** The record in a frame of the batch, if it is one that the copy suffices for. */
  record(index: number): SnapshotRecord | undefined {
    const place = this.#places[index]!;
    const words = this.#frames.u32;
    const word = index * FRAME_WORDS;
    const shape = words[word + WORD_SHAPE]!;
    if (place === 0 || kindOf(shape) !== KIND_PUT || (shape & SHAPE_EXPIRY) !== 0) return undefined;
    const keyBytes = shape >>> 16;
    const valueBytes = words[word + WORD_VALUE_BYTES]!;
    const valueAt = FRAME_HEADER_BYTES + keyBytes + extensionBytes(shape);
    const near = this.#frames.address + index * FRAME_BYTES;
    const end = valueAt + valueBytes;
    // One that reaches beyond the log is for the long way to complain about.
    if (end > this.#limits[index]!) return undefined;
    if (end > this.#longest) this.#longest = end < FRAME_BYTES ? end : FRAME_BYTES;
    // Where the copy does not reach, the frame itself: it stays where it is.
    const from = end <= this.#reach ? near : place;
    const key = new Uint8Array(keyBytes);
    if (keyBytes > 0) copy(key, from + FRAME_HEADER_BYTES, keyBytes);
    const value = new Uint8Array(valueBytes);
    if (valueBytes > 0) copy(value, from + valueAt, valueBytes);
    return { key, value, expiresAtMs: 0 };
  }
}
