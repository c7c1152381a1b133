/**
 * Where a compaction has put the frames that it kept: pairs of positions, in the order of both files.
 *
 *     pair (16 bytes)   f64 0 former position   f64 1 present place, in the new file   (both in 8-byte units)
 *
 * A compaction copies frames in the order of the log, so both columns ascend and one table answers in both
 * directions. Every 64th pair is kept at hand; the block of 64 that a search ends in is copied in one go.
 */

import { copy, sharedScratch, type Pinned } from "../ffi/memory.ts";
import type { Address } from "../ffi/system.ts";

export const PAIR_BYTES = 16;
const BLOCK_PAIRS = 64;
const sharedBlock = sharedScratch(BLOCK_PAIRS * PAIR_BYTES);

/** Copies pairs `[first, first + count)` to the beginning of some memory. */
export type PairReader = (to: Pinned, first: number, count: number) => void;

/** Looks pairs up, wherever they are. */
export class Moves {
  readonly #read: PairReader;
  readonly #block = sharedBlock();
  /** The first pair of each block: former and present positions. */
  #formers: number[] = [];
  #presents: number[] = [];
  /** Pairs in the table. */
  count = 0;

  constructor(read: PairReader) {
    this.#read = read;
  }

  /** Over a table in memory that is whole. */
  static at(address: Address, count: number): Moves {
    const moves = new Moves((to, first, pairs) => copy(to.address, address + first * PAIR_BYTES, pairs * PAIR_BYTES));
    const pair = moves.#block;
    for (let first = 0; first < count; first += BLOCK_PAIRS) {
      copy(pair.address, address + first * PAIR_BYTES, PAIR_BYTES);
      moves.#formers.push(pair.f64[0]!);
      moves.#presents.push(pair.f64[1]!);
    }
    moves.count = count;
    return moves;
  }

  /** Takes up the next pair of the table, which is readable by then. */
  note(former: number, present: number): void {
    if (this.count % BLOCK_PAIRS === 0) {
      this.#formers.push(former);
      this.#presents.push(present);
    }
    this.count += 1;
  }

  /** Where in the new file the frame of a former position (in units) is; 0 when it was not copied. */
  present(former: number): number {
    const index = this.#search(this.#formers, 0, former);
    return index < 0 ? 0 : this.#block.f64[index * 2 + 1]!;
  }

  /** The position that the frame at a place in the new file (in units) had before; 0 when it is none that was copied. */
  former(present: number): number {
    const index = this.#search(this.#presents, 1, present);
    return index < 0 ? 0 : this.#block.f64[index * 2]!;
  }

  /** Loads the block that would hold a position and finds it there; negative when it does not. */
  #search(firsts: readonly number[], column: 0 | 1, units: number): number {
    let low = 0;
    let high = firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (firsts[middle]! <= units) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return -1;
    const first = (low - 1) * BLOCK_PAIRS;
    const pairs = Math.min(BLOCK_PAIRS, this.count - first);
    if (pairs <= 0) return -1;
    this.#read(this.#block, first, pairs);
    const block = this.#block.f64;
    let from = 0;
    let to = pairs;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const at = block[middle * 2 + column]!;
      if (at === units) return middle;
      if (at < units) from = middle + 1;
      else to = middle;
    }
    return -1;
  }
}
