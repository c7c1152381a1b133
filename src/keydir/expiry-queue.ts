/**
 * Which records of a namespace expire next: a heap of deadlines, eight children to an entry, in shared memory.
 *
 *     entry of a namespace (unit)   u32 11 queue: 0 none   0xffffffff unknown   else the unit of its head
 *     index                         children of i: 8i - 48 ... 8i - 41   parent of i: floor(i / 8) + 6   root: 7
 *
 * An entry is a hint: the deadline of a record, and the slot that the index held for it. It is stale when no slot
 * of the index holds the same any more, since the record was overwritten or removed; that takes one look at the
 * index and none at the log. A queue is unknown when nobody kept it: the records with a deadline have then to
 * be found by a walk (`src/engine/background/expiry.ts`), and until then nothing is entered. The walk goes by the hashes of the keys, in
 * parts between which the database is written to: the queue has then what is to be had of the hashes that the walk has
 * passed, and nothing of the others, and is unknown still.
 *
 * A push costs one or two comparisons on average, in whatever order deadlines come; taking the first costs log8 of
 * the entries, two neighbouring cache lines a level (of 4, 8 and 16 children, 8 were the fastest). An entry costs
 * 16 bytes.
 *
 * Invariants
 * 1. Under the writer's lock, whichever Worker's it is; nothing here is read without it.
 * 2. Unless the queue is unknown, every record with a deadline has an entry that is not stale; of one that is being
 *    filled, every such record whose hash the walk has passed, and they alone are counted.
 * 3. entries <= 1.45 live + 256, and for a while a little more: then each change looks at four entries and drops
 *    those that are stale. A change makes at most one stale, and of four that it looks at more than one is.
 * 4. What is dropped while a batch is at work may be the entry of a version that is the newest again when the batch is taken
 *    back, and is put back then. Only that is: an entry that is there twice would never look stale.
 * 5. Nothing is dropped while the index does not hold yet what was entered ahead of it: that looks stale. A new record
 *    makes no entry stale and comes with one more that is live, so it need not look.
 *
 * Source: Johnson, "Priority queues with update and finding minimum spanning trees" (1975), d-ary heaps.
 */

import { EmdbError, assert } from "../errors.ts";
import type { Heap } from "../ffi/heap.ts";
import { copy, sharedScratch, type Pinned } from "../ffi/memory.ts";
import { withStored } from "../ffi/positions.ts";
import type { Address } from "../ffi/system.ts";
import { ExpiryJournal } from "./expiry-copy.ts";
import { CHILDREN, ENTRY_BYTES, ExpiryPages, FIRST, QUEUE_NONE, QUEUE_UNKNOWN } from "./expiry-pages.ts";
import { HASHES } from "./hash.ts";
import { isTombstone, type Keydir } from "./keydir.ts";
import { HASH_SHIFT } from "./shard.ts";

/** Where in the entry of a namespace its queue is named. Never renumber. */
const QUEUE_AT = 44;

/** Stale entries that are left alone: this share of the live ones, so that one costs less than 24 bytes, and a page. */
const STALE_SHARE = 0.45;
const STALE_SPARED = 256;
const LOOKS_PER_CHANGE = 4;

const sharedEntry = sharedScratch(ENTRY_BYTES);
const sharedFamily = sharedScratch(CHILDREN * ENTRY_BYTES);

/** How a queue stands. */
export interface QueueFacts {
  readonly isUnknown: boolean;
  /** Stale ones included. */
  readonly entries: number;
  /** Records with a deadline. */
  readonly live: number;
  readonly bytes: number;
}

export class ExpiryQueue {
  readonly #heap: Heap;
  readonly #keydir: Keydir;
  readonly #pages: ExpiryPages;
  readonly #journal: ExpiryJournal;
  /** The entry on its way to its place, or the one looked at. */
  readonly #entry = sharedEntry();
  readonly #family = sharedFamily();

  /**
   * While frames that have moved are named by their old positions in places: where a position (in units) is now.
   * An entry and a slot are then compared by that, and an entry that changes its place gets it.
   */
  present: ((units: number) => number) | undefined;

  /** Positions of what has left a queue since the batch at hand began, where that is known. */
  readonly #left = new Set<number>();
  #isLeftKnown = false;

  /** What `takeDue` took. */
  deadlineMs = 0;
  low = 0;
  high = 0;

  constructor(heap: Heap, keydir: Keydir) {
    this.#heap = heap;
    this.#keydir = keydir;
    this.#pages = new ExpiryPages(heap);
    this.#journal = new ExpiryJournal(heap);
  }

