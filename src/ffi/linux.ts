/** Linux, with glibc or musl. Pages: fdatasync(2), fallocate(2), madvise(2), statx(2), posix_fadvise(2), getrandom(2), fstatfs(2), sync_file_range(2), gettid(2), tgkill(2), getpriority(2), fcntl(2). */

import { read } from "bun:ffi";
import { Errno, resultOfNumber } from "./errno.ts";
import type { Kernel } from "./kernel.ts";
import { openLibrary } from "./library.ts";
import { symbolTables } from "./symbols.ts";
import { mappingsOf } from "./linux-maps.ts";
import { sharedScratch } from "./memory.ts";
import { cutBytesOf } from "./linux-cut.ts";
import { LinuxNames } from "./linux-names.ts";
import { StatusCall } from "./linux-status.ts";
import type { LinuxCalls } from "./symbols-posix.ts";
import type { FileHandle, Result } from "./system.ts";
import { LINUX_PATH_BYTES_MAX } from "../limits.ts";

const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
const POSIX_FADV_DONTNEED = 4;
const systemCalls =
  process.arch === "arm64"
    ? { gettid: 178, tgkill: 131, fstatfs: 44, syncFileRange: 84, fcntl: 25, getpriority: 141 }
    : { gettid: 186, tgkill: 234, fstatfs: 138, syncFileRange: 277, fcntl: 72, getpriority: 140 };
const F_DUPFD_CLOEXEC = 1030;
const PRIO_PROCESS = 0;
const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
const SYNC_FILE_RANGE_WRITE = 2;
/** `struct statfs` begins with the type of the file system, a long. */
const statfs = sharedScratch(128);
/** Of file systems with unwritten extents that do not copy on write: ext4, XFS (linux/magic.h). */
const extentTypes: ReadonlySet<number> = new Set([0xef53, 0x58465342]);

/**
 * What says that space cannot be reserved, and nothing about writing: a file system or a sandbox without the call. What the
 * arguments say here is never wrong, so EINVAL is one of them (PostgreSQL and others go by the same).
 */
const cannotReserve: ReadonlySet<number> = new Set([Errno.ENOSYS, Errno.EINVAL, Errno.ENODEV, Errno.EPERM]);

function openLibc(): LinuxCalls {
  const table = symbolTables["linux-musl"];
  return openLibrary<LinuxCalls>(table.libraries.system, table.calls);
}

/** @throws {EmdbError} EMDB_UNSUPPORTED when the C library lacks a call. */
export function linuxKernel(calls: LinuxCalls = openLibc()): Kernel {
  const errnoAddress = calls.__errno_location();
  const errno = (): number => read.i32(errnoAddress, 0);
  const statusCall = new StatusCall(calls, errno);
  const hasExtents = (file: FileHandle): boolean => {
    const { address, u32 } = statfs();
    return calls.syscall(systemCalls.fstatfs, file, address, 0, 0, 0) === 0 && extentTypes.has(u32[0]!);
  };
  return {
    calls,
    dialect: "linux",
    errnoAddress,
    mapAnonymous: 0x20,
    mapNoReserve: 0x4000,
    monotonicClock: 1,
    addressSpaceLimit: 9,
    openCloseOnExec: 0o2000000,
    pathBytesMax: LINUX_PATH_BYTES_MAX,
    openWriteThrough: 0o10000,
    duplicate: (file, from) => calls.syscall(systemCalls.fcntl, file, F_DUPFD_CLOEXEC, from, 0, 0),
    sync: calls.fdatasync,
    syncFolder: calls.fsync,
    // Returns the error itself. A length of 0 is all of it; pages that are dirty or mapped stay.
    forgetCached: (file) => 0 - calls.posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED),
    // fallocate, not posix_fallocate: glibc's writes a byte into every block where the file system cannot.
    allocate(file, { bytes }) {
      if (calls.fallocate(file, 0, 0, bytes) === 0) return 0;
      const result = resultOfNumber("linux", errno());
      return cannotReserve.has(-result) ? -Errno.EOPNOTSUPP : result;
    },
    names: new LinuxNames(calls, errno),
    status: (of) => statusCall.of(of),
    recordsFirstWrites: hasExtents,
    writeBack(file, { position, bytes }) {
      if (!hasExtents(file)) return -Errno.EOPNOTSUPP;
      const before = Math.max(0, position - bytes);
      const calling = (at: number, count: number, flags: number): Result =>
        calls.syscall(systemCalls.syncFileRange, file, at, count, flags, 0) === 0
          ? 0
          : resultOfNumber("linux", errno());
      const begun = calling(position, bytes, SYNC_FILE_RANGE_WRITE);
      // An old kernel's, or a filter's: it can be done without.
      if (begun === -Errno.ENOSYS || begun === -Errno.EPERM) return -Errno.EOPNOTSUPP;
      if (begun < 0 || before === position) return begun;
      const arrived = calling(before, position - before, SYNC_FILE_RANGE_WAIT_BEFORE);
      // What the disk says of what was written; the next sync would not hear of it any more.
      return arrived === -Errno.EOPNOTSUPP ? -Errno.EIO : arrived;
    },
    canCut: hasExtents,
    cutBytes: (file) => (hasExtents(file) ? cutBytesOf(calls, statusCall, file) : 0),
    mappingsOf: (identity) => mappingsOf(identity) ?? [],
    adviseHuge(address, bytes) {
      calls.madvise(address, bytes, MADV_HUGEPAGE);
    },
    discard: (address, bytes) => calls.madvise(address, bytes, MADV_DONTNEED),
    random: (into) => calls.getrandom(into, into.length, 0),
    threadId: () => calls.syscall(systemCalls.gettid, 0, 0, 0, 0, 0),
    // Signal 0 is only asked about. ESRCH says that there is no such thread; any other answer that there is.
    isThreadAlive(thread) {
      if (calls.syscall(systemCalls.tgkill, process.pid, thread, 0, 0, 0) === 0) return true;
      if (errno() === Errno.ESRCH) return false;
      // A filter's answer: of a thread of this process there is no other. This one knows the threads of all processes.
      return calls.syscall(systemCalls.getpriority, PRIO_PROCESS, thread, 0, 0, 0) >= 0 || errno() !== Errno.ESRCH;
    },
  };
}
