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
 *    ring checks that after it has copied, and that `written` has not passed it, and goes to the map when it was too slow.
 * 3. The map covers the file up to `written` at least. A map is never changed: a larger one is added to the
 *    table and the old one stays until everything is closed, or its file has been replaced and nobody reads it.
 * 4. Only the holder of the writer's lock changes these words, except `durable`, which only grows.
 * 5. A reader that sees a word change passes a memory barrier before it reads what the word vouches for (arm64 may
 *    read it before the word, whatever branches on it).
 * 6. A position is `base` plus the byte in the file. A compaction puts another file in its place with a `base` beyond
 *    every position before, so a position says by itself which file it is in: below `base`, one of `segments.ts`.
 * 7. Positions grow for ever. From `origin`, the base of the oldest file in use, to the tail they span no more than
 *    `LOG_BYTES_MAX`, which is what an index can tell apart (`ffi/positions.ts`).
 */

import type { Address, System } from "../ffi/system.ts";
import { Positions } from "../ffi/positions.ts";
import { LOG_BYTES_MAX, POSITIONS_END_MAX, RING_BYTES } from "../limits.ts";
import { EmdbError } from "../errors.ts";
import { barrier } from "../ffi/barrier.ts";
import { TWO_32 } from "./frame.ts";
import type { SharedFile } from "./shared-file.ts";
import { SEGMENT_COUNT_MAX, SEGMENT_NUMBERS, Segments } from "./segments.ts";

// Indexes of the shared numbers (f64). Never renumber while a share token can cross versions.
export const LOG_VISIBLE = 0;
export const LOG_TAIL = 1;
export const LOG_WRITTEN = 2;
export const LOG_DURABLE = 3;
export const LOG_CLAIMED = 4;
/** Position of the frame that last reached over a multiple of `STRIDE_BYTES`; its end when that is the multiple; 0: none. */
export const LOG_STRIDE = 5;
/** Up to which position space is reserved; where it cannot be, up to where the file may grow. */
export const LOG_RESERVED = 6;
export const LOG_RING = 7;
/** The position that the first byte of the file has; a multiple of `STRIDE_BYTES`, so that what is one in positions is one in the file. */
export const LOG_BASE = 8;
/** The open file; of no meaning for a log in memory. */
export const LOG_FILE = 9;
/** The generation in the file's header. */
export const LOG_GENERATION = 10;
/** What `shared-file.ts` says of the open file. */
const LOG_FILE_STATE = 11;
/** How far writes to the file have begun, done or not: it may hold frames up to there that `written` does not count. */
export const LOG_TOUCHED = 12;
/** The base of the oldest file in use: of the first segment, or of the current file. */
export const LOG_ORIGIN = 13;
const LOG_MAPS_AT = 14;
const MAP_COUNT_MAX = 128;
/** Of a map: the address that position 0 would have, where the map ends, and the base of its file. */
const MAP_NUMBERS = 3;
const LOG_SEGMENTS_AT = LOG_MAPS_AT + MAP_NUMBERS * MAP_COUNT_MAX;
/** Up to which position reserved space has been written with zeros; of no meaning where it is less than `tail`; Infinity: none are to be. */
export const LOG_ZEROED = LOG_SEGMENTS_AT + SEGMENT_NUMBERS * SEGMENT_COUNT_MAX;
/** Where the file may hold a frame that was refused although each write is a sync; before `base`: nowhere. */
export const LOG_REFUSED = LOG_ZEROED + 1;
export const LOG_NUMBERS = LOG_REFUSED + 1;

// Indexes of the shared flags (i32).
/** Index of the newest map + 1; 0: there is none. */
const LOG_MAP_NEWEST = 0;
/** Touched for its memory barrier alone. */
export const LOG_FENCE = 1;
/** How often frames that nobody had been shown were taken back, so that others may stand in their places. */
export const LOG_RETREATS = 2;

const RING_MASK = RING_BYTES - 1;

/** The log's part of the block that all Workers share. */
export interface LogWords {
  readonly numbers: Float64Array;
  readonly flags: Int32Array;
}

/** The open file, for who names or closes it. */
export function logFileOf({ numbers }: LogWords): SharedFile {
  return { numbers, handleAt: LOG_FILE, stateAt: LOG_FILE_STATE };
}

