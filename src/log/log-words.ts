/**
 * The numbers of the log that every Worker of the process shares, and the mapping of positions to memory.
 *
 *     header page     written                 visible     tail     claimed
 *     |---------------|-----------------------|-----------|--------|
 *     |  in the file, read through the map    |  in the ring       |
 *
 * Invariants
 * 1. written <= tail <= claimed; visible <= tail: behind `visible` lie frames of a batch that is being
 *    written, which no reader takes for the present.
 * 2. A frame below `written` is read through the map, any other from the ring, at its position modulo the
 *    ring's size. It is whole there until `claimed` passes its position by the ring's size: a reader of the
 *    ring checks that after it has copied, and goes to the map when it was too slow.
 * 3. The map covers the file up to `written` at least. A map is never changed: a larger one is added to the
 *    table and the old one stays until everything is closed.
 * 4. Only the holder of the writer's lock changes these words, except `durable`, which only grows.
 * 5. A reader that sees a word change passes a memory barrier before it reads what the word vouches for (arm64 may
 *    read it before the word, whatever branches on it).
 */

import type { Address } from "../ffi/system.ts";
import { LOG_BYTES_MAX, RING_BYTES } from "../limits.ts";
import { TWO_32 } from "./frame.ts";

// Indexes of the shared numbers (f64). Never renumber while a share token can cross versions.
export const LOG_VISIBLE = 0;
export const LOG_TAIL = 1;
export const LOG_WRITTEN = 2;
export const LOG_DURABLE = 3;
export const LOG_CLAIMED = 4;
/** End of the frame that last reached over the end of the ring. */
export const LOG_WRAP = 5;
/** Bytes of file that exist; Infinity where space cannot be reserved. */
export const LOG_RESERVED = 6;
export const LOG_RING = 7;
const LOG_MAPS_AT = 8;
const MAP_COUNT_MAX = 64;
export const LOG_NUMBERS = LOG_MAPS_AT + 2 * MAP_COUNT_MAX;

// Indexes of the shared flags (i32).
const LOG_MAP_COUNT = 0;
/** Touched for its memory barrier alone. */
export const LOG_FENCE = 1;
/** How often frames that nobody had been shown were taken back, so that others may stand in their places. */
export const LOG_RETREATS = 2;

const RING_UNIT_MASK = RING_BYTES / 8 - 1;

/** The log's part of the block that all Workers share. */
export interface LogWords {
  readonly numbers: Float64Array;
  readonly flags: Int32Array;
}

/** Adds a map of the file to the table; readers take it up when they need it. */
export function addMap(words: LogWords, map: { readonly address: Address; readonly bytes: number }): void {
  const index = words.flags[LOG_MAP_COUNT]! % MAP_COUNT_MAX;
  words.numbers[LOG_MAPS_AT + 2 * index] = map.address;
  words.numbers[LOG_MAPS_AT + 2 * index + 1] = map.bytes;
  Atomics.add(words.flags, LOG_MAP_COUNT, 1);
}

/** How far the newest map reaches. */
export function mappedBytes(words: LogWords): number {
  const count = words.flags[LOG_MAP_COUNT]!;
  return count === 0 ? 0 : words.numbers[LOG_MAPS_AT + 2 * ((count - 1) % MAP_COUNT_MAX) + 1]!;
}

/** Every map in the table, for the last one out to unmap. */
export function listMaps(words: LogWords): { address: Address; bytes: number }[] {
  const count = Math.min(words.flags[LOG_MAP_COUNT]!, MAP_COUNT_MAX);
  const maps: { address: Address; bytes: number }[] = [];
  for (let index = 0; index < count; index++) {
    const address = words.numbers[LOG_MAPS_AT + 2 * index]!;
    if (address !== 0) maps.push({ address, bytes: words.numbers[LOG_MAPS_AT + 2 * index + 1]! });
  }
  return maps;
}

/** Forgets the maps, which have been unmapped; nobody reads any more. */
export function dropMaps(words: LogWords): void {
  words.numbers.fill(0, LOG_MAPS_AT, LOG_MAPS_AT + 2 * MAP_COUNT_MAX);
  Atomics.store(words.flags, LOG_MAP_COUNT, 0);
}

