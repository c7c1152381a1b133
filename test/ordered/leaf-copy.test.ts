/** A tree copied in parts and made anew from them: each part shows its own moment, and nothing falls between two. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { randomFrom } from "../../bench/lib/data.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { TreeCheck } from "../../src/ordered/check.ts";
import { LeafAdoption } from "../../src/ordered/leaf-adoption.ts";
import { LEAF_PART_BYTES_MAX, LeafCopy, rebaseLeaves } from "../../src/ordered/leaf-copy.ts";
import { FULL_SHAPE, type Shape } from "../../src/ordered/node.ts";
import { Grove, TINY } from "./grove.ts";

setDefaultTimeout(60_000);

/** Keys with long common beginnings, of all lengths, so that prefixes and long separators are met. */
function makeKey(random: () => number, shape: Shape): Uint8Array {
  const pick = (count: number): number => Math.floor(random() * count);
  const alphabet = shape === TINY ? [0, 0x61, 0xff] : [0, 1, 2, 0x61, 0x62, 0x63, 0xfd, 0xfe, 0xff];
  const stem = [[], [0x61], [0x61, 0x61, 0x61, 0x61, 0x61, 0x61], Array.from({ length: 90 }, () => 0xff)][pick(4)]!;
  return new Uint8Array([...stem, ...Array.from({ length: pick(6) }, () => alphabet[pick(alphabet.length)]!)]);
}

const memory = pinned(LEAF_PART_BYTES_MAX);

for (const [name, shape, keys] of [
  ["tiny", TINY, 120],
  ["whole", FULL_SHAPE, 4000],
] as const) {
  for (const attached of [1, 2]) {
    test(`a tree of ${name} nodes that changes while it is copied comes back as its parts saw it, ${attached} attached`, () => {
      for (let seed = 1; seed <= 30; seed++) {
        using grove = new Grove({ shape, attached });
        const random = randomFrom(seed);
        const live = new Map<string, { key: Uint8Array; units: number }>();
        const change = (growth: number): void => {
          const key = makeKey(random, shape);
          const known = live.get(key.toHex());
          if (known === undefined || random() < growth) {
            live.set(key.toHex(), { key, units: grove.put(key, known?.units ?? 0, 0) });
          } else {
            grove.remove(key, known.units, 0);
            live.delete(key.toHex());
          }
        };
        for (let step = 0; step < keys; step++) change(0.9);
        const copier = new LeafCopy(grove.heap, grove.keys, shape);
        const adoption = new LeafAdoption(grove.heap, shape);
        const wanted: number[] = [];
        let from: Uint8Array | undefined;
        do {
          const next = copier.next(grove.tree, from, { memory, at: 0 });
          expect(copier.bytes).toBeLessThanOrEqual(LEAF_PART_BYTES_MAX);
          expect(adoption.add(memory, { at: 0, bytes: copier.bytes })).toBe(true);
          const held = [...live.values()].sort((a, b) => Buffer.compare(a.key, b.key));
          for (const { key, units } of held) {
            if (from !== undefined && Buffer.compare(key, from) < 0) continue;
            if (next !== undefined && Buffer.compare(key, next) >= 0) continue;
            wanted.push(units);
          }
          for (let step = 0; step < keys / 30; step++) change(seed % 2 === 0 ? 0.2 : 0.8);
          from = next;
        } while (from !== undefined);
        const tree = adoption.finish();
        const found: number[] = [];
        const check = new TreeCheck({ heap: grove.heap, keys: grove.keys, shape }, (units, isTombstone) => {
          if (isTombstone) throw new Error(`seed ${seed}: a tombstone was copied`);
          found.push(units);
        });
        if (tree !== 0) expect(check.walk(tree).faults).toEqual([]);
        expect(found).toEqual(wanted);
        // It is a tree like any other from here on.
        if (tree === 0) continue;
        grove.tree = tree;
        for (const units of wanted) expect(grove.erase(grove.keys.keys[units]!)).toBe(true);
        expect(grove.check().faults).toEqual([]);
        expect(grove.range()).toEqual([]);
      }
    });
  }
}

test("keys of up to 65535 bytes and the separators between them are copied whole", () => {
  using grove = new Grove();
  for (let index = 0; index < 130; index++) {
    const key = new Uint8Array(65_535 - (index % 3)).fill(0xff);
    key[key.length - 1] = index;
    grove.put(key, 0);
  }
  const copier = new LeafCopy(grove.heap, grove.keys);
  const adoption = new LeafAdoption(grove.heap);
  let from: Uint8Array | undefined;
  do {
    from = copier.next(grove.tree, from, { memory, at: 0 });
    expect(adoption.add(memory, { at: 0, bytes: copier.bytes })).toBe(true);
  } while (from !== undefined);
  const before = grove.range();
  grove.tree = adoption.finish();
  expect(grove.check().faults).toEqual([]);
  expect(grove.range()).toEqual(before);
});

test("positions move towards the beginning, beyond 32 bits as well, and nothing else of a part does", () => {
  using grove = new Grove();
  for (let index = 0; index < 300; index++) grove.put(new Uint8Array([index >> 8, index & 255]), 0);
  const units = grove.range();
  const far = 5 * 2 ** 32 + 7;
  for (const one of units) grove.keys.keys[one + far] = grove.keys.keys[one]!;
  const translate = (positions: Float64Array, count: number): void => {
    for (let index = 0; index < count; index++) positions[index]! += far;
  };
  grove.index.relocate(grove.tree, undefined, { leaves: 1000, translate });
  const copier = new LeafCopy(grove.heap, grove.keys);
  copier.next(grove.tree, undefined, { memory, at: 0 });
  expect(rebaseLeaves(memory, { at: 0, bytes: copier.bytes }, { positions: grove.heap.positions, base: far })).toBe(1);
  const adoption = new LeafAdoption(grove.heap);
  expect(adoption.add(memory, { at: 0, bytes: copier.bytes })).toBe(true);
  grove.tree = adoption.finish();
  expect(grove.range()).toEqual(units);
  expect(grove.check().faults).toEqual([]);
});

test("what does not make sense as leaves is refused, and what was taken of it given back", () => {
  using grove = new Grove();
  for (let index = 0; index < 300; index++)
    grove.put(new Uint8Array([index >> 8, index & 255, 9, 9, 9, 9, 9, 9, 9, 9]), 0);
  const copier = new LeafCopy(grove.heap, grove.keys);
  copier.next(grove.tree, undefined, { memory, at: 0 });
  const { bytes } = copier;
  const sound = memory.u8.slice(0, bytes);
  // The stack of free pages takes its memory at its first page.
  const inUse = (): number => grove.heap.bytes - grove.heap.idlePages * 4096;
  grove.heap.givePage(grove.heap.takePages(1));
  const before = inUse();
  for (let word = 0; word < 24; word++) {
    for (const value of [0xffffffff, 0x7fffffff, 100_000, 1025, 64]) {
      memory.u8.set(sound);
      memory.u32[word] = value;
      const adoption = new LeafAdoption(grove.heap);
      adoption.add(memory, { at: 0, bytes });
      adoption.abandon();
    }
  }
  memory.u8.set(sound);
  const adoption = new LeafAdoption(grove.heap);
  expect(adoption.add(memory, { at: 0, bytes: bytes - 8 })).toBe(false);
  adoption.abandon();
  expect(inUse()).toBe(before);
});
