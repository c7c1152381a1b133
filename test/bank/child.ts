/**
 * Runs one probe against the tree that it lies in, which has a fault planted: `bun child.ts <probe> <seeds> [turn]`.
 *
 * A turn is a seed of a ring, or a seed of the model in one of its configurations. All of them are gone through until
 * one finds something, or the one that is named. Prints one line of JSON: what was looked at and what was found.
 */

import { CONFIGURATIONS, runModel } from "../model/run.ts";
import { RINGS } from "../sim/rings.ts";
import type { RingReport } from "../sim/runner.ts";
import type { ProbeOutcome, RingName } from "./fault.ts";

/** Enough to say in how many crashes a fault shows, without going through thousands of them. */
const FINDING_COUNT_MAX = 10;

interface Turns {
  readonly first: number;
  readonly last: number;
  readonly findingCountMax: number;
}

/** What the first finding is, if there is one. */
function ringTurn(name: RingName, turn: number, report: RingReport): string | undefined {
  RINGS[name].run(turn, report);
  const [first] = report.findings;
  return first === undefined ? undefined : `property ${first.problem.property}: ${first.problem.detail}`;
}

function modelTurn(turn: number): string | undefined {
  const configuration = CONFIGURATIONS[(turn - 1) % CONFIGURATIONS.length]!;
  return runModel({ configuration, seed: Math.ceil(turn / CONFIGURATIONS.length), stepCount: 700 });
}

function lookAt(probe: string, { first, last, findingCountMax }: Turns): ProbeOutcome {
  const report: RingReport = {
    calls: 0,
    points: 0,
    crashes: 0,
    faults: 0,
    findings: [],
    findingCountMax,
  };
  for (let turn = first; turn <= last; turn += 1) {
    let detail: string | undefined;
    try {
      detail = probe === "model" ? modelTurn(turn) : ringTurn(probe as RingName, turn, report);
    } catch (error) {
      // The model run lets through what no caller should ever see; a ring reports it by itself.
      detail = String(error);
    }
    if (detail !== undefined) {
      return { crashes: report.crashes, findings: Math.max(1, report.findings.length), detail, turn };
    }
  }
  return { crashes: report.crashes, findings: 0, detail: undefined };
}

const [probe = "", seeds = "1", named] = process.argv.slice(2);
const all = {
  first: 1,
  last: Number(seeds) * (probe === "model" ? CONFIGURATIONS.length : 1),
  findingCountMax: FINDING_COUNT_MAX,
};
// That it is found is all that is asked of the one that is known to find it.
const one = { first: Math.max(1, Number(named)), last: Math.min(all.last, Number(named)), findingCountMax: 1 };
console.log(JSON.stringify(lookAt(probe, named === undefined ? all : one)));
