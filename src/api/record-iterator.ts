/**
 * The records of a walk, one by one. They come from the engine some at a time, as the pairs that are handed out:
 * what is done for each of them is one step in an array.
 */

import type { KeyValue, RecordSource } from "../engine/contract.ts";
import type { Handle } from "./handle.ts";

const NONE: readonly KeyValue[] = [];

/** `Iterator`, but for its constructor, which no compiler sees into: one twenty-fifth of a range of ten. */
function ConstructedHere(): void {}
ConstructedHere.prototype = Iterator.prototype;
const PlainIterator = ConstructedHere as unknown as typeof Iterator;

/**
 * A walk, with the helpers of `Iterator`. Its moment is let go of at the end, by `return` (a loop left
 * early calls it) and by an error, which ends the walk.
 */
export class RecordIterator<T> extends PlainIterator<T, undefined> {
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
    const isThere = (this.#index < this.#records.length && this.#handle.isOpen) || this.#hasMore();
    // Made in one place alone: the compiler then leaves it out where a loop takes it apart at once.
    return { done: !isThere, value: isThere ? this.#take() : undefined } as IteratorResult<T, undefined>;
  }

  override return(): IteratorResult<T, undefined> {
    const source = this.#source;
    this.#source = undefined;
    this.#records = NONE;
    source?.return();
    return { done: true, value: undefined };
  }

  #take(): T {
    const record = this.#records[this.#index]!;
    this.#index += 1;
    const pick = this.#pick;
    return pick === undefined ? (record as T) : this.#picked(pick, record);
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
