/**
 * Where a compaction has put the frames that it kept: pairs of positions, in the order of both files.
 *
 *     pair (16 bytes)   f64 0 former position   f64 1 present place, in the new file   (both in 8-byte units)
 *
 * A compaction copies frames in the order of the log, so both columns ascend and one table answers in both
 * directions. Every 64th pair is kept at hand; of a whole table a directory says which of them lie in each of many equal
 * stretches of positions. In the block of 64 that a search ends in the pair is looked for where it would stand if all were
 * as far apart: few lines of memory are copied, and the whole block only when it is not there.
 *
 * What was overwritten while the compaction ran is left out too, yet what follows it must name the version before it that
 * is there. So such a frame has a pair as well, when there is one: with the place of that version, and half a unit added
 * to its former position. A quarter is added to that of a removal: what is left out behind it leads nowhere.
 * Positions are below 2^50 units, so quarters of them are exact.
 */

import { copy, sharedScratch, type Pinned } from "../ffi/memory.ts";
import type { Address } from "../ffi/system.ts";

export const PAIR_BYTES = 16;
const BLOCK_PAIRS = 64;
/** Pairs that are looked at first. */
const WINDOW_PAIRS = 12;
const STRETCHES_PER_BLOCK = 2;
/** Entries of a directory that are more than there are stretches. */
const DIRECTORY_MARGIN = 4;
/** Positions that are looked up together. */
const GROUP = 64;
/** Instead of a pair to look at: of a position in the new file, of one that is not in the table, and of one whose block has to be searched. */
const STAYS = -3;
const MISSING = -2;
const SEARCHED = -1;
const WINDOW_BYTES = WINDOW_PAIRS * PAIR_BYTES;
const sharedBlock = sharedScratch(BLOCK_PAIRS * PAIR_BYTES);
const sharedWindows = sharedScratch(GROUP * WINDOW_BYTES);
const sharedFirsts = sharedScratch(GROUP * 8);

/** Copies pairs `[first, first + count)` to the beginning of some memory. */
export type PairReader = (to: Pinned, first: number, count: number) => void;

/** What is added to the former position of a frame that was left out, and of a removal that was kept. */
const LEFT_OUT = 0.5;
const REMOVAL = 0.25;

/** The former position of a pair, as the table holds it. */
export const removalOf = (former: number): number => former + REMOVAL;
export const leftOutOf = (former: number): number => former + LEFT_OUT;

const isLeftOut = (former: number): boolean => former - Math.floor(former) === LEFT_OUT;

/** Looks pairs up, wherever they are. */
export class Moves {
  readonly #read: PairReader;
  /** Of a whole table; 0 while it is filled. */
  #address: Address = 0;
  readonly #block = sharedBlock();
  /** The first former position of each block. */
  #formers: number[] = [];
  /** The last former position of all, as its pair has it. */
  #last = 0;
  /** Of a whole table: see `directoryOf`. */
  #directory: Uint32Array | undefined;
  /** Of each block the first place of a frame that was kept, the next block's if it has none; looked for when first asked. */
  #presents: number[] | undefined;
  /** Pairs in the table. */
  count = 0;

  constructor(read: PairReader) {
    this.#read = read;
  }

  /** Over a table in memory that is whole. */
  static at(address: Address, count: number): Moves {
    const moves = new Moves((to, first, pairs) => copy(to.address, address + first * PAIR_BYTES, pairs * PAIR_BYTES));
    for (let first = 0; first < count; first += BLOCK_PAIRS) {
      moves.#read(moves.#block, first, 1);
      moves.#formers.push(moves.#block.f64[0]!);
    }
    if (count > 0) {
      moves.#read(moves.#block, count - 1, 1);
      moves.#last = moves.#block.f64[0]!;
    }
    moves.#address = address;
    moves.count = count;
    moves.#directory = directoryOf(moves.#formers);
    return moves;
  }

  /** Takes up the next pair of the table, which is readable by then. */
  note(former: number): void {
    if (this.count % BLOCK_PAIRS === 0) this.#formers.push(former);
    this.#last = former;
    this.count += 1;
  }