/** One Worker's eyes on the log: where a frame is, and how far it may read there. */
export class LogReader {
  readonly words: LogWords;
  readonly #numbers: Float64Array;
  readonly #ring: Address;
  #map: Address = 0;
  #mapBytes = 0;
  /** `written` as last seen, and a word of its own for barriers: a shared one would be fought over. */
  #written = 0;
  readonly #barrier = new Int32Array(1);
  /** How far from the address that `at` last returned the bytes are good. */
  limit = 0;
  /** Whether that address was in the ring, where `isStillWhole` must be asked after copying. */
  isInRing = false;

  constructor(words: LogWords) {
    this.words = words;
    this.#numbers = words.numbers;
    this.#ring = words.numbers[LOG_RING]!;
    this.takeMap();
  }

  /** Goes over to the newest map; to be called when the one before is gone. */
  takeMap(): void {
    const count = Atomics.load(this.words.flags, LOG_MAP_COUNT);
    if (count === 0) return;
    const index = (count - 1) % MAP_COUNT_MAX;
    this.#map = this.#numbers[LOG_MAPS_AT + 2 * index]!;
    this.#mapBytes = this.#numbers[LOG_MAPS_AT + 2 * index + 1]!;
  }

  /** The position of the last frame that readers may take for the present, and a little more: its end. */
  get visible(): number {
    return this.#numbers[LOG_VISIBLE]!;
  }

  /** Where the frame at a position is; `limit` then says how many bytes may be read. 0 when it is nowhere. */
  at(unitLow: number, unitHigh: number): Address {
    const lsn = (unitHigh * TWO_32 + unitLow) * 8;
    const written = this.#numbers[LOG_WRITTEN]!;
    if (written !== this.#written) {
      this.#written = written;
      this.barrier();
    }
    if (lsn < written) {
      if (written > this.#mapBytes) this.takeMap();
      this.limit = Math.min(written, this.#mapBytes) - lsn;
      this.isInRing = false;
      return this.limit > 0 ? this.#map + lsn : 0;
    }
    return this.#atRing(lsn, unitLow, unitHigh);
  }

  #atRing(lsn: number, unitLow: number, unitHigh: number): Address {
    this.limit = this.#numbers[LOG_TAIL]! - lsn;
    if (this.limit <= 0 || this.#ring === 0) {
      // The words may be older than the slot that named the position; after a barrier they are not.
      this.barrier();
      if (lsn < this.#numbers[LOG_WRITTEN]!) return this.at(unitLow, unitHigh);
      this.limit = this.#numbers[LOG_TAIL]! - lsn;
      if (this.limit <= 0 || this.#ring === 0) return 0;
    }
    this.isInRing = true;
    return this.#ring + (unitLow & RING_UNIT_MASK) * 8;
  }

  /** Whether what was copied from the ring for the frame at `lsn` had not been overwritten by then. */
  isStillWhole(lsn: number): boolean {
    this.barrier();
    return this.#numbers[LOG_CLAIMED]! - RING_BYTES <= lsn;
  }

  /** What was read before was read before what is read after. */
  barrier(): void {
    Atomics.add(this.#barrier, 0, 0);
  }

  /**
   * Reads what may lie behind `visible`. Such frames may be taken back meanwhile and others put in their places;
   * what was read then counts for nothing, not even an error, and the read is done again.
   */
  undisturbed<T>(read: () => T): T {
    for (;;) {
      const before = Atomics.load(this.words.flags, LOG_RETREATS);
      try {
        const result = read();
        if (this.#hasNotRetreated(before)) return result;
      } catch (error) {
        if (this.#hasNotRetreated(before)) throw error;
      }
    }
  }

  #hasNotRetreated(before: number): boolean {
    this.barrier();
    return this.words.flags[LOG_RETREATS] === before;
  }
}

/** The low 32 bits of a position in 8-byte units. */
export function unitLow(lsn: number): number {
  return (lsn / 8) >>> 0;
}

/** The bits of a position in 8-byte units above the low 32. */
export function unitHigh(lsn: number): number {
  return Math.floor(lsn / (8 * TWO_32));
}

/** Whether a position can be in a log at all. */
export function isPosition(lsn: number): boolean {
  return Number.isSafeInteger(lsn) && lsn >= 0 && lsn % 8 === 0 && lsn < LOG_BYTES_MAX;
}
