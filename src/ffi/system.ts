/**
 * The one interface between emdb and the outside: files, memory, locks, time and chance.
 *
 * Two implementations live here (posix, win32), a third in `test/sim` simulates an operating system that
 * loses power, runs out of space and fails calls. Nothing else in `src` touches the outside.
 *
 * Invariants
 * 1. An error comes back as a value: every call that can fail returns a number, negative for an error, and
 *    that number is `-errno` in the one numbering of `errno.ts` (Linux's numbers, on every platform). Real
 *    and simulated systems so take one code path; nothing here throws for what the machine did.
 * 2. EINTR and short counts are handled inside: a transfer returns what it moved in all, and less than
 *    asked only at the end of the file (reads) or never (writes: all, or an error).
 * 3. A path is absolute and real when it comes in. Positions and lengths are whole numbers of bytes.
 * 4. An `Address` is a raw pointer. Whoever holds one knows the limit behind it and checks before a read.
 */

/** A raw pointer as a number; 0 is none. */
export type Address = number;

/** An open file: a descriptor, or a Windows HANDLE; never negative. */
export type FileHandle = number;

/** Where bytes to be written come from: a view, or a raw pointer that is good for the whole length. */
export type ByteSource = Address | Uint8Array;

/** 0 or a count, or a negative errno in the numbering of `errno.ts`. */
export type Result = number;

/** That a denial to replace or cut a file is not waited for: who asks so has another way. */
export type Patience = "at once";

export type OpenMode =
  /** An existing file, for reading. */
  | "read"
  /** An existing file, for reading and writing. */
  | "write"
  /** As "write", and every write is durable when it returns (O_DSYNC), unless the system `lacksWriteThrough`. */
  | "write-through"
  /** A new file (mode 0600) for reading and writing; EEXIST when there is one. */
  | "create"
  /** An existing file for reading and writing, or a new one (mode 0600); an error where there is a symbolic link. */
  | "write-or-create"
  /** A folder, for `syncFolder`, `statusOf` and `close` alone. */
  | "folder";

export interface FileStatus {
  readonly kind: "file" | "folder" | "other";
  readonly bytes: number;
  /** Device and inode (volume and file index): equal exactly when the file is the same one. */
  readonly identity: string;
  /** When it was made, in seconds, where the system tells: the number of an inode may be another file's right after it has gone. */
  readonly born?: number;
}

/** Where a file, or a part of it, is mapped. */
export interface FileMapping {
  readonly address: Address;
  readonly bytes: number;
}

export interface System {
  readonly platform: "posix" | "win32" | "simulated";
  /** Longest path that it takes, in bytes without a final zero; on Windows in UTF-16 units. */
  readonly pathBytesMax: number;
  /** Whether no flag makes each write to a file that was opened as write-through durable: then who writes has to sync. */
  readonly lacksWriteThrough?: boolean;
  /** A mapping may reach beyond the end of the file; the pages there become readable as it grows. */
  readonly canMapPastEnd: boolean;
  readonly pageBytes: number;

  // -- files ---------------------------------------------------------------
  open(path: string, mode: OpenMode): FileHandle | Result;
  close(file: FileHandle): Result;
  /** Reads up to `bytes` at `position` into `into`; returns how many there were before the end. */
  read(file: FileHandle, into: Uint8Array, span: { readonly position: number; readonly bytes: number }): Result;
  /** Writes all of it or fails; on failure some of it may be in the file. */
  write(file: FileHandle, from: ByteSource, span: { readonly position: number; readonly bytes: number }): Result;
  /** fdatasync; F_FULLFSYNC on macOS; FlushFileBuffers. Includes the size of the file. */
  sync(file: FileHandle): Result;
  /**
   * Begins to write a part of a file to the disk, and waits until the part of the same length before it has arrived. So
   * little is left for the next `sync`, without which nothing is durable. An error is one of a sync. EOPNOTSUPP, or no such
   * call, where that cannot be had.
   */
  writeBack?(file: FileHandle, span: { readonly position: number; readonly bytes: number }): Result;
  /**
   * Lets go of what the system keeps of a file in memory and takes for written, so that the next read asks the
   * device. What is mapped anywhere stays. Nothing on Windows, which has no call for it.
   */
  forgetCached(file: FileHandle): Result;
  /** Makes creations, renames and unlinks in a folder durable, through `folder` if it is open already. Nothing to do on Windows. */
  syncFolder(path: string, folder?: FileHandle): Result;
  /**
   * Whether a block of reserved space that is written for the first time costs the sync behind it a record of its own
   * (unwritten extents of ext4 and XFS): then it pays to write zeros there ahead of need. Not where a file system copies
   * on write: there they would use up what was reserved.
   */
  recordsFirstWrites?(file: FileHandle): boolean;
  /** Reserves space so that writes up to `bytes` cannot find the disk full; the file is then that long. EOPNOTSUPP where the file system cannot. */
  allocate(file: FileHandle, bytes: number): Result;
  /** Sets the length, giving back what lay behind. Windows waits a moment for a virus scanner that has it mapped, unless it is asked `at once`. */
  truncate(file: FileHandle, bytes: number, patience?: Patience): Result;
  /**
   * How much may be cut off at a time, in about two milliseconds, of a file without a name before it is closed: the last
   * close of a long one takes as long as its blocks are many. 0 where the system does not tell that this handle alone has
   * it open and that it is mapped nowhere, or where it makes no difference.
   */
  cutBytes?(file: FileHandle): number;
  /** Whether that is ever more than 0 on the file system of a file. */
  canCut?(file: FileHandle): boolean;
  /**
   * Gives a file that is to take another one's place its mode, and its owner and group as far as the process may. Where the
   * group cannot be had its rights are not given: they would be another group's. No such call on Windows, where a folder says it.
   */
  copyAccess?(from: FileHandle, to: FileHandle): Result;
  /** The length of an open file. */
  size(file: FileHandle): Result;

