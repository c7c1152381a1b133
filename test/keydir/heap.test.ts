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
import { pinned } from "../../src/ffi/memory.ts";
import { ExpiryPages } from "../../src/keydir/expiry-pages.ts";
import { ADDRESS_SPACE_BYTES } from "../../src/limits.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { Random } from "../sim/random.ts";
import { hasHeapPages, HeapFixture, IndexFixture } from "./fixture.ts";

test("no page and no unit is given out twice, whatever is given back and trimmed in between", () => {
  const random = new Random(71);
  using fixture = new HeapFixture();
  const { heap } = fixture;
  /** Byte ranges in use, by their first byte, with the mark written there. */
  const pages = new Map<number, number>();
  const units = new Map<number, number>();
  const runs = new Map<number, number>();
  for (let round = 1; round <= 30_000; round += 1) {
    const what = random.below(12);
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
    } else if (what === 10) {
      const count = 1 << random.below(5);
      const first = heap.takeRun(count);
      for (let page = first; page < first + count; page += 1) {
        if (page === 0 || pages.has(page)) throw new Error(`page ${page} of a run is given out twice (round ${round})`);
        pages.set(page, round);
        heap.write32(heap.pageAddress(page) + PAGE_BYTES - 4, round);
      }
      runs.set(first, count);
    } else if (what === 11 && runs.size > 0) {
      const [first, count] = random.pick([...runs.entries()].slice(0, 50));
      runs.delete(first);
      const isWhole = Array.from({ length: count }, (_, index) => pages.has(first + index)).every(Boolean);
      // A page of it that has been given back alone leaves the others to be given back alone.
      if (!isWhole) continue;
      for (let page = first; page < first + count; page += 1) pages.delete(page);
      heap.giveRun(first, count);
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
    // With others between them: what lies side by side goes back at once.
    const pages = Array.from({ length: 5 }, () => heap.takePage()).filter((page) => page % 2 === 1);
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

test.skipIf(!hasHeapPages)("pages that lie side by side go back in one call, in whatever order they came", () => {
  const random = new Random(73);
  const host = hostSystem();
  const calls: number[] = [];
  const system = faulty(host, (call, [, bytes]) => {
    if (call === "decommit") calls.push((bytes as number) / PAGE_BYTES);
    return undefined;
  });
  const heap = Heap.create(system, new Float64Array(HEAP_NUMBERS));
  const pages = Array.from({ length: 20_000 }, () => heap.takePage());
  const inUse = new Set(pages.filter((_, index) => index % 1000 === 0));
  for (const page of inUse) heap.write32(heap.pageAddress(page), page);
  const free = pages.filter((page) => !inUse.has(page));
  while (free.length > 0) {
    const at = random.below(free.length);
    heap.givePage(free[at]!);
    free[at] = free.at(-1)!;
    free.pop();
  }
  heap.trim(0);
  expect(calls).toEqual(Array.from({ length: 20 }, () => 999));
  for (const page of inUse) expect(heap.read32(heap.pageAddress(page))).toBe(page);
  heap.release();
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

test("a row that the next thread takes while it is asked whether the one before lives keeps its era", () => {
  const flags = new Int32Array(RECLAIM_FLAGS);
  const row = 5;
  const [dead, next] = [77, 99];
  using fixture = new HeapFixture();
  let claim = (): void => undefined;
  const reclaim = new Reclaim(fixture.heap, flags, (thread) => {
    if (thread !== dead) return true;
    claim();
    return false;
  });
  flags[RECLAIM_ATTACHED] = 2;
  /** The dead thread's row, with an era that has been left since; returns a later one. */
  const leave = (): number => {
    flags[RECLAIM_ERA] = FIRST_ERA;
    flags[ROW_THREAD_AT + row] = dead + 1;
    flags[ROW_ERA_AT + row] = FIRST_ERA;
    return reclaim.nextEra();
  };

  // The next one reads in a later era than the one that was looked at.
  const era = leave();
  claim = () => {
    flags[ROW_THREAD_AT + row] = next + 1;
    flags[ROW_ERA_AT + row] = era;
  };
  expect(reclaim.isPast(era)).toBe(false);
  expect(flags[ROW_ERA_AT + row]).toBe(era);
  expect(reclaim.isPast(era)).toBe(true);
  expect(reclaim.isPast(reclaim.nextEra())).toBe(false);

  // The era that was looked at is the next one's already.
  const later = leave();
  claim = () => {
    flags[ROW_THREAD_AT + row] = next + 1;
  };
  expect(reclaim.isPast(later)).toBe(false);
  expect(flags[ROW_ERA_AT + row]).toBe(FIRST_ERA);

  // With nobody in between the row holds nothing.
  const last = leave();
  claim = () => undefined;
  expect(reclaim.isPast(last)).toBe(true);
  expect(flags[ROW_ERA_AT + row]).toBe(IDLE);
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

test("a retired run of pages is given out again as a run, once each Worker that reads has been seen past it", () => {
  using fixture = new HeapFixture();
  const { heap } = fixture;
  const flags = new Int32Array(RECLAIM_FLAGS);
  flags[RECLAIM_ATTACHED] = 2;
  flags[RECLAIM_ERA] = FIRST_ERA;
  const reclaim = new Reclaim(heap, flags, () => true);
  flags[ROW_THREAD_AT + 5] = 77;
  flags[ROW_ERA_AT + 5] = FIRST_ERA;
  const run = heap.takeRun(4);
  reclaim.retireRun(run, 4);
  reclaim.finish();
  expect([heap.takeRun(4) === run, heap.takeRun(2) === run]).toEqual([false, false]);
  flags[ROW_ERA_AT + 5] = flags[RECLAIM_ERA]!;
  reclaim.finish();
  expect([heap.takeRun(2) === run, heap.takeRun(4)]).toEqual([false, run]);
});

test("what a thread had retired when it left another one gives back, once nobody reads it, each piece once", () => {
  using fixture = new HeapFixture();
  const { heap } = fixture;
  const flags = new Int32Array(RECLAIM_FLAGS);
  flags[RECLAIM_ATTACHED] = 3;
  flags[RECLAIM_ERA] = -2001;
  flags[ROW_THREAD_AT + 5] = 77;
  flags[ROW_ERA_AT + 5] = -2001;
  const [leaving, staying] = [0, 1].map(() => new Reclaim(heap, flags, () => true)) as [Reclaim, Reclaim];
  // More than a page of the list holds, in one batch and in many.
  const pages = Array.from({ length: 1500 }, () => heap.takePage());
  const units = Array.from({ length: 1500 }, () => heap.takeUnit());
  const blocks = Array.from({ length: 40 }, () => heap.takeBlock());
  const runs = [2, 16, 256].map((count) => ({ first: heap.takeRun(count), count }));
  for (const unit of units) leaving.retireUnit(unit);
  for (const { first, count } of runs) leaving.retireRun(first, count);
  for (const block of blocks) leaving.retireBlock(block);
  for (const page of pages) leaving.retirePage(page);
  leaving.finish();
  leaving.leaveRest();
  expect(leaving.waitingCount).toBe(0);

  const given: string[] = [];
  const spy = heap as unknown as Record<string, (...args: number[]) => void>;
  for (const name of ["givePage", "giveUnit", "giveBlock", "giveRun"]) {
    const give = spy[name]!.bind(heap);
    spy[name] = (...args) => {
      if (name !== "givePage" || pages.includes(args[0]!)) given.push(`${name} ${args.join()}`);
      give(...args);
    };
  }
  staying.retirePage(heap.takePage());
  staying.finish();
  expect(given).toEqual([]);
  flags[ROW_ERA_AT + 5] = flags[RECLAIM_ERA]!;
  staying.finish();
  const all = [
    ...pages.map((page) => `givePage ${page}`),
    ...units.map((unit) => `giveUnit ${unit}`),
    ...blocks.map((block) => `giveBlock ${block}`),
    ...runs.map(({ first, count }) => `giveRun ${first},${count}`),
  ];
  expect(given.sort()).toEqual(all.sort());
  expect([staying.waitingCount, heap.leftPage]).toEqual([0, 0]);
});

/** How often, of 200 times, something can be done in an address space of so many pages. */
function timesIn(pages: number, round: (fixture: IndexFixture) => void): number {
  using fixture = new IndexFixture();
  fixture.numbers[HEAP_RESERVED] = 128 * 2 ** 20 + pages * PAGE_BYTES;
  for (let count = 0; count < 200; count += 1) {
    try {
      round(fixture);
    } catch (error) {
      expect(error).toMatchObject({ code: "EMDB_FULL" });
      return count;
    }
  }
  return 200;
}

test("directories that are thrown away make room for the next ones, of however many pages", () => {
  const times = timesIn(1024, ({ keydir, space }) => {
    // All keys in one corner: a directory of 16 pages over a few small shards, and those of 1, 2, 4 and 8 before it.
    keydir.prepare(space, Infinity, (hash, depth) => (hash === 0 && depth < 14 ? 3000 : 0));
    const root = keydir.root(space);
    expect(root % 32).toBe(14);
    keydir.setRoot(space, 0);
    keydir.retireTree(root);
  });
  expect(times).toBe(200);
});

test("tables of queues of deadlines that come and go make room for the next ones, of however many pages", () => {
  const entries = pinned(16 * 25_000);
  const times = timesIn(1100, ({ heap }) => {
    // A table of a page, thrown away; then of one and of two.
    for (const pages of [20, 1040]) {
      const queue = new ExpiryPages(heap);
      const unit = queue.create();
      for (let left = pages * 256; left > 0; left -= 25_000) queue.append(entries.address, Math.min(left, 25_000));
      queue.free(unit);
    }
  });
  expect(times).toBe(200);
});
