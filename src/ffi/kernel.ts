/**
 * Where Linux, macOS and FreeBSD differ: one `Kernel` each, in linux.ts, macos.ts and freebsd.ts.
 *
 * A method that says "raw" returns what the C function does: -1 and the error in errno.
 */

import type { ErrnoDialect } from "./errno.ts";
import type { PosixCalls } from "./symbols-posix.ts";
import type { Address, FileHandle, FileMapping, FileStatus, Result } from "./system.ts";

/** Flags of `open`, as `node:fs` calls them. */
export type OpenFlags = Readonly<
  Record<"O_RDONLY" | "O_RDWR" | "O_CREAT" | "O_EXCL" | "O_NONBLOCK" | "O_DIRECTORY" | "O_NOFOLLOW", number>
>;

/** Calls about names; each is undefined where `node:fs` has to be asked. */
export interface KernelNames {
  readonly flags: OpenFlags;
  open(path: string, flags: number, access: number): FileHandle | Result | undefined;
  unlink(path: string): Result | undefined;
  rename(from: string, to: string): Result | undefined;
  realPath(path: string): string | Result | undefined;
}

export interface Kernel {
  readonly calls: PosixCalls;
  readonly dialect: ErrnoDialect;
  /** Where errno of the calling thread is; a module is evaluated anew in each Worker, so this is the right one. */
  readonly errnoAddress: Address;
  /** MAP_ANONYMOUS and MAP_NORESERVE. */
  readonly mapAnonymous: number;
  readonly mapNoReserve: number;
  /** CLOCK_MONOTONIC. */
  readonly monotonicClock: number;
  /** RLIMIT_AS. */
  readonly addressSpaceLimit: number;
  readonly openCloseOnExec: number;
  /** As `System.pathBytesMax`. */
  readonly pathBytesMax: number;
  /** The flag of `open` that makes each write durable; 0 where none does. */
  readonly openWriteThrough: number;
  /** F_DUPFD_CLOEXEC: a second descriptor of an open file, the first free one from a number on. Raw. */
  duplicate(file: FileHandle, from: number): number;
  /** Raw. */
  sync(file: FileHandle): number;
  /** Raw. */
  syncFolder(file: FileHandle): number;
  /** As `System.forgetCached`, for a file of that many bytes, at least one; a result. */
  forgetCached(file: FileHandle, bytes: number): Result;
  /** Reserves `[0, bytes)` of a file that is `size` long; a result, with EINTR passed on. */
  allocate(file: FileHandle, span: { readonly size: number; readonly bytes: number }): Result;
  /** As `System.recordsFirstWrites`, where some file systems do. */
  readonly recordsFirstWrites?: (file: FileHandle) => boolean;
  /** What can be done without `node:fs`. */
  readonly names?: KernelNames;
  /** As `System.status` and `statusOf`, where that is cheaper than asking `node:fs`; undefined where it cannot be had. */
  readonly status?: (of: string | FileHandle) => FileStatus | Result | undefined;
  /** As `System.writeBack`, where the system can. */
  readonly writeBack?: (file: FileHandle, span: { readonly position: number; readonly bytes: number }) => Result;
  /** As `System.cutBytes`, where the system tells. */
  readonly cutBytes?: (file: FileHandle) => number;
  readonly canCut?: (file: FileHandle) => boolean;
  /** As `System.mappingsOf`, where the system tells. */
  readonly mappingsOf?: (identity: string) => readonly FileMapping[];
  /** Asks for huge pages; a refusal costs speed only. */
  adviseHuge(address: Address, bytes: number): void;
  /** Gives the memory of pages back so that they read as zeros, in the map that is there, where that can be done. Raw. */
  discard?(address: Address, bytes: number): number;
  /** Raw: fills the view from the system's cryptographic source, up to 256 bytes of it; returns how many. */
  random(into: Uint8Array): number;
  threadId(): number;
  isThreadAlive(thread: number): boolean;
}
