/** Threads that die at any step while others go on: the lock is taken over, and what was half done is done or undone. */

import { test } from "bun:test";
import { BUSY } from "./plans.ts";
import { expectLives } from "./ring.ts";

test("in any order of steps, the death of two threads harms no third", () => {
  return expectLives({ ...BUSY, clients: 3, deaths: 2 }, 40);
}, 1_200_000);

test("nor does it where every write goes to the file at once", () => {
  return expectLives({ ...BUSY, clients: 3, deaths: 2, writesThrough: true }, 20);
}, 1_200_000);
