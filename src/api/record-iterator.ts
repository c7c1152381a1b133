import type { RecordSource, SnapshotRecord } from "../engine/contract.ts";
import type { Handle } from "./handle.ts";

/** What an iterator yields. */
export interface Selection<T> {
  readonly pick: (record: SnapshotRecord) => T;
  /** Records it passes over; all are taken without. */
  readonly isWanted?: (record: SnapshotRecord) => boolean;
}

/**
 * A walk over a snapshot, with the helpers of `Iterator` (`map`, `take` ...). The snapshot is let go of at the end,
 * by `return` (a loop left early calls it) and by an error, which ends the walk.
 */
export class RecordIterator<T> extends Iterator<T, undefined> {
  readonly #handle: Handle;
  readonly #selection: Selection<T>;
  #source: RecordSource | undefined;

  constructor(handle: Handle, source: RecordSource | undefined, selection: Selection<T>) {
    super();
    this.#handle = handle;
    this.#source = source;
    this.#selection = selection;
  }

  /** @throws {EmdbError} EMDB_CLOSED when the handle was closed meanwhile, EMDB_CORRUPTED; what a codec throws */
  override next(): IteratorResult<T, undefined> {
    if (this.#source === undefined) return { done: true, value: undefined };
    try {
      return this.#step(this.#source);
    } catch (error) {
      this.return();
      throw error;
    }
  }

  override return(): IteratorResult<T, undefined> {
    const source = this.#source;
    this.#source = undefined;
    source?.return();
    return { done: true, value: undefined };
  }

  #step(source: RecordSource): IteratorResult<T, undefined> {
    this.#handle.openLife();
    const { pick, isWanted } = this.#selection;
    for (;;) {
      const record = source.pull();
      if (record === undefined) {
        this.#source = undefined;
        return { done: true, value: undefined };
      }
      if (isWanted !== undefined && !isWanted(record)) continue;
      return { done: false, value: pick(record) };
    }
  }
}
