/**
 * The rings: every call of a script as a crash point, every call as a failing one.
 *
 * A script runs once; before each of its calls, inside each write that goes through and at the end, what a
 * crash could see is captured together with how far the order was. Crashes are then drawn and judged, so
 * that n points cost n recoveries and not n runs.
 *
 * Two neighbouring points with the same disk and the same progress are one point: a read changes nothing.
 */

import { standardDraws } from "./draw.ts";
import { Driver } from "./driver.ts";
import { plausibleErrors } from "./faults.ts";
import { Machine } from "./machine.ts";
import { mixSeed, Random } from "./random.ts";
import { checkCrash, DEPTHS } from "./recovery.ts";
import type { Draw } from "./draw.ts";
import type { CallName, Fault } from "./faults.ts";
import type { Case, Finding } from "./finding.ts";
import type { SyncFailure } from "./inode.ts";
import type { CrashPoint } from "./machine.ts";
import type { Oracle, Problem, Progress } from "./oracle.ts";
import type { Depth } from "./recovery.ts";
import type { StoreAdapter } from "./store.ts";

interface RecordedPoint {
  readonly point: CrashPoint;
  readonly progress: Progress;
  readonly callIndex: number;
  /** How many operations had begun. */
  readonly step: number;
}

interface RunRecord {
  readonly problem: Problem | undefined;
  readonly oracle: Oracle;
  readonly points: readonly RecordedPoint[];
  /** The names of the calls, in order. */
  readonly calls: readonly CallName[];
}

export interface RingReport {
  /** Calls of the scripts that were run. */
  calls: number;
  /** Moments that were crashed at. */
  points: number;
  /** Recoveries that were judged: points times draws. */
  crashes: number;
  /** Runs with a fault in them. */
  faults: number;
  readonly findings: Finding[];
  /** Instead of what the ring's options say. */
  readonly findingCountMax?: number;
}

export interface RingOptions {
  /** Draws from the seed, besides all, none, metadata and kill. */
  readonly randomDraws: number;
  /** "rotate": each crash goes one way of the four on, "all": every crash goes all of them. */
  readonly depth: "rotate" | "all";
  /** A second fault, from the seed, comes some calls after the first. */
  readonly isCompound: boolean;
  /** The ring ends after this many. */
  readonly findingCountMax: number;
  /** Only every so manieth point is crashed at, for scripts whose points are dear. */
  readonly pointStride?: number;
  /** Only what comes once so many operations have begun is crashed at: the rest is another script's. */
  readonly fromStep?: number;
  /** Only calls of these names fail. */
  readonly onlyCalls?: readonly CallName[];
}

export const DEFAULT_RING: RingOptions = { randomDraws: 2, depth: "rotate", isCompound: false, findingCountMax: 1 };

function isFull({ findings, findingCountMax }: RingReport, options: RingOptions): boolean {
  return findings.length >= (findingCountMax ?? options.findingCountMax);
}

export function newReport(): RingReport {
  return { calls: 0, points: 0, crashes: 0, faults: 0, findings: [] };
}

/** Runs a case and keeps its crash points. */
function record(adapter: StoreAdapter, run: Case): RunRecord {
  const machine = new Machine({ ...run.machine, seed: run.seed });
  const system = machine.boot({ faults: run.faults ?? [] });
  const driver = new Driver(adapter, { machine, system });
  const points: RecordedPoint[] = [];
  let lastMark = "";
  const keep = (callIndex: number): void => {
    const { progress } = driver.oracle;
    const mark = `${machine.changeCount} ${machine.nowMs} ${progress.issued} ${progress.acknowledged} ${progress.backups?.isThere} ${progress.backups?.spans.length}`;
    if (mark !== lastMark) points.push({ point: machine.capture(), progress, callIndex, step: driver.step });
    lastMark = mark;
  };
  system.onPoint = ({ callIndex }) => keep(callIndex);
  driver.run(run.script);
  keep(system.callCount);
  driver.end();
  machine.dispose();
  return {
    problem: driver.problem,
    oracle: driver.oracle,
    points,
    calls: system.trace.calls.map(({ call }) => call.name),
  };
}

/** Crashes a case at every call, by every draw; adds to the report. */
export function crashRing(
  adapter: StoreAdapter,
  { run, options, report }: { readonly run: Case; readonly options: RingOptions; readonly report: RingReport },
): void {
  const recorded = record(adapter, run);
  report.calls += recorded.calls.length;
  if (recorded.problem !== undefined) {
    report.findings.push({ store: adapter.name, run, problem: recorded.problem });
    return;
  }
  const { pointStride = 1, fromStep = 0 } = options;
  // Which of the points depends on the seed, so that many seeds visit all of them.
  const isChosen = (point: number): boolean =>
    recorded.points[point]!.step >= fromStep && (point + run.seed) % pointStride === 0;
  const chosen = recorded.points.keys().filter(isChosen);
  crashAt(adapter, { run, recorded, chosen, options, report });
}

interface CrashPlan {
  readonly run: Case;
  readonly recorded: RunRecord;
  readonly chosen: Iterable<number>;
  readonly options: RingOptions;
  readonly report: RingReport;
}

