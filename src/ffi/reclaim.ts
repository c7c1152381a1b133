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
 *
 * Source: Fraser, "Practical lock-freedom" (2004), epoch-based reclamation.
 */

import { ATTACHED_MAX } from "../limits.ts";
import type { Heap } from "./heap.ts";

// Indexes of the shared flags (i32).
export const RECLAIM_ERA = 0;
export const RECLAIM_ATTACHED = 1;
/** A row's thread number + 1; 0: free; negative: of a dead thread, being cleared. */
export const ROW_THREAD_AT = 2;
/** The era a row's Worker has seen; IDLE or less between its operations. */
export const ROW_ERA_AT = ROW_THREAD_AT + ATTACHED_MAX;
/** How often a root, a directory or a shard has been replaced: see `directories.ts`. */
export const RECLAIM_LAYOUT = ROW_ERA_AT + ATTACHED_MAX;
export const RECLAIM_FLAGS = RECLAIM_LAYOUT + 1;
export const IDLE = 0;

/** Retired pieces that are tried together; fewer trials, a little more memory. */
const BATCH = 64;

interface Retired {
  readonly era: number;
  readonly pages: number[];
  readonly blocks: number[];
  readonly units: number[];
}

export class Reclaim {
  readonly #heap: Heap;
  readonly flags: Int32Array;
  readonly #isAlive: (thread: number) => boolean;
  #pages: number[] = [];
  #blocks: number[] = [];
  #units: number[] = [];
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
    Atomics.add(this.flags, RECLAIM_ATTACHED, 0);
  }

  /** Begins an era; what nobody can reach any more is free when everybody `isPast` it. */
  nextEra(): number {
    return Atomics.add(this.flags, RECLAIM_ERA, 1) + 1;
  }

  /** Whether no Worker can still be reading what was unreachable when an era began. */
  isPast(era: number): boolean {
    return this.#isAlone() || this.#oldestEra() >= era;
  }

  retirePage(page: number): void {
    if (this.#isAlone()) {
      this.#heap.givePage(page);
      this.collect();
      return;
    }
    this.#pages.push(page);
    if (this.#pages.length >= BATCH) this.#closeBatch();
  }

  retireUnit(unit: number): void {
    if (this.#isAlone()) this.#heap.giveUnit(unit);
    else this.#units.push(unit);
  }

  /** Whether no other Worker can be reading. A locked operation, not a load: what was unlinked is out before it looks. */
  #isAlone(): boolean {
    return Atomics.add(this.flags, RECLAIM_ATTACHED, 0) === 1;
  }

  retireBlock(block: number): void {
    if (this.#isAlone()) {
      this.#heap.giveBlock(block);
      return;
    }
    this.#blocks.push(block);
    if (this.#blocks.length >= BATCH) this.#closeBatch();
  }

  #closeBatch(): void {
    const era = this.nextEra();
    this.#waiting.push({ era, pages: this.#pages, blocks: this.#blocks, units: this.#units });
    this.#pages = [];
    this.#blocks = [];
    this.#units = [];
    this.collect();
  }

  /** Frees what nobody can be reading any more. */
  collect(): void {
    if (this.#waiting.length === 0) return;
    const oldest = this.#oldestEra();
    while (this.#waiting.length > 0 && this.#waiting[0]!.era <= oldest) {
      const retired = this.#waiting.shift()!;
      for (const page of retired.pages) this.#heap.givePage(page);
      for (const block of retired.blocks) this.#heap.giveBlock(block);
      for (const unit of retired.units) this.#heap.giveUnit(unit);
    }
  }

  /** The oldest era that some Worker may still be reading in. Rows of dead threads are cleared on the way. */
  #oldestEra(): number {
    let oldest = Atomics.load(this.flags, RECLAIM_ERA);
    for (let row = 0; row < ATTACHED_MAX; row++) {
      const thread = Atomics.load(this.flags, ROW_THREAD_AT + row);
      if (thread <= 0) continue;
      const era = Atomics.load(this.flags, ROW_ERA_AT + row);
      if (era <= IDLE || era >= oldest) continue;
      if (this.#isAlive(thread - 1)) oldest = era;
      else Atomics.store(this.flags, ROW_ERA_AT + row, IDLE);
    }
    return oldest;
  }
}
