/**
 * Runs one probe against the tree that it lies in, which has a fault planted: `bun child.ts <probe> <seeds>`.
 * Prints one line of JSON: what was looked at and what was found.
 */

import { CONFIGURATIONS, runModel } from "../model/run.ts";
import { RINGS } from "../sim/rings.ts";
import type { RingReport } from "../sim/runner.ts";
import type { ProbeOutcome, RingName } from "./fault.ts";

/** Enough to say in how many crashes a fault shows, without going through thousands of them. */
const FINDING_COUNT_MAX = 10;

function runRing(name: RingName, seedCount: number): ProbeOutcome {
  const ring = RINGS[name];
  const report: RingReport = {
    calls: 0,
    points: 0,
    crashes: 0,
    faults: 0,
    findings: [],
    findingCountMax: FINDING_COUNT_MAX,
  };
  for (let seed = 1; seed <= seedCount && report.findings.length === 0; seed += 1) ring.run(seed, report);
  const [first] = report.findings;
  const detail = first === undefined ? undefined : `property ${first.problem.property}: ${first.problem.detail}`;
  return { crashes: report.crashes, findings: report.findings.length, detail };
}

function runModels(seedCount: number): ProbeOutcome {
  for (let seed = 1; seed <= seedCount; seed += 1) {
    for (const configuration of CONFIGURATIONS) {
      const detail = runModel({ configuration, seed, stepCount: 700 });
      if (detail !== undefined) return { crashes: 0, findings: 1, detail };
    }
  }
  return { crashes: 0, findings: 0, detail: undefined };
}

function main(): void {
  const [probe = "", seeds = "1"] = process.argv.slice(2);
  let outcome: ProbeOutcome;
  try {
    outcome = probe === "model" ? runModels(Number(seeds)) : runRing(probe as RingName, Number(seeds));
  } catch (error) {
    // The model run lets through what no caller should ever see; a ring reports it by itself.
    outcome = { crashes: 0, findings: 1, detail: String(error) };
  }
  console.log(JSON.stringify(outcome));
}

main();
