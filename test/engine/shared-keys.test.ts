/** Keys in memory that another thread writes to while a call of this one runs: each is copied once, and is that copy everywhere. */

import { expect, test } from "bun:test";
import type { Opened } from "../../src/engine/assemble.ts";
import type { Bytes } from "../../src/engine/contract.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { KEY_BYTES_MAX } from "../../src/limits.ts";
import { LATER_MS, expectCode } from "./fixture.ts";
import { CONFIG, type Config } from "./open-engine.ts";

const LENGTHS = [1, 24, 64, 65, 100, 300, 3000, KEY_BYTES_MAX] as const;

function opened(changes: Partial<Config> = {}): Opened {
  const defer = (work: () => void): void => void setImmediate(work);
  return openMemory({ system: hostSystem(), defer, hasWorkers: false }, { ...CONFIG, ...changes });
}

function filled(bytes: number, letter: string): Uint8Array {
  return new Uint8Array(bytes).fill(letter.charCodeAt(0));
}

/** A key of `a`s, and the other thread: it makes it one of `b`s, once its hash has been taken. */
function sharedKey({ engine }: Opened, bytes: number): Uint8Array {
  const shared = new Uint8Array(new SharedArrayBuffer(bytes)).fill(97);
  const { prefetch } = engine.core;
  const touchBuckets = prefetch.touchBuckets.bind(prefetch);
  prefetch.touchBuckets = (...group) => {
    const count = touchBuckets(...group);
    shared.fill(98);
    return count;
  };
  return shared;
}

/** The keys that a walk finds, each of which the index must find too. */
async function soundKeys(opened: Opened): Promise<Uint8Array[]> {
  const { engine } = opened;
  expect((await verifyDatabase(opened, {})).problems).toEqual([]);
  const keys = [...engine.snapshot(engine.defaultSpace)].map(({ key }) => key);
  for (const key of keys) expect(engine.has(engine.defaultSpace, key)).toBe(true);
  return keys;
}

test.each(LENGTHS)("a shared key of %d bytes is inserted as it was hashed", async (bytes) => {
  const life = opened();
  const { engine } = life;
  engine.insert(engine.defaultSpace, "", "there before", 0);
  const fillers = ["one", filled(70, "c"), "t".repeat(500)];
  const keys: Bytes[] = [sharedKey(life, bytes), ...fillers, ...fillers];
  engine.insertMany(engine.defaultSpace, keys, keys, 0);
  expect(await soundKeys(life)).toHaveLength(5);
  expect(engine.has(engine.defaultSpace, filled(bytes, "a"))).toBe(true);
  expect(engine.has(engine.defaultSpace, filled(bytes, "b"))).toBe(false);
  life.leave();
});

test.each(LENGTHS)("a shared key of %d bytes is removed as it was hashed", async (bytes) => {
  const life = opened();
  const { engine } = life;
  const space = engine.defaultSpace;
  engine.insertMany(space, [filled(bytes, "a"), filled(bytes, "b"), "c"], ["a", "b", "c"], 0);
  expect(engine.removeMany(space, [sharedKey(life, bytes), "c"])).toBe(2);
  expect(await soundKeys(life)).toEqual([filled(bytes, "b")]);
  life.leave();
});

test.each(LENGTHS)("a shared key of %d bytes is looked up as it was hashed", (bytes) => {
  for (const verifyReads of [false, true]) {
    const life = opened({ verifyReads });
    const { engine } = life;
    const space = engine.defaultSpace;
    engine.insertMany(space, [filled(bytes, "a"), filled(bytes, "b")], ["a", "b"], LATER_MS);
    const found = engine.getMany(space, [sharedKey(life, bytes), "none"]);
    expect(found).toEqual([filled(1, "a"), undefined]);
    life.leave();
  }
});

test("a shared key that grows behind its hash is the key that was hashed", async () => {
  const life = opened();
  const { engine } = life;
  const space = engine.defaultSpace;
  engine.insert(space, "", "there before", 0);
  for (const bytes of [8, 80]) {
    const buffer = new SharedArrayBuffer(bytes, { maxByteLength: 1000 });
    const { prefetch } = engine.core;
    const touchBuckets = prefetch.touchBuckets.bind(prefetch);
    prefetch.touchBuckets = (...group) => {
      const count = touchBuckets(...group);
      buffer.grow(1000);
      return count;
    };
    engine.insertMany(space, [new Uint8Array(buffer), `${bytes}`], ["1", "2"], 0);
    prefetch.touchBuckets = touchBuckets;
    expect(engine.has(space, new Uint8Array(bytes))).toBe(true);
  }
  expect(await soundKeys(life)).toHaveLength(5);
  life.leave();
});

test("keys of every length side by side, more than are looked at together, are each their own", async () => {
  const life = opened();
  const { engine } = life;
  const space = engine.defaultSpace;
  const keys: Bytes[] = [];
  for (let bytes = 0; bytes <= 300; bytes += 1) keys.push(filled(bytes, "k"), "s".repeat(bytes + 1));
  for (const bytes of [5000, 30_000, KEY_BYTES_MAX - 1, KEY_BYTES_MAX])
    keys.push(filled(bytes, "k"), "s".repeat(bytes));
  const values = keys.map((key, index) => `${index} of ${key.length}`);
  const written = values.map((value) => new TextEncoder().encode(value));
  for (let round = 0; round < 2; round += 1) {
    engine.insertMany(space, keys, values, 0);
    expect(engine.getMany(space, keys)).toEqual(written);
    expect(engine.getMany(space, keys.toReversed())).toEqual(written.toReversed());
  }
  expect(await soundKeys(life)).toHaveLength(keys.length);
  expect(engine.removeMany(space, keys)).toBe(keys.length);
  const tooLong = filled(KEY_BYTES_MAX + 1, "k");
  expectCode("EMDB_TOO_LARGE", () => engine.insertMany(space, ["before", tooLong], ["1", "2"], 0));
  expectCode("EMDB_TOO_LARGE", () => engine.insert(space, tooLong, "1", 0));
  expect(engine.count(space)).toBe(0);
  life.leave();
});
