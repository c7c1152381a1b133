/** Every workload, one after the other; prints one markdown page and leaves a JSON file for each in `results/`. */

import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { runProgram, workloads } from "./lib/programs.ts";

const args = process.argv.slice(2);
const pages: string[] = [];
const failed: string[] = [];
for (const name of workloads) {
  process.stderr.write(`== ${name}\n`);
  // Which peers take part is each workload's own business unless it is said for all; the probes have none.
  const given = name === "machine" || name === "latency" ? args.filter((arg) => arg.startsWith("--repeat=")) : args;
  const { markdown, isSound } = await runProgram(name, given);
  pages.push(markdown);
  if (!isSound) failed.push(name);
}
const page = pages.join("\n");
mkdirSync(new URL("./results/", import.meta.url), { recursive: true });
writeFileSync(fileURLToPath(new URL("./results/all.md", import.meta.url)), page);
process.stdout.write(page);
if (failed.length > 0) {
  process.stderr.write(`failed: ${failed.join(", ")}\n`);
  process.exitCode = 1;
}
