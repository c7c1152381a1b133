/**
 * Two revisions of the library as ratios, in one interleaved run:
 *
 *   bun run bench/compare.ts --base v0.1.0 --head . --workload core --records 200k
 *
 * A revision is checked out as a git worktree that goes away at the end; `.` is the working tree as it stands. The
 * benchmark code is this one for both, so that only the library differs. Ratios say how many times better `base` is.
 */

import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { parseOptions } from "./lib/options.ts";
import { runProgram } from "./lib/programs.ts";

const root = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

function git(...args: readonly string[]): string {
  const done = Bun.spawnSync(["git", "-C", root, ...args], { stdout: "pipe", stderr: "pipe" });
  if (done.exitCode !== 0) throw new Error(`git ${args.join(" ")}: ${done.stderr.toString().trim()}`);
  return done.stdout.toString().trim();
}

/** A folder with the revision in it; the working tree itself for ".". */
function checkout(revision: string, under: string, worktrees: string[]): string {
  if (revision === ".") return root;
  const short = git("rev-parse", "--short", `${revision}^{commit}`);
  const folder = join(under, `${revision.replaceAll(/[^A-Za-z0-9.]+/g, "-")}-${short}`);
  if (!worktrees.includes(folder)) {
    git("worktree", "add", "--detach", folder, short);
    worktrees.push(folder);
    // The library's few dependencies: the same installed ones for both.
    if (existsSync(join(root, "node_modules"))) symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  }
  return folder;
}

const { base = "HEAD", head = ".", workload = "core", variant = "emdb", ...rest } = parseOptions(process.argv.slice(2));
const under = mkdtempSync(join(tmpdir(), "emdb-compare-"));
const worktrees: string[] = [];
try {
  const folders = [base, head].map((revision) => checkout(revision, under, worktrees));
  const peers = folders.map((folder) => `${variant}@${join(folder, "src/index.ts")}`).join(",");
  const options: Record<string, string> = { repeat: "5", json: join(root, "bench/results/compare.json"), ...rest };
  const args = [`--peers=${peers}`, ...Object.entries(options).map(([name, value]) => `--${name}=${value}`)];
  const { markdown, isSound } = await runProgram(workload, args);
  process.stdout.write(markdown);
  if (!isSound) process.exitCode = 1;
} finally {
  for (const folder of worktrees) git("worktree", "remove", "--force", folder);
  rmSync(under, { recursive: true, force: true });
}
