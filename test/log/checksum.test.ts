/** The checksums agree with their native twins in Bun, at every length and alignment that frames have. */

import { expect, test } from "bun:test";
import { crc32, placeSeed, xxh32, xxh32Of20 } from "../../src/log/checksum.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { Random } from "../sim/random.ts";

function filled(bytes: number, seed: number): ReturnType<typeof pinned> {
  const memory = pinned(bytes);
  new Random(seed).randomize(memory.u8);
  return memory;
}

test("XXH32 agrees with Bun's for every length to 600 at every word of a cache line", () => {
  const memory = filled(4096, 1);
  for (let length = 0; length <= 600; length += 1) {
    for (let at = 0; at < 64; at += 4) {
      const seed = Math.imul(length + 1, 0x9e3779b1) ^ at;
      const ours = xxh32(memory, at, length, seed) >>> 0;
      const theirs = Bun.hash.xxHash32(memory.u8.subarray(at, at + length), seed >>> 0);
      if (ours !== theirs) throw new Error(`length ${length} at ${at}: ${ours}, not ${theirs}`);
    }
  }
});

test("XXH32 agrees with Bun's for random bytes, lengths, places and seeds", () => {
  const random = new Random(2);
  const memory = pinned(65_536);
  for (let round = 0; round < 2000; round += 1) {
    const length = random.below(2 ** random.below(13));
    const at = random.below(4000) * 4;
    const seed = random.word() | 0;
    random.randomize(memory.u8.subarray(at, at + length));
    const theirs = Bun.hash.xxHash32(memory.u8.subarray(at, at + length), seed >>> 0);
    expect(xxh32(memory, at, length, seed) >>> 0).toBe(theirs);
  }
});

test("XXH32 of a header's 20 bytes is that of any 20 bytes", () => {
  const memory = filled(4096, 4);
  for (let word = 0; word < 900; word += 1) {
    const seed = Math.imul(word + 1, 0x85ebca77) | 0;
    expect(xxh32Of20(memory.i32, word, seed)).toBe(xxh32(memory, word * 4, 20, seed));
  }
});

test("XXH32 gives the specification's values", () => {
  const memory = pinned(64);
  expect(xxh32(memory, 0, 0, 0) >>> 0).toBe(0x02cc5d05);
  memory.u8.set(new TextEncoder().encode("Nobody inspects the spammish repetition"));
  expect(xxh32(memory, 0, 39, 0) >>> 0).toBe(0xe2293b2f);
});

test("CRC-32 gives the check value of its specification, and goes on over any cut", () => {
  const random = new Random(3);
  const bytes = new TextEncoder().encode("123456789");
  expect(crc32(bytes, 0) >>> 0).toBe(0xcbf43926);
  for (let round = 0; round < 300; round += 1) {
    const whole = new Uint8Array(random.below(5000));
    random.randomize(whole);
    const cut = random.below(whole.length + 1);
    const seed = random.word() | 0;
    expect(crc32(whole.subarray(cut), crc32(whole.subarray(0, cut), seed))).toBe(crc32(whole, seed));
  }
});

test("no two places of a file share a seed with a near or a far neighbour", () => {
  for (const salt of [0, 1, -1, 0x5bd1e995]) {
    const seeds = new Set<number>();
    for (let unit = 0; unit < 50_000; unit += 1) seeds.add(placeSeed(salt, unit, 0));
    expect(seeds.size).toBe(50_000);
    const far = new Set<number>();
    for (let high = 0; high < 16; high += 1) far.add(placeSeed(salt, 512, high));
    expect(far.size).toBe(16);
  }
});

test("two salts give one place two seeds", () => {
  const random = new Random(4);
  for (let round = 0; round < 1000; round += 1) {
    const salt = random.word() | 0;
    expect(placeSeed(salt, 512, 0)).not.toBe(placeSeed(salt ^ (1 << random.below(32)), 512, 0));
  }
});
