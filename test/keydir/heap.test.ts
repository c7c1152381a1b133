/** The memory of the index: nothing is given out twice, and what was given back is used again. */

import { expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { Heap, HEAP_NUMBERS, HEAP_RESERVED, PAGE_BYTES, UNIT_BYTES } from "../../src/ffi/heap.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import {
  FIRST_ERA,
  IDLE,
  RECLAIM_ATTACHED,
  RECLAIM_ERA,
  RECLAIM_FLAGS,
  ROW_ERA_AT,
  ROW_THREAD_AT,
  Reclaim,
} from "../../src/ffi/reclaim.ts";
import { ADDRESS_SPACE_BYTES } from "../../src/limits.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { Random } from "../sim/random.ts";
import { hasHeapPages, HeapFixture } from "./fixture.ts";

test("no page and no unit is given out twice, whatever is given back and trimmed in between", () => {
  const random = new Random(71);
  using fixture = new HeapFixture();
  const { heap } = fixture;
  /** Byte ranges in use, by their first byte, with the mark written there. */
  const pages = new Map<number, number>();
  const units = new Map<number, number>();
  for (let round = 1; round <= 30_000; round += 1) {
    const what = random.below(10);
    if (what < 3) {
      const page = heap.takePage();
      if (page === 0 || pages.has(page)) throw new Error(`page ${page} is given out twice (round ${round})`);
      pages.set(page, round);
      heap.write32(heap.pageAddress(page) + PAGE_BYTES - 4, round);
    } else if (what < 6) {
      const unit = heap.takeUnit();
      if (unit < 64 || units.has(unit)) throw new Error(`unit ${unit} is given out twice (round ${round})`);
      if (pages.has(Math.floor((unit * UNIT_BYTES) / PAGE_BYTES)))
        throw new Error(`unit ${unit} lies in a page in use`);
      if (heap.readNumber(heap.unitAddress(unit)) !== 0) throw new Error(`unit ${unit} is not zeroed`);
      units.set(unit, round);
      heap.write32(heap.unitAddress(unit), round);
    } else if (what < 8 && pages.size > 0) {
      const [page, mark] = random.pick([...pages.entries()].slice(0, 50));
      expect(heap.read32(heap.pageAddress(page) + PAGE_BYTES - 4)).toBe(mark);
      pages.delete(page);
      heap.givePage(page);
    } else if (what === 8 && units.size > 0) {
      const [unit, mark] = random.pick([...units.entries()].slice(0, 50));
      expect(heap.read32(heap.unitAddress(unit))).toBe(mark);
      units.delete(unit);
      heap.giveUnit(unit);
    } else if (round % 50 === 0) heap.trim(random.below(20));
  }
  for (const [page, mark] of pages) expect(heap.read32(heap.pageAddress(page) + PAGE_BYTES - 4)).toBe(mark);
  for (const [unit, mark] of units) expect(heap.read32(heap.unitAddress(unit))).toBe(mark);
});

test.skipIf(!hasHeapPages)(
  "a page whose memory a thread has given back that died right behind it is backed before it is used again",
  () => {
    const host = hostSystem();
    const backed = new Set<number>();
    const system = faulty(host, (call, [address, bytes]) => {
      if (call === "commit") backed.add(address as number);
      if (call !== "decommit") return undefined;
      host.decommit(address as number, bytes as number);
      throw new Error("it has died");
    });
    const heap = Heap.create(system, new Float64Array(HEAP_NUMBERS));
    const pages = [heap.takePage(), heap.takePage(), heap.takePage()];
    for (const page of pages) heap.givePage(page);
    expect(() => heap.trim(0)).toThrow("it has died");
    backed.clear();
    for (const _ of pages) heap.write32(heap.pageAddress(heap.takePage()), 1);
    expect([...backed]).toEqual([heap.pageAddress(pages[0]!)]);
    heap.release();
  },
);

test.skipIf(!hasHeapPages)("trimming gives memory back, and trimmed pages come again", () => {
  using fixture = new HeapFixture();
  const { heap } = fixture;
  const pages = Array.from({ length: 1000 }, () => heap.takePage());
  const full = heap.bytes;
  for (const page of pages) heap.givePage(page);
  heap.trim(10);
  expect(heap.idlePages).toBe(10);
  expect(heap.bytes).toBeLessThan(full / 4);
  const again = new Set(Array.from({ length: 1000 }, () => heap.takePage()));
  expect(again).toEqual(new Set(pages));
  for (const page of again) heap.write32(heap.pageAddress(page), page);
  for (const page of again) expect(heap.read32(heap.pageAddress(page))).toBe(page);
});

test("a heap at the end of its address space is EMDB_FULL and gives out no page", () => {
  using fixture = new HeapFixture();
  const { heap, numbers } = fixture;
  const reserved = numbers[HEAP_RESERVED]!;
  numbers[HEAP_RESERVED] = 128 * 2 ** 20 + 10 * PAGE_BYTES;
  const pages = new Set(Array.from({ length: 9 }, () => heap.takePage()));
  expect(pages.size).toBe(9);
  expect(() => heap.takePage()).toThrow(expect.objectContaining({ code: "EMDB_FULL" }));
  numbers[HEAP_RESERVED] = reserved;
  expect(pages.has(heap.takePage())).toBe(false);
});

