/** Walks that are held while the tree changes under them, several over one reader, taking turns. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { randomFrom } from "../../bench/lib/data.ts";
import { TreeCheck } from "../../src/ordered/check.ts";
import { FULL_SHAPE } from "../../src/ordered/node.ts";
import { remainderOf, type Bound, type Remainder } from "../../src/ordered/range-reader.ts";
import { Grove, TINY } from "./grove.ts";

setDefaultTimeout(60_000);

interface Walk {
  readonly rest: Remainder;
  readonly lower: Bound | undefined;
  readonly upper: Bound | undefined;
  /** Keys that have been there all the time, within the bounds. */
  readonly due: Set<string>;
  readonly seen: string[];
}

const keyOf = (random: () => number, span: number): Uint8Array => {
  const number = Math.floor(random() * span);
  return new Uint8Array([number >> 8, 0x61, 0x61, number & 255]);
};

function isIn(key: Uint8Array, walk: Pick<Walk, "lower" | "upper">): boolean {
  const low = walk.lower === undefined ? 1 : Buffer.compare(key, walk.lower.key);
  const high = walk.upper === undefined ? -1 : Buffer.compare(key, walk.upper.key);
  return (
    (low > 0 || (low === 0 && walk.lower?.isInclusive === true)) &&
    (high < 0 || (high === 0 && walk.upper?.isInclusive === true))
  );
}

for (const [name, shape] of [
  ["tiny", TINY],
  ["whole", FULL_SHAPE],
] as const) {
  test(`held walks over a tree of ${name} nodes give in order and once what was there throughout`, () => {
    for (let seed = 1; seed <= 40; seed++) {
      using grove = new Grove({ shape, attached: 1 + (seed % 2) });
      const random = randomFrom(seed);
      const span = shape === TINY ? 120 : 1500;
      const live = new Map<string, Uint8Array>();
      const walks: Walk[] = [];
      const to = new Float64Array(64);
      const change = (isGrowing: boolean): void => {
        const key = keyOf(random, span);
        if (random() < (isGrowing ? 0.8 : 0.25)) {
          grove.put(key, 0);
          live.set(key.toHex(), key);
        } else if (grove.erase(key)) {
          live.delete(key.toHex());
          for (const walk of walks) walk.due.delete(key.toHex());
        }
      };
      const begin = (): void => {
        const bound = (): Bound => ({ key: keyOf(random, span), isInclusive: random() < 0.5 });
        const lower = random() < 0.3 ? bound() : undefined;
        const upper = random() < 0.3 ? bound() : undefined;
        const due = new Set([...live].filter(([, key]) => isIn(key, { lower, upper })).map(([hex]) => hex));
        const rest = remainderOf({ lower, upper, isReverse: random() < 0.5 });
        walks.push({ rest, lower, upper, due, seen: [] });
      };
      const go = (walk: Walk): boolean => {
        const count = grove.reader.take(grove.tree, walk.rest, to, 1 + Math.floor(random() * to.length));
        for (const units of to.subarray(0, count)) walk.seen.push(grove.keys.keys[units]!.toHex());
        if (count > 0) return true;
        const ordered = walk.rest.isReverse ? walk.seen.toReversed() : walk.seen;
        for (let index = 1; index < ordered.length; index++) {
          if (ordered[index - 1]! >= ordered[index]!)
            throw new Error(`seed ${seed}: ${ordered[index]} is out of order`);
        }
        const seen = new Set(walk.seen);
        for (const hex of walk.due) if (!seen.has(hex)) throw new Error(`seed ${seed}: ${hex} was passed over`);
        if (walk.seen.some((hex) => !isIn(Uint8Array.fromHex(hex), walk)))
          throw new Error(`seed ${seed}: out of bounds`);
        return false;
      };
      for (let step = 0; step < span; step++) change(true);
      for (let round = 0; round < 200; round++) {
        if (walks.length < 4) begin();
        // Quiet rounds, in which a walk may go on beside the leaf that it was in, and busy ones.
        const changes = random() < 0.5 ? 0 : Math.floor(random() * 12);
        for (let one = 0; one < changes; one++) change(Math.floor(round / 25) % 2 === 0);
        const index = Math.floor(random() * walks.length);
        if (!go(walks[index]!)) walks.splice(index, 1);
      }
      for (const walk of walks) while (go(walk));
      expect(grove.check().faults).toEqual([]);
    }
  });
}

