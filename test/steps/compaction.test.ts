/** Compactions beside readers and writers, a step at a time, and threads that die while one file takes another's place. */

import { test } from "bun:test";
import { COMPACTING } from "./plans.ts";
import { expectLives } from "./ring.ts";

const TIMEOUT_MS = 1_200_000;

test(
  "in any order of steps, the death of a thread in a swap harms no other",
  () => expectLives({ ...COMPACTING, deaths: 1, diesInSwap: true }, 24),
  TIMEOUT_MS,
);

test(
  "in any order of steps, one who reads beside two who compact sees a history that the logs allow",
  () => expectLives(COMPACTING, 24),
  TIMEOUT_MS,
);

test(
  "in any order of steps, a flush beside compactions is durable in the file that has the name",
  () => expectLives({ ...COMPACTING, hasReader: false, clients: 2, hasCommitWorker: true, flushOneIn: 4 }, 8),
  TIMEOUT_MS,
);
