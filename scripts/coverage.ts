/**
 * How much of `src/` the tests reach, by lines and by throws.
 *
 *   bun scripts/coverage.ts [files or folders]
 *   bun scripts/coverage.ts --reports <folder>   what a run of the suite with EMDB_COVERAGE=<folder> has left there
 *
 * Runs test files one process each with Bun's line counts and adds the counts up; those that the suite has counted do not
 * run again. What runs only in Workers and child processes is not counted, and of the long rings only a few seeds. Prints the
 * coverage of each room, and every line with a `throw` that no test has reached. Fails below 95 % of lines, and when there is
 * such a throw that `test/unreached-throws.json` does not explain. The list also names the files of other platforms, which
 * their own runs reach.
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

const root = resolve(import.meta.dir, "..");
const LINE_PERCENT_MIN = 95;
/** Files below this are named. */
const FILE_SHARE_MIN = 0.9;
const LANES = Number(process.env["EMDB_LANES"] ?? 2);
const FILE_TIMEOUT_MS = 300_000;
/** The rooms' own tests. */
const ROOMS = [
  "api",
  "compaction",
  "contract",
  "crypto",
  "encryption",
  "engine",
  "ffi",
  "keydir",
  "log",
  "ordered",
  "workers",
];
/** The rings of errors and crashes, with a few seeds. */
const RINGS = [
  ...["sim/engine-backups.test.ts", "sim/engine-compactions.test.ts", "sim/engine-crashes.test.ts"],
  "sim/windows-log-name.test.ts",
];
const RING_SHARE = "0.03";
/** Minutes of work for lines that the others reach, or claims about time that counting would spoil. */
const LEFT_OUT = [
  /workers\/(history|kill-ring|deaths|forms|flush-process|pace)/,
  /cost\.test|memory\.test|pace\.test/,
  /engine\/(checkpoint-model|damage)|keydir\/hash\.test/,
];

/** Hits by file and line. */
type Counts = Map<string, Map<number, number>>;

/** Adds the counts of one report in lcov's format (geninfo, "FILES"). */
export function addReport(counts: Counts, report: string): void {
  let lines: Map<number, number> | undefined;
  for (const row of report.split("\n")) {
    if (row.startsWith("SF:")) {
      const file = row.slice(3).replaceAll("\\", "/");
      lines = file.startsWith("src/") ? (counts.get(file) ?? new Map<number, number>()) : undefined;
      if (lines !== undefined) counts.set(file, lines);
    } else if (row.startsWith("DA:") && lines !== undefined) {
      const [line = 0, hits = 0] = row.slice(3).split(",").map(Number);
      lines.set(line, (lines.get(line) ?? 0) + hits);
    }
  }
}

