/**
 * The memory that indexes live in: one stretch of address space, shared by every Worker of the process, never
 * moved, given out in pages of 4 KiB, blocks of 1 KiB and units of 64 bytes (a cache line).
 *
 *     0          64 MiB                128 MiB
 *     +----------+---------------------+----------------------------------------------+
 *     | spaces   | stack of free pages | pages 0, 1, 2 ...                            |
 *     +----------+---------------------+----------------------------------------------+
 *
 * No view of it exists: every ArrayBuffer counts as heap of the collector, and an index of 80 MB would then
 * triple the peak memory of any program that makes garbage (measured: 49 -> 251 MB). Bytes go in and out
 * through `copy` and small pinned scratch memory, at 3 ns a call.
 *
 * Invariants
 * 1. Writers hold the writer's lock. Readers touch only pages that they reached from a published root.
 * 2. A page that was once given out stays readable for ever (its content may be zero), so a reader that was
 *    overtaken reads rubbish, never faults. What it read, it does not believe: see `table.ts`.
 * 3. The stack's depth is changed by one store after (push) or before (pop) its entry is used: a writer that
 *    dies in between loses a page, and never gives one out twice.
 * 4. Page 0 is never given out: 0 means none.
 * 5. Where the system's pages are larger (16 KiB on Apple silicon, 64 KiB on some kernels for arm64), memory is given
 *    back in groups that fill one of them; a page of such a group may be backed before it is taken.
 * 6. A free block begins with the words FREE_BLOCK, next, previous; one in use begins with another word. The
 *    first of the list has no previous one, whatever it says. A page whose blocks are all free is a free page.
 * 7. A run of pages that was given out as one comes back as one and stays one, backed. So what grows and is thrown away
 *    again and again needs no more address space than the most there is of it at a time.
 */

import { EmdbError, assert } from "../errors.ts";
import { keepOrder } from "./barrier.ts";
import { must } from "./io-error.ts";
import { copy, fill, pinned, sharedScratch } from "./memory.ts";
import { Positions } from "./positions.ts";
import type { Address, System } from "./system.ts";
import { ADDRESS_SPACE_BYTES, SPACE_COUNT_MAX } from "../limits.ts";

export const PAGE_BYTES = 4096;
export const UNIT_BYTES = 64;
export const BLOCK_BYTES = 1024;
export const BLOCKS_PER_PAGE = PAGE_BYTES / BLOCK_BYTES;
/** The first word of a free block. */
const FREE_BLOCK = 0xffffffff;
const UNITS_PER_PAGE = PAGE_BYTES / UNIT_BYTES;

const SPACES_BYTES = 64 * 1024 * 1024;
const STACK_BYTES = 64 * 1024 * 1024;
const PAGES_AT = SPACES_BYTES + STACK_BYTES;
const COMMIT_BYTES_MAX = 16 * 1024 * 1024;
assert(SPACE_COUNT_MAX * UNIT_BYTES <= SPACES_BYTES, "every namespace has its entry");

// Indexes of the shared numbers (f64).
const HEAP_BASE = 0;
export const HEAP_RESERVED = 1;
const HEAP_PAGES_USED = 2;
const HEAP_PAGES_COMMITTED = 3;
const HEAP_SPACES_COMMITTED = 4;
const HEAP_STACK_COMMITTED = 5;
const HEAP_STACK_DEPTH = 6;
/** Entries of the stack below this are pages whose memory was given back. */
const HEAP_STACK_COLD = 7;
/** First of the chain of free units; a free unit's first word is the next one. */
const HEAP_FREE_UNIT = 8;
const HEAP_UNITS_USED = 9;
/** First of the list of free blocks. */
const HEAP_FREE_BLOCK = 10;
/** Changes of ordered trees so far, over all of them. */
const HEAP_CHANGES = 11;
/** Where the address space begins, before alignment. */
const HEAP_MAPPED = 12;
/** First pages of the first free runs of 2, 4, 8 ... pages; the first word of a free run is that of the next one. */
const HEAP_FREE_RUNS = 13;
/** So long is the table of a queue whose entries fill the longest heap. */
const RUN_ORDER_MAX = 14;
/** First of the pages that list what threads that left had retired (`left-pieces.ts`). */
const HEAP_LEFT_PAGE = HEAP_FREE_RUNS + RUN_ORDER_MAX;
export const HEAP_NUMBERS = HEAP_LEFT_PAGE + 1;