test("what a walk remembers of its last leaf never leads it anywhere else than its key does", () => {
  let besides = 0;
  for (let seed = 1; seed <= 60; seed++) {
    using grove = new Grove({ shape: TINY, attached: 1 + (seed % 2) });
    const random = randomFrom(seed);
    for (let step = 0; step < 40; step++) grove.put(keyOf(random, 60), 0);
    const to = new Float64Array(8);
    const rest = remainderOf({ isReverse: seed % 3 === 0 });
    grove.reader.take(grove.tree, rest, to, to.length);
    // None at first: then the way beside the leaf is the one that is gone.
    for (let step = 0; step < Math.floor(seed / 10) * 20; step++) {
      if (random() < 0.5) grove.put(keyOf(random, 60), 0);
      else grove.erase(keyOf(random, 60));
    }
    for (const units of grove.range()) {
      const elsewhere = remainderOf({ lower: { key: grove.keys.keys[units]!, isInclusive: true } });
      grove.reader.take(grove.tree, elsewhere, to, 1);
      const known = { ...rest };
      const forgotten = { ...rest, leaf: 0 };
      const found = [...to.subarray(0, grove.reader.take(grove.tree, known, to, to.length))];
      const wanted = [...to.subarray(0, grove.reader.take(grove.tree, forgotten, to, to.length))];
      expect({ seed, found }).toEqual({ seed, found: wanted });
      besides += 1;
    }
  }
  expect(besides).toBeGreaterThan(100);
});

test("a walk goes on as if another over the same reader, or itself, had not been cut short by an error on its way", () => {
  let errors = 0;
  for (let seed = 1; seed <= 40; seed++) {
    using grove = new Grove({ shape: TINY });
    const random = randomFrom(seed);
    for (let step = 0; step < 100; step++) grove.put(keyOf(random, 200), 0);
    const { heap, keys } = grove;
    const { blockAddress } = heap;
    const loadKey = keys.loadKey.bind(keys);
    /** Throws what a call at the end of the stack does, at the first node or key that is not at hand, or one behind it. */
    const cutShort = (call: () => number): number | undefined => {
      let left = Math.floor(random() * 3);
      const count = (): void => {
        if (left === 0) throw new RangeError("no room on the stack");
        left -= 1;
      };
      heap.blockAddress = (block) => (count(), blockAddress.call(heap, block));
      keys.loadKey = (units) => (count(), loadKey(units));
      try {
        return call();
      } catch {
        errors += 1;
        return undefined;
      } finally {
        heap.blockAddress = blockAddress;
        keys.loadKey = loadKey;
      }
    };
    const to = new Float64Array(TINY.capacity + 2);
    const isReverse = seed % 2 === 0;
    const seen: number[] = [];
    const rest = remainderOf({ isReverse });
    for (let count = 1; count > 0;) {
      const room = 1 + Math.floor(random() * to.length);
      const take = (): number => grove.reader.take(grove.tree, rest, to, room);
      count = cutShort(take) ?? take();
      seen.push(...to.subarray(0, count));
      const elsewhere = remainderOf({ lower: { key: keyOf(random, 200), isInclusive: true } });
      cutShort(() => grove.reader.take(grove.tree, elsewhere, new Float64Array(3), 3));
    }
    expect({ seed, seen }).toEqual({ seed, seen: grove.range({ isReverse }) });
  }
  expect(errors).toBeGreaterThan(500);
});

test("a check in slices finds a sound tree sound while it changes, and sees what was there throughout once", () => {
  for (let seed = 1; seed <= 40; seed++) {
    using grove = new Grove({ shape: TINY, attached: 1 + (seed % 2) });
    const random = randomFrom(seed);
    const due = new Map<string, number>();
    for (let step = 0; step < 150; step++) {
      const key = keyOf(random, 120);
      due.set(key.toHex(), grove.put(key, 0));
    }
    const seen: string[] = [];
    const visit = (units: number): void => void seen.push(grove.keys.keys[units]!.toHex());
    const check = new TreeCheck({ heap: grove.heap, keys: grove.keys, shape: TINY }, visit);
    let from: Uint8Array | undefined;
    do {
      from = check.slice(grove.tree, from, 1 + (seed % 3));
      for (let step = 0; step < 6; step++) {
        const key = keyOf(random, 120);
        if (random() < 0.5) grove.put(key, 0);
        else if (grove.erase(key)) due.delete(key.toHex());
      }
    } while (from !== undefined);
    expect({ seed, faults: check.facts.faults }).toEqual({ seed, faults: [] });
    expect(seen).toEqual([...new Set(seen)].sort());
    const held = new Set(seen);
    expect([...due.keys()].filter((hex) => !held.has(hex))).toEqual([]);
    expect(check.facts.records).toBe(seen.length);
  }
});
