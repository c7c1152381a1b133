/** Every range of every set of keys of a small universe, both ways: there is no case left to choose. */

import { expect, test } from "bun:test";
import type { Bound } from "../../src/ordered/range-reader.ts";
import { Grove, TINY } from "./grove.ts";

const bytes = (...all: number[]): Uint8Array => new Uint8Array(all);

const UNIVERSE = [[], [0], [0, 0], [0, 255], [255], [255, 0], [255, 255]].map((key) => bytes(...key));
/** The universe, and places between its keys. */
const POINTS = [...UNIVERSE, bytes(0, 0, 0), bytes(1), bytes(255, 255, 255)];
const BOUNDS: (Bound | undefined)[] = [
  undefined,
  ...POINTS.flatMap((key) => [true, false].map((isInclusive): Bound => ({ key, isInclusive }))),
];

function isIn(key: Uint8Array, lower: Bound | undefined, upper: Bound | undefined): boolean {
  const low = lower === undefined ? 1 : Buffer.compare(key, lower.key);
  const high = upper === undefined ? -1 : Buffer.compare(key, upper.key);
  return (
    (low > 0 || (low === 0 && lower?.isInclusive === true)) && (high < 0 || (high === 0 && upper?.isInclusive === true))
  );
}

test("every range of every subset of seven keys is exact, both ways", () => {
  for (let set = 0; set < 1 << UNIVERSE.length; set += 1) {
    using grove = new Grove({ shape: TINY });
    const held = UNIVERSE.filter((_, index) => (set & (1 << index)) !== 0);
    const units = new Map<string, number>();
    // Some backwards, so that leaves divide at either end.
    for (const key of set % 2 === 0 ? held : held.toReversed()) units.set(key.toHex(), grove.put(key, 0));
    for (const lower of BOUNDS) {
      for (const upper of BOUNDS) {
        const wanted = held.filter((key) => isIn(key, lower, upper)).map((key) => units.get(key.toHex())!);
        const bounds = { ...(lower === undefined ? {} : { lower }), ...(upper === undefined ? {} : { upper }) };
        const found = grove.range(bounds, 2);
        const reversed = grove.range({ ...bounds, isReverse: true }, 2);
        if (String(found) === String(wanted) && String(reversed) === String(wanted.toReversed())) continue;
        expect({ set, lower, upper, found, reversed }).toEqual({
          set,
          lower,
          upper,
          found: wanted,
          reversed: wanted.toReversed(),
        });
      }
    }
  }
}, 60_000);

test("keys of up to 65535 bytes that differ at their end are kept apart", () => {
  using grove = new Grove();
  const long = Array.from({ length: 150 }, (_, index) => {
    const key = new Uint8Array(65_535 - (index % 3)).fill(0xff);
    key[key.length - 1] = index;
    return key;
  });
  for (const key of long) grove.put(key, 0);
  expect(grove.check().faults).toEqual([]);
  const order = long.map((key, index) => ({ key, units: index + 1 })).sort((a, b) => Buffer.compare(a.key, b.key));
  expect(grove.range({}, 7)).toEqual(order.map((one) => one.units));
  expect(grove.range({ isReverse: true }, 7)).toEqual(order.map((one) => one.units).reverse());
  for (const key of long) expect(grove.erase(key)).toBe(true);
  expect(grove.range()).toEqual([]);
});
