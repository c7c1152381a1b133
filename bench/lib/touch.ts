/**
 * Memory that the machine is given before a run. The host of a virtual machine gives it a page when that is first touched,
 * and takes back what lies idle: a first touch costs 10 us then in place of 1 to 4, and who runs after a pause would pay for all.
 * So before each child a process touches as much as the child may need, and ends.
 */

import { totalmem } from "node:os";
import { fileURLToPath } from "node:url";

import { numberOption } from "./options.ts";
import type { Options } from "./options.ts";

const PAGE_BYTES = 4096;

/** Touches so much memory, or a quarter of what the machine has, in a process of its own; returns nanoseconds a page. */
export function touchMemory(options: Options): number {
  const bytes = Math.min(numberOption(options, "touch"), totalmem() / 4);
  if (bytes === 0) return 0;
  const child = Bun.spawnSync([process.execPath, fileURLToPath(import.meta.url), `${bytes}`]);
  if (child.exitCode !== 0) throw new Error(`touching ${bytes} bytes of memory failed: ${child.stderr.toString()}`);
  return Number(child.stdout.toString());
}

if (import.meta.main) {
  const memory = new Uint8Array(Number(process.argv[2]));
  const start = Bun.nanoseconds();
  for (let at = 0; at < memory.length; at += PAGE_BYTES) memory[at] = 1;
  console.log((Bun.nanoseconds() - start) / Math.ceil(memory.length / PAGE_BYTES));
}
