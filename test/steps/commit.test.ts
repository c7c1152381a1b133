/** Flushes of several threads that share syncs, through a commit Worker and without one, a step at a time. */

import { test } from "bun:test";
import { BUSY } from "./plans.ts";
import { expectLives } from "./ring.ts";

test("in any order of steps, a flush is acknowledged after a sync that began when all it covers was written", () => {
  const plan = { ...BUSY, hasCommitWorker: true, churnOneIn: 200, flushOneIn: 3, operations: 100 };
  return expectLives(plan, 40);
}, 1_200_000);
