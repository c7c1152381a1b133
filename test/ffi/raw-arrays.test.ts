/** Arrays over raw memory: they are that memory, and nobody's when nobody holds them. */

import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { collectGarbage, pinned } from "../../src/ffi/memory.ts";
import { rawArrays } from "../../src/ffi/raw-arrays.ts";

const BYTES = 8 * 2 ** 20;

test("all arrays are the memory at the address, and no more of it than was named", () => {
  const memory = pinned(BYTES);
  const arrays = rawArrays(memory.address + 4096, 8192)();
  expect(arrays.address).toBe(memory.address + 4096);
  for (const view of [arrays.u8, arrays.i32, arrays.u32, arrays.f64]) expect(view.byteLength).toBe(8192);
  arrays.u32[1] = 0x01020304;
  expect([...memory.u8.subarray(4100, 4104)]).toEqual([4, 3, 2, 1]);
  arrays.f64[2] = 1.5;
  expect(memory.f64[514]).toBe(1.5);
  expect([arrays.i32[1], arrays.u8[7]]).toEqual([0x01020304, 1]);
});

test("they are the same as long as somebody holds them", () => {
  const memory = pinned(4096);
  const give = rawArrays(memory.address, 4096);
  const held = give();
  expect(give()).toBe(held);
  collectGarbage();
  expect(give()).toBe(held);
  // An address keeps nothing alive.
  expect(memory.u8.length).toBe(4096);
});

test("what nobody holds does not count for the collector, and is there again when it is asked for", async () => {
  const memory = pinned(BYTES);
  const give = rawArrays(memory.address, BYTES);
  const counted = (): number => heapStats().extraMemorySize;
  const turn = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
  };
  await turn();
  const before = counted();
  const use = (): number => {
    const arrays = give();
    arrays.u8[0] = 7;
    return counted() - before;
  };
  expect(use()).toBeGreaterThan(BYTES / 2);
  for (let round = 0; round < 10 && counted() - before > BYTES / 2; round += 1) await turn();
  expect(counted() - before).toBeLessThan(BYTES / 2);
  expect(give().u8[0]).toBe(7);
  // An address keeps nothing alive.
  expect(memory.u8[0]).toBe(7);
});
