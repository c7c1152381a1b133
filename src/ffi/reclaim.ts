/**
 * When freed index memory may be used again: once no Worker can still be reading it.
 *
 * A Worker begins each operation by comparing one shared number, the era, with the one it saw last, and notes
 * the new one in its row when they differ; when its event loop turns it notes that it is idle. Retiring raises
 * the era; what was retired in an era is free when every row is idle or past it. With one handle attached,
 * the writer is the only reader, and everything is free at once.
 *
 * Invariants
 * 1. A row is written by its own Worker, or by another once that Worker's thread is dead.
 * 2. Retired memory is unreachable from every root before the era is raised.
 * 3. Eras are odd and go round, from 2^31 - 1 to -2^31 + 1; of two, the later one is less than half of the round ahead.
 *    An even word stands for no era.
 * 4. Retiring does not fail: what the heap has no room to take back waits for another time.
 * 5. What waits when its thread leaves is waited for by others (`left-pieces.ts`).
 *
 * Source: Fraser, "Practical lock-freedom" (2004), epoch-based reclamation.
 */

import { ATTACHED_MAX } from "../limits.ts";
import { barrier } from "./barrier.ts";
import { leaveForLater } from "./give-back.ts";
import type { Heap } from "./heap.ts";
import { leavePieces, noPieces, takeLeftPieces, type Pieces, type Retired } from "./left-pieces.ts";

// Indexes of the shared flags (i32).
export const RECLAIM_ERA = 0;
export const RECLAIM_ATTACHED = 1;
/** A row's thread number + 1; 0: free; negative: of a dead thread, being cleared. */
export const ROW_THREAD_AT = 2;
/** The era a row's Worker has seen; an even word between its operations. */
export const ROW_ERA_AT = ROW_THREAD_AT + ATTACHED_MAX;
/** How often a root, a directory or a shard has been replaced: see `directories.ts`. */
export const RECLAIM_LAYOUT = ROW_ERA_AT + ATTACHED_MAX;
export const RECLAIM_FLAGS = RECLAIM_LAYOUT + 1;
export const IDLE = 0;
export const FIRST_ERA = 1;
const ERA_STEP = 2;

/** Retired pieces that are tried together; fewer trials, a little more memory. */
const BATCH = 64;

/** Raises the era; returns the new one. */
export function beginEra(flags: Int32Array): number {
  return (Atomics.add(flags, RECLAIM_ERA, ERA_STEP) + ERA_STEP) | 0;
}

/** Whether an era began before another one. */
function isBefore(era: number, other: number): boolean {
  return ((era - other) | 0) < 0;
}

export class Reclaim {
  readonly #heap: Heap;
  readonly flags: Int32Array;
  readonly #isAlive: (thread: number) => boolean;
  /** Retired since the last batch. */
  #pieces = noPieces();
  readonly #waiting: Retired[] = [];

  constructor(heap: Heap, flags: Int32Array, isAlive: (thread: number) => boolean) {
    this.#heap = heap;
    this.flags = flags;
    this.#isAlive = isAlive;
  }

  /**
   * Whether no other Worker reads what this one writes, so that memory may be written over in place. Under the
   * writer's lock: a Worker that attaches passes through it once before it reads such memory.
   */
  get isAlone(): boolean {
    return this.#isAlone();
  }

  /** What was written before is seen by everybody who sees what is written after: a new layout, then its name. */
  fence(): void {
    barrier(this.flags, RECLAIM_ATTACHED);
  }

  /** Begins an era; what nobody can reach any more is free when everybody `isPast` it. */
  nextEra(): number {
    return beginEra(this.flags);
  }

  /** Whether no Worker can still be reading what was unreachable when an era began. */
  isPast(era: number): boolean {
    return this.#isAlone() || !isBefore(this.#oldestEra(), era);
  }

