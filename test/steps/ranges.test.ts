/** Ranges beside writers of the ordered index, a step at a time, in orders from a seed. */

import { test } from "bun:test";
import { COMPACTING, RANGING } from "./plans.ts";
import { expectLives } from "./ring.ts";

const TIMEOUT_MS = 1_200_000;

test(
  "in any order of steps, ranges show a moment that the log allows, in order, while the tree under them grows and shrinks",
  () => expectLives(RANGING, 8),
  TIMEOUT_MS,
);

test(
  "beside two writers, one that only reads does",
  () => expectLives({ ...RANGING, clients: 3, hasReader: true, operations: 70 }, 6),
  TIMEOUT_MS,
);

test(
  "they do while a compaction leads the tree over to another file",
  () => expectLives({ ...COMPACTING, isOrdered: true }, 6),
  TIMEOUT_MS,
);

test("they do when threads die", () => expectLives({ ...RANGING, clients: 3, deaths: 2 }, 8), TIMEOUT_MS);
