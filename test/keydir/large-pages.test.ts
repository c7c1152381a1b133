/** The memory of the index where the system's pages are larger than the heap's. */

import { expect, test } from "bun:test";
import { EngineFixture } from "../engine/engine-fixture.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { statsOf } from "../../src/engine/stats.ts";
import { Heap, HEAP_NUMBERS, PAGE_BYTES } from "../../src/ffi/heap.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { CONFIG } from "../engine/open-engine.ts";
import { Random } from "../sim/random.ts";
import { largePages, type LargePages } from "../support/large-pages.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const SIZES = [16_384, 65_536];
const keysOf = (count: number): string[] => Array.from({ length: count }, (_, index) => `key ${index}`);

class HeapOn implements Disposable {
  readonly pages: LargePages;
  readonly heap: Heap;

  constructor(pageBytes: number) {
    this.pages = largePages(hostSystem(), pageBytes);
    this.heap = Heap.create(this.pages.system, new Float64Array(HEAP_NUMBERS));
  }

  [Symbol.dispose](): void {
    this.heap.release();
  }
}

test.each(SIZES)("with pages of %d bytes nothing is given back that is in use, or given out and not there", (size) => {
  const random = new Random(size);
  using fixture = new HeapOn(size);
  const { heap, pages } = fixture;
  const used = new Map<number, number>();
  let mostGivenBack = 0;
  for (let round = 1; round <= 20_000; round += 1) {
    // Mostly taking, mostly giving, by turns.
    const takes = Math.floor(round / 2000) % 2 === 0 ? 8 : 2;
    if (random.below(10) < takes) {
      const page = heap.takePage();
      if (page === 0 || used.has(page)) throw new Error(`page ${page} is given out twice (round ${round})`);
      if (pages.isGivenBack(heap.pageAddress(page))) throw new Error(`page ${page} is not there (round ${round})`);
      used.set(page, round);
      heap.write32(heap.pageAddress(page) + PAGE_BYTES - 4, round);
    } else if (used.size > 0) {
      const [page, mark] = random.pick([...used.entries()].slice(0, 50));
      expect(heap.read32(heap.pageAddress(page) + PAGE_BYTES - 4)).toBe(mark);
      used.delete(page);
      heap.givePage(page);
    }
    if (round % 50 === 0) heap.trim(random.below(20));
    mostGivenBack = Math.max(mostGivenBack, pages.givenBackBytes);
  }
  for (const [page, mark] of used) expect(heap.read32(heap.pageAddress(page) + PAGE_BYTES - 4)).toBe(mark);
  expect(mostGivenBack).toBeGreaterThan(10 * size);
});

test.each(SIZES)("with pages of %d bytes the memory of free pages comes back, in whatever order they came", (size) => {
  using fixture = new HeapOn(size);
  const { heap, pages } = fixture;
  const taken = Array.from({ length: 2000 }, () => heap.takePage());
  const full = heap.bytes;
  const random = new Random(3);
  for (let left = taken.length; left > 0; left--) heap.givePage(taken.splice(random.below(left), 1)[0]!);
  heap.trim(20);
  expect(heap.bytes).toBeLessThan(full / 4);
  expect(pages.givenBackBytes).toBeGreaterThan(full / 2);
  const again = new Set(Array.from({ length: 2000 }, () => heap.takePage()));
  expect(again.size).toBe(2000);
});

test.each(SIZES)(
  "a thread that dies while it trims, with pages of %d bytes, leaves none to be given out twice",
  (size) => {
    for (let step = 0; step < 40; step++) {
      using fixture = new HeapOn(size);
      const { heap } = fixture;
      const { numbers } = heap;
      for (const page of Array.from({ length: 100 }, () => heap.takePage())) heap.givePage(page);
      let left = step;
      // Each change of a shared number is a place to die at.
      const dying = new Proxy(numbers, {
        get: (target, name): unknown => Reflect.get(target, name, target),
        set(target, name, value) {
          if (left-- === 0) throw new Error("it has died");
          return Reflect.set(target, name, value, target);
        },
      });
      try {
        new Heap(fixture.pages.system, dying).trim(0);
      } catch (error) {
        expect((error as Error).message).toBe("it has died");
      }
      const again = new Heap(fixture.pages.system, numbers);
      const taken = Array.from({ length: 120 }, () => again.takePage());
      expect(new Set(taken).size).toBe(120);
      for (const page of taken) expect(fixture.pages.isGivenBack(again.pageAddress(page))).toBe(false);
    }
  },
);

test.each(SIZES)(
  "with pages of %d bytes memory comes back after many removals, and most of it after a clear",
  (size) => {
    const { system } = largePages(hostSystem(), size);
    const keys = keysOf(400_000);
    const opened = openMemory({ system, defer: () => undefined, hasWorkers: false }, CONFIG);
    const { engine, base } = opened;
    const space = engine.defaultSpace;
    const values = keys.map(() => "value");
    engine.insertMany(space, keys, values, 0);
    const full = statsOf(engine, base).indexBytes;
    engine.removeMany(space, keys.slice(100_000));
    for (const key of keys.slice(10, 100_000)) engine.remove(space, key);
    expect(engine.count(space)).toBe(10);
    // Of 64 KiB nearly every page holds something that is left, here and there: 0.92 to 1.01 remain, of 16 KiB 0.41 to 0.46.
    expect(statsOf(engine, base).indexBytes).toBeLessThan(full * (size === 16_384 ? 0.6 : 1.05));
    engine.clear(space);
    expect(statsOf(engine, base).indexBytes).toBeLessThan(full / 2);
    engine.insertMany(space, keys, values, 0);
    expect(engine.count(space)).toBe(keys.length);
    opened.leave();
  },
);

test.each(SIZES)("with pages of %d bytes a file is written, emptied, closed and opened again", (size) => {
  const { system } = largePages(hostSystem(), size);
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const keys = keysOf(150_000);
  {
    using fixture = new EngineFixture(path, system, { rangeScans: true });
    const { engine } = fixture;
    engine.insertMany(
      engine.defaultSpace,
      keys,
      keys.map(() => "value"),
      0,
    );
    for (const key of keys.slice(100)) engine.remove(engine.defaultSpace, key);
  }
  using again = new EngineFixture(path, system, { rangeScans: true });
  expect(again.engine.count(again.engine.defaultSpace)).toBe(100);
});
