/** Crashes and errors at every system call of checkpoints, judged by the oracle of acknowledged data. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { engineAdapter } from "../sim/engine-adapter.ts";
import { describeFailure } from "../sim/finding.ts";
import { crashRing, DEFAULT_RING, faultRing, newReport } from "../sim/runner.ts";
import { randomScript, type Operation, type Script } from "../sim/script.ts";

setDefaultTimeout(240_000);

const insert = (key: string, bytes: number, space = ""): Operation => ({ kind: "insert", space, key, bytes, ttlMs: 0 });

const SCRIPT: Script = [
  insert("a", 20),
  insert("b", 700, "s"),
  { kind: "checkpoint" },
  { kind: "remove", space: "", key: "a" },
  { kind: "checkpoint" },
  {
    kind: "batch",
    writes: [
      { space: "", key: "a", bytes: 5 },
      { space: "s", key: "c", bytes: 600 },
      { space: "", key: "b" },
    ],
  },
  { kind: "flush" },
  { kind: "clear", space: "s" },
  { kind: "reopen" },
  insert("c", 5000, "t"),
  { kind: "checkpoint" },
  { kind: "drop", space: "t" },
  insert("d", 1),
];

test.each([
  ["strict", "without", false],
  ["ordered", "without", false],
  ["strict", "with", true],
] as const)(
  "a crash at any call of a checkpoint loses nothing and brings nothing back, in %s mode, %s the ordered index",
  (journal, _, rangeScans) => {
    const report = newReport();
    const run = { machine: { journal }, script: SCRIPT, seed: 11 };
    crashRing(engineAdapter("engine", { rangeScans }), { run, options: { ...DEFAULT_RING, depth: "all" }, report });
    expect(report.findings.map(describeFailure)).toEqual([]);
    expect(report.crashes).toBeGreaterThan(500);
  },
);

test("an error at any call of a checkpoint leaves the database in service and no sibling of the image", () => {
  const report = newReport();
  const run = { machine: {}, script: SCRIPT.slice(0, 3), seed: 12 };
  faultRing(engineAdapter(), { run, options: { ...DEFAULT_RING, randomDraws: 0 }, report });
  expect(report.findings.map(describeFailure)).toEqual([]);
  expect(report.faults).toBeGreaterThan(200);
});

test.each([1, 2, 3])("random scripts with checkpoints in them survive every crash (seed %d)", (seed) => {
  const report = newReport();
  const drawn = randomScript({ seed: 7000 + seed, length: 12 });
  const script = drawn.flatMap((operation, index): Script =>
    index % 3 === 2 ? [operation, { kind: "checkpoint" }] : [operation],
  );
  const run = { machine: { journal: seed % 2 === 0 ? ("strict" as const) : ("ordered" as const) }, script, seed };
  crashRing(engineAdapter("engine", { rangeScans: seed % 2 === 0 }), { run, options: DEFAULT_RING, report });
  expect(report.findings.map(describeFailure)).toEqual([]);
});
