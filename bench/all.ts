/**
 * Every workload, one after the other: progress on stderr, one markdown page on stdout and in `results/all.md`, a JSON
 * file for each workload and `results/all.json` with all of them. `--only core,ranges` runs these alone.
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { listOption, parseOptions } from "./lib/options.ts";
import { runProgram, workloads } from "./lib/programs.ts";

const { only, ...options } = parseOptions(process.argv.slice(2));
const chosen = only === undefined ? workloads : listOption({ only }, "only");
const unknown = chosen.filter((name) => !workloads.includes(name));
if (unknown.length > 0) throw new Error(`no workload ${unknown.join(", ")}; there are ${workloads.join(", ")}`);

const results = fileURLToPath(new URL("./results/", import.meta.url));
mkdirSync(results, { recursive: true });
const pages: string[] = [];
const reports: unknown[] = [];
const failed: string[] = [];
const began = performance.now();
for (const [index, name] of chosen.entries()) {
  const minutes = ((performance.now() - began) / 60_000).toFixed(1);
  process.stderr.write(`== ${name} (${index + 1} of ${chosen.length}, ${minutes} min so far)\n`);
  // Which peers take part is each workload's own business unless it is said for all; the probes have none.
  const isProbe = name === "machine" || name === "latency";
  const given = Object.entries(options).filter(([option]) => !isProbe || option === "repeat");
  const path = join(results, `${name}.json`);
  const args = [...given.map(([option, value]) => `--${option}=${value}`), `--json=${path}`];
  // What an earlier run left is not this one's.
  rmSync(path, { force: true });
  const { markdown, isSound } = await runProgram(name, args);
  pages.push(markdown);
  if (existsSync(path)) reports.push(JSON.parse(readFileSync(path, "utf8")));
  if (!isSound) failed.push(name);
}
const page = pages.join("\n");
writeFileSync(join(results, "all.md"), page);
writeFileSync(join(results, "all.json"), `${JSON.stringify(reports, undefined, 2)}\n`);
process.stdout.write(page);
if (failed.length > 0) {
  process.stderr.write(`failed: ${failed.join(", ")}\n`);
  process.exitCode = 1;
}
