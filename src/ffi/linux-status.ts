/**
 * What a file is, by statx(2): a third of the time that `node:fs` takes, which matters before each sync (engine/files/lock-watch.ts).
 *
 * The structure that the call fills is the same on every architecture (include/uapi/linux/stat.h): 32-bit words, the
 * 64-bit fields as two of them.
 */

import { Errno, resultOfNumber } from "./errno.ts";
import { placePath } from "./linux-path.ts";
import { pinned } from "./memory.ts";
import { identityOf } from "./surroundings.ts";
import type { LinuxCalls } from "./symbols-posix.ts";
import type { FileHandle, FileStatus, Result } from "./system.ts";

const STATX = process.arch === "arm64" ? 291 : 332;
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
/** STATX_TYPE, STATX_INO and STATX_SIZE. */
const WANTED = 0x001 | 0x100 | 0x200;
/** What some file systems do not have. */
const STATX_BTIME = 0x800;

// Words of the answer. The mode is in the lower half of its word.
const WORD_MASK = 0;
const WORD_MODE = 7;
const WORD_INODE = 8;
const WORD_SIZE = 10;
const WORD_BORN = 20;
const WORD_DEVICE = 34;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;

/** This thread's own place for the answer. */
const memory = pinned(256);

export class StatusCall {
  readonly #calls: LinuxCalls;
  readonly #errno: () => number;
  /** Kernels before 4.11 do not know the call, and some sandboxes refuse it. */
  #isKnown = true;

  constructor(calls: LinuxCalls, errno: () => number) {
    this.#calls = calls;
    this.#errno = errno;
  }

  /** The status of a path or of an open file; undefined when this system has to be asked in another way. */
  of(what: string | FileHandle): FileStatus | Result | undefined {
    if (!this.#isKnown) return undefined;
    const [path, folder, flags] = typeof what === "string" ? [what, AT_FDCWD, 0] : ["", what, AT_EMPTY_PATH];
    const at = placePath(path);
    if (at === 0) return undefined;
    for (;;) {
      const result = this.#calls.syscall(STATX, folder, at, flags, WANTED | STATX_BTIME, memory.address);
      if (result === 0) break;
      const failure = resultOfNumber("linux", this.#errno());
      if (failure === -Errno.EINTR) continue;
      if (failure !== -Errno.ENOSYS && failure !== -Errno.EPERM) return failure;
      this.#isKnown = false;
      return undefined;
    }
    return answerInMemory();
  }
}

function answerInMemory(): FileStatus | undefined {
  const words = memory.u32;
  if ((words[WORD_MASK]! & WANTED) !== WANTED) return undefined;
  const type = words[WORD_MODE]! & S_IFMT;
  const [device, inode, born] = [WORD_DEVICE, WORD_INODE, WORD_BORN];
  const hasBorn = (words[WORD_MASK]! & STATX_BTIME) !== 0;
  return {
    kind: type === S_IFREG ? "file" : type === S_IFDIR ? "folder" : "other",
    bytes: words[WORD_SIZE]! + words[WORD_SIZE + 1]! * 2 ** 32,
    identity: identityOf({
      major: words[device]!,
      minor: words[device + 1]!,
      inode: [words[inode + 1]!, words[inode]!],
    }),
    born: hasBorn ? words[born]! + words[born + 1]! * 2 ** 32 + words[born + 2]! / 1e9 : 0,
  };
}