  /** Where in the new file the frame of a former position (in units) is; 0 when it was not copied. */
  present(former: number): number {
    const index = this.#find(former);
    return index < 0 ? 0 : presentOf(this.#block.f64, index * 2);
  }

  /**
   * Replaces those of the first `count` positions (in units) that are below `next`, where the new file begins, by the ones
   * that their frames have in it; 0 when left out. Of a whole table: what has to be looked at of it is copied for many
   * positions before one is looked for, so that their misses overlap.
   */
  follow(units: Float64Array, count: number, next: number): void {
    for (let from = 0; from < count; from += GROUP)
      this.#followGroup(units.subarray(from, Math.min(count, from + GROUP)), next);
  }

  #followGroup(units: Float64Array, next: number): void {
    const { address, f64 } = sharedWindows();
    const firsts = sharedFirsts().f64;
    for (let index = 0; index < units.length; index++)
      firsts[index] = units[index]! < next ? this.#windowOf(units[index]!) : STAYS;
    for (let index = 0; index < units.length; index++) {
      const first = firsts[index]!;
      if (first >= 0) copy(address + index * WINDOW_BYTES, this.#address + first * PAIR_BYTES, WINDOW_BYTES);
    }
    for (let index = 0; index < units.length; index++) {
      const first = firsts[index]!;
      if (first === STAYS) continue;
      const former = units[index]!;
      const at = (index * WINDOW_BYTES) / 8;
      const isHere = first >= 0 && reaches(f64, at, former);
      const place = first === MISSING ? 0 : isHere ? presentIn(f64, at, former) : this.present(former);
      units[index] = place === 0 ? 0 : next + place;
    }
  }

  /**
   * Where in the new file the frame is that one which followed the one at a former position (in units) names as the version
   * before it: that frame, a removal too, or if it was left out the value before it. 0 when there is none.
   */
  beforeNext(former: number): number {
    const index = this.#find(former);
    return index < 0 ? 0 : this.#block.f64[index * 2 + 1]!;
  }

  /** The same if it is a value, which what followed overwrites or removes; 0 for a removal. */
  heldAt(former: number): number {
    const index = this.#find(former);
    if (index < 0) return 0;
    const isRemoval = this.#block.f64[index * 2] === removalOf(former);
    return isRemoval ? 0 : this.#block.f64[index * 2 + 1]!;
  }

  /** The position that the frame at a place in the new file (in units) had before; 0 when it is none that was copied. Of a whole table. */
  former(present: number): number {
    this.#presents ??= this.#firstPresents();
    const pairs = this.#load(this.#presents, present);
    const block = this.#block.f64;
    for (let pair = 0; pair < pairs; pair++) {
      const former = block[pair * 2]!;
      if (block[pair * 2 + 1] === present && !isLeftOut(former)) return Math.floor(former);
    }
    return 0;
  }

  #firstPresents(): number[] {
    const presents = this.#formers.map(() => Infinity);
    const block = this.#block.f64;
    let next = Infinity;
    for (let index = presents.length - 1; index >= 0; index--) {
      const first = index * BLOCK_PAIRS;
      const pairs = isLeftOut(this.#formers[index]!) ? Math.min(BLOCK_PAIRS, this.count - first) : 1;
      this.#read(this.#block, first, pairs);
      let pair = 0;
      while (pair < pairs && isLeftOut(block[pair * 2]!)) pair++;
      if (pair < pairs) next = block[pair * 2 + 1]!;
      presents[index] = next;
    }
    return presents;
  }

  /** Loads the block that would hold a position, by the first ones of all; returns how many pairs it has. */
  #load(firsts: readonly number[], units: number): number {
    const block = lastBefore(firsts, units, 0, firsts.length);
    return block < 0 ? 0 : this.#loadPairs(block * BLOCK_PAIRS, BLOCK_PAIRS);
  }