const RESET_WORDS = [
  HEAP_STACK_DEPTH,
  HEAP_STACK_COLD,
  HEAP_FREE_UNIT,
  HEAP_UNITS_USED,
  HEAP_FREE_BLOCK,
  HEAP_LEFT_PAGE,
  ...Array.from({ length: RUN_ORDER_MAX }, (_, index) => HEAP_FREE_RUNS + index),
];
/** A transparent huge page: long stretches are committed in whole ones, which fault in 2 MiB at a time. */
const HUGE_BYTES = 2 * 1024 * 1024;
/** By how much idle pages have become more, or those in use fewer, before whole groups are looked for again. */
const LOOK_GROWTH = 1.125;

const sharedWord = sharedScratch(8);

export class Heap {
  readonly base: Address;
  readonly pagesAt: Address;
  readonly numbers: Float64Array;
  /** How the indexes in it store positions. */
  readonly positions: Positions;
  readonly #system: System;
  readonly #word = sharedWord();
  readonly #barrier = new Int32Array(1);
  /** How many pages are given back together. */
  readonly #groupPages: number;
  /** How many pages were left idle, and in use, when groups were last looked for. */
  #looked = { idle: 0, used: Infinity };

  constructor(system: System, numbers: Float64Array, positions: Positions = Positions.ofFile()) {
    this.#system = system;
    this.#groupPages = Math.max(1, system.pageBytes / PAGE_BYTES);
    this.numbers = numbers;
    this.positions = positions;
    this.base = numbers[HEAP_BASE]!;
    this.pagesAt = this.base + PAGES_AT;
  }

  /** Reserves the address space and fills in the shared numbers. */
  static create(system: System, numbers: Float64Array): Heap {
    let failure = 0;
    for (const bytes of ADDRESS_SPACE_BYTES) {
      const base = system.reserve(bytes);
      if (base > 0) {
        // Huge pages need an aligned start, for which a little of the address space is given up.
        const aligned = Math.ceil(base / HUGE_BYTES) * HUGE_BYTES;
        numbers[HEAP_MAPPED] = base;
        numbers[HEAP_BASE] = aligned;
        numbers[HEAP_RESERVED] = bytes - (aligned - base);
        numbers[HEAP_PAGES_USED] = 1;
        return new Heap(system, numbers);
      }
      failure = base;
    }
    must(failure, { syscall: "mmap", path: undefined });
    throw new EmdbError("EMDB_IO", "no address space for the index");
  }

  /** Forgets everything that was given out, the entries of the first `spaceCount` namespaces too. Nobody else has seen any of it. */
  reset(spaceCount: number): void {
    fill(this.base, 0, Math.min(spaceCount * UNIT_BYTES, this.numbers[HEAP_SPACES_COMMITTED]!));
    for (const word of RESET_WORDS) this.numbers[word] = 0;
    this.numbers[HEAP_PAGES_USED] = 1;
  }

  /** Gives everything back, if nobody has; nothing may read the heap afterwards. */
  release(): void {
    if (this.base === 0) return;
    const mapped = this.numbers[HEAP_MAPPED]!;
    this.numbers[HEAP_BASE] = 0;
    this.#system.release(mapped, this.numbers[HEAP_RESERVED]! + (this.base - mapped));
  }

  /** Bytes of memory in use or kept for the next page, the table of namespaces included. */
  get bytes(): number {
    const numbers = this.numbers;
    const pages = numbers[HEAP_PAGES_USED]! - numbers[HEAP_STACK_COLD]!;
    return pages * PAGE_BYTES + numbers[HEAP_SPACES_COMMITTED]! + numbers[HEAP_STACK_COMMITTED]!;
  }

  pageAddress(page: number): Address {
    return this.pagesAt + page * PAGE_BYTES;
  }

