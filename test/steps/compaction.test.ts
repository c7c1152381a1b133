/** Compactions beside readers and writers, a step at a time, and threads that die while one file takes another's place. */

import { test } from "bun:test";
import { BUSY, expectLives } from "./ring.ts";

const COMPACTING = { ...BUSY, churnOneIn: 100, compactOneIn: 25, operations: 100 };
const TIMEOUT_MS = 1_200_000;

test(
  "in any order of steps, two threads that compact see a history that the logs allow",
  () => expectLives(COMPACTING, 16),
  TIMEOUT_MS,
);

test(
  "in any order of steps, a flush beside compactions is durable in the file that has the name",
  () => expectLives({ ...COMPACTING, hasCommitWorker: true, flushOneIn: 4 }, 10),
  TIMEOUT_MS,
);

test(
  "in any order of steps, the death of a thread in a swap harms no other",
  () => expectLives({ ...COMPACTING, clients: 3, deaths: 1, diesInSwap: true }, 24),
  TIMEOUT_MS,
);
