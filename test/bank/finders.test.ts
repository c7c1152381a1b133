/** The table of finders saves time alone: what it says wrongly is no finding, and keeps no fault from being found. */

import { afterAll, expect, test } from "bun:test";
import { Garden } from "./plant.ts";
import { fault, type PlantedFault } from "./fault.ts";

const garden = new Garden();
afterAll(() => garden[Symbol.dispose]());

const FINDER = "four threads that count in turns through a shared word never get one counter twice";
const OTHER = "a counter beyond the session is refused before it wraps";
const CLAIM = "const block = Atomics.add(words, word.index, 1);";
const PROBE = "test/crypto/nonce-counter.test.ts";
const FILE = "crypto/nonce-counter.ts";
const planted = fault("a block is not counted", PROBE, FILE, [CLAIM, CLAIM.replace("add", "load").replace(", 1", "")]);
const harmless = fault("a comment is changed", PROBE, FILE, [CLAIM, `${CLAIM} // Harmless.`]);
const inRing = (from: string, to: string): PlantedFault =>
  fault("a flush without a sync", "crashes", "engine/sync/sync.ts", [from, to], 1);
const SYNC = "const result = core.system.sync(this.#file.handle);";

test("a finder finds its fault by itself, and no other", async () => {
  expect(await garden.hunt(planted, FINDER)).toMatchObject({ findings: 1, detail: expect.stringContaining(FINDER) });
  expect(await garden.probe(harmless, FINDER)).toMatchObject({ findings: 0 });
});

test("a fault whose finder is gone, or finds nothing, is found by the whole probe, and a note says so", async () => {
  for (const finder of ["a test that is gone", OTHER]) {
    expect(await garden.probe(planted, finder)).toMatchObject({ findings: 0 });
    const { findings, note } = await garden.hunt(planted, finder);
    expect([findings, note]).toEqual([1, expect.stringContaining(`its finder (${finder}) finds nothing`)]);
  }
});

test("a fault that nothing finds is not found, whatever the table says", async () => {
  for (const finder of [FINDER, "a test that is gone", undefined]) {
    expect(await garden.hunt(harmless, finder)).toMatchObject({ findings: 0, note: expect.any(String) });
  }
});

test("of a ring, the turn alone is taken, and one that it does not have finds nothing", async () => {
  const withoutSync = inRing(SYNC, "const result = 0 as Result;");
  expect(await garden.hunt(withoutSync, 1)).toMatchObject({ turn: 1, findings: expect.any(Number) });
  for (const turn of [0, 2, NaN]) expect(await garden.probe(withoutSync, turn)).toMatchObject({ findings: 0 });
});
