/**
 * Runs test files one process each, with any command that is a Bun, and counts.
 *
 *   bun scripts/suite.ts <label> [paths of files or folders]
 *   bun scripts/suite.ts <label> <command that is another bun> -- [paths]
 *
 * One process per file, so that a crash or a hang of an emulator costs one file: it counts as one failure, and the
 * rest goes on. So does a file in which no test is found. The last line is `<label>: N passed, N failed, N skipped`;
 * EMDB_RESULTS names a file that the same counts are appended to, for the total. EMDB_COVERAGE names a folder for reports of
 * the lines that the rooms' own tests reach, which `scripts/coverage.ts` judges.
 */

import { appendFileSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { countingFlags, isCounted } from "./coverage.ts";

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const root = resolve(import.meta.dir, "..");
const fileTimeoutMs = Number(process.env["EMDB_FILE_TIMEOUT_MS"] ?? 900_000);
const laneCount = Number(process.env["EMDB_LANES"] ?? 2);
const reportFolder = process.env["EMDB_COVERAGE"];

/**
 * What was broken once is looked at first. Then the files that take minutes, the longest before all: one that came last
 * would leave the other lane idle.
 */
const FIRST = [
  "test/corpus/corpus.test.ts",
  "test/sim/engine-flips.test.ts",
  "test/sim/engine-faults.test.ts",
  "test/workers/kill-ring.test.ts",
  "test/kernel/kill.test.ts",
  "test/sim/engine-garbage.test.ts",
  "test/bank/threads.test.ts",
  "test/bank/engine.test.ts",
  "test/package/installed.test.ts",
  "test/workers/deaths.test.ts",
  "test/sim/engine-platforms.test.ts",
  "test/sim/engine-sequences.test.ts",
];

/**
 * Reads the counts of one `bun test` run: of its closing block, since a test may have printed one of a run of its own. A
 * run without a closing line crashed, which is one more failure, and so is a run of no test at all.
 */
export function countsOf(output: string, exitCode: number | null): Counts {
  const text = plainLines(output).join("\n");
  const listed = (word: string): number => [...text.matchAll(new RegExp(`^\\(${word}\\) `, "gm"))].length;
  const closing = [...text.matchAll(/((?:^ *\d+ [a-z].*\n)*)^Ran \d+ tests? across.*/gm)].at(-1);
  const after = closing === undefined ? "" : text.slice(closing.index + closing[0].length);
  if (closing === undefined || /^\((pass|fail|skip|todo)\) /m.test(after)) {
    return { passed: listed("pass"), failed: listed("fail") + 1, skipped: listed("skip") };
  }
  const counted = (word: string): number =>
    Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(closing[1] ?? "")?.[1] ?? 0);
  const [passed, failed, skipped] = [counted("pass"), counted("fail"), counted("skip") + counted("todo")];
  const isUnexplained = failed === 0 && (exitCode !== 0 || passed + skipped === 0);
  return { passed, failed: failed + (isUnexplained ? 1 : 0), skipped };
}

/** What is no note of a test: the runner's own lines. */
const RUNNERS_OWN =
  /^(\((pass|skip|todo)\) .*|bun test v.*|\S+\.test\.ts:|Ran \d+ tests? across .*| *\d+ (pass|fail|skip|todo|filtered out|expect\(\) calls)|)$/;
const NOTE_COUNT_MAX = 60;

