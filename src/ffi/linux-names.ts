/**
 * Names in folders by system calls: what an open, a checkpoint and a close ask for. `node:fs` asks the same of the system, but has to
 * be loaded: a tenth of what a program costs that is compiled to bytecode, opens, writes and closes.
 *
 * Invariants
 * 1. Each answers as `node:fs` does. What it cannot say (of a path that is too long for its place or has a zero in it, a name that
 *    is not UTF-8, without /proc) is undefined, and `node:fs` is asked.
 * 2. A call that a signal interrupts is made again.
 *
 * The calls are those that go by a folder, since arm64 has no others, and begin at the current one. Pages: open(2), rename(2),
 * unlink(2), readlink(2), proc_pid_fd(5).
 */

import { Errno, resultOfNumber } from "./errno.ts";
import type { KernelNames, OpenFlags } from "./kernel.ts";
import { placePath, PATH_BYTES } from "./linux-path.ts";
import { sharedScratch, type Place } from "./memory.ts";
import type { LinuxCalls } from "./symbols-posix.ts";
import type { FileHandle, Result } from "./system.ts";

const isArm = process.arch === "arm64";
const numbers = isArm
  ? { openat: 56, unlinkat: 35, renameat: 38, readlinkat: 78 }
  : { openat: 257, unlinkat: 263, renameat: 264, readlinkat: 267 };
const AT_FDCWD = -100;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;

/** asm-generic/fcntl.h, and what arm64 has of its own. */
const flags: OpenFlags = {
  O_RDONLY: 0,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_EXCL: 0o200,
  O_NONBLOCK: 0o4000,
  O_DIRECTORY: isArm ? 0o40000 : 0o200000,
  O_NOFOLLOW: isArm ? 0o100000 : 0o400000,
};

const target = sharedScratch(PATH_BYTES);
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class LinuxNames implements KernelNames {
  readonly flags: OpenFlags = flags;
  readonly #calls: Pick<LinuxCalls, "syscall" | "close">;
  readonly #errno: () => number;

  constructor(calls: Pick<LinuxCalls, "syscall" | "close">, errno: () => number) {
    this.#calls = calls;
    this.#errno = errno;
  }

  open(path: string, how: number, access: number): FileHandle | Result | undefined {
    return this.#named(path, (at) => this.#calls.syscall(numbers.openat, AT_FDCWD, at, how, access, 0));
  }

  unlink(path: string): Result | undefined {
    return this.#named(path, (at) => this.#calls.syscall(numbers.unlinkat, AT_FDCWD, at, 0, 0, 0));
  }

  rename(from: string, to: string): Result | undefined {
    const second = placePath(to, 1);
    if (second === 0) return undefined;
    return this.#named(from, (at) => this.#calls.syscall(numbers.renameat, AT_FDCWD, at, AT_FDCWD, second, 0));
  }

  /** The system says of an open file which path it has. */
  realPath(path: string): string | Result | undefined {
    const file = this.open(path, O_PATH | O_CLOEXEC, 0);
    if (file === undefined || file < 0) return file;
    const { address, u8 } = target();
    const bytes = this.#named(`/proc/self/fd/${file}`, (at) =>
      this.#calls.syscall(numbers.readlinkat, AT_FDCWD, at, address, PATH_BYTES, 0),
    );
    this.#calls.close(file);
    if (bytes === undefined || bytes <= 0 || bytes >= PATH_BYTES) return undefined;
    try {
      return decoder.decode(u8.subarray(0, bytes));
    } catch {
      return undefined;
    }
  }

  #named(path: string, call: (at: Place) => number): Result | undefined {
    const at = placePath(path);
    if (at === 0) return undefined;
    for (;;) {
      const result = call(at);
      if (result >= 0) return result;
      const failure = resultOfNumber("linux", this.#errno());
      if (failure !== -Errno.EINTR) return failure;
    }
  }
}
