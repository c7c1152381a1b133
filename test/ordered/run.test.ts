/** Runs of keys nearly in order make the tree that putting them one by one makes. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { randomFrom } from "../../bench/lib/data.ts";
import { FULL_SHAPE } from "../../src/ordered/node.ts";
import { Grove, TINY } from "./grove.ts";

setDefaultTimeout(60_000);

for (const [name, shape, count] of [
  ["tiny", TINY, 150],
  ["whole", FULL_SHAPE, 3000],
] as const) {
  test(`runs of keys sorted by a few bytes fill a tree of ${name} nodes as any other order does`, () => {
    for (let seed = 1; seed <= 40; seed++) {
      using grove = new Grove({ shape });
      const random = randomFrom(seed);
      const stem = [[], [0x61, 0x61, 0x61, 0x61, 0x61], Array.from({ length: 40 }, () => 0xff)][seed % 3]!;
      const keys = new Map<string, Uint8Array>();
      for (let step = 0; step < count; step++) {
        const rest = Array.from({ length: Math.floor(random() * 12) }, () => Math.floor(random() * 3) * 127);
        const key = new Uint8Array([...(random() < 0.8 ? stem : []), ...rest]);
        keys.set(key.toHex(), key);
      }
      const all = [...keys.values()];
      // By two bytes behind the stem only: neighbours come in any order, also over a leaf's end.
      const rank = (key: Uint8Array): number => (key[stem.length] ?? 0) * 256 + (key[stem.length + 1] ?? 0);
      for (const [from, end] of [
        [0, all.length >> 1],
        [all.length >> 1, all.length],
      ] as const) {
        for (const key of all.slice(from, end).sort((a, b) => rank(a) - rank(b))) grove.enter(key, 0);
        grove.index.endRun();
      }
      expect(grove.check().faults).toEqual([]);
      const found = grove.range({}, 64).map((units) => grove.keys.keys[units]!.toHex());
      expect(found).toEqual(all.sort(Buffer.compare).map((key) => key.toHex()));
    }
  });
}

test("keys that are entered into two trees by turns are each in its own", () => {
  using grove = new Grove({ shape: TINY });
  const trees = [grove.tree, grove.index.plant()];
  for (let number = 0; number < 60; number++) {
    grove.tree = trees[Math.floor(number / 3) % 2]!;
    grove.enter(new Uint8Array([number]), 0);
  }
  grove.index.endRun();
  for (const [turn, tree] of trees.entries()) {
    grove.tree = tree;
    expect(grove.check().faults).toEqual([]);
    const numbers = grove.range().map((units) => grove.keys.keys[units]![0]!);
    expect(numbers).toEqual(Array.from({ length: 60 }, (_, at) => at).filter((at) => Math.floor(at / 3) % 2 === turn));
  }
});

test("sorted keys that are entered fill their leaves and store each about once", () => {
  using grove = new Grove();
  const count = 20_000;
  for (let index = 0; index < count; index++) {
    const key = new Uint8Array([index >> 16, (index >> 8) & 255, index & 255, 1, 2, 3, 4, 5, 6, 7]);
    grove.enter(key, 0);
  }
  grove.index.endRun();
  const { leaves, faults } = grove.check();
  expect(faults).toEqual([]);
  expect(leaves).toBeLessThanOrEqual(Math.ceil(count / FULL_SHAPE.capacity) + 1);
});

for (const [attached, seeds] of [
  [1, 60],
  [2, 60],
] as const) {
  test(`runs over keys that are there, were removed or come twice, ${attached} attached`, () => {
    for (let seed = 1; seed <= seeds; seed++) {
      using grove = new Grove({ shape: TINY, attached });
      const random = randomFrom(seed);
      const below = (limit: number): number => Math.floor(random() * limit);
      const keepFrom = seed % 2 === 0 ? Infinity : 0;
      /** By key: its newest frame, and whether that removed it. */
      const held = new Map<string, { units: number; isTombstone: boolean }>();
      const keyOf = (number: number): Uint8Array => new Uint8Array([97, 97, number >> 4, number & 15, 98]);
      for (let round = 0; round < 12; round++) {
        for (let removals = below(12); removals > 0; removals--) {
          const key = keyOf(below(150));
          const known = held.get(key.toHex());
          if (known === undefined || known.isTombstone) continue;
          held.set(key.toHex(), { units: grove.remove(key, known.units, keepFrom), isTombstone: true });
        }
        const run = Array.from({ length: 1 + below(40) }, () => below(150)).sort((a, b) => a - b);
        // Now and then two neighbours in the wrong order.
        for (let at = 0; at + 1 < run.length; at += 1 + below(5)) [run[at], run[at + 1]] = [run[at + 1]!, run[at]!];
        for (const number of run) {
          const key = keyOf(number);
          const known = held.get(key.toHex());
          // What is thought to be held may be a tombstone that is gone, or nothing.
          const units = grove.enter(key, below(3) === 0 ? 0 : (known?.units ?? 0), keepFrom);
          held.set(key.toHex(), { units, isTombstone: false });
        }
        grove.index.endRun();
        const seen = new Map<number, boolean>();
        const { faults, tombstones } = grove.check((units, isTombstone) => seen.set(units, isTombstone));
        expect([faults, tombstones]).toEqual([[], grove.countedTombstones]);
        const live = [...held.values()].filter((entry) => !entry.isTombstone).map((entry) => entry.units);
        expect(
          [...seen]
            .filter(([, isTombstone]) => !isTombstone)
            .map(([units]) => units)
            .sort((a, b) => a - b),
        ).toEqual(live.sort((a, b) => a - b));
        if (keepFrom === 0) expect(seen.size).toBe(held.size);
      }
    }
  });
}

