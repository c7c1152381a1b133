/** Windows on raw memory: arrays that cover what they were asked for, and go along with who writes from front to back. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { windowOn } from "../../src/ffi/window.ts";
import { Random } from "../sim/random.ts";

const WINDOW_BYTES = 65_536;
const memory = pinned(1024 * 1024);

test("each window covers what it was asked for, whatever the lengths, and is asked for many times", () => {
  const random = new Random(1);
  let windows = 0;
  let places = 0;
  for (let at = 0; at < memory.u8.length - WINDOW_BYTES;) {
    const bytes = 8 + 8 * random.below(random.pick([1, 40, 4000, 8191]));
    const window = windowOn(memory.address + at, bytes)!;
    const from = memory.address + at - window.address;
    expect(from).toBeGreaterThanOrEqual(0);
    expect(from + bytes).toBeLessThanOrEqual(window.u8.length);
    window.u32[from >> 2] = at;
    window.u8[from + bytes - 1] = 0x5a;
    expect(bytes > 8 ? memory.u32[at >> 2] : at).toBe(at);
    expect(memory.u8[at + bytes - 1]).toBe(0x5a);
    if (from === 0) windows += 1;
    places += 1;
    at += bytes;
  }
  expect(windows).toBeGreaterThan(10);
  expect(windows).toBeLessThan(places / 2);
});

test("a place before the window, or one that reaches beyond its end by a unit, has one of its own", () => {
  const at = memory.address + WINDOW_BYTES;
  const window = windowOn(at, WINDOW_BYTES);
  expect(window?.u8.length).toBe(WINDOW_BYTES);
  expect(windowOn(at + WINDOW_BYTES - 8, 8)).toBe(window);
  expect(windowOn(at + WINDOW_BYTES - 8, 16)?.address).toBe(at + WINDOW_BYTES - 8);
  expect(windowOn(at, 8)?.address).toBe(at);
  expect(windowOn(at - 8, 8)?.address).toBe(at - 8);
});

test("what is longer than a window has none, and leaves the one that is there", () => {
  const window = windowOn(memory.address, 8);
  expect(windowOn(memory.address, WINDOW_BYTES + 8)).toBeUndefined();
  expect(windowOn(memory.address, 8)).toBe(window);
});
