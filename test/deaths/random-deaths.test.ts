/**
 * Threads that die at any store to shared memory or any system call, while others attach, work, leave and wait for them, beside
 * refused calls and losses of power: what the others see, and what is opened again, is what the log's order allows.
 *
 * EMDB_TEST_SEED=n begins at another seed; EMDB_SOAK=1 passes over no store of a scene.
 */

import { expect, test } from "bun:test";
import { EMULATED_SHARE } from "../sim/ring-run.ts";
import { describeDeaths, sceneDeaths, searchDeaths } from "./ring.ts";
import type { Searched } from "./search.ts";

const FIRST = Number(process.env["EMDB_TEST_SEED"] ?? 1);
const CASES = 60;
/** In each scene, spread over its stores. */
const DEATHS = process.env["EMDB_SOAK"] === undefined ? Math.ceil(2 * EMULATED_SHARE) : Number.MAX_SAFE_INTEGER;
const TIMEOUT_MS = 1_200_000;

function expectNothing({ findings, ...tally }: Searched): void {
  const { cases, deaths, holds, refusals, crashes } = tally;
  console.log(`${cases} cases, ${deaths} deaths, ${holds} held, ${refusals} calls refused, ${crashes} crashes`);
  expect(findings.map(describeDeaths)).toEqual([]);
  expect(deaths).toBeGreaterThan(cases / 2);
}

test(
  "a death before any store of a compaction, a close or a change leaves a database that others go on with",
  async () => expectNothing(await sceneDeaths(DEATHS)),
  TIMEOUT_MS,
);

test(
  "whatever thread dies, at whatever step, the others and the next open show what the log's order allows",
  async () => expectNothing(await searchDeaths(FIRST, Math.ceil(CASES * EMULATED_SHARE))),
  TIMEOUT_MS,
);
