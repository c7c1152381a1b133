/**
 * How an index stores positions of the log: in 36 bits, while positions grow for ever.
 *
 *     units (a position in 8-byte units)    512 ........ 2^36 ........ 2^36 + PERIOD ........
 *     stored                                512 ........ 512 ......... 512 ..................
 *
 * All positions that an index, a file or a reader names at one time lie between `origin`, the base of the oldest file in
 * use, and the tail, less than a period apart. So what is stored stands for one position only. Below 2^36 it is the
 * position itself; 0, which no frame has, stays 0. A place in a file is a position of a log that begins at 0: this is how
 * images store it.
 *
 * Invariants
 * 1. No frame stands in the header page of its file: positions begin 512 units behind a base, and span
 *    `512 + PERIOD = 2^36` units from `origin` on.
 * 2. `origin` is raised under the writer's lock, once nobody can hold what was stored for a position before it. Whoever
 *    still sees the old one gets the same positions, but for those that were given out since.
 * 3. Those he gets a period too low: before the first frame of the current file. A reader without the lock, whose processor may
 *    read `origin` before the slot (arm64), therefore looks again behind a barrier when he gets what is before that. The base
 *    he knows: `origin` was raised to it or less, which waited until he had been seen past the swap that it came with.
 */

import { assert } from "../errors.ts";
import { HEADER_PAGE_BYTES, LOG_BYTES_MAX } from "../limits.ts";
import { barrier } from "./barrier.ts";

const TWO_32 = 4294967296;
/** The bits of a high word that belong to the position. */
const HIGH_MASK = 15;
const UNITS_MAX = LOG_BYTES_MAX / 8;
const UNITS_MIN = HEADER_PAGE_BYTES / 8;
/** How far apart positions are that are stored alike. */
export const PERIOD_UNITS = UNITS_MAX - UNITS_MIN;
assert(UNITS_MAX === (HIGH_MASK + 1) * TWO_32, "the longest log fills 36 bits");

/** What the two words of a slot store: for an image, the place in the file. */
export function storedIn(low: number, high: number): number {
  return (high & HIGH_MASK) * TWO_32 + low;
}

/** The high word of a slot that stores something else; the low word is the low 32 bits of that. */
export function withStored(high: number, stored: number): number {
  return ((high & ~HIGH_MASK) | Math.floor(stored / TWO_32)) >>> 0;
}

/** Where the shared numbers say what positions are in use: both are positions in bytes. */
export interface PositionWords {
  /** The base of the oldest file in use, at or below the one of the current file. */
  readonly originAt: number;
  readonly baseAt: number;
}

/** Replaces the first `count` positions (in units) by those that their frames have now: 0 by none, a present one by itself. */
export type Translate = (units: Float64Array, count: number) => void;

/** Where positions in units go. */
export interface PositionsPart {
  readonly to: Float64Array;
  readonly at: number;
  readonly count: number;
}

/** One thread's eyes on what positions are in use. */
export class Positions {
  readonly #numbers: Float64Array;
  readonly #originAt: number;
  readonly #baseAt: number;
  readonly #barrier = new Int32Array(1);
  /** `origin` as last seen, and from it: what to add to what is stored, and the positions that there can be (units). */
  #origin = 0;
  #lap = 0;
  #least = 0;
  #end = UNITS_MAX;
  /** The base of the current file as last seen, and its first position (units). */
  #base = 0;
  #first = UNITS_MIN;

  constructor(numbers: Float64Array, words: PositionWords) {
    this.#numbers = numbers;
    this.#originAt = words.originAt;
    this.#baseAt = words.baseAt;
  }

  /** Of a log that begins at 0 and never ends. */
  static ofFile(): Positions {
    return new Positions(new Float64Array(2), { originAt: 0, baseAt: 1 });
  }

  /** The position that the two words of a slot name, in units; 0 when they name nothing. Needs no lock. */
  units(low: number, high: number): number {
    const stored = (high & HIGH_MASK) * TWO_32 + low;
    const units = stored + this.#lap;
    // Of the current file it is right whatever has become of `origin`.
    return units >= this.#first && this.#numbers[this.#baseAt] === this.#base ? units : this.#unitsOf(stored);
  }

  /** The same of many slots, `step` words apart, the low word of the first at `first`. */
  take(words: Int32Array, slots: { readonly first: number; readonly step: number }, part: PositionsPart): void {
    const { to, at, count } = part;
    const lap = this.#lap;
    const first = this.#first;
    const isPresent = this.#numbers[this.#baseAt] === this.#base;
    let word = slots.first;
    for (let index = at; index < at + count; index++, word += slots.step) {
      const stored = storedIn(words[word]! >>> 0, words[word + 1]!);
      const units = stored + lap;
      to[index] = isPresent && units >= first ? units : this.#unitsOf(stored);
    }
  }

  #unitsOf(stored: number): number {
    if (this.#numbers[this.#baseAt] !== this.#base) this.#take();
    const units = this.#decode(stored);
    if (units >= this.#first || stored === 0) return units;
    barrier(this.#barrier, 0);
    this.#take();
    return this.#decode(stored);
  }

  #decode(stored: number): number {
    const units = stored + this.#lap;
    if (units >= this.#least) return units;
    return stored === 0 ? 0 : units + PERIOD_UNITS;
  }

  /** What is stored for a position in units, of at most 36 bits. Under the writer's lock. */
  stored(units: number): number {
    if (this.#numbers[this.#originAt] !== this.#origin) this.#take();
    if (units === 0) return 0;
    assert(units >= this.#least && units < this.#end, "a position that is stored is in use");
    const stored = units - this.#lap;
    return stored < UNITS_MAX ? stored : stored - PERIOD_UNITS;
  }

  #take(): void {
    this.#base = this.#numbers[this.#baseAt]!;
    this.#first = this.#base / 8 + UNITS_MIN;
    const origin = this.#numbers[this.#originAt]!;
    this.#origin = origin;
    const units = origin / 8;
    this.#lap = units - (units % PERIOD_UNITS);
    this.#least = units === 0 ? 0 : units + UNITS_MIN;
    this.#end = units + UNITS_MAX;
  }
}
