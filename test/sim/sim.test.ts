/**
 * The rings find what they are for: a log that is right passes them, and every broken one is caught.
 *
 * Each bug of the toy is a claim that the harness can fail; one that is no longer caught is a defect of the
 * rings, not of the toy.
 */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { describeFailure, parseFailure } from "./finding.ts";
import { hasStrictMemory, realMappingCount } from "./real-memory.ts";
import { crashRing, DEFAULT_RING, faultRing, newReport, replay, spaceRing } from "./runner.ts";
import { enumerateScripts, randomScript, SMALL_ALPHABET } from "./script.ts";
import { shrinkScript } from "./shrink.ts";
import { toyAdapter } from "./toy-store.ts";
import type { MachineOptions } from "./machine.ts";
import type { RingOptions, RingReport } from "./runner.ts";
import type { Script } from "./script.ts";
import type { ToyBug } from "./toy-store.ts";

// Bounded by their own counts; a shared or emulated machine takes its time.
setDefaultTimeout(120_000);

const right = toyAdapter();

function lines(report: RingReport): string[] {
  return report.findings.map(describeFailure);
}

/** Random scripts through the crash ring; stops at the first finding. */
function crashRandom(
  bugs: readonly ToyBug[],
  {
    seeds,
    machine = {},
    options = {},
  }: { readonly seeds: number; readonly machine?: Partial<MachineOptions>; readonly options?: Partial<RingOptions> },
): RingReport {
  const report = newReport();
  for (let seed = 1; seed <= seeds && report.findings.length === 0; seed += 1) {
    const run = { machine, script: randomScript({ seed, length: 30 }), seed };
    crashRing(toyAdapter(...bugs), { run, options: { ...DEFAULT_RING, ...options }, report });
  }
  return report;
}

function failRandom(
  bugs: readonly ToyBug[],
  { seeds, isCompound = false }: { readonly seeds: number; readonly isCompound?: boolean },
): RingReport {
  const report = newReport();
  for (let seed = 1; seed <= seeds && report.findings.length === 0; seed += 1) {
    const run = { machine: {}, script: randomScript({ seed, length: 12 }), seed };
    faultRing(toyAdapter(...bugs), { run, options: { ...DEFAULT_RING, isCompound }, report });
  }
  return report;
}

describe("a log that is right", () => {
  test.each([
    ["in strict mode", {}],
    ["in ordered mode", { journal: "ordered" }],
    ["with sectors of 4096 bytes", { sectorBytes: 4096 }],
    ["on Windows", { isWindows: true }],
  ] as const)("passes every crash of random scripts %s", (_, machine) => {
    const report = crashRandom([], { seeds: 12, machine });
    expect(lines(report)).toEqual([]);
    expect(report.crashes).toBeGreaterThan(1500);
  });

  test("passes every way on from every crash", () => {
    const report = crashRandom([], { seeds: 4, options: { depth: "all" } });
    expect(lines(report)).toEqual([]);
    expect(report.crashes).toBe(report.points * 6 * 4);
  });

  test("passes every crash of every sequence of two operations", () => {
    const report = newReport();
    let scripts = 0;
    for (const script of enumerateScripts(SMALL_ALPHABET, 2)) {
      scripts += 1;
      crashRing(right, { run: { machine: {}, script, seed: scripts }, options: DEFAULT_RING, report });
    }
    expect(lines(report)).toEqual([]);
    expect(scripts).toBe(SMALL_ALPHABET.length + SMALL_ALPHABET.length ** 2);
  });

  test("passes every error at every call, alone and with a second one", () => {
    for (const isCompound of [false, true]) {
      const report = failRandom([], { seeds: 2, isCompound });
      expect(lines(report)).toEqual([]);
      expect(report.faults).toBeGreaterThan(500);
    }
  });

  test("passes disks of every size", () => {
    const report = newReport();
    const sizes = Array.from({ length: 30 }, (_, index) => index * 300);
    spaceRing(right, {
      run: { machine: {}, script: randomScript({ seed: 4, length: 20 }), seed: 4 },
      sizes,
      options: DEFAULT_RING,
      report,
    });
    expect(lines(report)).toEqual([]);
    expect(report.faults).toBe(sizes.length);
  });

  test.skipIf(!hasStrictMemory)("touches no memory that it has not mapped", () => {
    expect(lines(crashRandom([], { seeds: 1, machine: { memory: "strict" } }))).toEqual([]);
  });
});