test("a run that is forgotten leaves out what was in scratch, and nothing else", () => {
  using grove = new Grove({ shape: TINY });
  for (const number of [1, 3, 5]) grove.put(new Uint8Array([number]), 0);
  grove.enter(new Uint8Array([2]), 0);
  grove.index.forgetRun();
  grove.enter(new Uint8Array([4]), 0);
  grove.index.endRun();
  expect(grove.range().map((units) => grove.keys.keys[units]![0])).toEqual([1, 3, 4, 5]);
  expect(grove.check().faults).toEqual([]);
});

test("a key that cannot be added because a neighbour cannot be read leaves nothing for a run over another tree", () => {
  using grove = new Grove();
  const stem = "p".repeat(FULL_SHAPE.prefixBytesMax + 20);
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
  const first = grove.put(bytes(`${stem}1`), 0);
  for (const end of ["2", "3", "4", "5"]) grove.put(bytes(stem + end), 0);
  const { keys } = grove.keys;
  const loadKey = grove.keys.loadKey.bind(grove.keys);
  grove.keys.loadKey = (units) => {
    if (units === first) throw new Error("it has rotted");
    return loadKey(units);
  };
  expect(() => grove.put(bytes(`${stem}45`), 0)).toThrow("it has rotted");
  grove.keys.loadKey = loadKey;
  // As `undo` does.
  expect(grove.index.find(grove.tree, grove.probe(bytes(`${stem}45`)), 0)).toBe(false);
  const other = grove.index.plant();
  const tree = grove.tree;
  grove.tree = other;
  for (const key of ["other 1", "other 2"]) grove.enter(bytes(key), 0);
  grove.index.endRun();
  const textsOf = (): string[] => grove.range().map((units) => Buffer.from(keys[units]!).toString());
  expect([textsOf(), grove.check().faults]).toEqual([["other 1", "other 2"], []]);
  grove.tree = tree;
  expect([textsOf(), grove.check().faults]).toEqual([["1", "2", "3", "4", "5"].map((end) => stem + end), []]);
});
