/** Batches look for frames that they replace as long as they find some, and now and then where they do not. */

import { expect, test } from "bun:test";
import { GROUP_KEYS } from "../../src/engine/read/prefetch.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { fastFolder } from "./fixture.ts";

const GROUPS = 24;

/** Under one seed of the hashes in some hundreds a new key that is looked at has the hash of one that is there. */
const system = faulty(hostSystem(), (call, [into]) => {
  if (call !== "random") return undefined;
  (into as Uint8Array).fill(7);
  return 0;
});

test("of new keys one group in eight is looked at, of keys that are there each one", () => {
  using folder = fastFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), system);
  const { engine } = fixture;
  const { prefetch } = engine.core;
  const space = engine.defaultSpace;
  let looks = 0;
  const touchFrames = prefetch.touchFrames.bind(prefetch);
  prefetch.touchFrames = (visible) => {
    looks += 1;
    return touchFrames(visible);
  };
  const keysOf = (from: number): string[] =>
    Array.from({ length: GROUPS * GROUP_KEYS }, (_, index) => `key ${from + index}`);
  const looksOf = (keys: readonly string[]): number => {
    looks = 0;
    engine.insertMany(space, keys, keys, 0);
    // What is in the ring is not looked at.
    fixture.sync.flush();
    return looks;
  };
  engine.insert(space, "key", "value", 0);
  const keys = keysOf(0);
  expect(looksOf(keys)).toBe(GROUPS / 8);
  expect(looksOf(keys)).toBe(GROUPS);
  expect(looksOf(keysOf(GROUPS * GROUP_KEYS))).toBe(GROUPS / 8);
  looks = 0;
  expect(engine.removeMany(space, keys)).toBe(keys.length);
  expect(looks).toBe(GROUPS);
  expect(engine.count(space)).toBe(1 + GROUPS * GROUP_KEYS);
});