/** Adds a map of the current file to the table; readers take it up when they need it. */
export function addMap(words: LogWords, map: { readonly address: Address; readonly bytes: number }): void {
  const { numbers, flags } = words;
  let at = LOG_MAPS_AT;
  while (at < LOG_SEGMENTS_AT && numbers[at + 1] !== 0) at += MAP_NUMBERS;
  if (at >= LOG_SEGMENTS_AT)
    throw new EmdbError("EMDB_FULL", "the log has grown so often that its maps are used up: reopen it");
  const base = numbers[LOG_BASE]!;
  numbers[at] = map.address - base;
  numbers[at + 2] = base;
  // Last: with it the entry counts, and a reader who still has it in hand from before sees that it is another's.
  barrier(flags, LOG_FENCE);
  numbers[at + 1] = base + map.bytes;
  nameNewest(words, at);
}

function nameNewest({ flags }: LogWords, at: number): void {
  Atomics.store(flags, LOG_MAP_NEWEST, (at - LOG_MAPS_AT) / MAP_NUMBERS + 1);
}

/** The same of one that a dead thread may have put there, and not come to name as the newest. */
export function addMapAgain(words: LogWords, map: { readonly address: Address; readonly bytes: number }): void {
  const { numbers } = words;
  const base = numbers[LOG_BASE]!;
  for (let at = LOG_MAPS_AT; at < LOG_SEGMENTS_AT; at += MAP_NUMBERS) {
    const isThere = numbers[at + 1] === base + map.bytes && numbers[at + 2] === base;
    if (isThere && numbers[at] === map.address - base) return nameNewest(words, at);
  }
  addMap(words, map);
}

/** How many maps more the table has room for. */
export function freeMaps({ numbers }: LogWords): number {
  let free = 0;
  for (let at = LOG_MAPS_AT; at < LOG_SEGMENTS_AT; at += MAP_NUMBERS) if (numbers[at + 1] === 0) free += 1;
  return free;
}

/** How indexes store positions of the log. */
export function positionsOf({ numbers }: LogWords): Positions {
  return new Positions(numbers, { originAt: LOG_ORIGIN, baseAt: LOG_BASE });
}

/** The base of the oldest file in use, and the position that no frame may reach beyond as long as that is. */
export function positionsInUse({ numbers }: LogWords): { readonly origin: number; readonly end: number } {
  const origin = numbers[LOG_ORIGIN]!;
  return { origin, end: Math.min(origin + LOG_BYTES_MAX, POSITIONS_END_MAX) };
}

/** After the oldest files were given up: positions before those that are left are nobody's. Under the writer's lock. */
export function raiseOrigin(words: LogWords): void {
  const segments = segmentsOf(words);
  const oldest = segments.oldestInUse;
  const origin = oldest === undefined ? words.numbers[LOG_BASE]! : segments.base(oldest);
  if (words.numbers[LOG_ORIGIN] === origin) return;
  words.numbers[LOG_ORIGIN] = origin;
  // Who sees a position that is stored by the new one sees that.
  barrier(words.flags, LOG_FENCE);
}

/** The files that compactions have replaced. */
export function segmentsOf(words: LogWords): Segments {
  return new Segments(words, { first: LOG_SEGMENTS_AT, fence: LOG_FENCE });
}

/**
 * The newest map of the current file, as the address that position 0 would have and the position of its end; undefined
 * while there is none: the newest map in the table is then one of the file before, if any.
 */
export function newestMap(words: LogWords): { readonly origin: Address; readonly end: number } | undefined {
  const { numbers, flags } = words;
  const newest = flags[LOG_MAP_NEWEST]!;
  if (newest === 0) return undefined;
  const at = LOG_MAPS_AT + (newest - 1) * MAP_NUMBERS;
  const isCurrent = numbers[at + 1] !== 0 && numbers[at + 2] === numbers[LOG_BASE];
  return isCurrent ? { origin: numbers[at]!, end: numbers[at + 1]! } : undefined;
}

/** Every map in the table, or those of the file with one base, for whoever unmaps them. */
export function listMaps(words: LogWords, base?: number): { address: Address; bytes: number }[] {
  const { numbers } = words;
  const maps: { address: Address; bytes: number }[] = [];
  for (let at = LOG_MAPS_AT; at < LOG_SEGMENTS_AT; at += MAP_NUMBERS) {
    const own = numbers[at + 2]!;
    if (numbers[at + 1] === 0 || (base !== undefined && own !== base)) continue;
    maps.push({ address: numbers[at]! + own, bytes: numbers[at + 1]! - own });
  }
  return maps;
}

/** How a map of a log is given back: that of a file, or memory. */
export function mapRelease(
  system: Pick<System, "release" | "unmap">,
  hasFile: boolean,
): (map: { readonly address: Address; readonly bytes: number }) => void {
  return ({ address, bytes }) => {
    if (hasFile) system.unmap(address, bytes);
    else system.release(address, bytes);
  };
}

