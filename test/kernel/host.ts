/** What the machine under the tests of this folder allows, and the children that run there. */

import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundled } from "../support/bundle.ts";
import { emulator } from "../support/platform.ts";
import { removeTree } from "../support/temporary-folder.ts";
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

/** The child of this folder, bundled. */
export function bundledChild(folder: string): string {
  return bundled(join(import.meta.dir, "child.ts"), join(folder, "program"));
}

export interface Errand {
  readonly program: string;
  readonly path: string;
  readonly progressPath: string;
  readonly seed: number;
  readonly length: number;
  readonly mode?: "async" | "";
  /** The change of which it says that it has begun. */
  readonly tellAt?: number;
  /** Put in front of the command. */
  readonly under?: readonly string[];
  /** What it finds in the environment besides. */
  readonly env?: Readonly<Record<string, string>>;
}

export class KernelChild {
  readonly progress: ProgressWords;
  readonly #process;

  constructor(errand: Errand) {
    const { program, path, progressPath, seed, length, mode = "", tellAt = 0, under = [], env = {} } = errand;
    this.progress = ProgressWords.create(progressPath);
    const words = [program, path, progressPath, `${seed}`, `${length}`, `${tellAt}`, mode];
    this.#process = Bun.spawn([...under, process.execPath, ...words], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, ...env },
    });
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }

  /** When it is gone, by itself or otherwise: its exit code, or the signal's name. */
  async ended(): Promise<number | string> {
    await this.#process.exited;
    return this.#process.signalCode ?? this.#process.exitCode ?? 0;
  }

  /** Waits until it says that the change has begun which `tellAt` names, or is gone. */
  async hasBegun(): Promise<void> {
    await this.#process.stdout.getReader().read();
  }
}

/** The names of the system calls in a trace, in order. */
export function callsIn(trace: string): string[] {
  return [...trace.matchAll(/^(?:\d+ +)?([a-z_0-9]+)\(/gm)].map(([, name = ""]) => name);
}
