/** What the tree costs, counted and not timed: bytes for each record, looks at the log, memory after a mass removal. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { randomFrom } from "../../bench/lib/data.ts";
import { orders } from "../../bench/lib/orders.ts";
import { FULL_SHAPE } from "../../src/ordered/node.ts";
import { Grove } from "./grove.ts";

setDefaultTimeout(60_000);

const COUNT = 40_000;

function randomKeys(count: number): Uint8Array[] {
  const random = randomFrom(5);
  return Array.from({ length: count }, () => Uint8Array.from({ length: 24 }, () => random() * 256));
}

/** Shared beginnings and ends, as keys of people's making have. */
function namedKeys(count: number): Uint8Array[] {
  const encoder = new TextEncoder();
  return Array.from({ length: count }, (_, index) =>
    encoder.encode(`user:00000000${String((index * 7919) % count).padStart(9, "0")}`),
  );
}

const inUse = (grove: Grove): number => grove.heap.bytes - grove.heap.idlePages * 4096;

test("24-byte random keys take less than 29 bytes each, and hardly a look at the log", () => {
  using grove = new Grove();
  for (const key of randomKeys(COUNT)) grove.put(key, 0);
  expect(inUse(grove) / COUNT).toBeLessThan(29);
  expect(grove.keys.loads / COUNT).toBeLessThan(0.2);
});

test("sorted keys fill their leaves, forwards as well as backwards", () => {
  const sorted = randomKeys(COUNT).sort(Buffer.compare);
  for (const keys of [sorted, sorted.toReversed()]) {
    using grove = new Grove();
    for (const key of keys) grove.put(key, 0);
    expect(inUse(grove) / COUNT).toBeLessThan(18);
    expect(grove.check().faults).toEqual([]);
  }
});

function expectAtMost(bytesMax: number, order: string, made: (key: Uint8Array) => Uint8Array): void {
  using grove = new Grove();
  const encoder = new TextEncoder();
  const keys = [...orders[order]!(COUNT)];
  for (const key of keys) grove.put(made(encoder.encode(key)), 0);
  expect(inUse(grove) / keys.length).toBeLessThan(bytesMax);
  expect(grove.check().faults).toEqual([]);
}

// 16.3 bytes are those of a full leaf; where each is half full it is 33.
test.each([
  ["in order", 17.5],
  ["in order, backwards", 17.5],
  ["in order but for twenty", 27],
  ["numbers without zeros in front", 24],
  ["a hundred streams in turn", 22],
  ["streams of a hundred keys in turn", 27],
  ["a hundred stretches", 22],
  ["stretches of ten", 28],
] as const)("keys that come %s take at most %p bytes each", (order, bytesMax) => {
  expectAtMost(bytesMax, order, (key) => key);
});

// Each stream goes backwards then, as keys do that begin with a time from the newest on.
test.each([
  ["a hundred streams in turn", 22],
  ["streams of a hundred keys in turn", 27],
  ["a hundred stretches", 22],
  ["in order but for twenty", 27],
] as const)("keys that come %s, each backwards, take at most %p bytes each", (order, bytesMax) => {
  expectAtMost(bytesMax, order, (key) => key.map((byte) => 255 - byte));
});

test("keys with long common beginnings are mostly told apart without the log", () => {
  using grove = new Grove();
  for (const key of namedKeys(COUNT)) grove.put(key, 0);
  expect(grove.keys.loads / COUNT).toBeLessThan(2);
  expect(inUse(grove) / COUNT).toBeLessThan(29);
  const before = grove.keys.loads;
  for (const key of namedKeys(COUNT)) grove.index.find(grove.tree, grove.probe(key), 0);
  // One look each to see that the key is the entry's, if that is longer than its inline part.
  expect((grove.keys.loads - before) / COUNT).toBeLessThan(1.1);
});

