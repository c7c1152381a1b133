/** Inner nodes of full size whose separators have come to have more in common than when the node was made. */

import { expect, test } from "bun:test";
import { Grove } from "./grove.ts";

/** Leaves that are nearly all that one node has room for. */
const MANY = 60;
const OTHERS = 64;
const GONE = 150;

test.each([
  ["a few bytes", 20],
  ["many bytes", 120],
  ["more than a node leaves out", 300],
])("keys that come in order find room when the ones before a stem of %s are gone", (_, stemBytes) => {
  for (const attached of [1, 2]) {
    using grove = new Grove({ attached });
    const keyOf = (index: number): Buffer =>
      Buffer.from(`queue ${"0".repeat(stemBytes)}${String(index).padStart(6, "0")}`);
    const early = Array.from({ length: OTHERS }, (_one, index) => Buffer.from(`a${String(index).padStart(5, "0")}`));
    for (const key of early) grove.put(key, 0);
    let next = 0;
    while (grove.check().leaves < MANY) for (let one = 0; one < 48; one++) grove.put(keyOf(next++), 0);
    expect(grove.check().inner).toBe(1);
    for (const key of early) expect(grove.erase(key)).toBe(true);
    // The last of the separators that are different goes with a leaf of the stem's own.
    for (let index = 0; index < GONE; index++) expect(grove.erase(keyOf(index))).toBe(true);
    for (const end = 2 * next; next < end;) grove.put(keyOf(next++), 0);
    expect(grove.check().faults).toEqual([]);
    const found = grove.range({}, 64).map((units) => grove.keys.keys[units]!);
    expect(found).toEqual(Array.from({ length: next - GONE }, (_one, index) => keyOf(index + GONE)));
  }
});
