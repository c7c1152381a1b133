/**
 * A writer dies before any of its stores to shared memory, and another thread takes over: the hash index and the ordered
 * index say the same, and that is what was there before or after; an image and a reopen say it too.
 */

import { afterAll, test } from "bun:test";
import type { Deaths } from "./ordered-life.ts";
import { SCENES } from "./ordered-scenes.ts";
import { DeathsThread, TIMEOUT_MS, atMost, diesAnywhere } from "./scene-deaths.ts";

const WAYS: readonly Deaths[] = [
  { writesThrough: false, isHeld: false, deathsMax: atMost(32), secondsMax: 0 },
  { writesThrough: false, isHeld: true, deathsMax: atMost(10), secondsMax: 0 },
  { writesThrough: true, isHeld: false, deathsMax: atMost(6), secondsMax: 0 },
  { writesThrough: false, isHeld: false, deathsMax: atMost(3), secondsMax: diesAnywhere ? 40 : atMost(4) },
];

/** Not in a bundle: what is changed as it is loaded has to be loaded by itself. */
const thread = new DeathsThread(() => new Worker(new URL("./ordered-worker.ts", import.meta.url).href));
afterAll(() => thread.end());

test.each(Object.keys(SCENES))(
  "a death at any store of %s leaves two indexes that agree, with all of it or nothing",
  (scene) => thread.expectDeaths(scene, WAYS),
  TIMEOUT_MS,
);
