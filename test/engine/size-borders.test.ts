/**
 * Writes that fail behind their frame, of every length around the one from which on frames go to the file at once: such a
 * frame can only be taken back as part of a batch that has not ended, whatever gave it its length.
 */

import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { COPIED_FRAME_BYTES_MAX, RING_FRAME_BYTES_MAX } from "../../src/limits.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";
import type { Config } from "./open-engine.ts";

/** More than a frame has besides its key and value, sealed or not. */
const OVERHEAD_BYTES = 128;
const KEY = new Uint8Array(32).fill(7);
const LATE_MS = 8_000_000_000_000;

/** Frames take whole blocks of 8 bytes: in steps of less, an emulator still meets every length that a frame can have there. */
const STEP = emulator === undefined ? 1 : 7;

/** Lengths of key and value together that make frames just below, at and above a border. */
function lengthsAround(border: number, step: number): number[] {
  const count = Math.floor((OVERHEAD_BYTES + 16) / step);
  return Array.from({ length: count }, (_, index) => border - OVERHEAD_BYTES + index * step);
}

/** Does a write of which the ordered index has no room for the last frame; nothing is changed by it. */
function fail(fixture: EngineFixture, name: "put" | "remove", write: () => unknown): void {
  const before = fixture.state();
  const ordering = fixture.engine.core.ordering!;
  const method = ordering[name];
  ordering[name] = (spaces, space, frame) => {
    method.call(ordering, spaces, space, frame);
    if (fixture.engine.core.key.bytes !== 1) throw new EmdbError("EMDB_FULL", "the index is full");
  };
  expect(write).toThrow("the index is full");
  Reflect.deleteProperty(ordering, name);
  expect(fixture.state()).toBe(before);
}

test.each<[string, Partial<Config>, lengths: number[]]>([
  ["plain", {}, lengthsAround(COPIED_FRAME_BYTES_MAX, STEP)],
  ["encrypted", { encryption: { key: KEY } }, lengthsAround(COPIED_FRAME_BYTES_MAX, STEP)],
  ["write-through", { flushPlan: { kind: "write-through" } }, lengthsAround(RING_FRAME_BYTES_MAX, 8)],
])("%s: a write of any length that fails behind its frame is taken back for good", (_, changes, lengths) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new EngineFixture(path, hostSystem(), { rangeScans: true, ...changes });
  const { engine, sync } = fixture;
  const space = engine.defaultSpace;
  engine.insertMany(space, ["a", "b"], ["1", "2"], 0);
  for (const length of lengths) {
    // One key is short and one is long: either can be what makes a frame long.
    for (const key of ["short", "k".repeat(Math.min(length, 40_000))]) {
      const value = new Uint8Array(length - key.length);
      const expiresAtMs = length % 3 === 0 ? LATE_MS : 0;
      fail(fixture, "put", () => engine.insert(space, key, value, expiresAtMs));
      fail(fixture, "put", () => engine.insertMany(space, ["a", key], ["3", value], expiresAtMs));
      engine.insert(space, key, value, expiresAtMs);
      fail(fixture, "remove", () => engine.remove(space, key));
      fail(fixture, "remove", () => engine.removeMany(space, ["a", key]));
      engine.remove(space, key);
    }
  }
  // What a spoiled log would not show.
  engine.insert(space, "later", "write", 0);
  sync.flush();
  const copyPath = folder.file("copy.emdb");
  copyFileSync(path, copyPath);
  using copy = new EngineFixture(copyPath, hostSystem(), { rangeScans: true, ...changes });
  expect(copy.state()).toBe(fixture.state());
});
