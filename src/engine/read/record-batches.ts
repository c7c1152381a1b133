/**
 * What a walk gives: records that were read within the call, or those of one that goes on piece by piece.
 *
 * One class for both: whoever iterates meets one kind of object, and a short range costs no more than it.
 */

import type { KeyValue, RecordSource, SnapshotRecord } from "../contract.ts";

/** Where records come from when they have not all been read. */
export interface RecordBatches {
  /** The next records, one at least; undefined at the end. */
  next(): RecordList | undefined;
  close(): void;
}

/** Records in order. */
export class RecordList {
  readonly pairs: KeyValue[] = [];
  /** Bytes of the long ones (`record-walk.ts`). */
  longBytes = 0;
  /** Deadlines of those that have one, by index. */
  deadlines: Map<number, number> | undefined = undefined;

  /** Notes the deadline of the record that is added next; 0: it has none. */
  noteDeadline(expiresAtMs: number): void {
    if (expiresAtMs !== 0) (this.deadlines ??= new Map()).set(this.pairs.length, expiresAtMs);
  }

  dropFirst(): void {
    this.pairs.shift();
    const { deadlines } = this;
    if (deadlines === undefined) return;
    this.deadlines = new Map([...deadlines].map(([index, expiresAtMs]) => [index - 1, expiresAtMs]));
  }
}

export class BatchedRecords implements RecordSource {
  /** Read, and not given yet. */
  #list: RecordList | undefined;
  #index = 0;
  #rest: RecordBatches | undefined;

  constructor(list: RecordList | undefined, rest: RecordBatches | undefined) {
    this.#list = list;
    this.#rest = rest;
  }

  [Symbol.iterator](): this {
    return this;
  }

  batch(): readonly KeyValue[] | undefined {
    const list = this.#list ?? this.#rest?.next();
    this.#list = undefined;
    return list === undefined || list.pairs.length === 0 ? undefined : list.pairs;
  }

  pull(): SnapshotRecord | undefined {
    for (;;) {
      const index = this.#index;
      const pair = this.#list?.pairs[index];
      if (pair !== undefined) {
        this.#index = index + 1;
        return { key: pair[0], value: pair[1], expiresAtMs: this.#list?.deadlines?.get(index) ?? 0 };
      }
      this.#index = 0;
      this.#list = this.#rest?.next();
      if (this.#list === undefined) return undefined;
    }
  }

  next(): IteratorResult<SnapshotRecord> {
    const record = this.pull();
    return record === undefined ? { done: true, value: undefined } : { done: false, value: record };
  }

  return(): IteratorResult<SnapshotRecord> {
    this.#list = undefined;
    this.#rest?.close();
    this.#rest = undefined;
    return { done: true, value: undefined };
  }
}
