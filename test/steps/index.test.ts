/** Readers and writers of the index and of the memory that it gives back, a step at a time, in orders from a seed. */

import { expect, test } from "bun:test";
import { liveOnce } from "./life.ts";
import { BUSY } from "./plans.ts";
import { expectLives } from "./ring.ts";

const TIMEOUT_MS = 1_200_000;

test(
  "in any order of steps, two threads see a history that the log allows while the index grows and shrinks",
  () => expectLives(BUSY, 24),
  TIMEOUT_MS,
);

test(
  "in any order of steps, three threads do",
  () => expectLives({ ...BUSY, clients: 3, operations: 100 }, 12),
  TIMEOUT_MS,
);

test(
  "a seed gives the same steps and the same history again",
  async () => {
    const [one, other] = [await liveOnce(5, BUSY), await liveOnce(5, BUSY)];
    expect(other).toEqual(one);
  },
  TIMEOUT_MS,
);
