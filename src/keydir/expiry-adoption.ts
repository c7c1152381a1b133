/**
 * The queue of a namespace from an image: its entries, in any order, and the number of records with a deadline.
 * `ExpiryQueue.adopt` puts them in theirs. Under the writer's lock, or before anybody else sees the database.
 */

import type { Heap } from "../ffi/heap.ts";
import type { Pinned } from "../ffi/memory.ts";
import { storedIn } from "../ffi/positions.ts";
import { ENTRY_BYTES, ExpiryPages, QUEUE_NONE } from "./expiry-pages.ts";
import { isTombstone } from "./keydir.ts";

export class ExpiryAdoption {
  readonly #pages: ExpiryPages;
  #queue = QUEUE_NONE;

  constructor(heap: Heap) {
    this.#pages = new ExpiryPages(heap);
  }

  /** Begins the queue of a namespace with so many records with a deadline. @throws {EmdbError} EMDB_FULL */
  begin(live: number): void {
    if (live === 0) return;
    this.#queue = this.#pages.create();
    this.#pages.live = live;
    this.#pages.save();
  }

  /** Takes entries; false when one of them cannot be of a record before a position. @throws {EmdbError} EMDB_FULL */
  add(memory: Pinned, from: { readonly at: number; readonly bytes: number }, before: number): boolean {
    const { at, bytes } = from;
    if (this.#queue === QUEUE_NONE || bytes % ENTRY_BYTES !== 0 || at % 8 !== 0) return false;
    for (let entry = at; entry < at + bytes; entry += ENTRY_BYTES) {
      const deadlineMs = memory.f64[entry >> 3]!;
      const high = memory.u32[(entry >> 2) + 3]!;
      const place = storedIn(memory.u32[(entry >> 2) + 2]!, high);
      if (!(deadlineMs > 0 && deadlineMs < Infinity)) return false;
      if (isTombstone(high) || place === 0 || place * 8 >= before) return false;
    }
    this.#pages.open(this.#queue);
    this.#pages.append(memory.address + at, bytes / ENTRY_BYTES);
    return true;
  }

  /** The queue, for `ExpiryQueue.adopt`. */
  finish(): number {
    const queue = this.#queue;
    this.#queue = QUEUE_NONE;
    return queue;
  }

  /** Gives everything back that was taken since the last `finish`. */
  abandon(): void {
    const queue = this.finish();
    if (queue !== QUEUE_NONE) this.#pages.free(queue);
  }
}
