/** Keys that rot in the log under an ordered index: whatever they say by now, a range ends, and so does every walk by separators. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { TreeCheck } from "../../src/ordered/check.ts";
import { remainderOf } from "../../src/ordered/range-reader.ts";
import { Random } from "../sim/random.ts";
import { Grove, TINY } from "./grove.ts";

setDefaultTimeout(60_000);

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const named = (index: number): Uint8Array => bytes(`key of some length ${String(index).padStart(4, "0")}`);

/** What a call throws, if that is damage; anything else is thrown on. */
function damageOf(call: () => void): EmdbError | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof EmdbError && error.code === "EMDB_CORRUPTED") return error;
    throw error;
  }
}

/**
 * Takes a range in parts of `part`, or each beside a look at something else, behind which it goes on at a key; throws when it
 * gives many times more than there is.
 */
function takeAll(
  grove: Grove,
  way: { readonly isReverse: boolean; readonly isBeside?: boolean },
  part: number,
): number {
  const rest = remainderOf(way);
  const to = new Float64Array(part);
  let given = 0;
  for (;;) {
    const count = grove.reader.take(grove.tree, rest, to, part);
    if (count === 0) return given;
    given += count;
    if (given > 10 * grove.keys.keys.length) throw new Error("the range goes on and on");
    if (way.isBeside === true) for (const side of [false, true]) lookAtEdge(grove, side);
  }
}

/** One of the two is not in the leaf that a range has come to. */
function lookAtEdge(grove: Grove, isReverse: boolean): void {
  grove.reader.take(grove.tree, remainderOf({ isReverse }), new Float64Array(1), 1);
}

/** A key that has rotted may cost its own leaf, and no more than that. */
function isAllButLeaf(count: number): boolean {
  return count <= 60 && count >= 60 - TINY.capacity;
}

test("a range of which a key has rotted ends, in parts of any size and either direction", () => {
  using grove = new Grove({ shape: TINY });
  for (let index = 0; index < 60; index++) grove.put(named(index), 0);
  let damaged = 0;
  for (let units = 1; units <= 60; units++) {
    const key = grove.keys.keys[units]!;
    for (const rotten of [named(0), named(units - 8), named(units + 8), bytes("a"), bytes("z"), bytes("")]) {
      grove.keys.keys[units] = rotten;
      for (const isReverse of [false, true]) {
        for (const part of [1, 2, 3]) {
          if (damageOf(() => takeAll(grove, { isReverse, isBeside: true }, part))) damaged += 1;
          // With the leaf at hand it needs no key to go on, but one that a separator may be like as far as a leaf has them.
          expect(isAllButLeaf(takeAll(grove, { isReverse }, part))).toBe(true);
        }
        // A part with room for a whole leaf goes on at a separator.
        expect(isAllButLeaf(takeAll(grove, { isReverse, isBeside: true }, TINY.capacity + 1))).toBe(true);
      }
    }
    grove.keys.keys[units] = key;
  }
  expect(damaged).toBeGreaterThan(200);
  for (const isReverse of [false, true]) expect(takeAll(grove, { isReverse, isBeside: true }, 3)).toBe(60);
});

test("however keys have rotted, the separators that are made of them are in order", () => {
  let refused = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed);
    using grove = new Grove({ shape: TINY });
    for (let step = 0; step < 200; step++) {
      refused += damageOf(() => void grove.put(named(random.below(1000)), 0)) === undefined ? 0 : 1;
      const { keys } = grove.keys;
      if (step > 20 && random.chance(0.1)) keys[1 + random.below(keys.length - 1)] = named(random.below(1000));
    }
    const check = new TreeCheck({ heap: grove.heap, keys: grove.keys, shape: TINY });
    const faults = check.walk(grove.tree).faults.filter((fault) => fault.includes("separator"));
    expect([seed, faults]).toEqual([seed, []]);
    for (const isReverse of [false, true]) damageOf(() => void takeAll(grove, { isReverse, isBeside: true }, 3));
  }
  expect(refused).toBeGreaterThan(100);
});
