/** The keyed hash: one value per key, spread evenly, and nobody without the seed can crowd it. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { KeyBuffer } from "../../src/engine/read/key-buffer.ts";
import { HASH_BITS, KeyHash, SEED_BYTES } from "../../src/keydir/hash.ts";
import { KEY_BYTES_MAX } from "../../src/limits.ts";
import { Random } from "../sim/random.ts";
import { sampleOf } from "../support/platform.ts";
import { crowdedUnder, wyhashCollisions, xxh32Collisions } from "./crafted-keys.ts";
import { IndexFixture } from "./fixture.ts";

const KEY_COUNT = 100_000;
/** A hash is arithmetic, of which one seed shows that a platform's is the same. */
const SEEDS = sampleOf([5, 6, 7, 8], 1);
/** Half a page: a search that goes on for so long was led there. */
const SEARCH_BUCKETS_MAX = 32;

function seedOf(number: number): Uint8Array {
  const seed = new Uint8Array(SEED_BYTES);
  new Random(number).randomize(seed);
  return seed;
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

test("a key has one hash, given as text or as bytes, whatever was hashed before it", () => {
  const random = new Random(31);
  const key = new KeyBuffer(new KeyHash(seedOf(1)));
  const texts = ["", "a", "ab", "abc", "abcd", "schl\u00fcssel", "\u{1f511}".repeat(9), "x".repeat(KEY_BYTES_MAX)];
  for (let round = 0; round < 300; round += 1) {
    texts.push(String.fromCharCode(...Array.from({ length: random.below(70) }, () => 32 + random.below(900))));
  }
  for (const text of texts) {
    key.load(text);
    const { hash, bytes } = key;
    key.load("z".repeat(1 + random.below(200)));
    key.load(bytesOf(text));
    expect([key.hash, key.bytes]).toEqual([hash, bytes]);
    key.load("z".repeat(1 + random.below(200)));
    const part = new Uint8Array(bytes + 20);
    part.set(bytesOf(text), 7);
    key.load(part.subarray(7, 7 + bytes));
    expect(key.hash).toBe(hash);
    const memory = pinned(bytes + 8);
    memory.u8.set(bytesOf(text));
    key.load("zzzzzzz");
    key.loadFrom(memory.address, bytes);
    expect(key.hash).toBe(hash);
  }
});

test("a hash fits its bits, and zeros at the end of a key count", () => {
  const hash = new KeyHash(seedOf(2));
  const memory = pinned(KEY_BYTES_MAX + 1);
  const hashes = new Set<number>();
  for (let length = 0; length < 500; length += 1) {
    const value = hash.of(memory, length);
    expect(value >>> HASH_BITS).toBe(0);
    hashes.add(value);
  }
  expect(hashes.size).toBe(500);
});

test("the same seed gives the same hashes, another one others", () => {
  const memory = pinned(24);
  const [one, same, other] = [new KeyHash(seedOf(3)), new KeyHash(seedOf(3)), new KeyHash(seedOf(4))];
  let equalCount = 0;
  for (let round = 0; round < 1000; round += 1) {
    memory.u32[0] = round;
    expect(same.of(memory, 24)).toBe(one.of(memory, 24));
    if (other.of(memory, 24) === one.of(memory, 24)) equalCount += 1;
  }
  expect(equalCount).toBeLessThan(3);
});

const structured: readonly { readonly name: string; keyAt(index: number): Uint8Array }[] = [
  { name: "key0, key1, key2 ...", keyAt: (index) => bytesOf(`key${index}`) },
  { name: "key-00000000, key-00000001 ...", keyAt: (index) => bytesOf(`key-${String(index).padStart(8, "0")}`) },
  { name: "32-bit integers that count up", keyAt: (index) => new Uint8Array(new Uint32Array([index]).buffer) },
  {
    name: "big-endian 64-bit integers that count up",
    keyAt(index) {
      const key = new Uint8Array(8);
      new DataView(key.buffer).setUint32(4, index);
      return key;
    },
  },
  { name: "multiples of 65536", keyAt: (index) => new Uint8Array(new Float64Array([index * 65_536]).buffer) },
  { name: "a long common prefix", keyAt: (index) => bytesOf(`${"/a/very/long/common/prefix".repeat(8)}/${index}`) },
  { name: "a long common suffix", keyAt: (index) => bytesOf(`${index}/${"suffix".repeat(30)}`) },
  { name: "one byte after another set", keyAt: (index) => new Uint8Array(1 + (index >> 8)).fill(index & 255) },
];

test.each(structured)("structured keys fill every part of the index alike: $name", ({ keyAt }) => {
  const count = keyAt(KEY_COUNT).length > 300 ? 20_000 : KEY_COUNT;
  for (const seed of SEEDS) {
    const hash = new KeyBuffer(new KeyHash(seedOf(seed)));
    const bins = new Uint32Array(1024);
    const lowBins = new Uint32Array(1024);
    const hashes = new Set<number>();
    for (let index = 0; index < count; index += 1) {
      hash.load(keyAt(index));
      hashes.add(hash.hash);
      bins[hash.hash >>> (HASH_BITS - 10)]! += 1;
      lowBins[hash.hash & 1023]! += 1;
    }
    const mean = count / 1024;
    // Keys that count up lie in even steps, which is better than chance; worse than chance is what must not be.
    const most = mean + 8 * Math.sqrt(mean);
    expect(Math.max(...bins)).toBeLessThan(most);
    expect(Math.max(...lowBins)).toBeLessThan(most);
    // By chance count^2 / 2^28 pairs agree, 37 of 100 000.
    expect(hashes.size).toBeGreaterThan(count - 40 - (count * count) / 2 ** 26);
  }
});

/** What finding all of these keys costs in an index with this hash. */
function costOf(keys: Iterable<Uint8Array>, hashOf: (key: Uint8Array) => number): ReturnType<IndexFixture["cost"]> {
  using index = new IndexFixture();
  let number = 0;
  for (const key of keys) {
    if (number === KEY_COUNT) break;
    index.insert(number, hashOf(key));
    number += 1;
  }
  return index.cost();
}

function keyed(seed: number): (key: Uint8Array) => number {
  const buffer = new KeyBuffer(new KeyHash(seedOf(seed)));
  return (key) => {
    buffer.load(key);
    return buffer.hash;
  };
}

function* randomKeys(random: Random): Generator<Uint8Array> {
  for (;;) {
    const key = new Uint8Array(24);
    random.randomize(key);
    yield key;
  }
}

test("the crafted keys do collide where they were aimed", () => {
  const take = (keys: Iterator<Uint8Array>): Uint8Array[] => Array.from({ length: 1000 }, () => keys.next().value!);
  const ofXxh32 = take(xxh32Collisions(new Random(41)));
  expect(new Set(ofXxh32.map((key) => Bun.hash.xxHash32(key))).size).toBe(1);
  expect(new Set(ofXxh32.map((key) => key.toHex())).size).toBe(1000);
  const ofWyhash = take(wyhashCollisions(new Random(42)));
  expect(new Set(ofWyhash.map((key) => Bun.hash(key))).size).toBe(1);
  expect(new Set(ofWyhash.map((key) => key.toHex())).size).toBe(1000);
});

test("100 000 crafted keys cost at most three times what random ones cost", () => {
  const plain = costOf(randomKeys(new Random(43)), keyed(9));
  expect(plain.buckets).toBeLessThan(1.5);
  expect(plain.candidates).toBeLessThan(1.01);
  const crafted = [
    xxh32Collisions(new Random(44)),
    wyhashCollisions(new Random(45)),
    crowdedUnder(new KeyHash(seedOf(10)), new Random(46)),
  ];
  for (const keys of crafted) {
    const cost = costOf(keys, keyed(9));
    expect(cost.buckets).toBeLessThan(plain.buckets * 3);
    expect(cost.candidates).toBeLessThan(plain.candidates * 3);
    expect(cost.bucketsMax).toBeLessThan(SEARCH_BUCKETS_MAX);
  }
}, 60_000);