  /** Takes the queue of a namespace to hand; false when there is none to be worked on. */
  #open(space: Address): boolean {
    const unit = this.#heap.read32(space + QUEUE_AT);
    if (unit === QUEUE_NONE || unit === QUEUE_UNKNOWN) return false;
    this.#pages.open(unit);
    return true;
  }

  /** What `ExpiryCopy` copies. */
  queueOf(space: Address): number {
    return this.#heap.read32(space + QUEUE_AT);
  }

  /** Nobody kept it, or the walk that fills it is not at its end. */
  isUnknown(space: Address): boolean {
    const queue = this.#heap.read32(space + QUEUE_AT);
    return queue === QUEUE_UNKNOWN || (this.#open(space) && this.#pages.unwalked > 0);
  }

  /** Where a walk over an unknown queue goes on: the first hash of which nothing is entered. */
  walked(space: Address): number {
    return this.#open(space) ? HASHES - this.#pages.unwalked : 0;
  }

  /**
   * A walk enters what there is before a hash, from where it was on, and begins a queue for that. What is written from now on
   * is entered up to there. At 2^27, behind them all, the queue is whole.
   *
   * @throws {EmdbError} EMDB_FULL, nothing begun
   */
  walkTo(space: Address, hash: number): void {
    const isBegun = this.#open(space);
    const queue = isBegun ? QUEUE_NONE : this.#pages.create();
    this.#pages.unwalked = HASHES - hash;
    this.#pages.save();
    if (!isBegun) this.#heap.write32(space + QUEUE_AT, queue);
  }

  /** Whether the walk that fills the queue at hand has not come to a hash. */
  #isAhead(hash: number): boolean {
    return hash >= HASHES - this.#pages.unwalked;
  }

  facts(space: Address): QueueFacts {
    const isUnknown = this.isUnknown(space);
    if (!this.#open(space)) return { isUnknown, entries: 0, live: 0, bytes: 0 };
    const { entries, live, bytes } = this.#pages;
    return { isUnknown, entries, live, bytes };
  }

  /**
   * Counts records of a hash with a deadline that came or went, before what came is entered. What went left stale entries.
   *
   * @throws {EmdbError} EMDB_FULL for the first that comes, nothing counted
   */
  count(space: Address, records: number, hash: number): void {
    if (!this.#open(space)) {
      if (records <= 0 || this.isUnknown(space)) return;
      this.#heap.write32(space + QUEUE_AT, this.#pages.create());
    }
    if (this.#isAhead(hash)) return;
    this.#pages.live += records;
    this.#pages.save();
    if (records < 0) this.#tidy(space);
  }

  /** Enters the deadline of the record in a slot. @throws {EmdbError} EMDB_FULL, nothing entered */
  enter(space: Address, deadlineMs: number, low: number, high: number): void {
    if (!this.#open(space) || this.#isAhead(high >>> HASH_SHIFT)) return;
    this.#push(deadlineMs, low, high);
    this.#tidy(space);
  }

  /**
   * As `enter`, for a new record whose slot the index does not hold yet: until it does, no more may happen to the queue
   * than that others come in this way, and are counted.
   *
   * @throws {EmdbError} EMDB_FULL, nothing entered
   */
  enterAhead(space: Address, deadlineMs: number, low: number, high: number): void {
    if (this.#open(space) && !this.#isAhead(high >>> HASH_SHIFT)) this.#push(deadlineMs, low, high);
  }

  /** Puts an entry in. The queue is at hand. */
  #push(deadlineMs: number, low: number, high: number): void {
    const pages = this.#pages;
    pages.makeRoom();
    const entry = this.#entry;
    entry.f64[0] = deadlineMs;
    entry.u32[2] = low;
    entry.u32[3] = high;
    this.#rise(FIRST + pages.entries);
    pages.entries += 1;
    pages.save();
  }

  /** Whether it is known what has left a queue since the batch began that is taken back. */
  get isLeftKnown(): boolean {
    return this.#isLeftKnown;
  }

  /** A batch begins that this thread takes back, if it fails. */
  beginBatch(): void {
    this.#isLeftKnown = true;
    if (this.#left.size > 0) this.#left.clear();
  }

  /** What is taken back now is another thread's, or the log's: whatever it puts back may have left. */
  forgetBatch(): void {
    this.#isLeftKnown = false;
  }

  /**
   * As `enter`, for the record of a frame that is not new, if its entry may have left; never fails: what cannot be entered
   * makes the queue unknown.
   */
  restore(space: Address, deadlineMs: number, low: number, high: number): void {
    if (this.#isLeftKnown && !this.#left.delete(this.#presentUnits(low, high))) return;
    try {
      this.enter(space, deadlineMs, low, high);
      if (!this.#open(space) || this.#pages.copied === 0) return;
      const entry = this.#entry;
      entry.f64[0] = deadlineMs;
      entry.u32[2] = low;
      entry.u32[3] = high;
      this.#journal.add(this.#pages, entry.address);
      this.#pages.save();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      this.forget(space);
    }
  }

  /** Takes the first entry out if its deadline has passed; it is then in `deadlineMs`, `low` and `high`. */
  takeDue(space: Address, nowMs: number): boolean {
    if (!this.isDue(space, nowMs)) return false;
    const entry = this.#entry;
    this.deadlineMs = entry.f64[0]!;
    this.low = entry.u32[2]!;
    this.high = entry.u32[3]!;
    this.#removeAt(FIRST);
    return true;
  }

  /** Whether the first deadline has passed, be it a stale entry's. */
  isDue(space: Address, nowMs: number): boolean {
    if (!this.#open(space) || this.#pages.entries === 0) return false;
    copy(this.#entry.address, this.#pages.address(FIRST), ENTRY_BYTES);
    return this.#entry.f64[0]! <= nowMs;
  }

  /** Goes over the entries whose deadlines have passed, `most` at most, stale ones included; each is as `takeDue` gives it. */
  eachDue(space: Address, due: { readonly nowMs: number; readonly most: number }, visit: () => void): void {
    if (!this.#open(space)) return;
    const pages = this.#pages;
    const entry = this.#entry;
    const end = FIRST + pages.entries;
    // No child is due before its parent.
    const indexes = [FIRST];
    for (let looks = 0; looks < due.most;) {
      const index = indexes.pop();
      if (index === undefined) return;
      if (index >= end) continue;
      copy(entry.address, pages.address(index), ENTRY_BYTES);
      if (entry.f64[0]! > due.nowMs) continue;
      looks += 1;
      this.deadlineMs = entry.f64[0]!;
      this.low = entry.u32[2]!;
      this.high = entry.u32[3]!;
      for (let child = 0; child < CHILDREN; child++) indexes.push((index - FIRST + 1) * CHILDREN + child);
      visit();
    }
  }

  /** Whether a sweep would find something to do. */
  mayBeDue(space: Address, nowMs: number): boolean {
    return this.isUnknown(space) || this.isDue(space, nowMs);
  }

  /** Whether the index holds this slot: an entry with it is not stale. */
  isHeld(space: Address, low: number, high: number): boolean {
    const keydir = this.#keydir;
    if (!keydir.seek(keydir.root(space), high >>> HASH_SHIFT)) return false;
    while (keydir.next()) {
      if (keydir.low === low && keydir.high === (high | 0)) return true;
      if (this.present !== undefined && !isTombstone(keydir.high) && this.#isSame(low, high)) return true;
    }
    return false;
  }

  /** Whether a slot and the candidate, of the same hash, name one frame by two positions. */
  #isSame(low: number, high: number): boolean {
    return this.#presentUnits(low, high) === this.present!(this.#keydir.units);
  }

  /** Gives so many entries their present positions; returns where to go on, -1 for nowhere. Under the writer's lock. */
  relocate(space: Address, work: { readonly from: number; readonly count: number }): number {
    if (!this.#open(space)) return -1;
    const { entries } = this.#pages;
    const end = Math.min(work.from + work.count, entries);
    for (let number = work.from; number < end; number++) {
      const address = this.#pages.address(FIRST + number);
      copy(this.#entry.address, address, ENTRY_BYTES);
      if (this.#relocateAt(this.#entry, 0)) copy(address, this.#entry.address, ENTRY_BYTES);
    }
    return end < entries ? end : -1;
  }

  /**
   * Gives the entry at a byte of some memory its present position; false when it has that. A stale one may have none, and
   * then names nothing: what is stored for a position may stand for another one when its file is gone.
   */
  #relocateAt(memory: Pinned, at: number): boolean {
    if (this.present === undefined) return false;
    const { positions } = this.#heap;
    const word = (at >> 2) + 2;
    const units = positions.units(memory.u32[word]!, memory.u32[word + 1]!);
    const moved = this.present(units);
    if (moved === units) return false;
    const stored = positions.stored(moved);
    memory.u32[word] = stored >>> 0;
    memory.u32[word + 1] = withStored(memory.u32[word + 1]!, stored);
    return true;
  }

  /** Makes the queue unknown and gives its memory back. */
  forget(space: Address): void {
    this.free(this.detach(space, true));
  }

  /** Begins anew with nothing entered, for one who then enters all there is. */
  begin(space: Address): void {
    this.free(this.detach(space, false));
  }

  /** Takes the queue from its namespace, which then has none, or an unknown one; returns what `attach` and `free` take. */
  detach(space: Address, isUnknown: boolean): number {
    const queue = this.#heap.read32(space + QUEUE_AT);
    this.#heap.write32(space + QUEUE_AT, isUnknown ? QUEUE_UNKNOWN : QUEUE_NONE);
    return queue;
  }

  /** Gives a namespace the queue that was detached from it. */
  attach(space: Address, queue: number): void {
    this.begin(space);
    this.#heap.write32(space + QUEUE_AT, queue);
  }

  /** Gives the memory of a detached queue back. */
  free(queue: number): void {
    if (queue === QUEUE_NONE || queue === QUEUE_UNKNOWN) return;
    this.#pages.open(queue);
    this.#journal.drop(this.#pages);
    this.#pages.free(queue);
  }

  /** Gives a namespace a queue whose entries lie in any order, and puts them in theirs. */
  adopt(space: Address, queue: number): void {
    this.attach(space, queue);
    if (!this.#open(space) || this.#pages.entries < 2) return;
    const pages = this.#pages;
    const last = FIRST + pages.entries - 1;
    for (let index = Math.floor(last / CHILDREN) + FIRST - 1; index >= FIRST; index--) {
      copy(this.#entry.address, pages.address(index), ENTRY_BYTES);
      this.#sink(index);
    }
  }

  /** Looks for stale entries when there are too many. The queue is at hand. */
  #tidy(space: Address): void {
    const pages = this.#pages;
    for (let look = 0; look < LOOKS_PER_CHANGE; look++) {
      if (pages.entries <= pages.live * (1 + STALE_SHARE) + STALE_SPARED) return;
      const index = pages.cursor < FIRST || pages.cursor >= FIRST + pages.entries ? FIRST : pages.cursor;
      copy(this.#entry.address, pages.address(index), ENTRY_BYTES);
      const isHeld = this.isHeld(space, this.#entry.u32[2]!, this.#entry.u32[3]!);
      pages.cursor = isHeld ? index + 1 : index;
      if (isHeld) pages.save();
      else this.#removeAt(index);
    }
  }

  /** Where the frame that a slot names is now. */
  #presentUnits(low: number, high: number): number {
    const units = this.#heap.positions.units(low, high);
    return this.present === undefined ? units : this.present(units);
  }

  /** Takes the entry in hand out: the last one goes to where it fits from there. The queue is at hand. */
  #removeAt(index: number): void {
    const pages = this.#pages;
    const last = FIRST + pages.entries - 1;
    assert(index >= FIRST && index <= last, "an entry that is there is taken");
    if (this.#isLeftKnown) this.#left.add(this.#presentUnits(this.#entry.u32[2]!, this.#entry.u32[3]!));
    copy(this.#entry.address, pages.address(last), ENTRY_BYTES);
    this.#relocateAt(this.#entry, 0);
    pages.entries -= 1;
    if (index < last) {
      // Upwards it may cross the border of a copy too, so it counts from the place that it gets first.
      if (last >= pages.copied && pages.copied !== 0) this.#journal.add(pages, this.#entry.address);
      if (!this.#rise(index)) this.#sink(index);
    }
    pages.saveShrunk();
  }

  /** Puts the entry in hand at an index or above it; false when it was put at the index itself. */
  #rise(from: number): boolean {
    const pages = this.#pages;
    const parent = this.#family;
    const deadlineMs = this.#entry.f64[0]!;
    let index = from;
    while (index > FIRST) {
      const above = Math.floor(index / CHILDREN) + FIRST - 1;
      copy(parent.address, pages.address(above), ENTRY_BYTES);
      if (parent.f64[0]! <= deadlineMs) break;
      copy(pages.address(index), parent.address, ENTRY_BYTES);
      index = above;
    }
    copy(pages.address(index), this.#entry.address, ENTRY_BYTES);
    return index !== from;
  }

  /** Puts the entry in hand at an index or below it. */
  #sink(from: number): void {
    const pages = this.#pages;
    const family = this.#family;
    const deadlines = family.f64;
    const deadlineMs = this.#entry.f64[0]!;
    const end = FIRST + pages.entries;
    let index = from;
    let place = pages.address(from);
    for (;;) {
      const first = (index - FIRST + 1) * CHILDREN;
      if (first >= end) break;
      const children = pages.address(first);
      copy(family.address, children, CHILDREN * ENTRY_BYTES);
      const count = Math.min(CHILDREN, end - first);
      let least = 0;
      let leastMs = deadlines[0]!;
      for (let child = 1; child < count; child++) {
        const childMs = deadlines[child * 2]!;
        if (childMs >= leastMs) continue;
        least = child;
        leastMs = childMs;
      }
      if (leastMs >= deadlineMs) break;
      this.#relocateAt(family, least * ENTRY_BYTES);
      if (index < pages.copied && first + least >= pages.copied)
        this.#journal.add(pages, family.address + least * ENTRY_BYTES);
      copy(place, family.address + least * ENTRY_BYTES, ENTRY_BYTES);
      index = first + least;
      place = children + least * ENTRY_BYTES;
    }
    copy(place, this.#entry.address, ENTRY_BYTES);
  }
}