/**
 * Gives back every map, or those of the file with one base: forgets one, then hands it to `release`, then the next. A
 * thread that dies there loses one map, and never does anybody unmap what has been unmapped and may be another's by now.
 */
export function releaseMaps(
  words: LogWords,
  base: number | undefined,
  release: (map: { readonly address: Address; readonly bytes: number }) => void,
): void {
  const { numbers, flags } = words;
  if (base === undefined || base === numbers[LOG_BASE]) Atomics.store(flags, LOG_MAP_NEWEST, 0);
  for (let at = LOG_MAPS_AT; at < LOG_SEGMENTS_AT; at += MAP_NUMBERS) {
    const own = numbers[at + 2]!;
    if (numbers[at + 1] === 0 || (base !== undefined && own !== base)) continue;
    const map = { address: numbers[at]! + own, bytes: numbers[at + 1]! - own };
    // First: with it the entry counts.
    numbers[at + 1] = 0;
    barrier(flags, LOG_FENCE);
    numbers.fill(0, at, at + MAP_NUMBERS);
    release(map);
  }
}

/** Forgets the maps, which are somebody else's now. */
export function dropMaps({ numbers, flags }: LogWords): void {
  numbers.fill(0, LOG_MAPS_AT, LOG_SEGMENTS_AT);
  Atomics.store(flags, LOG_MAP_NEWEST, 0);
}

/** One Worker's eyes on the log: where a frame is, and how far it may read there. */
export class LogReader {
  readonly words: LogWords;
  readonly #numbers: Float64Array;
  readonly #ring: Address;
  /** The address that position 0 would have, the end of the map, and the base of its file. */
  #map: Address = 0;
  #mapEnd = 0;
  #base = 0;
  /** `written` as last seen, and a word of its own for barriers: a shared one would be fought over. */
  #written = 0;
  /** The count of retreats as last seen. */
  #retreats = 0;
  readonly #barrier = new Int32Array(1);
  /** How far from the address that `at` last returned the bytes are good. */
  limit = 0;
  /** Whether that address was in the ring, where `isStillWhole` must be asked after copying. */
  isInRing = false;

  readonly segments: Segments;
  readonly #path: string | undefined;

  /** `path` is what errors name; undefined in memory. */
  constructor(words: LogWords, path?: string) {
    this.words = words;
    this.#path = path;
    this.segments = segmentsOf(words);
    this.#numbers = words.numbers;
    this.#ring = words.numbers[LOG_RING]!;
    this.takeMap();
  }

  /**
   * Goes over to the newest map; to be called when the one before is gone. A file that a compaction left empty has none
   * until something is in it: nothing of it is in reach then, and what is before it is found by its segment.
   */
  takeMap(): void {
    const newest = Atomics.load(this.words.flags, LOG_MAP_NEWEST);
    if (newest === 0) return;
    const at = LOG_MAPS_AT + (newest - 1) * MAP_NUMBERS;
    const end = this.#readMap(at);
    const current = this.#numbers[LOG_BASE]!;
    if (end !== 0 && this.#base === current) return;
    this.#map = 0;
    this.#mapEnd = current;
    this.#base = current;
  }

  /**
   * Takes an entry of the table, whose map may have been given back, and whose place another one may take meanwhile: all of
   * it is of one map, which its end tells, since no two have the same. Returns that; 0: there is none.
   */
  #readMap(at: number): number {
    const numbers = this.#numbers;
    for (;;) {
      const end = numbers[at + 1]!;
      this.barrier();
      this.#map = numbers[at]!;
      this.#mapEnd = end;
      this.#base = numbers[at + 2]!;
      this.barrier();
      if (numbers[at + 1] === end) return end;
    }
  }

  /** The position of the last frame that readers may take for the present, and a little more: its end. */
  get visible(): number {
    return this.#numbers[LOG_VISIBLE]!;
  }

