/**
 * The long run: `bun run soak --minutes 20 --seed 7`.
 *
 * Gives the rings of `test/sim/rings.ts` and `test/kernel/long-rings.ts` equal time, a seed at a go, until the time is up.
 * Each ring's seeds count up from `--seed`, so `--seed` with the number in the last line goes on where a run ended. A failure
 * is printed as one line
 * that replays it (`--replay LINE`), made short, and kept in `test/corpus/`.
 */

import { parseArgs } from "node:util";
import { isDeaths, replayDeaths } from "../test/deaths/ring.ts";
import { LONG_RINGS, type LongRing } from "../test/kernel/long-rings.ts";
import { describeFailure } from "../test/sim/finding.ts";
import { keep, replayLine, shortened } from "../test/sim/corpus.ts";
import { mixSeed } from "../test/sim/random.ts";
import { adapterNamed, LONG_RUN, type Ring } from "../test/sim/rings.ts";
import { crashRing, DEFAULT_RING, newReport, type RingReport } from "../test/sim/runner.ts";
import type { Finding } from "../test/sim/finding.ts";

interface Tally {
  readonly ring: Ring;
  seeds: number;
  points: number;
  crashes: number;
  faults: number;
  seconds: number;
  readonly findings: Finding[];
}

function add(tally: Tally, report: RingReport, seconds: number): void {
  tally.seeds += 1;
  tally.points += report.points;
  tally.crashes += report.crashes;
  tally.faults += report.faults;
  tally.seconds += seconds;
  tally.findings.push(...report.findings);
}

/** Tells of a finding, makes it short where it is a crash without an error before it, and keeps it. */
function tell(ring: Ring, finding: Finding): void {
  console.log(`FOUND by ${ring.name}: ${describeFailure(finding)}`);
  const isPlain = finding.run.faults === undefined && finding.crash !== undefined;
  const short = isPlain
    ? shortened(finding, (script) => {
        const report = newReport();
        crashRing(ring.adapter, {
          run: { ...finding.run, script },
          options: { ...DEFAULT_RING, randomDraws: 3 },
          report,
        });
        return report;
      })
    : finding;
  console.log(`kept in ${keep(short)}: ${describeFailure(short)}`);
}

function summary({ ring, seeds, points, crashes, faults, seconds, findings }: Tally): string {
  const rate = Math.round(crashes / Math.max(seconds, 0.001));
  return `${ring.name}: ${seeds} seeds, ${points} points, ${crashes} crashes (${rate}/s), ${faults} errors, ${findings.length} findings`;
}

function runSimulated(tally: Tally, seed: number): void {
  const report = newReport();
  const beganMs = performance.now();
  tally.ring.run(seed, report);
  add(tally, report, (performance.now() - beganMs) / 1000);
  for (const finding of report.findings) tell(tally.ring, finding);
}

/** What a ring outside of the simulation has done. */
interface LongTally {
  readonly ring: LongRing;
  seeds: number;
  count: number;
  seconds: number;
  findings: number;
}

async function runLong(tally: LongTally, seed: number): Promise<void> {
  const beganMs = performance.now();
  try {
    tally.count += await tally.ring.run(seed);
  } catch (error) {
    tally.findings += 1;
    console.log(
      `FOUND by ${tally.ring.name} with seed ${seed}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  tally.seeds += 1;
  tally.seconds += (performance.now() - beganMs) / 1000;
}

function longSummary({ ring, seeds, count, seconds, findings }: LongTally): string {
  if (ring.skipped !== undefined) return `${ring.name}: skipped, ${ring.skipped}`;
  const rate = Math.round(count / Math.max(seconds, 0.001));
  return `${ring.name}: ${seeds} seeds, ${count} ${ring.unit} (${rate}/s), ${findings} findings`;
}

/** Runs until the time is up; returns how many findings there were. */
async function soak(minutes: number, seed: number): Promise<number> {
  const tallies = LONG_RUN.map((ring): Tally => ({
    ring,
    seeds: 0,
    points: 0,
    crashes: 0,
    faults: 0,
    seconds: 0,
    findings: [],
  }));
  const longTallies = LONG_RINGS.map((ring): LongTally => ({ ring, seeds: 0, count: 0, seconds: 0, findings: 0 }));
  const able = longTallies.filter(({ ring }) => ring.skipped === undefined);
  const startMs = performance.now();
  // Whoever has had the least time is next, so that dear rings do not keep the cheap ones from their seeds.
  while (performance.now() - startMs < minutes * 60_000) {
    const least = [...tallies, ...able].reduce((one, other) => (other.seconds < one.seconds ? other : one));
    const ringSeed = mixSeed(seed + least.seeds);
    if ("count" in least) await runLong(least, ringSeed);
    else runSimulated(least, ringSeed);
  }
  const next = seed + Math.max(...[...tallies, ...able].map(({ seeds }) => seeds));
  for (const tally of tallies) console.log(summary(tally));
  for (const tally of longTallies) console.log(longSummary(tally));
  const crashes = tallies.reduce((sum, tally) => sum + tally.crashes, 0);
  const simulated = tallies.reduce((sum, tally) => sum + tally.findings.length, 0);
  const findings = longTallies.reduce((sum, tally) => sum + tally.findings, simulated);
  console.log(`${crashes} crashes, ${findings} findings, seeds ${seed} to ${next - 1}; go on with --seed ${next}`);
  return findings;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { minutes: { type: "string" }, seed: { type: "string" }, replay: { type: "string" } },
  });
  if (values.replay !== undefined && isDeaths(values.replay)) {
    const lived = await replayDeaths(values.replay);
    console.log(lived.text);
    return lived.isGone ? 0 : 1;
  }
  if (values.replay !== undefined) {
    const problem = replayLine(values.replay, adapterNamed);
    console.log(problem ?? "gone");
    return problem === undefined ? 0 : 1;
  }
  const minutes = Number(values.minutes ?? 10);
  const seed = Number(values.seed ?? 1);
  if (!(minutes > 0) || !Number.isSafeInteger(seed) || seed < 0) {
    console.error("usage: bun run soak [--minutes N] [--seed S] | --replay LINE");
    return 2;
  }
  return (await soak(minutes, seed)) === 0 ? 0 : 1;
}

process.exit(await main());
