/**
 * A copy of a queue of deadlines, made in parts between which the queue goes on: how it gets into the hint image.
 *
 *     array    FIRST ........ copied ............ end          journal
 *              copied already | copied next       |            what went down past `copied`, and what was put back
 *
 * Parts are taken from the front of the array, then from the journal, a list of entries beside the queue that ends with
 * the copy.
 *
 * Invariants
 * 1. The copy has an entry for each record with a deadline that was there when it began, is there when it ends, and was
 *    not written in between. Such an entry stays in the queue but while a batch is at work, which puts it back by
 *    `restore`, into the journal too. It lies at or behind `copied` at first, and `copied` passes it only by copying it;
 *    in front of `copied` it gets otherwise by a removal alone (of the entry above it, or as the last entry, which
 *    fills the gap), and then it is in the journal. An entry that is pushed back by a new one goes the other way, and
 *    is copied twice.
 * 2. Everything else is harmless: an entry twice, since the first that is swept leaves the other stale; a stale one.
 * 3. A journal that cannot be kept, or that nobody reads because the copying thread has died, is given up: the copy lacks
 *    entries then, and knows it.
 * 4. Under the writer's lock.
 */

import { EmdbError } from "../errors.ts";
import type { Heap } from "../ffi/heap.ts";
import type { Address } from "../ffi/system.ts";
import { ENTRY_BYTES, ExpiryPages, FIRST, QUEUE_NONE, QUEUE_UNKNOWN } from "./expiry-pages.ts";

/** Entries of a part. */
const PART_ENTRIES = 1536;
export const DEADLINES_PART_BYTES_MAX = PART_ENTRIES * ENTRY_BYTES;
/** A sweep of a quarter of a million records while one queue is copied; 4 MiB that may be left behind by a dead thread. */
const JOURNAL_ENTRIES_MAX = 262_144;
const BROKEN = -1;

/** What is in the way of a copy: entries that it would miss. */
export class ExpiryJournal {
  readonly #pages: ExpiryPages;

  constructor(heap: Heap) {
    this.#pages = ExpiryPages.ofJournal(heap);
  }

  /** Keeps an entry of a queue that is being copied; the queue's head is saved by the caller. Never fails. */
  add(queue: ExpiryPages, entry: Address): void {
    if (queue.copied === BROKEN) return;
    try {
      this.#pages.open(queue.journal);
      if (this.#pages.entries < JOURNAL_ENTRIES_MAX) {
        this.#pages.append(entry, 1);
        return;
      }
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
    this.drop(queue);
    queue.copied = BROKEN;
    queue.save();
  }

  /** Gives the journal of the queue at hand back, if it has one: no copy is being made. */
  drop(queue: ExpiryPages): void {
    const unit = queue.journal;
    queue.journal = 0;
    queue.copied = 0;
    queue.save();
    if (unit !== 0) this.#pages.free(unit);
  }

  /** Begins the journal of the queue at hand anew. @throws {EmdbError} EMDB_FULL */
  begin(queue: ExpiryPages): void {
    this.drop(queue);
    queue.journal = this.#pages.create();
    queue.copied = FIRST;
    queue.save();
  }

  /** Takes the journal of the queue at hand to hand. */
  open(queue: ExpiryPages): ExpiryPages {
    this.#pages.open(queue.journal);
    return this.#pages;
  }
}

export class ExpiryCopy {
  readonly #pages: ExpiryPages;
  readonly #journal: ExpiryJournal;
  /** The queue that is being copied, and how far; 0 for none. */
  #queue = QUEUE_NONE;
  #copied = 0;
  #journalCopied = 0;
  /** Entries of the part that was copied last. */
  entries = 0;

  constructor(heap: Heap) {
    this.#pages = new ExpiryPages(heap);
    this.#journal = new ExpiryJournal(heap);
  }

  /**
   * Copies the next part of a queue (as `ExpiryQueue.queueOf` names it) to an address. "end": that was all, and the next
   * call begins with another queue; "unknown": the copy cannot be whole.
   *
   * @throws {EmdbError} EMDB_FULL
   */
  next(queue: number, to: Address): "more" | "end" | "unknown" {
    this.entries = 0;
    if (queue === QUEUE_NONE) return this.#end("end");
    if (queue === QUEUE_UNKNOWN) return this.#end("unknown");
    const pages = this.#pages;
    pages.open(queue);
    if (pages.unwalked > 0) return this.#end("unknown");
    if (this.#queue === queue && pages.copied === BROKEN) return this.#end("unknown");
    // A queue that is not where it was left is another one, made by a walk since: all of it is copied.
    if (this.#queue !== queue || pages.copied !== this.#copied) this.#begin(queue);
    const end = FIRST + pages.entries;
    if (this.#copied < end) {
      this.entries = Math.min(end - this.#copied, PART_ENTRIES);
      pages.read(to, this.#copied, this.entries);
      this.#copied += this.entries;
      pages.copied = this.#copied;
      pages.save();
      return "more";
    }
    const journal = this.#journal.open(pages);
    this.entries = Math.min(journal.entries - this.#journalCopied, PART_ENTRIES);
    journal.read(to, FIRST + this.#journalCopied, this.entries);
    this.#journalCopied += this.entries;
    if (this.#journalCopied < journal.entries) return "more";
    this.#journal.drop(pages);
    return this.#end("end");
  }

  #begin(queue: number): void {
    this.#journal.begin(this.#pages);
    this.#queue = queue;
    this.#copied = FIRST;
    this.#journalCopied = 0;
  }

  #end(how: "end" | "unknown"): "end" | "unknown" {
    this.#queue = QUEUE_NONE;
    return how;
  }
}
