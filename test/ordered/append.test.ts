/** Bulk loading: keys nearly in order, in several runs, make the tree that adding them one by one makes. */

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
        for (const key of all.slice(from, end).sort((a, b) => rank(a) - rank(b)))
          grove.index.append(grove.tree, grove.probe(key), grove.keys.append(key));
        grove.index.endAppend();
      }
      expect(grove.check().faults).toEqual([]);
      const found = grove.range({}, 64).map((units) => grove.keys.keys[units]!.toHex());
      expect(found).toEqual(all.sort(Buffer.compare).map((key) => key.toHex()));
    }
  });
}

test("sorted keys that are appended fill their leaves and store each about once", () => {
  using grove = new Grove();
  const count = 20_000;
  for (let index = 0; index < count; index++) {
    const key = new Uint8Array([index >> 16, (index >> 8) & 255, index & 255, 1, 2, 3, 4, 5, 6, 7]);
    grove.index.append(grove.tree, grove.probe(key), grove.keys.append(key));
  }
  grove.index.endAppend();
  const { leaves, faults } = grove.check();
  expect(faults).toEqual([]);
  expect(leaves).toBeLessThanOrEqual(Math.ceil(count / FULL_SHAPE.capacity) + 1);
});
