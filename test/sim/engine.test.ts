/** The engine in the rings: short here; the long runs take more seeds through the same functions. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { engineAdapter } from "./engine-adapter.ts";
import { describeFailure } from "./finding.ts";
import { crashRing, DEFAULT_RING, faultRing, newReport } from "./runner.ts";
import { randomScript } from "./script.ts";

// Bounded by their own counts; a shared or emulated machine takes its time.
setDefaultTimeout(120_000);

test.each(["strict", "ordered"] as const)(
  "the engine shows a right state after every crash of random scripts in %s mode",
  (journal) => {
    const report = newReport();
    for (let seed = 1; seed <= 5 && report.findings.length === 0; seed += 1) {
      const run = { machine: { journal }, script: randomScript({ seed, length: 20 }), seed };
      crashRing(engineAdapter(), { run, options: DEFAULT_RING, report });
    }
    expect(report.findings.map(describeFailure)).toEqual([]);
    expect(report.crashes).toBeGreaterThan(500);
  },
);

test("the engine survives every error at every call of a short script", () => {
  const report = newReport();
  const run = { machine: {}, script: randomScript({ seed: 3, length: 4 }), seed: 3 };
  faultRing(engineAdapter(), { run, options: { ...DEFAULT_RING, randomDraws: 0 }, report });
  expect(report.findings.map(describeFailure)).toEqual([]);
  expect(report.faults).toBeGreaterThan(200);
});