  // -- names ---------------------------------------------------------------
  status(path: string): FileStatus | Result;
  /** The same for an open file. */
  statusOf(file: FileHandle): FileStatus | Result;
  /** Handles of this process that are the file with an identity, as far as the system tells; Windows does not. */
  openHandles(identity: string): readonly FileHandle[];
  /** The real path, symbolic links and spelling resolved; the file must exist. */
  realPath(path: string): string | Result;
  /** What a symbolic link says; an error for whatever is none. */
  linkTarget(path: string): string | Result;
  /** Replaces what was at `to`. Windows waits a moment for a virus scanner that denies it, unless it is asked `at once`. */
  rename(from: string, to: string, patience?: Patience): Result;
  /** A second name for a file; EEXIST when `to` exists. */
  link(from: string, to: string): Result;
  /** Windows waits a moment for a virus scanner that has the file and shares no deletion of it. */
  unlink(path: string): Result;
  makeFolder(path: string): Result;
  list(folder: string): readonly string[] | Result;

  // -- locks ---------------------------------------------------------------
  /** Takes an exclusive lock that the system lets go of when the handle or the process ends. EWOULDBLOCK when somebody has it. */
  lock(file: FileHandle): Result;
  /** Whether somebody has that lock, as EWOULDBLOCK; takes nothing that another one who asks would take for it. */
  probeLock(file: FileHandle): Result;
  unlock(file: FileHandle): Result;

  // -- memory --------------------------------------------------------------
  /** Maps `[0, bytes)` of a file for reading. */
  map(file: FileHandle, bytes: number): Address | Result;
  /** Maps `[0, bytes)` of a file for reading and private writing: nothing reaches the file. */
  mapPrivate(file: FileHandle, bytes: number): Address | Result;
  unmap(address: Address, bytes: number): Result;
  /** What this process has mapped of the file with an identity, as far as the system tells: Linux alone does. */
  mappingsOf(identity: string): readonly FileMapping[];
  /** A read-only-by-contract view of its own over part of a file; unmapped when it is collected. The span lies inside the file. */
  mapView(file: FileHandle, span: { readonly position: number; readonly bytes: number }): Uint8Array | Result;
  /** Address space that nothing backs yet; a page of it may be touched only after `commit`. */
  reserve(bytes: number): Address | Result;
  /** Backs pages with zeroed memory. Multiples of the page size. */
  commit(address: Address, bytes: number): Result;
  /** Gives the memory back and keeps the address space. */
  decommit(address: Address, bytes: number): Result;
  release(address: Address, bytes: number): Result;

  // -- time, chance, identity ----------------------------------------------
  /** Unix time in whole milliseconds. */
  now(): number;
  /** Milliseconds with fractions from an arbitrary start, never going back. */
  monotonic(): number;
  /** Fills the view from the system's cryptographic source. */
  random(into: Uint8Array): void;
  processId(): number;
  hostName(): string;
  /** A number that names the calling thread in this process as long as it lives. */
  threadId(): number;
  /** Whether a thread of this process, named by `threadId`, still runs. */
  isThreadAlive(thread: number): boolean;
}
