/**
 * The memory of one queue of deadlines: an array of entries of 16 bytes over pages of the heap, and the head that
 * says where they are.
 *
 *     head (a unit)   f64 0 entries   f64 1 live   f64 2 cursor   u32 6 table   u32 7 places   u32 8 pages
 *                     u32 9 journal (the unit of its head)   f64 5 copied (`expiry-copy.ts`)
 *                     u32 12 unwalked
 *     table           u32 page numbers; a unit for 16 places, whole pages side by side for 1024 and more
 *     page            256 entries; the array begins at index 7 of the first one
 *     entry           f64 0 deadline   u32 2, 3 the slot that the index held when the entry was made
 *
 * Only the writer looks here, so a page goes back to the heap at once, without waiting for readers.
 *
 * Invariants
 * 1. Under the writer's lock. `open` before anything else; `save` ends what changed the head.
 * 2. The head is stored in one copy, before a page that it no longer names is given back and after one that it
 *    names anew was taken: a writer that dies in between loses a page, and none is given out twice.
 * 3. There may be a table without a page: the first page comes after it, the last one goes before it, and a writer may
 *    die, or find no memory, in between.
 */

import { assert } from "../errors.ts";
import { PAGE_BYTES, UNIT_BYTES, type Heap } from "../ffi/heap.ts";
import { copy, sharedScratch, type Pinned } from "../ffi/memory.ts";
import type { Address } from "../ffi/system.ts";

/** In the place of a queue's unit: a namespace has none, or nobody kept it. Never renumber. */
export const QUEUE_NONE = 0;
export const QUEUE_UNKNOWN = 0xffffffff;

export const ENTRY_BYTES = 16;
/** Children of an entry in the heap that the array is. */
export const CHILDREN = 8;
/** Index of the first entry: its children, and theirs, then are two whole cache lines of one page. */
export const FIRST = CHILDREN - 1;
const PAGE_ENTRIES = PAGE_BYTES / ENTRY_BYTES;
const UNIT_PLACES = UNIT_BYTES / 4;
const PAGE_PLACES = PAGE_BYTES / 4;
const UNITS_PER_PAGE = PAGE_BYTES / UNIT_BYTES;

const HEAD_ENTRIES = 0;
const HEAD_LIVE = 1;
const HEAD_CURSOR = 2;
const HEAD_TABLE = 6;
const HEAD_PLACES = 7;
const HEAD_PAGES = 8;
const HEAD_JOURNAL = 9;
const HEAD_COPIED = 5;
const HEAD_UNWALKED = 12;

const sharedHead = sharedScratch(UNIT_BYTES);
const sharedJournalHead = sharedScratch(UNIT_BYTES);
const sharedPlace = sharedScratch(4);

export class ExpiryPages {
  readonly heap: Heap;
  readonly #head: Pinned;
  readonly #place = sharedPlace();
  /** The head at hand. */
  #unit = 0;
  #tableAt: Address = 0;

  constructor(heap: Heap, head: Pinned = sharedHead()) {
    this.heap = heap;
    this.#head = head;
  }

  /** For a journal, which is at hand together with its queue. */
  static ofJournal(heap: Heap): ExpiryPages {
    return new ExpiryPages(heap, sharedJournalHead());
  }

  /** Makes an empty queue; returns the unit of its head, which is then at hand. */
  create(): number {
    const unit = this.heap.takeUnit();
    this.open(unit);
    return unit;
  }