describe("a log is caught that", () => {
  const caughtByCrashes: readonly (readonly [ToyBug, readonly number[]])[] = [
    ["appends behind a torn tail", [5]],
    ["acknowledges before the sync", [2, 5]],
    ["skips the folder sync", [2, 5]],
    ["shows what it has not synced", [5]],
    ["splits batches", [4]],
    ["believes any frame", [0]],
    ["forgets clears", [1, 2, 7]],
    ["revives removed keys", [1, 2, 5, 7]],
    ["shows what has expired", [1, 2, 7]],
    ["leaks a mapping", [8]],
    ["unmaps twice", [8]],
    ["leaves its temporary file", [8]],
    ["renames before the sync", [1, 2]],
    ["writes on into the compacted file's predecessor", [1, 2, 7]],
    ["skips the folder sync after compaction", [2, 5]],
  ];
  test.each(caughtByCrashes)("%s", (bug, properties) => {
    const [finding] = crashRandom([bug], { seeds: 12 }).findings;
    expect(properties).toContain(finding?.problem.property ?? -1);
  });

  const caughtByFaults: readonly (readonly [ToyBug, readonly number[]])[] = [
    ["ignores a failed sync", [2]],
    ["retries a failed sync", [2]],
    ["keeps a failed append", [2]],
    ["leaks the handle of a failed open", [8]],
    ["throws what nobody expects", [0]],
  ];
  test.each(caughtByFaults)("%s", (bug, properties) => {
    expect(crashRandom([bug], { seeds: 2 }).findings).toEqual([]);
    const [finding] = failRandom([bug], { seeds: 2 }).findings;
    expect(properties).toContain(finding?.problem.property ?? -1);
  });

  test("skips the folder sync, but not where the journal is ordered and the file's sync covers its name", () => {
    expect(crashRandom(["skips the folder sync"], { seeds: 5, machine: { journal: "ordered" } }).findings).toEqual([]);
  });
});

describe("a finding", () => {
  test("is one line that replays it, and replays to nothing on a log that is right", () => {
    for (const bug of ["splits batches", "forgets clears"] as const) {
      const [finding] = crashRandom([bug], { seeds: 12 }).findings;
      if (finding === undefined) throw new Error("nothing was found");
      const line = describeFailure(finding);
      expect(line).not.toContain("\n");
      expect(replay(toyAdapter(bug), parseFailure(line))).toEqual(finding.problem);
      expect(replay(right, parseFailure(line))).toBeUndefined();
    }
  });

  test("of a fault replays, too", () => {
    const [finding] = failRandom(["ignores a failed sync"], { seeds: 2 }).findings;
    if (finding === undefined) throw new Error("nothing was found");
    const again = parseFailure(describeFailure(finding));
    expect(again.run.faults).toHaveLength(1);
    expect(replay(toyAdapter("ignores a failed sync"), again)).toEqual(finding.problem);
  });

  test("shrinks to the operations that it needs", () => {
    const adapter = toyAdapter("splits batches");
    const [finding] = crashRandom(["splits batches"], { seeds: 12 }).findings;
    if (finding === undefined) throw new Error("nothing was found");
    const fails = (script: Script): boolean => {
      const report = newReport();
      crashRing(adapter, { run: { ...finding.run, script }, options: DEFAULT_RING, report });
      return report.findings.some(({ problem }) => problem.property === finding.problem.property);
    };
    const script = shrinkScript(finding.run.script, { fails, attemptCountMax: 300 });
    expect(fails(script)).toBe(true);
    expect(script.map(({ kind }) => kind)).toEqual(["batch"]);
    const [batch] = script;
    expect(batch?.kind === "batch" ? batch.writes.length : 0).toBeLessThanOrEqual(2);
  });
});

test("a script follows from its seed alone, and another seed gives another", () => {
  const [a, b, c] = [5, 5, 6].map((seed) => randomScript({ seed, length: 40 }));
  expect(a).toEqual(b ?? []);
  expect(a).not.toEqual(c ?? []);
});

test("a ring ends with as many real mappings as an earlier one left", () => {
  crashRandom([], { seeds: 1 });
  const before = realMappingCount();
  crashRandom([], { seeds: 1 });
  expect(realMappingCount()).toBe(before);
});
