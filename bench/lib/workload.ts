/**
 * How a benchmark runs: one fresh child process per subject and repetition, round-robin, so that drift of the machine
 * hits all alike and no run inherits another's heap, page tables or compiled code. The parent takes medians, prints
 * a markdown table with ratios to the first subject, and writes JSON.
 *
 * A workload file is both parent and child: the child gets `--child <subject>` and prints one line of JSON last.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

import { numberOption, listOption, parseOptions } from "./options.ts";
import type { Options } from "./options.ts";
import { median } from "./statistics.ts";
import { markdown } from "./table.ts";
import { touchMemory } from "./touch.ts";
import { isUnsupported } from "./unsupported.ts";

/** One measured number. */
export interface Row {
  readonly row: string;
  readonly value: number;
  readonly unit: string;
  /** Which way is better; absent: neither (a count, a size of the input). */
  readonly better?: "lower" | "higher";
}

export interface Outcome {
  readonly rows: readonly Row[];
  /** Settings in words, the same in every repetition. */
  readonly settings: string;
}

export interface Workload {
  readonly title: string;
  /** What the numbers mean and what they do not, under the table. */
  readonly notes: readonly string[];
  readonly defaults: Options;
  /** Undefined when the subject can run, otherwise why not. */
  readonly unavailable: (subject: string, options: Options) => Promise<string | undefined>;
  readonly run: (subject: string, options: Options) => Promise<Outcome>;
}

/** One row, with its values by subject, a repetition each. */
export interface Series {
  readonly row: string;
  readonly unit: string;
  readonly better: "lower" | "higher" | undefined;
  readonly values: Readonly<Record<string, readonly number[]>>;
}

export interface Report {
  readonly name: string;
  readonly title: string;
  readonly notes: readonly string[];
  readonly options: Options;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly settings: Readonly<Record<string, string>>;
  readonly skipped: Readonly<Record<string, string>>;
  readonly series: readonly Series[];
}

const common: Options = { repeat: "3", seed: "1", "budget-seconds": "1800", "child-seconds": "600", touch: "4g" };

const folder = fileURLToPath(new URL("..", import.meta.url));

function log(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Entry point of a workload file, called when the file is run. */
export async function runWorkload(workload: Workload, file: string): Promise<void> {
  const given = parseOptions(process.argv.slice(2));
  const options = { ...common, ...workload.defaults, ...given };
  const child = given["child"];
  if (child === undefined) {
    await runParent(workload, basename(file, ".ts"), options);
    return;
  }
  const reason = await workload.unavailable(child, options);
  const answer = reason === undefined ? await answerOf(workload, child, options) : { skipped: reason };
  // A binding that holds the loop open (an idle thread, a timer) must not turn a finished child into a timeout.
  process.stdout.write(`\n${JSON.stringify(answer)}\n`, () => process.exit(0));
}

type Answer = Outcome | { readonly skipped: string };

async function answerOf(workload: Workload, subject: string, options: Options): Promise<Answer> {
  try {
    return await workload.run(subject, options);
  } catch (error) {
    if (isUnsupported(error)) return { skipped: String(error) };
    throw error;
  }
}

async function runChild(name: string, subject: string, options: Options): Promise<Answer> {
  const args = Object.entries(options).map(([key, value]) => `--${key}=${value}`);
  const child = Bun.spawn([process.execPath, "run", join(folder, `${name}.ts`), ...args, `--child=${subject}`], {
    stdout: "pipe",
    stderr: "pipe",
    timeout: numberOption(options, "child-seconds") * 1000,
    killSignal: "SIGKILL",
  });
  const [output, errors, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  const last = output.trimEnd().split("\n").at(-1) ?? "";
  if (code === 0 && last.startsWith("{")) return JSON.parse(last) as Answer;
  return {
    skipped: `child ended with ${child.signalCode ?? code}: ${errors.trim().split("\n").slice(-12).join(" | ")}`,
  };
}

async function runParent(workload: Workload, name: string, options: Options): Promise<void> {
  const subjects = listOption(options, "peers");
  const repeat = numberOption(options, "repeat");
  const deadline = Date.now() + numberOption(options, "budget-seconds") * 1000;
  const settings: Record<string, string> = {};
  const skipped: Record<string, string> = {};
  const touchNs: number[] = [];
  const series = new Map<
    string,
    { row: string; unit: string; better: Series["better"]; values: Record<string, number[]> }
  >();
  for (let round = 0; round < repeat && (round === 0 || Date.now() < deadline); round++) {
    for (let turn = 0; turn < subjects.length; turn++) {
      // Each round starts with another subject: who runs first after a pause is not always the same one.
      const subject = subjects[(turn + round) % subjects.length] ?? "";
      if (skipped[subject] !== undefined) continue;
      touchNs.push(touchMemory(options));
      const start = Date.now();
      const answer = await runChild(name, subject, options);
      if ("skipped" in answer) {
        skipped[subject] = answer.skipped;
        log(`${name} ${round + 1}/${repeat} ${subject}: skipped, ${answer.skipped}`);
        continue;
      }
      settings[subject] = answer.settings;
      for (const { row, value, unit, better } of answer.rows) {
        const known = series.get(row) ?? { row, unit, better, values: {} };
        (known.values[subject] ??= []).push(value);
        series.set(row, known);
      }
      log(`${name} ${round + 1}/${repeat} ${subject}: ${((Date.now() - start) / 1000).toFixed(1)} s`);
    }
  }
  const report: Report = {
    name,
    title: workload.title,
    notes: [...workload.notes, touchNote(touchNs, options)],
    options,
    machine: machine(),
    settings,
    skipped,
    series: [...series.values()],
  };
  process.stdout.write(`${markdown(report, subjects)}\n`);
  writeReport(report, options["json"]);
  const failure = Object.values(skipped).find((reason) => reason.startsWith("child ended"));
  if (failure !== undefined) process.exitCode = 1;
}

function touchNote(touchNs: readonly number[], options: Options): string {
  const [all, most] = [median(touchNs), Math.max(...touchNs)].map((ns) => ns.toFixed(0));
  return `Before each process another one touched ${options["touch"]} bytes of memory for the first time: ${all} ns a page, ${most} at most.`;
}

function writeReport(report: Report, path: string | undefined): void {
  const target = path ?? join(folder, "results", `${report.name}.json`);
  mkdirSync(join(target, ".."), { recursive: true });
  const medians = report.series.map(({ row, unit, better, values }) => ({
    row,
    unit,
    better,
    median: Object.fromEntries(Object.entries(values).map(([subject, all]) => [subject, median(all)])),
    min: Object.fromEntries(Object.entries(values).map(([subject, all]) => [subject, Math.min(...all)])),
    values,
  }));
  writeFileSync(target, `${JSON.stringify({ ...report, series: medians }, undefined, 2)}\n`);
  log(`written: ${target}`);
}

function machine(): Record<string, string | number> {
  return {
    bun: Bun.version,
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
  };
}
