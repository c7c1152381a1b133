/** FreeBSD. Pages: fdatasync(2), posix_fallocate(2), open(2), arc4random_buf(3), thr_self(2), thr_kill(2), fcntl(2). */

import { read } from "bun:ffi";
import { invalidate } from "./bsd.ts";
import { Errno, resultOfNumber } from "./errno.ts";
import type { Kernel } from "./kernel.ts";
import { openLibrary } from "./library.ts";
import { pinned } from "./memory.ts";
import { symbolTables } from "./symbols.ts";
import type { FreebsdCalls } from "./symbols-posix.ts";
import { BSD_PATH_BYTES_MAX } from "../limits.ts";

const MS_SYNC = 0;
const F_DUPFD_CLOEXEC = 17;

function openLibc(): FreebsdCalls {
  const table = symbolTables.freebsd;
  return openLibrary<FreebsdCalls>(table.libraries.system, table.calls);
}

/** @throws {EmdbError} EMDB_UNSUPPORTED when libc lacks a call. */
export function freebsdKernel(calls: FreebsdCalls = openLibc()): Kernel {
  const errnoAddress = calls.__error();
  const scratch = pinned(4096);
  return {
    calls,
    dialect: "freebsd",
    errnoAddress,
    mapAnonymous: 0x1000,
    mapNoReserve: 0,
    monotonicClock: 4,
    addressSpaceLimit: 10,
    openCloseOnExec: 0x00100000,
    pathBytesMax: BSD_PATH_BYTES_MAX,
    // O_SYNC: O_DSYNC came only with 13.0, and means less only for the times.
    openWriteThrough: 0x0080,
    duplicate: (file, from) => calls.fcntl(file, F_DUPFD_CLOEXEC, from, 0, 0, 0, 0, 0, from),
    sync: calls.fdatasync,
    syncFolder: calls.fsync,
    forgetCached(file, bytes) {
      if (invalidate(calls, { file, bytes, synchronous: MS_SYNC }) === 0) return 0;
      return resultOfNumber("freebsd", read.i32(errnoAddress, 0));
    },
    // Returns the error itself. A file system that cannot (ZFS) said EINVAL before it said EOPNOTSUPP. What the file has
    // is left out: UFS reads and writes all of that anew (vop_stdallocate).
    allocate(file, { size, bytes }) {
      if (bytes <= size) return 0;
      const error = calls.posix_fallocate(file, size, bytes - size);
      if (error === 0) return 0;
      const result = resultOfNumber("freebsd", error);
      return result === -Errno.EINVAL || result === -Errno.ENODEV ? -Errno.EOPNOTSUPP : result;
    },
    // The kernel makes superpages by itself.
    adviseHuge() {},
    random(into) {
      calls.arc4random_buf(into, into.length);
      return into.length;
    },
    threadId() {
      calls.thr_self(scratch.u8);
      return scratch.u32[0]! + scratch.u32[1]! * 2 ** 32;
    },
    isThreadAlive: (thread) => calls.thr_kill(thread, 0) === 0 || read.i32(errnoAddress, 0) !== Errno.ESRCH,
  };
}
