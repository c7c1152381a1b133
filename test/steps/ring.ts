/** Lives of one kind, one after another, as a test: EMDB_STEP_SEED=n lives the n-th alone, EMDB_LIVES=n as many. */

import { afterAll, expect } from "bun:test";
import { endThreads, liveOnce, type LifePlan } from "./life.ts";

const only = process.env["EMDB_STEP_SEED"];
const lives = process.env["EMDB_LIVES"];

afterAll(endThreads);

/** Expects every life to be one that the log's order allows, and prints what there was. */
export async function expectLives(plan: LifePlan, count: number): Promise<void> {
  const tally = { steps: 0, judged: 0, deaths: 0, swaps: 0 };
  const seedCount = lives === undefined ? count : Number(lives);
  const seeds = only === undefined ? Array.from({ length: seedCount }, (_, life) => life + 1) : [Number(only)];
  for (const seed of seeds) {
    const { steps, judged, deaths, swaps, faults } = await liveOnce(seed, plan);
    if (faults.length > 0) throw new Error(`EMDB_STEP_SEED=${seed}: ${faults.slice(0, 3).join("; ")}`);
    tally.steps += steps;
    tally.judged += judged;
    tally.deaths += deaths;
    tally.swaps += swaps;
  }
  const what = `${tally.judged} operations judged, ${tally.swaps} swaps, ${tally.deaths} deaths`;
  console.log(`${seeds.length} lives, ${tally.steps} steps, ${what}`);
  expect(tally.judged).toBeGreaterThan(seeds.length * 50);
  if (seeds.length >= 10) expect(tally.deaths).toBeGreaterThanOrEqual(plan.deaths * seeds.length * 0.6);
}
