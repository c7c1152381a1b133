/** The workload files, and running one as a process. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const workloads: readonly string[] = [
  "machine",
  "latency",
  "core",
  "skew",
  "workers",
  "group-commit",
  "write-through",
  "open-time",
  "start",
  "ranges",
  "expiry",
  "encryption",
  "value-sizes",
  "application",
  "host-gc",
  "compaction",
  "beside-worker",
  "redb",
];

const folder = fileURLToPath(new URL("..", import.meta.url));

/** Runs a workload to its end; its progress goes to stderr. */
export async function runProgram(
  name: string,
  args: readonly string[],
): Promise<{ readonly markdown: string; readonly isSound: boolean }> {
  const child = Bun.spawn([process.execPath, "run", join(folder, `${name}.ts`), ...args], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const [markdown, code] = await Promise.all([child.stdout.text(), child.exited]);
  return { markdown, isSound: code === 0 };
}
