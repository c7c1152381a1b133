/** Which file a position is in, as a reader finds it at each store of a swap. */

import { expect, test } from "bun:test";
import { RING_BYTES } from "../../src/limits.ts";
import { LOG_BASE, LOG_GENERATION, LOG_NUMBERS, LogReader, addMap, segmentsOf } from "../../src/log/log-words.ts";

const BEFORE = { base: 0, generation: 7 };
const BEHIND = { base: RING_BYTES, generation: 8 };

test("between any two stores of a swap a position has the generation of its own file", () => {
  const words = { numbers: new Float64Array(LOG_NUMBERS), flags: new Int32Array(4) };
  const { numbers } = words;
  numbers[LOG_GENERATION] = BEFORE.generation;
  addMap(words, { address: 2 ** 40, bytes: 2 ** 20 });
  const reader = new LogReader(words);
  expect(reader.fileOf(4096)).toEqual(BEFORE);
  const segments = segmentsOf(words);
  const facts = { end: 8192, origin: 2 ** 40, next: BEHIND.base, session: 0 };
  segments.add(segments.free(), { ...BEFORE, ...facts, moves: { address: 0, pairs: 0, bytes: 0 } });
  expect(reader.fileOf(4096)).toEqual(BEFORE);
  numbers[LOG_GENERATION] = BEHIND.generation;
  expect(reader.fileOf(4096)).toEqual(BEFORE);
  numbers[LOG_BASE] = BEHIND.base;
  expect(reader.fileOf(4096)).toEqual(BEFORE);
  expect(reader.fileOf(BEHIND.base + 4096)).toEqual(BEHIND);
});
