/**
 * macOS. Pages: fcntl(2) on F_FULLFSYNC and F_PREALLOCATE, fsync(2), arc4random_buf(3), proc_info.h of XNU.
 *
 * fsync hands the data to the drive, which may keep it in its cache and reorder it; F_FULLFSYNC empties that
 * cache. File systems without it (SMB, some FUSE ones) answer ENOTSUP or alike, and then fsync is all there is.
 * O_DSYNC leaves the drive's cache as it is too, so "write-through" is a write followed by F_FULLFSYNC.
 */

import { read } from "bun:ffi";
import { invalidate } from "./bsd.ts";
import { Errno, resultOfNumber } from "./errno.ts";
import type { Kernel } from "./kernel.ts";
import { openLibrary } from "./library.ts";
import { type Place, pinned } from "./memory.ts";
import { nodeFs } from "./node-fs.ts";
import { attempt } from "./surroundings.ts";
import { symbolTables } from "./symbols.ts";
import type { MacosCalls } from "./symbols-posix.ts";
import type { FileHandle, Result } from "./system.ts";
import { BSD_PATH_BYTES_MAX } from "../limits.ts";

const F_PREALLOCATE = 42;
const F_DUPFD_CLOEXEC = 67;
const F_FULLFSYNC = 51;
const F_ALLOCATEALL = 4;
const F_PEOFPOSMODE = 3;
const PROC_PIDTHREADID64INFO = 15;
const MS_SYNC = 0x10;
/** Thread ids have 64 bits and count all threads since the system's start; the word of a row has 31 for them. */
const THREAD_PERIOD = 2 ** 31 - 1;

function openSystem(): MacosCalls {
  const table = symbolTables.macos;
  return openLibrary<MacosCalls>(table.libraries.system, table.calls);
}

/** @throws {EmdbError} EMDB_UNSUPPORTED when libSystem lacks a call. */
export function macosKernel(calls: MacosCalls = openSystem()): Kernel {
  const errnoAddress = calls.__error();
  const failure = (): Result => resultOfNumber("darwin", read.i32(errnoAddress, 0));
  // One argument at both places where a variadic one is looked for; see symbols-posix.ts.
  const fcntl = (file: FileHandle, command: number, argument: Place): number =>
    calls.fcntl(file, command, argument, 0, 0, 0, 0, 0, argument);
  const fullSync = (file: FileHandle): number => {
    if (fcntl(file, F_FULLFSYNC, 0) === 0) return 0;
    const result = failure();
    const hasNone = result === -Errno.EOPNOTSUPP || result === -Errno.ENOTTY || result === -Errno.EINVAL;
    return hasNone || result === -Errno.ENODEV ? calls.fsync(file) : -1;
  };
  const scratch = pinned(4096);
  const ownThread = (): number => {
    calls.pthread_threadid_np(0, scratch.u8);
    return scratch.u32[0]! + scratch.u32[1]! * 2 ** 32;
  };
  // Thread ids are never reused. ESRCH says that there is no such thread; any other answer that there is.
  const isRunning = (thread: number): boolean =>
    calls.proc_pidinfo(process.pid, PROC_PIDTHREADID64INFO, thread, scratch.u8, scratch.u8.length) > 0 ||
    failure() !== -Errno.ESRCH;
  return {
    calls,
    dialect: "darwin",
    errnoAddress,
    mapAnonymous: 0x1000,
    mapNoReserve: 0x40,
    monotonicClock: 6,
    addressSpaceLimit: 5,
    openCloseOnExec: 0x1000000,
    pathBytesMax: BSD_PATH_BYTES_MAX,
    openWriteThrough: 0,
    duplicate: (file, from) => fcntl(file, F_DUPFD_CLOEXEC, from),
    sync: fullSync,
    syncFolder: fullSync,
    forgetCached: (file, bytes) => (invalidate(calls, { file, bytes, synchronous: MS_SYNC }) === 0 ? 0 : failure()),
    allocate: (file, span) => preallocate({ calls, fcntl, failure }, { file, ...span }),
    adviseHuge() {},
    random(into) {
      calls.arc4random_buf(into, into.length);
      return into.length;
    },
    threadId: () => ownThread() % THREAD_PERIOD,
    // Those of one process lie less than a period apart, so that one of three is meant.
    isThreadAlive(thread) {
      const own = ownThread();
      const near = own - (own % THREAD_PERIOD) + thread;
      return [near, near - THREAD_PERIOD, near + THREAD_PERIOD].some((id) => id >= 0 && isRunning(id));
    },
  };
}

interface PreallocateTools {
  readonly calls: MacosCalls;
  readonly fcntl: (file: FileHandle, command: number, argument: Place) => number;
  readonly failure: () => Result;
}

/**
 * struct fstore: flags u32, posmode i32, offset i64, length i64, bytesalloc i64. Space is asked for from the
 * physical end of the file on; the file's length stays, so ftruncate follows.
 */
function preallocate(
  { calls, fcntl, failure }: PreallocateTools,
  { file, size, bytes }: { readonly file: FileHandle; readonly size: number; readonly bytes: number },
): Result {
  const blocks = attempt(() => nodeFs().fstatSync(file).blocks);
  if (blocks < 0) return blocks;
  const missing = bytes - blocks * 512;
  if (missing > 0) {
    const store = new DataView(new ArrayBuffer(4096));
    store.setUint32(0, F_ALLOCATEALL, true);
    store.setInt32(4, F_PEOFPOSMODE, true);
    store.setBigInt64(16, BigInt(missing), true);
    if (fcntl(file, F_PREALLOCATE, new Uint8Array(store.buffer)) !== 0) {
      const result = failure();
      return result === -Errno.EINVAL || result === -Errno.ENOTTY ? -Errno.EOPNOTSUPP : result;
    }
  }
  if (bytes <= size) return 0;
  return calls.ftruncate(file, bytes) === 0 ? 0 : failure();
}