  /** Takes a head to hand. */
  open(unit: number): void {
    this.#unit = unit;
    copy(this.#head.address, this.heap.unitAddress(unit), UNIT_BYTES);
    this.#tableAt = this.heap.unitAddress(this.#head.u32[HEAD_TABLE]!);
  }

  save(): void {
    copy(this.heap.unitAddress(this.#unit), this.#head.address, UNIT_BYTES);
  }

  get entries(): number {
    return this.#head.f64[HEAD_ENTRIES]!;
  }

  set entries(count: number) {
    this.#head.f64[HEAD_ENTRIES] = count;
  }

  /** Records with a deadline; each has one entry that is not stale. */
  get live(): number {
    return this.#head.f64[HEAD_LIVE]!;
  }

  set live(count: number) {
    this.#head.f64[HEAD_LIVE] = count;
  }

  /** Index of the entry that the search for stale ones looks at next. */
  get cursor(): number {
    return this.#head.f64[HEAD_CURSOR]!;
  }

  set cursor(index: number) {
    this.#head.f64[HEAD_CURSOR] = index;
  }

  /** While the queue is copied: entries below this index have been. 0: no copy is being made; -1: one that lacks entries. */
  get copied(): number {
    return this.#head.f64[HEAD_COPIED]!;
  }

  set copied(index: number) {
    this.#head.f64[HEAD_COPIED] = index;
  }

  /** While a walk over the index fills the queue: how many hashes, the last ones, it has not come to; 0: all are there. */
  get unwalked(): number {
    return this.#head.u32[HEAD_UNWALKED]!;
  }

  set unwalked(hashes: number) {
    this.#head.u32[HEAD_UNWALKED] = hashes;
  }

  /** The unit of the journal's head; 0 for none. */
  get journal(): number {
    return this.#head.u32[HEAD_JOURNAL]!;
  }

  set journal(unit: number) {
    this.#head.u32[HEAD_JOURNAL] = unit;
  }

  /** Bytes of the heap that the queue at hand holds. */
  get bytes(): number {
    const words = this.#head.u32;
    return words[HEAD_PAGES]! * PAGE_BYTES + words[HEAD_PLACES]! * 4 + UNIT_BYTES;
  }

  /** Where the entry of an index is. */
  address(index: number): Address {
    const page = Math.floor(index / PAGE_ENTRIES);
    copy(this.#place.address, this.#tableAt + page * 4, 4);
    return this.heap.pageAddress(this.#place.u32[0]!) + (index % PAGE_ENTRIES) * ENTRY_BYTES;
  }

  /** Makes room for one more entry than there are. @throws {EmdbError} EMDB_FULL, nothing changed */
  makeRoom(): void {
    const words = this.#head.u32;
    const pages = words[HEAD_PAGES]!;
    if (FIRST + this.entries < pages * PAGE_ENTRIES) return;
    if (pages === words[HEAD_PLACES]!) this.#growTable();
    this.heap.write32(this.#tableAt + pages * 4, this.heap.takePage());
    words[HEAD_PAGES] = pages + 1;
    this.save();
  }

  /** Adds entries behind the last one, wherever their deadlines belong. @throws {EmdbError} EMDB_FULL, some of them added */
  append(from: Address, count: number): void {
    for (let done = 0; done < count;) {
      this.makeRoom();
      const index = FIRST + this.entries;
      const part = Math.min(count - done, PAGE_ENTRIES - (index % PAGE_ENTRIES));
      copy(this.address(index), from + done * ENTRY_BYTES, part * ENTRY_BYTES);
      this.entries += part;
      this.save();
      done += part;
    }
  }

  /** Copies entries from an index on, as they lie. */
  read(to: Address, index: number, count: number): void {
    for (let done = 0; done < count;) {
      const part = Math.min(count - done, PAGE_ENTRIES - ((index + done) % PAGE_ENTRIES));
      copy(to + done * ENTRY_BYTES, this.address(index + done), part * ENTRY_BYTES);
      done += part;
    }
  }

  /** Saves the head, and gives back the pages that its entries have no use for, but one to come and go in. */
  saveShrunk(): void {
    const words = this.#head.u32;
    const had = words[HEAD_PAGES]!;
    const entries = this.entries;
    const spared = entries === 0 ? 0 : Math.floor((FIRST + entries - 1) / PAGE_ENTRIES) + 2;
    if (had <= spared) {
      this.save();
      return;
    }
    words[HEAD_PAGES] = spared;
    this.save();
    for (let page = spared; page < had; page++) this.heap.givePage(this.heap.read32(this.#tableAt + page * 4));
    if (spared === 0) this.#dropTable();
  }

  #dropTable(): void {
    const words = this.#head.u32;
    const table = words[HEAD_TABLE]!;
    const places = words[HEAD_PLACES]!;
    words[HEAD_TABLE] = 0;
    words[HEAD_PLACES] = 0;
    this.save();
    this.#giveTable(table, places);
  }

  #growTable(): void {
    const words = this.#head.u32;
    const table = words[HEAD_TABLE]!;
    const had = words[HEAD_PLACES]!;
    const places = had === 0 ? UNIT_PLACES : had === UNIT_PLACES ? PAGE_PLACES : had * 2;
    const bigger =
      places === UNIT_PLACES ? this.heap.takeUnit() : this.heap.takeRun((places * 4) / PAGE_BYTES) * UNITS_PER_PAGE;
    const to = this.heap.unitAddress(bigger);
    if (had > 0) copy(to, this.#tableAt, had * 4);
    words[HEAD_TABLE] = bigger;
    words[HEAD_PLACES] = places;
    this.#tableAt = to;
    this.save();
    this.#giveTable(table, had);
  }

  #giveTable(table: number, places: number): void {
    if (places === UNIT_PLACES) this.heap.giveUnit(table);
    else if (places > 0) this.heap.giveRun(table / UNITS_PER_PAGE, (places * 4) / PAGE_BYTES);
  }

  /** Gives everything back, the head too. Whatever named the queue no longer does, nor does a queue its journal. */
  free(unit: number): void {
    this.open(unit);
    assert(this.journal === 0, "a journal goes before its queue");
    this.entries = 0;
    this.saveShrunk();
    // Where there was no page to give back, there may have been a table all the same.
    if (this.#head.u32[HEAD_PLACES] !== 0) this.#dropTable();
    this.heap.giveUnit(unit);
  }
}