test("where little address space is to be had, a smaller heap is made", () => {
  const system = hostSystem();
  const asked: number[] = [];
  const least = ADDRESS_SPACE_BYTES.at(-1)!;
  const poor = Object.create(system, {
    reserve: {
      value(bytes: number): number {
        asked.push(bytes);
        return bytes > least ? -12 : system.reserve(bytes);
      },
    },
  }) as typeof system;
  const numbers = new Float64Array(HEAP_NUMBERS);
  const heap = Heap.create(poor, numbers);
  expect(asked).toEqual([...ADDRESS_SPACE_BYTES]);
  // Less what the alignment of its start takes.
  expect(numbers[HEAP_RESERVED]!).toBeGreaterThan(least - 2 ** 21);
  expect(numbers[HEAP_RESERVED]!).toBeLessThanOrEqual(least);
  system.release(heap.base, least);
});

test("with other Workers reading, a retired page is not given out before each of them has been seen past it", () => {
  using fixture = new HeapFixture();
  const { heap } = fixture;
  const flags = new Int32Array(RECLAIM_FLAGS);
  flags[RECLAIM_ATTACHED] = 2;
  flags[RECLAIM_ERA] = FIRST_ERA;
  let isReaderAlive = true;
  const reclaim = new Reclaim(heap, flags, () => isReaderAlive);
  const reader = 5;
  flags[ROW_THREAD_AT + reader] = 77;

  /** Retires a whole batch; returns its pages. */
  const retire = (): Set<number> => {
    const pages = Array.from({ length: 64 }, () => heap.takePages(1));
    for (const page of pages) reclaim.retirePage(page);
    return new Set(pages);
  };
  flags[ROW_ERA_AT + reader] = flags[RECLAIM_ERA]!;
  const first = retire();
  reclaim.collect();
  expect(heap.idlePages).toBe(0);
  expect(first.has(heap.takePage())).toBe(false);

  // Seen past it.
  flags[ROW_ERA_AT + reader] = flags[RECLAIM_ERA]!;
  reclaim.collect();
  expect(heap.idlePages).toBe(64);

  // Idle readers hold nothing; dead ones neither.
  flags[ROW_ERA_AT + reader] = IDLE;
  retire();
  expect(heap.idlePages).toBe(128);
  flags[ROW_ERA_AT + reader] = flags[RECLAIM_ERA]!;
  retire();
  expect(heap.idlePages).toBe(128);
  isReaderAlive = false;
  reclaim.collect();
  expect(heap.idlePages).toBe(192);
});

/** Retires a batch of pages under a reader; whether they were given out again while it read, and after it. */
function reuse(flags: Int32Array): readonly [whileRead: number, after: number] {
  using fixture = new HeapFixture();
  const { heap } = fixture;
  const reclaim = new Reclaim(heap, flags, () => true);
  const reader = 5;
  flags[RECLAIM_ATTACHED] = 2;
  flags[ROW_THREAD_AT + reader] = 77;
  flags[ROW_ERA_AT + reader] = flags[RECLAIM_ERA]!;
  for (const page of Array.from({ length: 64 }, () => heap.takePages(1))) reclaim.retirePage(page);
  const whileRead = heap.idlePages;
  flags[ROW_ERA_AT + reader] = flags[RECLAIM_ERA]!;
  reclaim.collect();
  return [whileRead, heap.idlePages];
}

test("a retired page waits for its readers wherever the count of eras goes round, and no era is taken for none", () => {
  const flags = new Int32Array(RECLAIM_FLAGS);
  for (const [first, rounds] of [
    [FIRST_ERA, 5],
    [2 ** 31 - 5, 10],
    [-5, 10],
  ] as const) {
    flags[RECLAIM_ERA] = first;
    for (let round = 0; round < rounds; round += 1) {
      const before = flags[RECLAIM_ERA];
      expect([before, ...reuse(flags)]).toEqual([before, 0, 64]);
      expect(flags[RECLAIM_ERA] % 2).not.toBe(0);
    }
  }
  using fixture = new HeapFixture();
  const reclaim = new Reclaim(fixture.heap, flags, () => true);
  flags[RECLAIM_ERA] = 2 ** 31 - 1;
  const era = reclaim.nextEra();
  flags[ROW_ERA_AT + 5] = 2 ** 31 - 1;
  expect(reclaim.isPast(era)).toBe(false);
  flags[ROW_ERA_AT + 5] = era;
  expect(reclaim.isPast(era)).toBe(true);
});

test("retired pieces that the heap finds no memory to take back are given back another time, each once", () => {
  const flags = new Int32Array(RECLAIM_FLAGS);
  flags[RECLAIM_ERA] = FIRST_ERA;
  for (const attached of [1, 2]) {
    using fixture = new HeapFixture();
    const { heap } = fixture;
    flags[RECLAIM_ATTACHED] = attached;
    const reclaim = new Reclaim(heap, flags, () => true);
    const givePage = heap.givePage.bind(heap);
    let room = 10;
    const given: number[] = [];
    heap.givePage = (page) => {
      if (--room < 0) throw new EmdbError("EMDB_IO", "no memory");
      given.push(page);
      givePage(page);
    };
    const pages = Array.from({ length: 64 }, () => heap.takePages(1));
    for (const page of pages) reclaim.retirePage(page);
    expect(given.length).toBe(10);
    room = Infinity;
    const more = Array.from({ length: 64 }, () => heap.takePages(1));
    for (const page of more) reclaim.retirePage(page);
    expect(given.sort((a, b) => a - b)).toEqual([...pages, ...more]);
  }
});
