/**
 * File systems of a test's own: a small tmpfs, and an ext4 on a loop file that can die.
 *
 * EXT4_IOC_SHUTDOWN (Linux, fs/ext4/ioctl.c) ends a mounted ext4 at once: every later call is EIO, and what had not
 * been handed to the device is gone. The device here is a file, so what was handed over stays, as on a disk without a
 * cache of its own. The next mount replays the journal.
 */

import { dlopen, ptr } from "bun:ffi";
import { closeSync, mkdirSync, openSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const EXT4_IOC_SHUTDOWN = 0x8004587d;
/** How a file system dies: its journal is written out first, or it is not. */
export const DEATHS = { journalFlushed: 1, journalLost: 2 } as const;

type Ioctl = (fd: number, request: number, argument: number | null) => number;
let known: Ioctl | undefined;

function callIoctl(fd: number, request: number, argument: Uint32Array): number {
  known ??= dlopen("libc.so.6", { ioctl: { args: ["int", "u64", "ptr"], returns: "int" } }).symbols.ioctl as Ioctl;
  return known(fd, request, ptr(argument));
}

function must(...command: string[]): void {
  const done = Bun.spawnSync(command, { stdio: ["ignore", "pipe", "pipe"] });
  if (done.exitCode !== 0) throw new Error(`${command.join(" ")}: ${done.stderr.toString().trim()}`);
}

/** A mounted file system; unmounted when it is disposed of. */
export class Disk implements Disposable {
  /** The folder that it is mounted at. */
  readonly at: string;
  readonly #image: string | undefined;
  #isMounted = false;

  private constructor(at: string, image: string | undefined) {
    this.at = at;
    this.#image = image;
  }

  static tmpfs(folder: string, mebibytes: number): Disk {
    const disk = new Disk(join(folder, "tmpfs"), undefined);
    mkdirSync(disk.at);
    must("mount", "-t", "tmpfs", "-o", `size=${mebibytes}m`, "none", disk.at);
    disk.#isMounted = true;
    return disk;
  }

  static ext4(folder: string, mebibytes: number): Disk {
    const image = join(folder, "ext4.image");
    const disk = new Disk(join(folder, "ext4"), image);
    mkdirSync(disk.at);
    writeFileSync(image, "");
    truncateSync(image, mebibytes * 2 ** 20);
    disk.format();
    disk.mount();
    return disk;
  }

  /** A new empty file system on the same image. */
  format(): void {
    // Without space for root alone: what the tests see as full is full.
    must("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", this.#image ?? "");
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

  /** Ends the file system as if its power was gone; it stays mounted, and answers EIO. */
  die(how: number): void {
    const folder = openSync(this.at, "r");
    try {
      if (callIoctl(folder, EXT4_IOC_SHUTDOWN, new Uint32Array([how])) !== 0)
        throw new Error("the file system lives on");
    } finally {
      closeSync(folder);
    }
  }

  [Symbol.dispose](): void {
    if (this.#isMounted) Bun.spawnSync(["umount", "-l", this.at], { stdio: ["ignore", "ignore", "ignore"] });
    this.#isMounted = false;
  }
}