  /** Loads so many pairs, or as many as there are. */
  #loadPairs(first: number, wanted: number): number {
    const pairs = Math.min(wanted, this.count - first);
    if (pairs > 0) this.#read(this.#block, first, pairs);
    return pairs;
  }

  /** The block that would hold a former position; negative when it is before all. */
  #blockOf(former: number): number {
    const formers = this.#formers;
    const directory = this.#directory;
    // A pair has up to half a unit more than the position that it is for.
    const units = former + LEFT_OUT;
    if (directory === undefined) return lastBefore(formers, units, 0, formers.length);
    const stretches = directory.length - DIRECTORY_MARGIN;
    const at = Math.floor(((units - formers[0]!) * stretches) / (formers.at(-1)! - formers[0]!));
    const stretch = Math.min(Math.max(at, 0), stretches);
    return lastBefore(formers, units, directory[stretch]!, directory[stretch + DIRECTORY_MARGIN - 1]! + 1);
  }

  /** The pair of a former position among those that it then loads; negative when there is none. */
  #find(former: number): number {
    const window = this.#windowOf(former);
    if (window === MISSING) return -1;
    if (window >= 0) {
      this.#loadPairs(window, WINDOW_PAIRS);
      if (reaches(this.#block.f64, 0, former)) return among(this.#block.f64, { from: 0, pairs: WINDOW_PAIRS }, former);
    }
    const first = this.#blockOf(former) * BLOCK_PAIRS;
    return among(this.#block.f64, { from: 0, pairs: this.#loadPairs(first, BLOCK_PAIRS) }, former);
  }

  /** The first of the pairs around where a former position would stand in its block if all were as far apart; negative where that says nothing. */
  #windowOf(former: number): number {
    // Of a log that ends with removals, a large part of what the index holds.
    if (former > this.#last) return MISSING;
    const block = this.#blockOf(former);
    if (block < 0) return MISSING;
    // The last block may be short.
    if (block + 1 === this.#formers.length) return SEARCHED;
    const from = this.#formers[block]!;
    const guess = Math.floor((BLOCK_PAIRS * (former - from)) / (this.#formers[block + 1]! - from)) - WINDOW_PAIRS / 2;
    return block * BLOCK_PAIRS + Math.min(Math.max(guess, 0), BLOCK_PAIRS - WINDOW_PAIRS);
  }
}

/** What the pair at an index says about a frame: where it is now, 0 when it was left out. */
function presentOf(numbers: Float64Array, at: number): number {
  return isLeftOut(numbers[at]!) ? 0 : numbers[at + 1]!;
}

/** Where the frame of a former position is now, by a window that reaches over it; 0 when it was not copied. */
function presentIn(windows: Float64Array, from: number, former: number): number {
  const index = among(windows, { from, pairs: WINDOW_PAIRS }, former);
  return index < 0 ? 0 : presentOf(windows, from + index * 2);
}

/** Whether a former position is between the first and the last of a window's pairs, which begin at an index. */
function reaches(pairs: Float64Array, from: number, former: number): boolean {
  return pairs[from]! <= former + LEFT_OUT && pairs[from + 2 * WINDOW_PAIRS - 2]! >= former;
}

/** The pair of a former position among some that begin at an index; negative when there is none. */
function among(numbers: Float64Array, some: { readonly from: number; readonly pairs: number }, former: number): number {
  let low = 0;
  let high = some.pairs;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const at = Math.floor(numbers[some.from + middle * 2]!);
    if (at === former) return middle;
    if (at < former) low = middle + 1;
    else high = middle;
  }
  return -1;
}

/** Which of the ascending numbers from `low` up to `high` is the last that is not above another; the one before `low` if none is. */
function lastBefore(numbers: readonly number[], limit: number, low: number, high: number): number {
  let [from, to] = [low, high];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (numbers[middle]! <= limit) from = middle + 1;
    else to = middle;
  }
  return from - 1;
}

/**
 * An entry is the last block that begins before the stretch before its own, or 0. So what lies in a stretch is at or
 * behind its own entry, and not behind the third one after it, however the numbers are rounded.
 */
function directoryOf(formers: readonly number[]): Uint32Array | undefined {
  if (formers.length < 2) return undefined;
  const stretches = formers.length * STRETCHES_PER_BLOCK;
  const width = (formers.at(-1)! - formers[0]!) / stretches;
  const directory = new Uint32Array(stretches + DIRECTORY_MARGIN);
  let block = 0;
  for (let stretch = 0; stretch < directory.length; stretch++) {
    const end = formers[0]! + (stretch - 1) * width;
    while (block + 1 < formers.length && formers[block + 1]! < end) block++;
    directory[stretch] = block;
  }
  return directory;
}
