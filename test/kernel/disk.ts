/**
 * File systems of a test's own: a small tmpfs, and an ext4, an XFS or a btrfs on a loop file. The first two of those can die.
 *
 * FS_IOC_SHUTDOWN (Linux, fs/ext4/ioctl.c; XFS_IOC_GOINGDOWN in fs/xfs/xfs_ioctl.c is the same number with the same
 * arguments) ends a mounted file system at once: every later call is EIO, and what had not been handed to the device is
 * gone. The device here is a file, so what was handed over stays, as on a disk without a cache of its own; a disk that has
 * one is in `cached-disk.ts`. The next mount replays the journal.
 */

import { dlopen, ptr } from "bun:ffi";
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Random } from "../sim/random.ts";

export type DiskKind = "ext4" | "xfs" | "btrfs";

const FS_IOC_SHUTDOWN = 0x8004587d;
/** How a file system dies: its journal is written out first, or it is not. */
export const DEATHS = { journalFlushed: 1, journalLost: 2 } as const;

/** A new file system of each kind. In ext4 without space for root alone: what the tests see as full is full. */
const MAKERS: Readonly<Record<DiskKind, readonly string[]>> = {
  ext4: ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard"],
  xfs: ["mkfs.xfs", "-q", "-f", "-K"],
  btrfs: ["mkfs.btrfs", "-q", "-f", "-K"],
};
/** mkfs.xfs makes none below 300 MiB, but for its own test suite, which says so in these. */
const MAKER_ENVIRONMENT = { ...process.env, TEST_DIR: "yes", TEST_DEV: "yes", QA_CHECK_FS: "yes" };
/** The smallest that is made, in MiB. */
export const LEAST_MEBIBYTES: Readonly<Record<DiskKind, number>> = { ext4: 12, xfs: 32, btrfs: 128 };
/** Those that write nothing over what is there: what has been reserved may be used up by writing to it again. */
export const COPIES_ON_WRITE: ReadonlySet<DiskKind> = new Set(["btrfs"]);

type Ioctl = (fd: number, request: number, argument: number | null) => number;
let known: Ioctl | undefined;

function callIoctl(fd: number, request: number, argument: Uint32Array): number {
  known ??= dlopen("libc.so.6", { ioctl: { args: ["int", "u64", "ptr"], returns: "int" } }).symbols.ioctl as Ioctl;
  return known(fd, request, ptr(argument));
}

export function must(...command: string[]): string {
  const done = Bun.spawnSync(command, { stdio: ["ignore", "pipe", "pipe"], env: MAKER_ENVIRONMENT });
  if (done.exitCode !== 0) throw new Error(`${command.join(" ")}: ${done.stderr.toString().trim()}`);
  return done.stdout.toString().trim();
}

/** A file for a file system, and a new one in it. */
export function makeImage(image: string, { kind, mebibytes }: { readonly kind: DiskKind; readonly mebibytes: number }) {
  writeFileSync(image, "", { flag: "a" });
  truncateSync(image, mebibytes * 2 ** 20);
  must(...MAKERS[kind], image);
}

/** Ends the file system that is mounted at a folder as if its power was gone; it stays mounted, and answers EIO. */
export function shutDown(at: string, how: number): void {
  const folder = openSync(at, "r");
  try {
    if (callIoctl(folder, FS_IOC_SHUTDOWN, new Uint32Array([how])) !== 0) throw new Error("the file system lives on");
  } finally {
    closeSync(folder);
  }
}

/** Removes all files for good, so that the next ones come to lie where they were. */
export function removeAll(at: string): void {
  for (const name of readdirSync(at)) if (name !== "lost+found") rmSync(join(at, name), { recursive: true });
  // A death would bring them back.
  must("sync", "--file-system", at);
}

/** What `dieOnce` kills and brings back. */
export interface MortalDisk {
  /** The folder that it is mounted at. */
  readonly at: string;
  die(random: Random): void;
  /** Mounts it again as its death has left it. */
  revive(): void;
}

/** A mounted file system; unmounted when it is disposed of. */
export class Disk implements MortalDisk, Disposable {
  readonly at: string;
  readonly #image: string | undefined;
  #isMounted = false;

  private constructor(at: string, image: string | undefined) {
    this.at = at;
    this.#image = image;
    mkdirSync(at);
  }

  static tmpfs(folder: string, mebibytes: number): Disk {
    const disk = new Disk(join(folder, "tmpfs"), undefined);
    must("mount", "-t", "tmpfs", "-o", `size=${mebibytes}m`, "none", disk.at);
    disk.#isMounted = true;
    return disk;
  }

  /** So large as asked, or as the least of its kind. */
  static make(folder: string, kind: DiskKind, mebibytes: number): Disk {
    const image = join(folder, `${kind}.image`);
    const disk = new Disk(join(folder, kind), image);
    makeImage(image, { kind, mebibytes: Math.max(mebibytes, LEAST_MEBIBYTES[kind]) });
    disk.mount();
    return disk;
  }

  mount(): void {
    must("mount", "-o", "loop", this.#image ?? "", this.at);
    this.#isMounted = true;
  }

  /** Lets nobody write any more, or everybody again. */
  remount(access: "ro" | "rw"): void {
    must("mount", "-o", `remount,${access}`, this.at);
  }

  unmount(): void {
    must("umount", this.at);
    this.#isMounted = false;
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.at);
    return bavail * bsize;
  }

  /** Takes all but so many bytes for good. */
  leaveFree(bytes: number): void {
    const weight = Math.floor((this.freeBytes - bytes) / 2 ** 16) * 2 ** 16;
    if (weight > 0) must("fallocate", "-l", `${weight}`, join(this.at, "weight"));
  }

  die(random: Random): void {
    shutDown(this.at, random.pick([DEATHS.journalFlushed, DEATHS.journalLost]));
  }

  revive(): void {
    this.unmount();
    this.mount();
  }

  [Symbol.dispose](): void {
    if (this.#isMounted) Bun.spawnSync(["umount", "-l", this.at], { stdio: ["ignore", "ignore", "ignore"] });
    this.#isMounted = false;
  }
}
