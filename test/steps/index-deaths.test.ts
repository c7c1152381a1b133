/**
 * A writer dies before any of its stores to shared memory while it lays out shards of the hash index or their directory, and
 * another thread takes over: the index is as it should be, nothing that it names is free, and an image and a reopen agree.
 */

import { afterAll, test } from "bun:test";
import type { Deaths } from "./ordered-life.ts";
import { INDEX_SCENES, MERGE } from "./index-scenes.ts";
import { DeathsThread, TIMEOUT_MS, atMost, diesAnywhere } from "./scene-deaths.ts";

const WAYS: readonly Deaths[] = [
  { writesThrough: false, isHeld: false, deathsMax: atMost(24), secondsMax: 0 },
  { writesThrough: false, isHeld: true, deathsMax: atMost(6), secondsMax: 0 },
  { writesThrough: true, isHeld: false, deathsMax: atMost(6), secondsMax: 0 },
  { writesThrough: false, isHeld: false, deathsMax: atMost(2), secondsMax: diesAnywhere ? 40 : atMost(2) },
];

/** A short scene, of which no store is passed over. */
const ANYWHERE: Deaths = { writesThrough: false, isHeld: false, deathsMax: Infinity, secondsMax: 0 };

/** Not in a bundle: what is changed as it is loaded has to be loaded by itself. */
const thread = new DeathsThread(() => new Worker(new URL("./index-worker.ts", import.meta.url).href));
afterAll(() => thread.end());

test.each(Object.keys(INDEX_SCENES))(
  "a death at any store of %s leaves an index that holds what there was, or comes to be",
  (scene) => thread.expectDeaths(scene, scene === MERGE ? [ANYWHERE, ...WAYS] : WAYS),
  TIMEOUT_MS,
);
