/**
 * What a thread that leaves had retired, and others may still be reading: listed in pages of the heap, for whoever retires
 * something next. A thread that dies leaves no such list; what it had retired is lost until the database closes.
 *
 *     page     u32 0 next page, 0: none   u32 1 era   u32 2 pieces   u32 4 on: two words for each piece
 *     piece    u32 0 kind, with 4 times the pages of a run   u32 1 page, block or unit
 *
 * Invariants
 * 1. Under the writer's lock. A page is whole before it is the first of the list.
 * 2. What is retired is not written to: others read it.
 */

import { PAGE_BYTES, type Heap } from "./heap.ts";
import { copy, sharedScratch } from "./memory.ts";

/** Pages side by side, as the heap gave them out. */
interface Run {
  readonly first: number;
  readonly count: number;
}

/** Memory that no root leads to any more. */
export interface Pieces {
  readonly pages: number[];
  readonly runs: Run[];
  readonly blocks: number[];
  readonly units: number[];
}

/** The same, with the era that everybody must have been seen in before it is free. */
export interface Retired extends Pieces {
  readonly era: number;
}

export const noPieces = (): Pieces => ({ pages: [], runs: [], blocks: [], units: [] });

const KIND_PAGE = 0;
const KIND_BLOCK = 1;
const KIND_UNIT = 2;
const KIND_RUN = 3;
const KINDS = 4;

const NEXT = 0;
const ERA = 1;
const COUNT = 2;
const FIRST_PIECE = 4;
const PIECES_PER_PAGE = (PAGE_BYTES / 4 - FIRST_PIECE) / 2;

const sharedPage = sharedScratch(PAGE_BYTES);

/** Lists what is retired. @throws {EmdbError} EMDB_FULL, some of it listed */
export function leavePieces(heap: Heap, all: readonly Retired[]): void {
  const memory = sharedPage();
  const words = memory.u32;
  for (const retired of all) {
    const pieces = wordsOf(retired);
    for (let from = 0; from < pieces.length; from += 2 * PIECES_PER_PAGE) {
      const part = pieces.slice(from, from + 2 * PIECES_PER_PAGE);
      const page = heap.takePage();
      words[NEXT] = heap.leftPage;
      words[ERA] = retired.era;
      words[COUNT] = part.length / 2;
      words.set(part, FIRST_PIECE);
      copy(heap.pageAddress(page), memory.address, PAGE_BYTES);
      heap.leftPage = page;
    }
  }
}

function wordsOf({ pages, runs, blocks, units }: Pieces): number[] {
  return [
    ...pages.flatMap((page) => [KIND_PAGE, page]),
    ...blocks.flatMap((block) => [KIND_BLOCK, block]),
    ...units.flatMap((unit) => [KIND_UNIT, unit]),
    ...runs.flatMap(({ first, count }) => [KIND_RUN + KINDS * count, first]),
  ];
}

/** Takes everything that is listed, the pages of the list among it. */
export function takeLeftPieces(heap: Heap): Retired[] {
  const { address, u32 } = sharedPage();
  const all: Retired[] = [];
  for (let page = heap.leftPage; page !== 0; page = heap.leftPage) {
    copy(address, heap.pageAddress(page), PAGE_BYTES);
    heap.leftPage = u32[NEXT]!;
    const { pages, runs, blocks, units } = noPieces();
    pages.push(page);
    const end = FIRST_PIECE + 2 * u32[COUNT]!;
    for (let word = FIRST_PIECE; word < end; word += 2) {
      const kind = u32[word]!;
      const number = u32[word + 1]!;
      if (kind % KINDS === KIND_RUN) runs.push({ first: number, count: Math.floor(kind / KINDS) });
      else (kind === KIND_PAGE ? pages : kind === KIND_BLOCK ? blocks : units).push(number);
    }
    all.push({ era: u32[ERA]! | 0, pages, runs, blocks, units });
  }
  return all;
}