  /** Where the frame at a position is; `limit` then says how many bytes may be read. 0 when it is nowhere. */
  at(lsn: number): Address {
    const written = this.#takeWritten();
    if (lsn < written) {
      if (written > this.#mapEnd) this.takeMap();
      if (lsn < this.#base) return this.#atFormer(lsn);
      this.limit = Math.min(written, this.#mapEnd) - lsn;
      this.isInRing = false;
      return this.limit > 0 ? this.#map + lsn : 0;
    }
    return this.#atRing(lsn);
  }

  #takeWritten(): number {
    const written = this.#numbers[LOG_WRITTEN]!;
    if (written !== this.#written) {
      this.#written = written;
      this.barrier();
      if (this.#numbers[LOG_BASE] !== this.#base) this.takeMap();
    }
    return written;
  }

  /**
   * For many frames at once: what lies from position `mapFrom` up to the one that is returned is in the map, for good,
   * at `mapOrigin` plus its position. `at` knows where all others are.
   */
  mapEnd(): number {
    const written = this.#takeWritten();
    if (written > this.#mapEnd) this.takeMap();
    return Math.min(written, this.#mapEnd);
  }

  get mapOrigin(): Address {
    return this.#map;
  }

  get mapFrom(): number {
    return this.#base;
  }

  /** Which file holds the position that `at` has just found: its first position, and its generation. */
  fileOf(lsn: number): { readonly base: number; readonly generation: number } {
    const base = this.#numbers[LOG_BASE]!;
    const generation = this.#numbers[LOG_GENERATION]!;
    this.barrier();
    // While a swap is under way the generation may be the next file's already; the segment of this one is there by then.
    const at = lsn < base ? this.segments.holding(lsn) : this.segments.ofBase(base);
    if (at === 0) return { base, generation };
    return { base: this.segments.base(at), generation: this.segments.generation(at) };
  }

  /** A record that the log promised is not there: the file changed under us. Says where in the file. */
  corrupted(lsn: number): EmdbError {
    const base = this.#numbers[LOG_BASE]!;
    const present = lsn >= base ? lsn : this.segments.present(lsn);
    const offset = present === 0 ? lsn - this.fileOf(lsn).base : present - base;
    const message = `the record at byte ${offset} does not make sense any more; the file was changed from outside, or the disk lost it`;
    return new EmdbError("EMDB_CORRUPTED", message, { path: this.#path, offset });
  }

  /** In a file that a compaction has replaced. */
  #atFormer(lsn: number): Address {
    const at = this.segments.holding(lsn);
    this.isInRing = false;
    this.limit = at === 0 ? 0 : this.segments.end(at) - lsn;
    return at === 0 ? 0 : this.segments.origin(at) + lsn;
  }

  #atRing(lsn: number): Address {
    this.limit = this.#numbers[LOG_TAIL]! - lsn;
    if (this.limit <= 0 || this.#ring === 0) {
      // The words may be older than the slot that named the position; after a barrier they are not.
      this.barrier();
      if (lsn < this.#numbers[LOG_WRITTEN]!) return this.at(lsn);
      this.limit = this.#numbers[LOG_TAIL]! - lsn;
      if (this.limit <= 0 || this.#ring === 0) return 0;
    }
    this.isInRing = true;
    return this.#ring + (lsn & RING_MASK);
  }

  /**
   * Where the frame at a position was before a compaction copied it, for a reader whose moment is before that: the
   * copy does not lead to its older versions, the original does. 0 when it is no such frame.
   */
  formerPlace(lsn: number, before: number): number {
    const current = this.#numbers[LOG_BASE]!;
    if (current === 0) return 0;
    const base = lsn >= current ? current : this.segments.base(this.segments.holding(lsn));
    return before > base ? 0 : this.segments.former(lsn, base);
  }

  /**
   * Whether what was copied from the ring for the frame at `lsn` had not been overwritten by then, and was that frame: `at`
   * may have seen a `written` older than the slot that named it, and a long frame is in the file only.
   */
  isStillWhole(lsn: number): boolean {
    this.barrier();
    return this.#numbers[LOG_CLAIMED]! - RING_BYTES <= lsn && this.#numbers[LOG_WRITTEN]! <= lsn;
  }

  /** What was read before was read before what is read after. */
  barrier(): void {
    barrier(this.#barrier, 0);
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
        if (!this.hasRetreated(before)) return result;
      } catch (error) {
        if (!this.hasRetreated(before)) throw error;
      }
    }
  }

  /** How often frames have been taken back, for `hasRetreated`; what is read after that is at least as new. */
  takeRetreats(): number {
    const retreats = this.words.flags[LOG_RETREATS]!;
    if (retreats !== this.#retreats) {
      this.#retreats = retreats;
      this.barrier();
    }
    return retreats;
  }

  /** Whether frames were taken back since: what was read in between may have stood in their places. */
  hasRetreated(before: number): boolean {
    this.barrier();
    return this.words.flags[LOG_RETREATS] !== before;
  }
}

/** The low 32 bits of a place in a file in 8-byte units. */
export function unitLow(lsn: number): number {
  return (lsn / 8) >>> 0;
}

/** The bits of a place in a file in 8-byte units above the low 32. */
export function unitHigh(lsn: number): number {
  return Math.floor(lsn / (8 * TWO_32));
}

/** Whether a place can be in a file at all. */
export function isPosition(lsn: number): boolean {
  return Number.isSafeInteger(lsn) && lsn >= 0 && lsn % 8 === 0 && lsn < LOG_BYTES_MAX;
}