function crashAt(adapter: StoreAdapter, { run, recorded, chosen, options, report }: CrashPlan): void {
  for (const point of chosen) {
    report.points += 1;
    const draws = standardDraws({ seed: mixSeed(run.seed, point), randomCount: options.randomDraws });
    for (const [index, draw] of draws.entries()) {
      const ways =
        options.depth === "all" ? DEPTHS : DEPTHS.filter((_, way) => way === (point + index) % DEPTHS.length);
      for (const depth of ways) {
        if (isFull(report, options)) return;
        report.crashes += 1;
        const crash = { point, draw, depth };
        const problem = crashOnce(adapter, { recorded, crash, seed: run.seed });
        if (problem !== undefined) report.findings.push({ store: adapter.name, run, crash, problem });
      }
    }
  }
}

interface OneCrash {
  readonly recorded: RunRecord;
  readonly crash: { readonly point: number; readonly draw: Draw; readonly depth: Depth };
  readonly seed: number;
}

function crashOnce(adapter: StoreAdapter, { recorded, crash, seed }: OneCrash): Problem | undefined {
  const at = recorded.points[crash.point];
  if (at === undefined) throw new Error(`there is no crash point ${crash.point}`);
  const { point, progress } = at;
  return checkCrash(adapter, { point, draw: crash.draw, depth: crash.depth, progress, oracle: recorded.oracle, seed });
}

/** Does again what a finding says; the problem, or undefined when it is gone. */
export function replay(adapter: StoreAdapter, finding: Omit<Finding, "problem">): Problem | undefined {
  const recorded = record(adapter, finding.run);
  if (finding.crash === undefined || recorded.problem !== undefined) return recorded.problem;
  return crashOnce(adapter, { recorded, crash: finding.crash, seed: finding.run.seed });
}

const ALL_SYNC_FAILURES: readonly SyncFailure[] = ["clean", "revert", "late", "takes-acknowledged"];
const NAME_CALLS: ReadonlySet<CallName> = new Set([
  "open",
  "rename",
  "link",
  "unlink",
  "makeFolder",
  "truncate",
  "allocate",
]);

/** Every way in which one call may fail. */
function faultsAt(name: CallName, atCall: number): Fault[] {
  const faults: Fault[] = [];
  for (const errno of plausibleErrors(name)) {
    for (const repeat of ["once", "same", "all"] as const) {
      faults.push({ atCall, errno, repeat });
      if (name === "write") faults.push({ atCall, errno, repeat, partial: 0.6 }, { atCall, errno, repeat, partial: 1 });
    }
  }
  // An error that comes after the deed: believable for what changes names and sizes of a failing disk.
  if (NAME_CALLS.has(name)) faults.push({ atCall, errno: "EIO", repeat: "once", hasEffect: true });
  return faults;
}

/**
 * Fails every call of a case in every way, once and for ever; crashes afterwards, at the end and at one
 * moment between the fault and the end.
 */
export function faultRing(
  adapter: StoreAdapter,
  { run, options, report }: { readonly run: Case; readonly options: RingOptions; readonly report: RingReport },
): void {
  const { calls } = record(adapter, run);
  report.calls += calls.length;
  const random = new Random(run.seed);
  for (const [index, name] of calls.entries()) {
    if (options.onlyCalls?.includes(name) === false) continue;
    for (const fault of faultsAt(name, index)) {
      for (const syncFailure of name === "sync" ? ALL_SYNC_FAILURES : ALL_SYNC_FAILURES.slice(0, 1)) {
        if (isFull(report, options)) return;
        const faults = options.isCompound ? [fault, second(calls.length, { after: index, random })] : [fault];
        const faulty = { ...run, faults, machine: { ...run.machine, syncFailure } };
        failOnce(adapter, { run: faulty, options, report, random });
      }
    }
  }
}

/** What goes wrong while a store deals with what went wrong. */
function second(callCount: number, { after, random }: { readonly after: number; readonly random: Random }): Fault {
  const near = after + 1 + random.below(4);
  const atCall = random.chance(0.5) ? near : after + 1 + random.below(Math.max(1, callCount - after));
  return { atCall, errno: random.pick(["EIO", "ENOSPC", "ENOMEM"]), repeat: random.pick(["once", "same"]) };
}

/** Runs a case on disks of every size from none to enough; a full disk is an error like any other. */
export function spaceRing(
  adapter: StoreAdapter,
  {
    run,
    sizes,
    options,
    report,
  }: {
    readonly run: Case;
    readonly sizes: Iterable<number>;
    readonly options: RingOptions;
    readonly report: RingReport;
  },
): void {
  const random = new Random(run.seed);
  for (const spaceBytesMax of sizes) {
    if (isFull(report, options)) return;
    failOnce(adapter, { run: { ...run, machine: { ...run.machine, spaceBytesMax } }, options, report, random });
  }
}

function failOnce(
  adapter: StoreAdapter,
  {
    run,
    options,
    report,
    random,
  }: { readonly run: Case; readonly options: RingOptions; readonly report: RingReport; readonly random: Random },
): void {
  report.faults += 1;
  const recorded = record(adapter, run);
  if (recorded.problem !== undefined) {
    report.findings.push({ store: adapter.name, run, problem: recorded.problem });
    return;
  }
  const last = recorded.points.length - 1;
  const first = recorded.points.findIndex(({ callIndex }) => callIndex >= (run.faults?.[0]?.atCall ?? 0));
  const between = Math.max(0, first) + random.below(last - Math.max(0, first) + 1);
  crashAt(adapter, { run, recorded, chosen: new Set([between, last]), options, report });
}