test("an overwrite or a removal whose old position is known looks at no key", () => {
  using grove = new Grove();
  const keys = randomKeys(5000);
  let units = keys.map((key) => grove.put(key, 0));
  const before = grove.keys.loads;
  units = keys.map((key, index) => grove.put(key, units[index]!));
  keys.forEach((key, index) => grove.remove(key, units[index]!, 0));
  expect(grove.keys.loads).toBe(before);
});

test("a mass removal gives the memory back, in any order", () => {
  const random = randomKeys(COUNT);
  for (const keys of [random, random.toSorted(Buffer.compare), random.toSorted(Buffer.compare).reverse()]) {
    using grove = new Grove();
    const units = keys.map((key) => grove.put(key, 0));
    const full = inUse(grove);
    keys.forEach((key, index) => grove.remove(key, units[index]!));
    expect(inUse(grove)).toBeLessThan(full / 5);
    expect(grove.check().faults).toEqual([]);
  }
});

test("leaves that have lost three keys in four, here and there, are joined", () => {
  using grove = new Grove();
  const keys = randomKeys(COUNT);
  const units = keys.map((key) => grove.put(key, 0));
  const full = grove.check().leaves;
  keys.forEach((key, index) => index % 4 > 0 && grove.remove(key, units[index]!));
  const { leaves, faults } = grove.check();
  expect(faults).toEqual([]);
  expect(leaves).toBeLessThan(full * 0.65);
});

test("a full leaf drops old tombstones before it is divided, and they are counted no more", () => {
  using grove = new Grove();
  const keys = randomKeys(FULL_SHAPE.capacity + 4);
  const first = keys.splice(0, FULL_SHAPE.capacity);
  const units = first.map((key) => grove.put(key, 0));
  for (const [index, key] of first.slice(0, 4).entries()) grove.remove(key, units[index]!, 0);
  expect([grove.countedTombstones, grove.check().tombstones]).toEqual([4, 4]);
  const leaf = grove.heap.readNumber(grove.heap.unitAddress(grove.tree));
  for (const key of keys.splice(0, 4)) grove.put(key, 0);
  expect([grove.countedTombstones, grove.check().tombstones]).toEqual([0, 0]);
  expect(grove.heap.readNumber(grove.heap.unitAddress(grove.tree))).toBe(leaf);
});

test("tombstones of one batch, which stay until it is visible, are tidied away afterwards", () => {
  using grove = new Grove();
  const keys = randomKeys(COUNT);
  const units = keys.map((key) => grove.put(key, 0));
  const full = inUse(grove);
  keys.forEach((key, index) => grove.remove(key, units[index]!, 0));
  expect(grove.check().tombstones).toBe(COUNT);
  grove.index.recount(grove.tree);
  expect(grove.check()).toMatchObject({ faults: [], tombstones: COUNT });
  let rounds = 0;
  while (grove.index.tidy(grove.tree, Infinity, { records: 0, leaves: 100 })) rounds += 1;
  expect(rounds).toBeLessThan(30);
  expect(grove.check().tombstones).toBeLessThan(64);
  expect(inUse(grove)).toBeLessThan(full / 5);
});

test("no key, sorted or random, is more work than new nodes on one way down", () => {
  const random = randomKeys(COUNT);
  for (const keys of [random, random.toSorted(Buffer.compare), random.toSorted(Buffer.compare).reverse()]) {
    using grove = new Grove({ attached: 2 });
    const take = grove.heap.takeBlock.bind(grove.heap);
    let blocks = 0;
    grove.heap.takeBlock = () => {
      blocks += 1;
      return take();
    };
    let most = 0;
    let sum = 0;
    for (const key of keys) {
      blocks = 0;
      grove.put(key, 0);
      most = Math.max(most, blocks);
      sum += blocks;
    }
    // A leaf and its two halves' way up: two nodes a level, four levels at most here.
    expect(most).toBeLessThanOrEqual(8);
    expect(sum / COUNT).toBeLessThan(1.1);
  }
});
