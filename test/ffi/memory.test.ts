import { expect, test } from "bun:test";
import { addressOf, compare, copy, fill, pinned } from "../../src/ffi/memory.ts";

test("copy moves the bytes between addresses and views, either way", () => {
  const memory = pinned(64);
  const view = Uint8Array.from({ length: 24 }, (_, index) => index);
  copy(memory.address + 8, view, 24);
  expect(memory.u8.subarray(7, 33)).toEqual(new Uint8Array([0, ...view, 0]));
  const back = new Uint8Array(24);
  copy(back, memory.address + 8, 24);
  expect(back).toEqual(view);
  const part = new Uint8Array(30);
  copy(part.subarray(3), memory.address + 8, 24);
  expect(part).toEqual(new Uint8Array([0, 0, 0, ...view, 0, 0, 0]));
});

test("compare orders bytes unsigned, as far as asked", () => {
  const memory = pinned(8);
  memory.u8.set([1, 200, 3]);
  expect(compare(memory.address, new Uint8Array([1, 200, 3]), 3)).toBe(0);
  expect(compare(memory.address, new Uint8Array([1, 100, 3]), 3)).toBeGreaterThan(0);
  expect(compare(new Uint8Array([1, 100, 3]), memory.address, 3)).toBeLessThan(0);
  expect(compare(memory.address, new Uint8Array([1, 200, 4]), 2)).toBe(0);
  expect(compare(memory.address, new Uint8Array([9]), 0)).toBe(0);
});

test("fill sets every byte and no other", () => {
  const memory = pinned(16);
  fill(memory.address + 1, 0x1ff, 3);
  expect([...memory.u8.subarray(0, 5)]).toEqual([0, 255, 255, 255, 0]);
});

test("copying a length that is a double copies as many bytes as one that is not", () => {
  const lengths = new Float64Array([10, 2.5]);
  const into = new Uint8Array(16);
  copy(into, new Uint8Array(16).fill(7), lengths[0]!);
  copy(into.subarray(12), new Uint8Array(16).fill(8), lengths[1]! * 0.8);
  expect([...into]).toEqual([7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 8, 8, 0, 0]);
});

test("pinned memory is zeroed, at least as long as asked, whole pages, and its views are one memory", () => {
  for (const bytes of [0, 1, 4096, 4097, 100_000]) {
    const memory = pinned(bytes);
    expect(memory.u8.length).toBeGreaterThanOrEqual(Math.max(bytes, 1));
    expect(memory.u8.length % 4096).toBe(0);
    expect(memory.u8.every((byte) => byte === 0)).toBe(true);
    memory.f64[1] = -2.5;
    expect([memory.u32[2], memory.u32[3], memory.i32[3]! < 0]).toEqual([0, 0xc004_0000, true]);
  }
});

test("the address of pinned memory stays good through collections and touches of its buffer", () => {
  const held = Array.from({ length: 50 }, () => pinned(100));
  for (const { u8 } of held) expect(u8.buffer.byteLength).toBe(4096);
  Bun.gc(true);
  held.forEach(({ address }, index) => fill(address, index, 100));
  held.forEach(({ address, u8 }, index) => {
    expect(u8[99]).toBe(index);
    expect(addressOf(u8)).toBe(address);
  });
});