/** The lines of an output without their colours. */
function plainLines(output: string): string[] {
  return output.replaceAll(/\u001b\[[0-9;]*m|\r/g, "").split("\n");
}

/** What the tests of a file that passes have printed: what a ring did, and where each planted fault was found. */
export function notesIn(output: string): string {
  const notes = plainLines(output).filter((line) => !RUNNERS_OWN.test(line));
  return notes.slice(0, NOTE_COUNT_MAX).join("\n");
}

/** All that a run of a file that failed has printed, but the tests that passed: of those the last, behind which it may have crashed. */
export function failuresIn(output: string): string {
  const lines = plainLines(output);
  const hasPassed = (line: string): boolean => /^\((pass|skip|todo)\) /.test(line);
  const last = lines.findLastIndex(hasPassed);
  return lines.filter((line, index) => index === last || !hasPassed(line)).join("\n");
}

/** The test files under the given paths; an emulator leaves out those that only read the repository. */
function testFiles(paths: readonly string[], isEmulated: boolean): string[] {
  const list = JSON.parse(readFileSync(join(root, "test/platform-exceptions.json"), "utf8")) as {
    readonly repository: readonly string[];
    readonly files: readonly { readonly emulators: readonly string[]; readonly file: string }[];
  };
  const emulator = process.env["EMDB_TEST_EMULATOR"] ?? "";
  const excepted = list.files.filter((entry) => entry.emulators.includes(emulator)).map((entry) => entry.file);
  const leftOut = new Set(isEmulated ? [...list.repository, ...excepted] : []);
  const isFolder = (path: string): boolean => statSync(join(root, path)).isDirectory();
  const files = paths.flatMap((path) =>
    isFolder(path) ? [...new Bun.Glob(`${path.replace(/\/+$/, "")}/**/*.test.ts`).scanSync(root)] : [path],
  );
  const found = new Set(files.filter((file) => paths.includes(file) || !leftOut.has(file)));
  const first = FIRST.filter((file) => found.has(file));
  return [...new Set([...first, ...[...found].sort()])];
}

/** Hundreds of threads or processes that live for a moment each. */
const SHORT_LIVES = new Set(["test/workers/kill-ring.test.ts", "test/kernel/kill.test.ts"]);

/**
 * How much the engine compiles: by its own measure a file of some seconds spends a tenth of them, some a seventh, on code
 * that is not run often enough to make up for it. Simulations, in which loops run for minutes, go by it.
 */
function compilingIn(file: string): Record<string, string> {
  if (SHORT_LIVES.has(file)) return { BUN_JSC_useDFGJIT: "0" };
  return file.startsWith("test/sim/") ? {} : { BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "1000000" };
}

interface Outcome extends Counts {
  /** Whether a test of the file had a result when its process ended. */
  readonly hasBegun: boolean;
}

async function runFile(command: readonly string[], file: string): Promise<Outcome> {
  const startedMs = Date.now();
  // Into a file, since a pipe stays open for as long as anything that the emulator left behind holds it.
  const folder = mkdtempSync(join(tmpdir(), "emdb-suite-"));
  const sink = openSync(join(folder, "output"), "w");
  const counting = reportFolder !== undefined && isCounted(file) ? countingFlags(reportFolder) : [];
  const child = Bun.spawn([...command, "test", ...counting, "--timeout", "120000", `./${file}`], {
    cwd: root,
    env: { ...process.env, ...compilingIn(file) },
    stdio: ["ignore", sink, sink],
    detached: true,
  });
  const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), fileTimeoutMs);
  await child.exited;
  clearTimeout(timer);
  closeSync(sink);
  const output = readFileSync(join(folder, "output"), "utf8");
  rmSync(folder, { recursive: true });
  const counts = countsOf(output, child.exitCode);
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  console.log(`${counts.failed === 0 ? "ok  " : "FAIL"} ${file}: ${phrase(counts)} (${seconds} s)`);
  const told = counts.failed > 0 ? failuresIn(output) : notesIn(output);
  if (told !== "") console.log(told.replaceAll(/^/gm, "     | "));
  return { ...counts, hasBegun: /^(\u001b\[[0-9;]*m)*\((pass|fail)\)/m.test(output) };
}

const phrase = (counts: Counts): string =>
  `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;

const sum = (all: readonly Counts[]): Counts => ({
  passed: all.reduce((total, one) => total + one.passed, 0),
  failed: all.reduce((total, one) => total + one.failed, 0),
  skipped: all.reduce((total, one) => total + one.skipped, 0),
});

async function main(): Promise<void> {
  const [label = "", ...rest] = process.argv.slice(2);
  const border = rest.indexOf("--");
  const isEmulated = border !== -1;
  const command = isEmulated ? rest.slice(0, border) : [process.execPath];
  const named = isEmulated ? rest.slice(border + 1) : rest;
  const queue = testFiles(named.length === 0 ? ["test"] : named, isEmulated);
  const done: Counts[] = [];
  const lane = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      let counts = await runFile(command, file);
      // An emulator that ends before a test has failed is given a second try; a crash of ours comes again.
      if (isEmulated && counts.failed === 1 && !counts.hasBegun) counts = await runFile(command, file);
      done.push(counts);
    }
  };
  await Promise.all(Array.from({ length: laneCount }, lane));
  // A run of no file proves nothing.
  const total = done.length === 0 ? { passed: 0, failed: 1, skipped: 0 } : sum(done);
  console.log(`${label}: ${phrase(total)}`);
  const results = process.env["EMDB_RESULTS"];
  if (results !== undefined) appendFileSync(results, `${total.passed} ${total.failed} ${total.skipped} ${label}\n`);
  process.exit(total.failed === 0 ? 0 : 1);
}

if (import.meta.main) await main();