  retirePage(page: number): void {
    const { pages } = this.#pieces;
    pages.push(page);
    if (this.#isAlone()) {
      this.#giveBack(this.#pieces);
      this.collect();
    } else if (pages.length >= BATCH) this.#closeBatch();
  }

  /** The pages of a run, to come back as one. */
  retireRun(first: number, count: number): void {
    this.#pieces.runs.push({ first, count });
    if (this.#isAlone()) this.#giveBack(this.#pieces);
  }

  retireUnit(unit: number): void {
    if (this.#isAlone()) this.#heap.giveUnit(unit);
    else this.#pieces.units.push(unit);
  }

  /** Whether no other Worker can be reading. A locked operation, not a load: what was unlinked is out before it looks. */
  #isAlone(): boolean {
    return Atomics.add(this.flags, RECLAIM_ATTACHED, 0) === 1;
  }

  retireBlock(block: number): void {
    const { blocks } = this.#pieces;
    blocks.push(block);
    if (this.#isAlone()) this.#giveBack(this.#pieces);
    else if (blocks.length >= BATCH) this.#closeBatch();
  }

  #closeBatch(): void {
    this.#waiting.push({ era: this.nextEra(), ...this.#pieces });
    this.#pieces = noPieces();
    this.collect();
  }

  /** Frees what nobody can be reading any more. */
  collect(): void {
    const waiting = this.#waiting;
    if (this.#heap.leftPage !== 0) {
      waiting.push(...takeLeftPieces(this.#heap));
      waiting.sort((one, other) => (one.era - other.era) | 0);
    }
    if (waiting.length === 0) return;
    const oldest = this.#oldestEra();
    while (waiting.length > 0 && !isBefore(oldest, waiting[0]!.era) && this.#giveBack(waiting[0]!)) waiting.shift();
  }

  /** The same, of the last pieces too. What waits for this thread's own row is freed once that is idle, or past it. */
  finish(): void {
    const { pages, runs, blocks, units } = this.#pieces;
    if (pages.length + runs.length + blocks.length + units.length > 0) this.#closeBatch();
    else this.collect();
  }

  /** This thread leaves: what others may still be reading is left to whoever retires something next. After `finish`. */
  leaveRest(): void {
    try {
      leavePieces(this.#heap, this.#waiting);
    } catch (error) {
      // What is not listed is lost until the database closes.
      leaveForLater(error);
    }
    this.#waiting.length = 0;
  }

  /** How many batches wait for others. */
  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Takes pieces off their lists as the heap takes them; false when it did not take all. */
  #giveBack({ pages, runs, blocks, units }: Pieces): boolean {
    try {
      for (; pages.length > 0; pages.pop()) this.#heap.givePage(pages.at(-1)!);
      for (; runs.length > 0; runs.pop()) this.#heap.giveRun(runs.at(-1)!.first, runs.at(-1)!.count);
      for (; blocks.length > 0; blocks.pop()) this.#heap.giveBlock(blocks.at(-1)!);
      for (; units.length > 0; units.pop()) this.#heap.giveUnit(units.at(-1)!);
      return true;
    } catch (error) {
      leaveForLater(error);
      return false;
    }
  }

  /** The oldest era that some Worker may still be reading in. Rows of dead threads are cleared on the way. */
  #oldestEra(): number {
    let oldest = Atomics.load(this.flags, RECLAIM_ERA);
    for (let row = 0; row < ATTACHED_MAX; row++) {
      const thread = Atomics.load(this.flags, ROW_THREAD_AT + row);
      if (thread <= 0) continue;
      const era = Atomics.load(this.flags, ROW_ERA_AT + row);
      if (era % 2 === 0 || !isBefore(era, oldest)) continue;
      // Another may have come to the row: the era that was looked at is its own then, or it has a later one.
      if (this.#isAlive(thread - 1) || Atomics.load(this.flags, ROW_THREAD_AT + row) !== thread) oldest = era;
      else Atomics.compareExchange(this.flags, ROW_ERA_AT + row, era, IDLE);
    }
    return oldest;
  }
}
