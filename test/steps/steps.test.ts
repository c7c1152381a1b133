/**
 * The protocols of shared memory, the real code of them, one step at a time: locks and their heirs, memory that is given
 * back, flushes that share syncs. Every order follows from a seed; EMDB_STEP_SEED=n runs one life of each kind.
 */

import { expect, test } from "bun:test";
import { liveOnce, type LifePlan } from "./life.ts";

const TIMEOUT_MS = 3_600_000;
const only = process.env["EMDB_STEP_SEED"];
const LIVES = Number(process.env["EMDB_LIVES"] ?? 24);

const BUSY: LifePlan = {
  clients: 2,
  hasCommitWorker: false,
  deaths: 0,
  operations: 150,
  churnOneIn: 20,
  flushOneIn: 40,
};

const plans: readonly { readonly name: string; readonly lives: number; readonly plan: LifePlan }[] = [
  { name: "two threads write and read, and the index grows and shrinks under them", lives: LIVES, plan: BUSY },
  { name: "three threads do", lives: LIVES / 2, plan: { ...BUSY, clients: 3, operations: 100 } },
  { name: "two of three threads die at some step", lives: LIVES * 2, plan: { ...BUSY, clients: 3, deaths: 2 } },
  {
    name: "flushes of two threads share syncs with a commit Worker",
    lives: LIVES * 2,
    plan: { ...BUSY, hasCommitWorker: true, churnOneIn: 200, flushOneIn: 3, operations: 100 },
  },
];

test.each(plans)(
  "in any order of steps a history is one that the log allows: $name",
  async ({ lives, plan }) => {
    const tally = { steps: 0, judged: 0, deaths: 0 };
    const seeds = only === undefined ? Array.from({ length: lives }, (_, life) => life + 1) : [Number(only)];
    for (const seed of seeds) {
      const { steps, judged, deaths, faults } = await liveOnce(seed, plan);
      if (faults.length > 0) throw new Error(`EMDB_STEP_SEED=${seed}: ${faults.slice(0, 3).join("; ")}`);
      tally.steps += steps;
      tally.judged += judged;
      tally.deaths += deaths;
    }
    console.log(
      `${seeds.length} lives, ${tally.steps} steps, ${tally.judged} operations judged, ${tally.deaths} deaths`,
    );
    expect(tally.judged).toBeGreaterThan(seeds.length * 50);
    expect(tally.deaths).toBeGreaterThanOrEqual(plan.deaths * seeds.length * 0.7);
  },
  TIMEOUT_MS,
);

test("a seed gives the same steps and the same history again", async () => {
  const [one, other] = [await liveOnce(5, BUSY), await liveOnce(5, BUSY)];
  expect(other).toEqual(one);
});
