/**
 * The C library's calls of Linux, macOS and FreeBSD: how each is declared, and its type as TypeScript sees it.
 *
 * A `size_t` and an `off_t` that is passed in are declared "ptr" (see library.ts); one that comes back is
 * "i64_fast", since -1 must stay -1. mmap comes back as "i64_fast" for the same reason: MAP_FAILED is -1.
 *
 * Variadic functions are a trap on Apple arm64: there every variadic argument goes on the stack, while a
 * declared one goes into a register. `open` is therefore left to `node:fs`, but on Linux. `fcntl` is declared on macOS with
 * nine parameters: the third is where x86-64 looks for the variadic one, the ninth is the first that does not
 * fit in arm64's eight registers and so lies where a variadic one is looked for; the caller passes it twice. FreeBSD,
 * where the third alone is looked at, declares it alike.
 * `syscall` is variadic too but used on Linux only, where x86-64 and arm64 pass both kinds alike.
 */

import type { Signature } from "./library.ts";
import type { Place } from "./memory.ts";
import type { Address, FileHandle } from "./system.ts";

/** What all of them have. */
export interface PosixCalls {
  close(file: FileHandle): number;
  pread(file: FileHandle, into: Place, bytes: number, position: number): number;
  pwrite(file: FileHandle, from: Place, bytes: number, position: number): number;
  lseek(file: FileHandle, offset: number, whence: number): number;
  ftruncate(file: FileHandle, bytes: number): number;
  fsync(file: FileHandle): number;
  flock(file: FileHandle, operation: number): number;
  mmap(at: Address, bytes: number, access: number, flags: number, file: FileHandle, position: number): Address;
  munmap(at: Address, bytes: number): number;
  mprotect(at: Address, bytes: number, access: number): number;
  getpagesize(): number;
  clock_gettime(clock: number, into: Address): number;
  getrlimit(resource: number, into: Address): number;
}

const shared = {
  close: { args: ["i32"], returns: "i32" },
  pread: { args: ["i32", "ptr", "ptr", "ptr"], returns: "i64_fast" },
  pwrite: { args: ["i32", "ptr", "ptr", "ptr"], returns: "i64_fast" },
  lseek: { args: ["i32", "ptr", "i32"], returns: "i64_fast" },
  ftruncate: { args: ["i32", "ptr"], returns: "i32" },
  fsync: { args: ["i32"], returns: "i32" },
  flock: { args: ["i32", "i32"], returns: "i32" },
  mmap: { args: ["ptr", "ptr", "i32", "i32", "i32", "ptr"], returns: "i64_fast" },
  munmap: { args: ["ptr", "ptr"], returns: "i32" },
  mprotect: { args: ["ptr", "ptr", "i32"], returns: "i32" },
  getpagesize: { args: [], returns: "i32" },
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
} as const satisfies Record<keyof PosixCalls, Signature>;

export interface LinuxCalls extends PosixCalls {
  fdatasync(file: FileHandle): number;
  fallocate(file: FileHandle, mode: number, position: number, bytes: number): number;
  madvise(at: Address, bytes: number, advice: number): number;
  posix_fadvise(file: FileHandle, position: number, bytes: number, advice: number): number;
  getrandom(into: Place, bytes: number, flags: number): number;
  /** `long syscall(long number, ...)`: glibc has wrapped gettid and tgkill only since 2.30, musl never tgkill, statx since 1.2.4. */
  syscall(number: number, first: Place, second: Place, third: number, fourth: number, fifth: Place): number;
  __errno_location(): Address;
}

export const glibcCalls = {
  ...shared,
  fdatasync: { args: ["i32"], returns: "i32" },
  fallocate: { args: ["i32", "i32", "ptr", "ptr"], returns: "i32" },
  madvise: { args: ["ptr", "ptr", "i32"], returns: "i32" },
  posix_fadvise: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  getrandom: { args: ["ptr", "ptr", "u32"], returns: "i64_fast" },
  syscall: { args: ["ptr", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i64_fast" },
  __errno_location: { args: [], returns: "ptr" },
} as const satisfies Record<keyof LinuxCalls, Signature>;

/** musl declares every one of them alike. */
export const muslCalls: Readonly<Record<keyof LinuxCalls, Signature>> = glibcCalls;

/** What only the two of them are asked. */
interface BsdCalls extends PosixCalls {
  /** `int fcntl(int, int, ...)`; see above for the nine. */
  fcntl(
    file: FileHandle,
    command: number,
    argument: Place,
    pad3: number,
    pad4: number,
    pad5: number,
    pad6: number,
    pad7: number,
    argumentOnStack: Place,
  ): number;
  msync(at: Address, bytes: number, flags: number): number;
  __error(): Address;
}

const bsdCalls = {
  ...shared,
  fcntl: { args: ["i32", "i32", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" },
  msync: { args: ["ptr", "ptr", "i32"], returns: "i32" },
  __error: { args: [], returns: "ptr" },
} as const satisfies Record<keyof BsdCalls, Signature>;

export interface MacosCalls extends BsdCalls {
  pthread_threadid_np(thread: Address, into: Uint8Array): number;
  proc_pidinfo(process: number, flavor: number, thread: number, into: Uint8Array, bytes: number): number;
  arc4random_buf(into: Place, bytes: number): void;
}

export const macosCalls = {
  ...bsdCalls,
  pthread_threadid_np: { args: ["ptr", "ptr"], returns: "i32" },
  proc_pidinfo: { args: ["i32", "i32", "ptr", "ptr", "i32"], returns: "i32" },
  arc4random_buf: { args: ["ptr", "ptr"], returns: "void" },
} as const satisfies Record<keyof MacosCalls, Signature>;

export interface FreebsdCalls extends BsdCalls {
  fdatasync(file: FileHandle): number;
  posix_fallocate(file: FileHandle, position: number, bytes: number): number;
  thr_self(into: Uint8Array): number;
  thr_kill(thread: number, signal: number): number;
  arc4random_buf(into: Place, bytes: number): void;
}

export const freebsdCalls = {
  ...bsdCalls,
  fdatasync: { args: ["i32"], returns: "i32" },
  posix_fallocate: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  thr_self: { args: ["ptr"], returns: "i32" },
  thr_kill: { args: ["ptr", "i32"], returns: "i32" },
  arc4random_buf: { args: ["ptr", "ptr"], returns: "void" },
} as const satisfies Record<keyof FreebsdCalls, Signature>;
