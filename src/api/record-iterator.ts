/**
 * The records of a walk, one by one. They come from the engine some at a time, as the pairs that are handed out:
 * what is done for each of them is one step in an array.
 */

import type { KeyValue, RecordSource } from "../engine/contract.ts";
import type { Handle } from "./handle.ts";

const NONE: readonly KeyValue[] = [];

/**
 * A walk, with the helpers of `Iterator`. Its moment is let go of at the end, by `return` (a loop left
 * early calls it) and by an error, which ends the walk.
 */
export class RecordIterator<T> extends Iterator<T, undefined> {
  readonly #handle: Handle;
  /** What makes of a pair what is given; undefined when it is the pair. */
  readonly #pick: ((record: KeyValue) => T) | undefined;
  #source: RecordSource | undefined;
  #records = NONE;
  #index = 0;

  constructor(handle: Handle, source: RecordSource | undefined, pick?: (record: KeyValue) => T) {
    super();
    this.#handle = handle;
    this.#source = source;
    this.#pick = pick;
  }

  /** @throws {EmdbError} EMDB_CLOSED when the handle was closed meanwhile, EMDB_CORRUPTED; what a codec throws */
  override next(): IteratorResult<T, undefined> {
    const index = this.#index;
    if (index >= this.#records.length || this.#pick !== undefined || !this.#handle.isOpen) return this.#step();
    this.#index = index + 1;
    return { done: false, value: this.#records[index] as T };
  }

  override return(): IteratorResult<T, undefined> {
    const source = this.#source;
    this.#source = undefined;
    this.#records = NONE;
    source?.return();
    return { done: true, value: undefined };
  }

  /** Everything but the next of some pairs that are given as they are. */
  #step(): IteratorResult<T, undefined> {
    const isAtHand = this.#index < this.#records.length && this.#handle.isOpen;
    if (!isAtHand && !this.#hasMore()) return { done: true, value: undefined };
    const record = this.#records[this.#index]!;
    this.#index += 1;
    return { done: false, value: this.#pick === undefined ? (record as T) : this.#picked(this.#pick, record) };
  }

  #picked(pick: (record: KeyValue) => T, record: KeyValue): T {
    try {
      return pick(record);
    } catch (error) {
      this.return();
      throw error;
    }
  }

  /** Takes the next pairs when those at hand have been given; false at the end, where the walk is let go of. */
  #hasMore(): boolean {
    if (this.#source === undefined) return false;
    try {
      this.#handle.openLife();
      if (this.#index < this.#records.length) return true;
      this.#records = this.#source.batch() ?? NONE;
      this.#index = 0;
      if (this.#records.length > 0) return true;
    } catch (error) {
      this.return();
      throw error;
    }
    this.return();
    return false;
  }
}
