/** A ring over a range of seeds, as a test or in the long run. */

import { expect } from "bun:test";
import { emulator } from "../support/platform.ts";
import { describeFailure } from "./finding.ts";
import { newReport } from "./runner.ts";
import type { RingReport } from "./runner.ts";
import type { Ring } from "./rings.ts";

/**
 * One run under an emulator takes 20 to 40 times as long, and what it could add is in the engine's own tests. Where lines
 * are counted (`scripts/coverage.ts`), a few seeds of each ring do as well.
 */
export const EMULATED_SHARE = Number(process.env["EMDB_RING_SHARE"] ?? (emulator === undefined ? 1 : 1 / 40));

/** Runs a ring over the seeds 1, 2, 3 ..., prints what it did, and expects no finding and at least so many crashes. */
export function expectSound(
  ring: Ring,
  { seedCount, crashCountMin }: { seedCount: number; crashCountMin: number },
): void {
  const report = newReport();
  const seedCountHere = Math.ceil(seedCount * EMULATED_SHARE);
  for (let seed = 1; seed <= seedCountHere && report.findings.length === 0; seed += 1) ring.run(seed, report);
  console.log(summaryOf(ring, { seedCount: seedCountHere, report }));
  expect(report.findings.map(describeFailure)).toEqual([]);
  if (EMULATED_SHARE === 1) expect(report.crashes).toBeGreaterThanOrEqual(crashCountMin);
}

/** What a ring did, on one line. */
export function summaryOf(ring: Ring, { seedCount, report }: { seedCount: number; report: RingReport }): string {
  const { points, crashes, faults, findings } = report;
  return `${ring.name}: ${seedCount} seeds, ${points} crash points, ${crashes} crashes, ${faults} runs with an error, ${findings.length} findings`;
}