  blockAddress(block: number): Address {
    return this.pagesAt + block * BLOCK_BYTES;
  }

  unitAddress(unit: number): Address {
    return this.pagesAt + unit * UNIT_BYTES;
  }

  spaceAddress(id: number): Address {
    return this.base + id * UNIT_BYTES;
  }

  read32(address: Address): number {
    copy(this.#word.address, address, 4);
    return this.#word.u32[0]!;
  }

  write32(address: Address, value: number): void {
    this.#word.u32[0] = value;
    copy(address, this.#word.address, 4);
  }

  readNumber(address: Address): number {
    copy(this.#word.address, address, 8);
    return this.#word.f64[0]!;
  }

  writeNumber(address: Address, value: number): void {
    this.#word.f64[0] = value;
    copy(address, this.#word.address, 8);
  }

  /** Backs the entries of namespaces `0 .. id`. */
  ensureSpace(id: number): void {
    this.#ensure(HEAP_SPACES_COMMITTED, this.base, (id + 1) * UNIT_BYTES);
  }

  /** A page of unknown content. */
  takePage(): number {
    const depth = this.numbers[HEAP_STACK_DEPTH]!;
    if (depth > 0) {
      const page = this.read32(this.base + SPACES_BYTES + (depth - 1) * 4);
      if (depth <= this.numbers[HEAP_STACK_COLD]!) {
        const first = page - (page % this.#groupPages);
        const bytes = this.#groupPages * PAGE_BYTES;
        must(this.#system.commit(this.pageAddress(first), bytes), { syscall: "mprotect", path: undefined });
        this.numbers[HEAP_STACK_COLD] = depth - 1;
      }
      this.numbers[HEAP_STACK_DEPTH] = depth - 1;
      return page;
    }
    return this.takePages(1);
  }

  /** Pages that lie side by side, none of which was given out before; the first of them. */
  takePages(count: number): number {
    const first = this.numbers[HEAP_PAGES_USED]!;
    const end = first + count;
    if (PAGES_AT + end * PAGE_BYTES > this.numbers[HEAP_RESERVED]!) {
      const limit = this.numbers[HEAP_RESERVED]! - PAGES_AT;
      throw new EmdbError("EMDB_FULL", `the index would grow to ${end * PAGE_BYTES} bytes; its limit is ${limit}`);
    }
    this.#ensure(HEAP_PAGES_COMMITTED, this.pagesAt, end * PAGE_BYTES);
    this.numbers[HEAP_PAGES_USED] = end;
    return first;
  }

  /** Takes a page back; nobody may reach it any more. */
  givePage(page: number): void {
    assert(page > 0 && page < this.numbers[HEAP_PAGES_USED]!, "a page that was given out comes back");
    const depth = this.numbers[HEAP_STACK_DEPTH]!;
    this.#ensure(HEAP_STACK_COMMITTED, this.base + SPACES_BYTES, (depth + 1) * 4);
    this.write32(this.base + SPACES_BYTES + depth * 4, page);
    this.numbers[HEAP_STACK_DEPTH] = depth + 1;
  }

  /**
   * Pages of unknown content that lie side by side, a power of two; the first of them. Those that were given back in one
   * go are given out in one go: pages that came back one by one hardly ever lie side by side.
   */
  takeRun(count: number): number {
    if (count === 1) return this.takePage();
    const list = freeRunsOf(count);
    const first = this.numbers[list]!;
    if (first === 0) return this.takePages(count);
    this.numbers[list] = this.read32(this.pageAddress(first));
    return first;
  }

  /** Takes the pages of a run back; nobody may reach them any more. */
  giveRun(first: number, count: number): void {
    if (count === 1) {
      this.givePage(first);
      return;
    }
    const list = freeRunsOf(count);
    this.write32(this.pageAddress(first), this.numbers[list]!);
    this.numbers[list] = first;
  }

  /** 64 zeroed bytes. */
  takeUnit(): number {
    let unit = this.numbers[HEAP_FREE_UNIT]!;
    if (unit === 0) {
      const first = this.takePage() * UNITS_PER_PAGE;
      for (let index = UNITS_PER_PAGE - 1; index > 0; index--) this.giveUnit(first + index);
      unit = first;
    } else {
      this.numbers[HEAP_FREE_UNIT] = this.read32(this.unitAddress(unit));
    }
    fill(this.unitAddress(unit), 0, UNIT_BYTES);
    this.numbers[HEAP_UNITS_USED]! += 1;
    return unit;
  }

  giveUnit(unit: number): void {
    this.write32(this.unitAddress(unit), this.numbers[HEAP_FREE_UNIT]!);
    this.numbers[HEAP_FREE_UNIT] = unit;
  }

  /** 1 KiB of unknown content, whose first word the caller writes before it gives or takes another block. */
  takeBlock(): number {
    const block = this.numbers[HEAP_FREE_BLOCK]!;
    if (block === 0) {
      const first = this.takePage() * BLOCKS_PER_PAGE;
      this.write32(this.blockAddress(first), 0);
      for (let index = BLOCKS_PER_PAGE - 1; index > 0; index--) this.#pushBlock(first + index);
      return first;
    }
    const next = this.read32(this.blockAddress(block) + 4);
    this.write32(this.blockAddress(block), 0);
    this.numbers[HEAP_FREE_BLOCK] = next;
    return block;
  }

  /** Takes a block back; with its last one in use, the whole page. */
  giveBlock(block: number): void {
    const first = block - (block % BLOCKS_PER_PAGE);
    for (let other = first; other < first + BLOCKS_PER_PAGE; other++) {
      if (other !== block && this.read32(this.blockAddress(other)) !== FREE_BLOCK) {
        this.#pushBlock(block);
        return;
      }
    }
    this.write32(this.blockAddress(block), 0);
    for (let other = first; other < first + BLOCKS_PER_PAGE; other++) {
      if (other === block || this.#unlinkBlock(other)) continue;
      this.#pushBlock(block);
      return;
    }
    this.givePage(first / BLOCKS_PER_PAGE);
  }

  #pushBlock(block: number): void {
    const next = this.numbers[HEAP_FREE_BLOCK]!;
    const address = this.blockAddress(block);
    this.write32(address + 4, next);
    this.write32(address + 8, 0);
    this.write32(address, FREE_BLOCK);
    if (next !== 0) this.write32(this.blockAddress(next) + 8, block);
    this.numbers[HEAP_FREE_BLOCK] = block;
  }

  /** False when the list around a block is not whole, since a writer died in it: the block then stays where it is. */
  #unlinkBlock(block: number): boolean {
    const address = this.blockAddress(block);
    const next = this.read32(address + 4);
    if (this.numbers[HEAP_FREE_BLOCK] === block) {
      this.write32(address, 0);
      this.numbers[HEAP_FREE_BLOCK] = next;
      return true;
    }
    const previous = this.read32(address + 8);
    if (previous === 0 || this.read32(this.blockAddress(previous) + 4) !== block) return false;
    this.write32(address, 0);
    if (next !== 0) this.write32(this.blockAddress(next) + 8, previous);
    this.write32(this.blockAddress(previous) + 4, next);
    return true;
  }

  /** What this thread wrote here before comes before what it writes after, and what it read before what it reads. */
  keepOrder(): void {
    keepOrder(this.#barrier, 0);
  }

  /** A number that no change before it has had. */
  nextChange(): number {
    this.numbers[HEAP_CHANGES]! += 1;
    return this.numbers[HEAP_CHANGES]!;
  }

  /** First page of the list of `left-pieces.ts`; 0: there is none. */
  get leftPage(): number {
    return this.numbers[HEAP_LEFT_PAGE]!;
  }

  set leftPage(page: number) {
    this.numbers[HEAP_LEFT_PAGE] = page;
  }

  /** Free pages whose memory is still there. */
  get idlePages(): number {
    return this.numbers[HEAP_STACK_DEPTH]! - this.numbers[HEAP_STACK_COLD]!;
  }

  /** Gives the memory of free pages back to the system, all but a few: what lies side by side in one call. */
  trim(keepPages: number): void {
    const group = this.#groupPages;
    const cold = this.numbers[HEAP_STACK_COLD]!;
    const spared = this.idlePages - keepPages;
    if (spared < group) return;
    const count = group === 1 ? this.#sort(spared) : Math.min(spared, this.#gather());
    const end = count - (count % group);
    const pages = pinned(end * 4);
    copy(pages.address, this.base + SPACES_BYTES + cold * 4, end * 4);
    for (let from = 0, to = 0; from < end; from = to) {
      const page = pages.u32[from]!;
      for (to = from + group; to < end && pages.u32[to] === page + to - from;) to += group;
      // Counted first: whoever dies in between leaves pages that are backed once more, not some that are believed to be.
      this.numbers[HEAP_STACK_COLD] = cold + to;
      if (this.#system.decommit(this.pageAddress(page), (to - from) * PAGE_BYTES) < 0) {
        this.numbers[HEAP_STACK_COLD] = cold + from;
        return;
      }
    }
  }

  /** Puts so many idle pages, those longest on the stack, in the order of their numbers; returns how many they are. */
  #sort(count: number): number {
    const memory = pinned(count * 4);
    const at = this.base + SPACES_BYTES + this.numbers[HEAP_STACK_COLD]! * 4;
    copy(memory.address, at, count * 4);
    memory.u32.subarray(0, count).sort();
    // One call, which no death of this thread cuts short.
    copy(at, memory.address, count * 4);
    return count;
  }

  /** Puts the idle pages that make whole groups below all others on the stack; returns how many they are. */
  #gather(): number {
    const cold = this.numbers[HEAP_STACK_COLD]!;
    const depth = this.numbers[HEAP_STACK_DEPTH]!;
    const idle = depth - cold;
    const used = this.numbers[HEAP_PAGES_USED]! - depth;
    // Pages that lie between others in use are not sorted again and again.
    if (idle < this.#looked.idle * LOOK_GROWTH && used * LOOK_GROWTH > this.#looked.used) return 0;
    const memory = pinned(idle * 4);
    const at = this.base + SPACES_BYTES + cold * 4;
    copy(memory.address, at, idle * 4);
    const { pages, grouped } = inGroups(memory.u32.subarray(0, idle), this.#groupPages);
    memory.u32.set(pages);
    // One call, which no death of this thread cuts short.
    copy(at, memory.address, idle * 4);
    this.#looked = { idle: idle - grouped, used };
    return grouped;
  }

  #ensure(committed: number, from: Address, bytes: number): void {
    const have = this.numbers[committed]!;
    if (bytes <= have) return;
    const step = Math.min(Math.max(have, 65536), COMMIT_BYTES_MAX);
    const least = Math.max(bytes, have + step);
    const grain = least - have >= HUGE_BYTES ? HUGE_BYTES : 65536;
    const want = Math.ceil(least / grain) * grain;
    must(this.#system.commit(from + have, want - have), { syscall: "mprotect", path: undefined });
    this.numbers[committed] = want;
  }
}

/** Which of the shared numbers the free runs of so many pages begin at. */
function freeRunsOf(count: number): number {
  const order = 31 - Math.clz32(count);
  assert(count === 1 << order && order > 0 && order <= RUN_ORDER_MAX, "a run has a power of two of pages");
  return HEAP_FREE_RUNS + order - 1;
}

/** Pages in another order: first those that make whole groups, group by group, of which there are `grouped`. */
function inGroups(pages: Uint32Array, groupPages: number): { readonly pages: number[]; readonly grouped: number } {
  const sorted = pages.slice().sort();
  const whole: number[] = [];
  const rest: number[] = [];
  for (let index = 0; index < sorted.length;) {
    const first = sorted[index]!;
    const isWhole = first % groupPages === 0 && sorted[index + groupPages - 1] === first + groupPages - 1;
    const end = isWhole ? index + groupPages : index + 1;
    for (; index < end; index++) (isWhole ? whole : rest).push(sorted[index]!);
  }
  return { pages: [...whole, ...rest], grouped: whole.length };
}
