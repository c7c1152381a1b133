/**
 * The cross-platform symbol table: which native calls stand behind each operation, and how each is declared.
 *
 * Every platform names the same operations, so a call that is missing on one of them is seen on all
 * (`test/ffi/symbols.test.ts` checks every table against the C prototypes, wherever it runs). What goes
 * through `node:fs` - paths, not descriptors, but for some on Linux - is not here.
 */

import { type LibraryNames, librariesOf, type PlatformName } from "./library-names.ts";
import type { Signature } from "./library.ts";
import { freebsdCalls, glibcCalls, macosCalls, muslCalls } from "./symbols-posix.ts";
import { windowsCalls } from "./symbols-win32.ts";

export type Operation =
  | "open"
  | "close"
  | "read"
  | "write"
  | "sync"
  | "forgetCached"
  | "syncFolder"
  | "allocate"
  | "truncate"
  | "size"
  | "status"
  | "rename"
  | "lock"
  | "unlock"
  | "map"
  | "unmap"
  | "reserve"
  | "commit"
  | "decommit"
  | "release"
  | "threadId"
  | "isThreadAlive"
  | "lastError"
  | "pageBytes"
  | "monotonic"
  | "random";

export interface SymbolTable {
  readonly libraries: LibraryNames;
  readonly calls: Readonly<Record<string, Signature>>;
  /** The calls of each operation; none means that the platform has nothing to do, or that `node:fs` does it. */
  readonly operations: Readonly<Record<Operation, readonly string[]>>;
}

const posixOperations = {
  open: [],
  status: [],
  rename: [],
  close: ["close"],
  read: ["pread"],
  write: ["pwrite"],
  truncate: ["ftruncate"],
  size: ["lseek"],
  lock: ["flock"],
  unlock: ["flock"],
  map: ["mmap", "lseek"],
  unmap: ["munmap"],
  commit: ["mprotect"],
  decommit: ["mmap"],
  reserve: ["mmap", "munmap", "getrlimit"],
  release: ["munmap"],
  pageBytes: ["getpagesize"],
  monotonic: ["clock_gettime"],
} as const;

const linuxOperations: SymbolTable["operations"] = {
  ...posixOperations,
  open: ["syscall"],
  rename: ["syscall"],
  sync: ["fdatasync"],
  forgetCached: ["posix_fadvise"],
  syncFolder: ["fsync"],
  status: ["syscall"],
  allocate: ["fallocate"],
  commit: ["mprotect", "madvise"],
  decommit: ["madvise"],
  threadId: ["syscall"],
  isThreadAlive: ["syscall"],
  lastError: ["__errno_location"],
  random: ["getrandom"],
};

/** The tables of all platforms, the one we run on among them. */
export const symbolTables: Readonly<Record<PlatformName, SymbolTable>> = {
  "linux-glibc": { libraries: librariesOf["linux-glibc"], calls: glibcCalls, operations: linuxOperations },
  "linux-musl": { libraries: librariesOf["linux-musl"], calls: muslCalls, operations: linuxOperations },
  macos: {
    libraries: librariesOf.macos,
    calls: macosCalls,
    operations: {
      ...posixOperations,
      open: ["fcntl"],
      sync: ["fcntl", "fsync"],
      forgetCached: ["mmap", "msync", "munmap"],
      syncFolder: ["fcntl", "fsync"],
      allocate: ["fcntl", "ftruncate"],
      threadId: ["pthread_threadid_np"],
      isThreadAlive: ["proc_pidinfo"],
      lastError: ["__error"],
      random: ["arc4random_buf"],
    },
  },
  freebsd: {
    libraries: librariesOf.freebsd,
    calls: freebsdCalls,
    operations: {
      ...posixOperations,
      open: ["fcntl"],
      sync: ["fdatasync"],
      forgetCached: ["mmap", "msync", "munmap"],
      syncFolder: ["fsync"],
      allocate: ["posix_fallocate"],
      threadId: ["thr_self"],
      isThreadAlive: ["thr_kill"],
      lastError: ["__error"],
      random: ["arc4random_buf"],
    },
  },
  windows: {
    libraries: librariesOf.windows,
    calls: windowsCalls,
    operations: {
      open: ["CreateFileW"],
      status: ["CreateFileW", "GetFileInformationByHandle", "GetFileInformationByHandleEx"],
      rename: ["CreateFileW", "SetFileInformationByHandle", "FlushFileBuffers", "MoveFileExW"],
      close: ["CloseHandle"],
      read: ["ReadFile"],
      write: ["WriteFile"],
      sync: ["ReOpenFile", "FlushFileBuffers"],
      forgetCached: [],
      syncFolder: [],
      allocate: ["SetFileInformationByHandle"],
      truncate: ["SetFileInformationByHandle"],
      size: ["GetFileSizeEx"],
      lock: ["LockFileEx"],
      unlock: ["UnlockFileEx"],
      map: ["CreateFileMappingW", "MapViewOfFile"],
      unmap: ["UnmapViewOfFile"],
      reserve: ["VirtualAlloc"],
      commit: ["VirtualAlloc"],
      decommit: ["VirtualFree"],
      release: ["VirtualFree"],
      threadId: ["GetCurrentThreadId", "OpenThread", "GetThreadTimes"],
      isThreadAlive: ["OpenThread", "GetProcessIdOfThread", "GetThreadTimes", "WaitForSingleObject"],
      lastError: ["GetLastError"],
      pageBytes: ["GetSystemInfo"],
      monotonic: ["QueryPerformanceCounter", "QueryPerformanceFrequency"],
      random: [],
    },
  },
};
