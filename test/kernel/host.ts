/** What the machine under the tests of this folder allows, and the children that run there. */

import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removeTree } from "../support/temporary-folder.ts";
import { emulator } from "../support/platform.ts";
import type { DiskKind } from "./disk.ts";
import { ProgressWords } from "./script.ts";

const isNativeLinux = process.platform === "linux" && emulator === undefined;

function runs(...command: string[]): boolean {
  try {
    return Bun.spawnSync(command, { stdio: ["ignore", "ignore", "ignore"] }).exitCode === 0;
  } catch {
    return false;
  }
}

/** Why strace cannot end children here; undefined when it can. */
export function whyNoTracing(): string | undefined {
  if (!isNativeLinux || process.arch !== "x64") return "system calls are traced on Linux x64 only";
  if (!runs("strace", "-V")) return "strace is not installed";
  return runs("strace", "-o", "/dev/null", "true") ? undefined : "this machine does not let strace trace a child";
}

/** Whether the kernel has a file system, or a module that it would load for one. */
function isKnown(kind: string): boolean {
  return new RegExp(`\\t${kind}$`, "m").test(readFileSync("/proc/filesystems", "utf8")) || runs("modprobe", kind);
}

/** Why no file system can be mounted here; undefined when it can. */
export function whyNoMounting(what: "tmpfs" | "overlay" | DiskKind): string | undefined {
  if (!isNativeLinux) return "file systems are mounted on Linux only";
  if (process.getuid?.() !== 0) return "mounting needs root";
  const folder = mkdtempSync(join(tmpdir(), "emdb-mount-"));
  try {
    const isOnDisk = what !== "tmpfs" && what !== "overlay";
    if (isOnDisk && !runs(`mkfs.${what}`, "-V")) return `mkfs.${what} is not installed`;
    if (isOnDisk && !existsSync("/dev/loop-control")) return "there are no loop devices";
    if (!isKnown(what)) return `this kernel has no ${what}`;
    if (!runs("mount", "-t", "tmpfs", "none", folder)) return "this machine does not let root mount";
    runs("umount", folder);
    return undefined;
  } finally {
    removeTree(folder);
  }
}

/** Says once why a ring does not run, so that a skipped one is never taken for one that passed. */
export function isSkipped(ring: string, reason: string | undefined): boolean {
  if (reason !== undefined) console.log(`SKIPPED ${ring}: ${reason}`);
  return reason !== undefined;
}

/** The child of this folder in one file: it starts in half the time. */
export function bundledChild(folder: string): string {
  const built = Bun.spawnSync(
    [
      process.execPath,
      "build",
      join(import.meta.dir, "child.ts"),
      "--target=bun",
      "--outfile",
      join(folder, "child.js"),
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  if (built.exitCode !== 0) throw new Error("the child does not bundle");
  return join(folder, "child.js");
}

export interface Errand {
  readonly program: string;
  readonly path: string;
  readonly progressPath: string;
  readonly seed: number;
  readonly length: number;
  readonly mode?: "async" | "";
  /** Put in front of the command. */
  readonly under?: readonly string[];
}

export class KernelChild {
  readonly progress: ProgressWords;
  readonly #process;

  constructor({ program, path, progressPath, seed, length, mode = "", under = [] }: Errand) {
    this.progress = ProgressWords.create(progressPath);
    this.#process = Bun.spawn([...under, process.execPath, program, path, progressPath, `${seed}`, `${length}`, mode], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }

  /** When it is gone, by itself or otherwise: its exit code, or the signal's name. */
  async ended(): Promise<number | string> {
    await this.#process.exited;
    return this.#process.signalCode ?? this.#process.exitCode ?? 0;
  }

  /** Waits until it has begun so many changes, or is gone. */
  async hasBegun(count: number): Promise<void> {
    while (this.progress.begun < count && this.isRunning) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The names of the system calls in a trace, in order. */
export function callsIn(trace: string): string[] {
  return [...trace.matchAll(/^(?:\d+ +)?([a-z_0-9]+)\(/gm)].map(([, name = ""]) => name);
}
