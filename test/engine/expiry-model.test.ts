/** Records that expire, at random beside plain maps: see `expiry-story.ts`. */

import { expect, setDefaultTimeout, test } from "bun:test";
import type { Config } from "./open-engine.ts";
import { ExpiryStory } from "./expiry-story.ts";
import { sampleOf } from "../support/platform.ts";

setDefaultTimeout(120_000);

const STEPS = 300;
const KEY = new Uint8Array(32).fill(7);
const first = Number(process.env["EMDB_TEST_SEED"] ?? 1);

const CONFIGURATIONS: readonly [string, (() => Partial<Config>) | undefined][] = [
  ["in memory", undefined],
  ["in a file", () => ({})],
  ["in a file, swept in the background, with an ordered index", () => ({ rangeScans: true, sweepIntervalMs: 1000 })],
  ["in an encrypted file", () => ({ encryption: { key: KEY.slice() } })],
  ["with write-through", () => ({ flushPlan: { kind: "write-through" } })],
];

const runs = CONFIGURATIONS.flatMap(([name, changes]) =>
  sampleOf([first, first + 1], 1).map((seed) => [name, seed, changes] as const),
);

test.each(runs)("what expires is what the maps say, %s (seed %d)", (_, seed, changes) => {
  const story = new ExpiryStory(seed, changes?.() ?? { sweepIntervalMs: 1000 }, changes === undefined);
  story.run(STEPS);
  const seen = ["a refusal EMDB_FULL", "a refusal EMDB_ABORTED", "a sweep", "work done"];
  if (changes !== undefined) seen.push("an image", "a log by itself", "a new image");
  expect(seen.filter((what) => !story.seen.has(what))).toEqual([]);
});
