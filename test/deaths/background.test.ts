/**
 * Deaths at any step where flushes go through commit Workers and one thread sweeps by itself: a Worker has turns in the middle of everybody's
 * steps, is held in the middle of its sync, and dies with its thread or alone; the sweep's timer runs between the steps of all others.
 *
 * EMDB_TEST_SEED=n begins the scripts at another seed.
 */

import { expect, test } from "bun:test";
import { EMULATED_SHARE } from "../sim/ring-run.ts";
import { describeDeaths, searchBackground, syncScenes } from "./ring.ts";
import type { Searched } from "./search.ts";

const FIRST = Number(process.env["EMDB_TEST_SEED"] ?? 1);
const CASES = 100;
const TIMEOUT_MS = 1_200_000;

function expectNothing({ findings, ...tally }: Searched): void {
  const { cases, deaths, holds, refusals, crashes } = tally;
  console.log(`${cases} cases, ${deaths} deaths, ${holds} held, ${refusals} calls refused, ${crashes} crashes`);
  expect(findings.map(describeDeaths)).toEqual([]);
  expect(deaths).toBeGreaterThan(cases / 4);
}

test(
  "a commit Worker that stands still or dies before any of its steps has acknowledged nothing that a loss of power takes",
  async () => expectNothing(await syncScenes()),
  TIMEOUT_MS,
);

test(
  "whichever thread or commit Worker dies, beside a sweep in the background, the others and the next open show what the log's order allows",
  async () => expectNothing(await searchBackground(FIRST, Math.ceil(CASES * EMULATED_SHARE))),
  TIMEOUT_MS,
);
