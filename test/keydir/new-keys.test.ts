/** Many new keys put into the index at once: what adding them one by one gives, however their hashes lie. */

import { expect, test } from "bun:test";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { Random } from "../sim/random.ts";
import { IndexFixture } from "./fixture.ts";

const HASHES = 2 ** HASH_BITS;

/** Hashes of so many keys out of a part of all hashes. */
function hashesIn(random: Random, count: number, part: { readonly from: number; readonly width: number }): number[] {
  return Array.from({ length: count }, () => part.from + random.below(part.width));
}

const everywhere = { from: 0, width: HASHES };

test.each([
  ["a few", [10], everywhere],
  ["what fills half a shard, twice", [1000, 1000], everywhere],
  ["many at once, then few, then many", [60_000, 50, 40_000], everywhere],
  ["many in the last sixteenth of the hashes", [20_000, 20_000], { from: HASHES - HASHES / 16, width: HASHES / 16 }],
  ["as many as a page holds with nearly one hash", [450], { from: 12_345 << 4, width: 16 }],
  ["more than the pages hold that all of them belong to", [5000, 6000], { from: 0, width: HASHES / 3 }],
  ["crowded hashes, of which a page cannot hold all, among others", [4500, 8000], { from: HASHES / 2, width: 4096 }],
] as const)("of %s, each is found, none twice, and the counts are exact", (_, counts, part) => {
  const random = new Random(91);
  using index = new IndexFixture();
  // Positions beyond 32 bits: the high word of a slot is more than a hash.
  index.skipTo(5 * 2 ** 32);
  let first = 0;
  for (const count of counts) {
    index.insertNew(first, hashesIn(random, count, part));
    first += count;
    index.insertNew(first, hashesIn(random, 300, everywhere));
    first += 300;
    index.check();
  }
  expect(index.liveCount()).toBe(first);
});

test("keys put in at once and one by one, replaced and removed in between, are what a Map holds", () => {
  const random = new Random(92);
  using index = new IndexFixture();
  let next = 0;
  for (let round = 0; round < 12; round += 1) {
    const count = random.below(round % 3 === 0 ? 20_000 : 500);
    index.insertNew(next, hashesIn(random, count, everywhere));
    next += count;
    for (let step = 0; step < 300; step += 1) {
      const key = random.below(next + 1);
      index.insert(key, index.model.get(key)?.hash ?? random.below(HASHES));
    }
    next += 1;
    for (let step = 0; step < 300; step += 1) index.remove(random.below(next));
    index.check();
  }
});
