/** The index against a Map: nothing lost, nothing double, counts exact, memory given back. */

import { expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { PAGE_BYTES } from "../../src/ffi/heap.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { Keydir, isTombstone } from "../../src/keydir/keydir.ts";
import { recountShard } from "../../src/keydir/repair.ts";
import { Random } from "../sim/random.ts";
import { hasHeapPages, IndexFixture } from "./fixture.ts";

const HASHES = 2 ** HASH_BITS;

/** Pages of the heap that are given out. */
const inUse = ({ heap }: IndexFixture): number => heap.bytes / PAGE_BYTES - heap.idlePages;

/** Keys get their hash from here: most by chance, some that share one with others. */
class Keys {
  readonly hashes: number[] = [];
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  at(key: number): number {
    while (this.hashes.length <= key) {
      const shared = this.hashes.length > 0 && this.#random.chance(0.1);
      this.hashes.push(shared ? this.#random.pick(this.hashes) : this.#random.below(HASHES));
    }
    return this.hashes[key]!;
  }
}

test.each([51, 52, 53, 54])(
  "the index holds what a Map holds through adds, replaces, removals and shrinks (seed %d)",
  (seed) => {
    const random = new Random(seed);
    const keys = new Keys(random);
    using index = new IndexFixture();
    for (const size of [10, 400, 3000, 20_000, 2000, 50, 30_000]) {
      const grows = (): boolean => index.model.size < size;
      const isGrowing = grows();
      for (let step = 0; step < 40_000 && grows() === isGrowing && index.model.size !== size; step += 1) {
        const key = random.below(40_000);
        if (random.chance(isGrowing ? 0.85 : 0.15)) index.insert(key, keys.at(key));
        else index.remove(isGrowing ? key : ([...take(index.model.keys(), 1)][0] ?? key));
      }
      index.check();
    }
  },
  60_000,
);

function* take<T>(values: Iterable<T>, count: number): Generator<T> {
  let taken = 0;
  for (const value of values) {
    if (taken === count) return;
    taken += 1;
    yield value;
  }
}

test.skipIf(!hasHeapPages)(
  "50 000 records are all found, and after mass removal the index gives its memory back",
  () => {
    const random = new Random(55);
    using index = new IndexFixture();
    const pagesAtPeak: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      for (let key = 0; key < 50_000; key += 1) index.insert(key, random.below(HASHES));
      index.check();
      pagesAtPeak.push(index.pageCount());
      for (let key = 0; key < 50_000; key += 1) if (key % 100 !== 0) index.remove(key);
      index.check();
      expect(index.pageCount()).toBeLessThan(pagesAtPeak[0]! / 6);
      for (let key = 0; key < 50_000; key += 1) index.remove(key);
      index.check();
      expect(index.pageCount()).toBeLessThanOrEqual(16);
      index.heap.trim(0);
      expect(index.heap.idlePages).toBe(0);
    }
    // What was given back is used again: the heap did not grow from round to round.
    expect(pagesAtPeak[2]!).toBeLessThan(pagesAtPeak[0]! * 1.05);
    expect(index.heap.bytes).toBeLessThan(pagesAtPeak[0]! * 4096);
  },
  60_000,
);

test("a record costs at most 16 bytes of index at every size from 2000 on", () => {
  const random = new Random(56);
  using index = new IndexFixture();
  let bytesMax = 0;
  for (let key = 0; key < 60_000; key += 1) {
    index.insert(key, random.below(HASHES));
    if (key >= 2000 && key % 97 === 0) bytesMax = Math.max(bytesMax, (index.pageCount() * 4096) / (key + 1));
  }
  expect(bytesMax).toBeLessThan(16);
});

test("a miss costs as little as a hit at every size", () => {
  const random = new Random(57);
  using index = new IndexFixture();
  let offered = 0;
  let misses = 0;
  for (let key = 0; key < 40_000; key += 1) {
    index.insert(key, random.below(HASHES));
    if (key % 10 !== 0 || !index.keydir.seek(index.root, random.below(HASHES))) continue;
    misses += 1;
    while (index.keydir.next()) offered += 1;
  }
  expect(misses).toBe(4000);
  expect(offered).toBeLessThan(20);
  expect(index.cost().bucketsMax).toBeLessThan(24);
});

test("positions beyond 32 bits of units come back whole", () => {
  using index = new IndexFixture();
  for (const [round, units] of [2 ** 32 - 30, 2 ** 34, 2 ** 35, 2 ** 36 - 400].entries()) {
    index.skipTo(units);
    for (let key = 0; key < 100; key += 1) index.insert(round * 100 + key, (key * 7919) % HASHES);
    index.check();
  }
});

test("tombstones that an iterator may ask for stay, older ones go", () => {
  const random = new Random(58);
  using index = new IndexFixture();
  for (let key = 0; key < 3000; key += 1) index.insert(key, random.below(HASHES));
  // All removals lie behind the position: every tombstone must stay findable.
  for (let key = 0; key < 2900; key += 1) index.remove(key, 0);
  index.check();
  const kept = [...index.slots()].filter((slot) => slot.isRemoved).length;
  expect(kept).toBe(2900);
  // Once nobody asks for them any more, all of them go, and what is left moves together.
  index.keydir.shrinkSome(index.space, Infinity, { from: 0, most: Infinity });
  index.forgetRemoved();
  index.check();
  expect([...index.slots()].length).toBe(100);
  expect(index.pageCount()).toBe(1);
});

test("removals whose tombstones must be kept do not lay their shard out again each time", () => {
  const random = new Random(62);
  using index = new IndexFixture();
  for (let key = 0; key < 20_000; key += 1) index.insert(key, random.below(HASHES));
  let taken = 0;
  const { heap } = index;
  const takePage = heap.takePage.bind(heap);
  heap.takePage = () => ((taken += 1), takePage());
  for (let key = 0; key < 20_000; key += 1) index.remove(key, 0);
  expect(taken).toBeLessThan(2000);
  index.check();
});

test("shrinking a whole index keeps every record, whatever was removed", () => {
  for (const kept of [0, 1, 100, 5000, 19_000]) {
    const random = new Random(63);
    using index = new IndexFixture();
    for (let key = 0; key < 20_000; key += 1) index.insert(key, random.below(HASHES));
    for (let key = kept; key < 20_000; key += 1) index.remove(key, 0);
    index.forgetRemoved();
    index.keydir.shrinkSome(index.space, Infinity, { from: 0, most: Infinity });
    index.check();
    expect(index.pageCount()).toBeLessThan(4 + kept / 150);
    for (let key = 30_000; key < 35_000; key += 1) index.insert(key, random.below(HASHES));
    index.check();
  }
});

test("an empty namespace costs its entry of 64 bytes and no page", () => {
  using index = new IndexFixture();
  const before = index.heap.bytes;
  for (let id = 0; id < 1000; id += 1) index.heap.ensureSpace(id);
  expect((index.heap.bytes - before) / 1000).toBeLessThan(1024);
  expect(index.pageCount()).toBe(0);
});

test("a shard never holds more than four fifths of its slots when keys come one by one", () => {
  const random = new Random(68);
  using index = new IndexFixture();
  for (let key = 0; key < 12_000; key += 1) {
    index.insert(key, random.below(HASHES));
    if (key % 100 === 0) for (const { used, pages } of index.shards()) expect(used / pages.length).toBeLessThan(411);
  }
  index.check();
});

test("a slot that is read again is told from what it was, also when both differ by their high words alone", () => {
  using index = new IndexFixture();
  index.insert(0, 77);
  const { units } = index.model.get(0)!;
  expect(index.find(77, units)).toBe(1);
  expect(index.keydir.reload()).toBe(false);
  const writer = new Keydir(index.heap, index.reclaim);
  expect(writer.seek(index.root, 77) && writer.next()).toBe(true);
  for (const [moved, isRemoved] of [
    [units + 2 ** 32, false],
    [units + 2 ** 32, true],
  ] as const) {
    writer.replace(moved, isRemoved);
    expect(index.keydir.reload()).toBe(true);
    expect([index.keydir.units, isTombstone(index.keydir.high)]).toEqual([moved, isRemoved]);
  }
});

test("retiring a directory gives back every page and unit of its shards, and its own", () => {
  const random = new Random(59);
  using index = new IndexFixture();
  const pages = new Set<number>();
  const fill = (): void => {
    for (let key = 0; key < 50_000; key += 1) index.insert(key, random.below(HASHES));
  };
  fill();
  const bytes = index.heap.bytes;
  for (let round = 0; round < 5; round += 1) {
    const { root } = index;
    index.heap.writeNumber(index.space, 0);
    index.keydir.retireTree(root);
    pages.add(inUse(index));
    index.model.clear();
    index.check();
    fill();
    index.check();
  }
  expect(index.heap.bytes).toBeLessThan(bytes * 1.15);
  expect(pages.size).toBe(1);
});

test.each([0, 1, 2, 3, 4, 5, 6])(
  "a page that is crowded before its shard is full splits the shard (part %d of 7)",
  (part) => {
    const random = new Random(60 + part);
    using index = new IndexFixture();
    const width = Math.floor(HASHES / 7);
    let key = 0;
    for (; key < 1800; key += 1) index.insert(key, random.below(HASHES));
    for (; key < 2300; key += 1) index.insert(key, part * width + random.below(width));
    index.check();
    expect(index.pageCount()).toBeLessThan(14);
  },
);

test("more keys with one hash than a page has slots are EMDB_FULL, and what was there stays", () => {
  using index = new IndexFixture();
  for (let key = 0; key < 300; key += 1) index.insert(key, 12_345);
  index.check();
  let thrown: unknown;
  try {
    for (let key = 300; key < 3000; key += 1) index.insert(key, 12_345);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(EmdbError);
  expect(thrown).toMatchObject({ code: "EMDB_FULL" });
  index.check();
  // What was laid out for the half that fits is given back each time.
  const before = inUse(index);
  for (let key = 3000; key < 3020; key += 1) expect(() => index.insert(key, 12_345)).toThrow("no more room");
  expect(inUse(index)).toBe(before);
  index.check();
});

test("a shard that finds no memory half-way gives back the pages that it had, each once", () => {
  const random = new Random(69);
  using index = new IndexFixture();
  const { heap } = index;
  const [take, give] = [heap.takePage.bind(heap), heap.givePage.bind(heap)];
  const taken = new Set<number>();
  const again: number[] = [];
  heap.givePage = (page): void => {
    if (!taken.delete(page)) again.push(page);
    give(page);
  };
  let key = 0;
  for (let refused = 0; refused < 40; refused += 1) {
    let left = refused % 8;
    heap.takePage = () => {
      if (left-- === 0) throw new EmdbError("EMDB_FULL", "no memory");
      const page = take();
      taken.add(page);
      return page;
    };
    const insertMany = (): void => {
      for (let count = 0; count < 20_000; count += 1) index.insert(key++, random.below(HASHES));
    };
    expect(insertMany).toThrow("no memory");
    index.check();
  }
  expect(again).toEqual([]);
  // Descriptors and directories.
  expect(taken.size - index.pageCount()).toBeLessThan(8);
});

test("a tombstone at the position from which on they are kept is kept", () => {
  for (const isKept of [true, false]) {
    using index = new IndexFixture();
    for (let key = 0; key < 300; key += 1) index.insert(key, key * 1000);
    index.remove(7, 0);
    const { units } = index.model.get(7)!;
    // The shard is full, and laid out anew.
    for (let key = 300; key < 420; key += 1) {
      if (index.find(key * 1000, -1) > 0) throw new Error("nothing is at position -1");
      index.keydir.add(index.space, 100_000 + key, isKept ? units : units + 1);
    }
    expect(index.find(7000, units) > 0).toBe(isKept);
  }
});

test("keys that come many at once leave no page of what they replaced", () => {
  const random = new Random(70);
  using index = new IndexFixture();
  const others: number[] = [];
  for (let round = 0; round < 12; round += 1) {
    const hashes = Array.from({ length: 5000 }, () => random.below(HASHES));
    index.insertNew(round * 5000, hashes);
    others.push(inUse(index) - index.pageCount());
  }
  index.check();
  // Descriptors, directories, and what the system gives more at a time.
  expect(Math.max(...others) - Math.min(...others)).toBeLessThan(8);
});

test("recounting a shard finds the counts that it had", () => {
  const random = new Random(61);
  using index = new IndexFixture();
  for (let key = 0; key < 5000; key += 1) index.insert(key, random.below(HASHES));
  for (let key = 0; key < 1000; key += 1) index.remove(key, 0);
  for (const shard of index.shards()) {
    for (const at of [40, 44]) index.heap.write32(index.heap.unitAddress(shard.unit) + at, 7);
    expect(recountShard(index.keydir, shard.unit)).toBe(shard.live);
    expect(index.keydir.describe(shard.unit)).toEqual(shard);
  }
});

test.each([600, 680, 700, 780, 860, 880])("room for %i keys more lets a shard of 2000 take them as it is", (ahead) => {
  const random = new Random(62);
  using index = new IndexFixture();
  for (let key = 0; key < 2000; key += 1) index.insert(key, random.below(HASHES));
  index.keydir.prepare(index.space, Infinity, (_, depth) => Math.floor(ahead / 2 ** depth));
  const pages = index.pageCount();
  expect(pages).toBeGreaterThanOrEqual(7);
  for (let key = 2000; key < 2000 + ahead - 40; key += 1) index.insert(key, random.below(HASHES));
  expect(index.pageCount()).toBe(pages);
  index.check();
});
