/** What was found once is not found again. Named so that it runs before the rings. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { corpusCases, replayLine } from "../sim/corpus.ts";
import { describeFailure, parseFailure } from "../sim/finding.ts";
import { isDeaths, replayDeaths } from "../deaths/ring.ts";
import { adapterNamed } from "../sim/rings.ts";
import { crashRing, DEFAULT_RING, newReport } from "../sim/runner.ts";

// Bounded by its own counts; a shared or emulated machine takes its time.
setDefaultTimeout(120_000);

const cases = corpusCases();
const deaths = cases.filter(({ line }) => isDeaths(line));
const crashes = cases.filter(({ line }) => !isDeaths(line));

test("the corpus is there to be read", () => expect(Math.min(crashes.length, deaths.length)).toBeGreaterThan(0));

test.each(crashes.map(({ name, line }) => [name, line] as const))("%s stays repaired", (_, line) => {
  expect(replayLine(line, adapterNamed)).toBeUndefined();
  // The number of a call moves when the engine makes another one: all points of the script are looked at as well.
  const { store, run } = parseFailure(line);
  const report = newReport();
  crashRing(adapterNamed(store), { run, options: { ...DEFAULT_RING, randomDraws: 3 }, report });
  expect(report.findings.map(describeFailure)).toEqual([]);
});

test.each(deaths.map(({ name, line }) => [name, line] as const))("%s stays repaired, too", async (_, line) => {
  const { text, isGone } = await replayDeaths(line);
  expect(isGone ? "nothing is found" : text).toBe("nothing is found");
});