/** The lines of a file that throw and were never reached. */
export function unreachedThrows(text: string, lines: ReadonlyMap<number, number>): { line: number; text: string }[] {
  return text.split("\n").flatMap((content, index) => {
    const isThrow = /(^|[\s{])throw\s/.test(content) && !/^\s*(\*|\/\/|\/\*)/.test(content);
    // A line that holds no code of its own has no count; Bun counts the line that a statement begins at.
    return isThrow && lines.get(index + 1) === 0 ? [{ line: index + 1, text: content.trim() }] : [];
  });
}

const isLeftOut = (file: string): boolean => LEFT_OUT.some((pattern) => pattern.test(file));

/** Whether the suite counts the lines of a file of tests as it runs it. */
export function isCounted(file: string): boolean {
  return ROOMS.some((room) => file.startsWith(`test/${room}/`)) && !isLeftOut(file);
}

/** Flags of `bun test` for a report of its own in a folder. */
export function countingFlags(folder: string): string[] {
  return ["--coverage", "--coverage-reporter=lcov", `--coverage-dir=${mkdtempSync(join(folder, "report-"))}`];
}

function testFiles(named: readonly string[]): string[] {
  const files = named.flatMap((path) =>
    path.endsWith(".ts") ? [path] : [...new Bun.Glob(`${path}/**/*.test.ts`).scanSync(root)],
  );
  return files.filter((file) => !isLeftOut(file)).sort();
}

async function runFile(file: string, folder: string): Promise<void> {
  const child = Bun.spawn([process.execPath, "test", ...countingFlags(folder), "--timeout", "120000", `./${file}`], {
    cwd: root,
    stdio: ["ignore", "ignore", "ignore"],
    env: { ...process.env, EMDB_RING_SHARE: RING_SHARE },
    timeout: FILE_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  await child.exited;
  // The suite says which tests fail; a file that does not even get to its end counts for nothing here.
  if (child.exitCode !== 0) console.log(`${file} fails when its lines are counted`);
}

async function measure(files: string[], folder: string): Promise<void> {
  const lane = async (): Promise<void> => {
    for (let file = files.shift(); file !== undefined; file = files.shift()) await runFile(file, folder);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

/** The counts of all reports in a folder. */
function countsIn(folder: string): Counts {
  const counts: Counts = new Map();
  for (const report of new Bun.Glob("*/lcov.info").scanSync(folder))
    addReport(counts, readFileSync(join(folder, report), "utf8"));
  return counts;
}

interface Share {
  lines: number;
  reached: number;
}

const percent = ({ lines, reached }: Share): string => `${((100 * reached) / Math.max(1, lines)).toFixed(2)} %`;

/** Prints what was reached; returns what is wrong with it. */
function judge(counts: Counts): string[] {
  const rooms = new Map<string, Share>();
  const total: Share = { lines: 0, reached: 0 };
  const explained = JSON.parse(readFileSync(join(root, "test/unreached-throws.json"), "utf8")) as {
    readonly platforms: readonly string[];
    readonly throws: readonly { readonly file: string; readonly text: string; readonly reason: string }[];
  };
  const problems: string[] = [];
  let throws = 0;
  for (const [file, lines] of [...counts].sort(([one], [other]) => (one < other ? -1 : 1))) {
    if (explained.platforms.includes(file)) continue;
    const reached = [...lines.values()].filter((hits) => hits > 0).length;
    if (reached < FILE_SHARE_MIN * lines.size) console.log(`${percent({ lines: lines.size, reached })} of ${file}`);
    const room = rooms.get(file.split("/")[1] ?? "") ?? { lines: 0, reached: 0 };
    rooms.set(file.split("/")[1] ?? "", room);
    for (const share of [room, total]) {
      share.lines += lines.size;
      share.reached += reached;
    }
    for (const { line, text } of unreachedThrows(readFileSync(join(root, file), "utf8"), lines)) {
      throws += 1;
      const isExplained = explained.throws.some((entry) => entry.file === file && text.startsWith(entry.text));
      if (!isExplained) problems.push(`${file}:${line} is never reached: ${text}`);
    }
  }
  for (const [room, share] of rooms) console.log(`${percent(share).padStart(9)} of ${share.lines} lines  src/${room}`);
  console.log(`${percent(total)} of ${total.lines} lines of src are reached, and all but ${throws} throws`);
  if ((100 * total.reached) / Math.max(1, total.lines) < LINE_PERCENT_MIN)
    problems.unshift(`fewer than ${LINE_PERCENT_MIN} % of the lines are reached`);
  return problems;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options: { reports: { type: "string" } }, allowPositionals: true });
  const folder = values.reports ?? mkdtempSync(join(tmpdir(), "emdb-coverage-"));
  const all = [...(values.reports === undefined ? ROOMS : []), ...RINGS].map((name) => `test/${name}`);
  await measure(testFiles(positionals.length > 0 ? positionals : all), folder);
  const problems = judge(countsIn(folder));
  if (values.reports === undefined) rmSync(folder, { recursive: true });
  for (const problem of problems) console.log(problem);
  process.exit(problems.length === 0 ? 0 : 1);
}

if (import.meta.main) await main();
