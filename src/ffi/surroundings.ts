/**
 * What is the same on every platform: names in folders (through `node:fs`), the date and identity.
 *
 * Paths go through `node:fs` because it converts and prefixes them as each system wants, and because `open`
 * is variadic in C (symbols-posix.ts). What it throws is turned into a value here. What Linux needs at each start it is asked
 * for itself (linux-names.ts).
 */

import type fs from "node:fs";
import os from "node:os";
import { Errno, resultOfThrown } from "./errno.ts";
import { nodeFs } from "./node-fs.ts";
import type { FileStatus, Result } from "./system.ts";

/** The value of `call`, or the result for what it threw; again when a signal came between. */
export function attempt<T>(call: () => T): T | Result {
  for (;;) {
    try {
      return call();
    } catch (thrown) {
      const result = resultOfThrown(thrown);
      if (result !== -Errno.EINTR) return result;
    }
  }
}

/** The part of a `System` that needs no native call. */
export class Surroundings {
  realPath(path: string): string | Result {
    return attempt(() => nodeFs().realpathSync.native(path));
  }

  linkTarget(path: string): string | Result {
    return attempt(() => nodeFs().readlinkSync(path));
  }

  link(from: string, to: string): Result {
    return attempt(() => (nodeFs().linkSync(from, to), 0));
  }

  unlink(path: string): Result {
    return attempt(() => (nodeFs().unlinkSync(path), 0));
  }

  makeFolder(path: string): Result {
    return attempt(() => (nodeFs().mkdirSync(path, 0o700), 0));
  }

  list(folder: string): readonly string[] | Result {
    return attempt(() => nodeFs().readdirSync(folder));
  }

  now(): number {
    return Date.now();
  }

  processId(): number {
    return process.pid;
  }

  hostName(): string {
    return os.hostname();
  }
}

/**
 * What `node:fs` says about a file, in our words. The identity is the one that statx gives (linux-status.ts): one thread may
 * ask here what another asks there. A device's number is made as makedev(3) of Linux does, any other system's divided alike.
 */
export function statusFromStats(stats: fs.BigIntStats): FileStatus {
  const { dev, ino } = stats;
  return {
    kind: stats.isFile() ? "file" : stats.isDirectory() ? "folder" : "other",
    bytes: Number(stats.size),
    identity: identityOf({
      major: Number(((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xffff_f000n)),
      minor: Number((dev & 0xffn) | ((dev >> 12n) & 0xffff_ff00n)),
      inode: [Number((ino >> 32n) & 0xffff_ffffn), Number(ino & 0xffff_ffffn)],
    }),
  };
}

/** The identity of a file by its device and the upper and lower half of its inode's number. */
export function identityOf(of: {
  readonly major: number;
  readonly minor: number;
  readonly inode: readonly [number, number];
}): string {
  const { major, minor, inode } = of;
  return `${major}.${minor}:${inode[0]}.${inode[1]}`;
}
