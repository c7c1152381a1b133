/**
 * `System` on Windows, through kernel32.
 *
 * Differences that show: a mapping ends where the file ended when it was made; a file that is mapped cannot be
 * cut (EBUSY); a file that is mapped or open may refuse to be replaced (EBUSY, EACCES).
 */

import { dirname, resolve } from "node:path";
import { assert } from "../errors.ts";
import { assertHandle, assertHolds, assertPages, assertSpan, assertWhole } from "./checks.ts";
import { Errno, resultOfNumber } from "./errno.ts";
import { openLibrary, symbolAddress } from "./library.ts";
import { viewOfMapping } from "./mapped-view.ts";
import { addressOf, type Place, pinned } from "./memory.ts";
import { Surroundings } from "./surroundings.ts";
import { symbolTables } from "./symbols.ts";
import {
  windowsRandomCalls,
  windowsRandomLibraries,
  type WindowsCalls,
  type WindowsRandomCalls,
} from "./symbols-win32.ts";
import { WINDOWS_PATH_UNITS_MAX } from "../limits.ts";
import type {
  Address,
  ByteSource,
  FileHandle,
  FileMapping,
  FileStatus,
  OpenMode,
  Patience,
  Result,
  System,
} from "./system.ts";
import { lastFailure, openFile, renameFile, setEnd, statusOfHandle, statusOfPath, untilShared } from "./win32-files.ts";
import { isThreadRunning, threadName } from "./win32-threads.ts";

const GENERIC_WRITE = 0x40000000;
const SHARE_ALL = 7;
const ERROR_HANDLE_EOF = 38;
const LOCKFILE_NOW = 1;
const LOCKFILE_NOW_EXCLUSIVE = LOCKFILE_NOW | 2;
const PAGE_NOACCESS = 1;
const PAGE_READONLY = 2;
const PAGE_READWRITE = 4;
const PAGE_WRITECOPY = 8;
const FILE_MAP_COPY = 1;
const FILE_MAP_READ = 4;
const MEM_COMMIT = 0x1000;
const MEM_RESERVE = 0x2000;
const MEM_DECOMMIT = 0x4000;
const MEM_RELEASE = 0x8000;

const transferBytesMax = 2 ** 30;
/** Windows follows no more links in one path. */
const LINKS_MAX = 63;

/**
 * The high half of the position of the byte that is locked: far behind any file, since Windows keeps others
 * from reading what is locked, and the lock file's record is there to be read.
 */
const lockPositionHigh = 0x4000_0000;

interface Span {
  readonly position: number;
  readonly bytes: number;
}

/**
 * This thread's own place for what calls read and write, as u32 words: OVERLAPPED (32 bytes: two words unused,
 * position low and high at 16 and 20, event at 24), the count of a transfer at 32, a LARGE_INTEGER at 40.
 */
const scratch = pinned(4096);
const movedAddress = scratch.address + 32;
const largeAddress = scratch.address + 40;

function overlappedAt(low: number, high: number): Address {
  scratch.u32.fill(0, 0, 9);
  scratch.u32[4] = low;
  scratch.u32[5] = high;
  return scratch.address;
}

function largeInteger(value: number): Address {
  scratch.u32[10] = value % 2 ** 32;
  scratch.u32[11] = Math.floor(value / 2 ** 32);
  return largeAddress;
}

function readLargeInteger(): number {
  return scratch.u32[10]! + scratch.u32[11]! * 2 ** 32;
}

/** The libraries that a system on Windows goes by. */
interface WindowsLibraries {
  readonly system: WindowsCalls;
  readonly random: WindowsRandomCalls;
}

/** This machine's own. @throws {EmdbError} EMDB_UNSUPPORTED when kernel32 lacks a call */
export function windowsLibraries(): WindowsLibraries {
  const { libraries, calls } = symbolTables.windows;
  const system = openLibrary<WindowsCalls>(libraries.system, calls);
  return { system, random: openLibrary<WindowsRandomCalls>(windowsRandomLibraries, windowsRandomCalls) };
}

export class WindowsSystem extends Surroundings implements System {
  readonly platform = "win32";
  /**
   * FILE_FLAG_WRITE_THROUGH asks the drive for it (Force Unit Access), which SATA drivers do not heed; FlushFileBuffers
   * empties the drive's cache. Source: Chen, "Revised notes on the reliability of FlushFileBuffers" (2017).
   */
  readonly lacksWriteThrough = true;
  readonly canMapPastEnd = false;
  readonly pathBytesMax = WINDOWS_PATH_UNITS_MAX;
  readonly pageBytes: number;
  /** Where mappings may begin. */
  readonly #granularityBytes: number;
  readonly #calls: WindowsCalls;
  readonly #unmapAddress: Address;
  readonly #ticksPerMs: number;
  readonly #randomCalls: WindowsRandomCalls;
  #threadName: number | undefined;

  constructor({ system, random }: WindowsLibraries) {
    super();
    this.#calls = system;
    this.#randomCalls = random;
    this.#unmapAddress = symbolAddress(this.#calls.UnmapViewOfFile);
    // SYSTEM_INFO: page size u32 at 4, allocation granularity u32 at 40.
    this.#calls.GetSystemInfo(scratch.address);
    this.pageBytes = scratch.u32[1]!;
    this.#granularityBytes = scratch.u32[10]!;
    this.#calls.QueryPerformanceFrequency(largeAddress);
    this.#ticksPerMs = readLargeInteger() / 1000;
  }

  #result(isDone: number): Result {
    return isDone !== 0 ? 0 : lastFailure(this.#calls);
  }

  // -- files ---------------------------------------------------------------

  open(path: string, mode: OpenMode): FileHandle | Result {
    return openFile(this.#calls, path, mode);
  }

  close(file: FileHandle): Result {
    assertHandle(file);
    return this.#result(this.#calls.CloseHandle(file));
  }

  read(file: FileHandle, into: Uint8Array, span: Span): Result {
    assertHandle(file);
    assertSpan(span);
    assertHolds(into, span.bytes);
    let done = 0;
    while (done < span.bytes) {
      const chunk = Math.min(span.bytes - done, transferBytesMax);
      const position = span.position + done;
      const at = overlappedAt(position % 2 ** 32, Math.floor(position / 2 ** 32));
      const place: Place = done === 0 ? into : addressOf(into) + done;
      if (this.#calls.ReadFile(file, place, chunk, movedAddress, at) === 0) {
        const code = this.#calls.GetLastError();
        if (code === ERROR_HANDLE_EOF) break;
        return resultOfNumber("windows", code);
      }
      const count = scratch.u32[8]!;
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(file: FileHandle, from: ByteSource, span: Span): Result {
    assertHandle(file);
    assertSpan(span);
    assertHolds(from, span.bytes);
    let done = 0;
    while (done < span.bytes) {
      const chunk = Math.min(span.bytes - done, transferBytesMax);
      const position = span.position + done;
      const at = overlappedAt(position % 2 ** 32, Math.floor(position / 2 ** 32));
      const place = done === 0 ? from : (typeof from === "number" ? from : addressOf(from)) + done;
      if (this.#calls.WriteFile(file, place, chunk, movedAddress, at) === 0) return lastFailure(this.#calls);
      const count = scratch.u32[8]!;
      // Nothing written and no reason given: to try for ever would be worse than to say so.
      if (count === 0) return -Errno.EIO;
      done += count;
    }
    return done;
  }

  sync(file: FileHandle): Result {
    assertHandle(file);
    // Windows runs one operation at a time per file object: a flush on this one would make the writers of
    // other threads wait for the disk. A second object of the same file has a queue of its own.
    const second = this.#calls.ReOpenFile(file, GENERIC_WRITE, SHARE_ALL, 0);
    if (second === -1) return this.#result(this.#calls.FlushFileBuffers(file));
    const result = this.#result(this.#calls.FlushFileBuffers(second));
    this.#calls.CloseHandle(second);
    return result;
  }

  /** There is no call for it: only writes that pass the cache by make Windows drop what it holds. */
  forgetCached(file: FileHandle): Result {
    assertHandle(file);
    return 0;
  }

  /** NTFS logs names in order, and `rename` flushes; there is no call for a folder. */
  syncFolder(path: string): Result {
    const status = this.status(path);
    return typeof status === "number" ? status : status.kind === "folder" ? 0 : -Errno.ENOTDIR;
  }

  /** NTFS takes the clusters when the end is set; up to what was written the rest reads as zeros. */
  allocate(file: FileHandle, bytes: number): Result {
    assertWhole(bytes, "a length is a whole number of bytes");
    const size = this.size(file);
    if (size < 0 || bytes <= size) return Math.min(size, 0);
    return this.truncate(file, bytes);
  }

  truncate(file: FileHandle, bytes: number, patience?: Patience): Result {
    assertHandle(file);
    assertWhole(bytes, "a length is a whole number of bytes");
    return setEnd(this.#calls, file, largeInteger(bytes), patience);
  }

  size(file: FileHandle): Result {
    assertHandle(file);
    if (this.#calls.GetFileSizeEx(file, largeAddress) === 0) return lastFailure(this.#calls);
    return readLargeInteger();
  }

  // -- names ---------------------------------------------------------------

  status(path: string): FileStatus | Result {
    return statusOfPath(this.#calls, path);
  }

  statusOf(file: FileHandle): FileStatus | Result {
    assertHandle(file);
    return statusOfHandle(this.#calls, file);
  }

  /**
   * `node:fs` says of a server that is not reached that there is no such file. It finds no real path where the volume is not
   * known to the mount manager, as RAM disks and those of many a program are not: there a path is real when it ends in no link.
   */
  override realPath(path: string): string | Result {
    const real = super.realPath(path);
    if (typeof real === "string") return real;
    const there = this.status(path);
    if (typeof there === "number") return real === -Errno.ENOENT && there === -Errno.EHOSTUNREACH ? there : real;
    // It may have come, or got its name back, between the two.
    const again = super.realPath(path);
    return typeof again === "string" ? again : this.#behindLinks(path);
  }

  /** Where the links at the end of a path lead to. */
  #behindLinks(path: string): string | Result {
    let name = path;
    for (let links = 0; links <= LINKS_MAX; links++) {
      const target = this.linkTarget(name);
      if (typeof target !== "string") return name;
      name = resolve(dirname(name), target);
    }
    return -Errno.ELOOP;
  }

  /** Where Windows lets only some programs in, what they make is "not found": see `openFile`. */
  override makeFolder(path: string): Result {
    const made = super.makeFolder(path);
    return made === -Errno.ENOENT && typeof this.status(dirname(path)) !== "number" ? -Errno.EPERM : made;
  }

  /** What is mapped is denied in other words, and not waited for. */
  override unlink(path: string): Result {
    return untilShared(() => super.unlink(path), [Errno.EBUSY]);
  }

  /** No documented call lists them. */
  openHandles(_identity: string): readonly FileHandle[] {
    return [];
  }

  rename(from: string, to: string, patience?: Patience): Result {
    return renameFile(this.#calls, from, to, patience);
  }

  // -- locks ---------------------------------------------------------------

  lock(file: FileHandle): Result {
    assertHandle(file);
    const at = overlappedAt(0, lockPositionHigh);
    return this.#result(this.#calls.LockFileEx(file, LOCKFILE_NOW_EXCLUSIVE, 0, 1, 0, at));
  }

  probeLock(file: FileHandle): Result {
    assertHandle(file);
    const at = overlappedAt(0, lockPositionHigh);
    const result = this.#result(this.#calls.LockFileEx(file, LOCKFILE_NOW, 0, 1, 0, at));
    if (result >= 0) this.unlock(file);
    return result;
  }

  unlock(file: FileHandle): Result {
    assertHandle(file);
    return this.#result(this.#calls.UnlockFileEx(file, 0, 1, 0, overlappedAt(0, lockPositionHigh)));
  }

  // -- memory --------------------------------------------------------------

  map(file: FileHandle, bytes: number): Address | Result {
    return this.#mapFile(file, { position: 0, bytes }, { protection: PAGE_READONLY, access: FILE_MAP_READ });
  }

  mapPrivate(file: FileHandle, bytes: number): Address | Result {
    return this.#mapFile(file, { position: 0, bytes }, { protection: PAGE_WRITECOPY, access: FILE_MAP_COPY });
  }

  /** The span begins at a multiple of the granularity. */
  #mapFile(
    file: FileHandle,
    { position, bytes }: Span,
    how: { readonly protection: number; readonly access: number },
  ): Address | Result {
    assertHandle(file);
    assertSpan({ position, bytes });
    if (bytes === 0) return -Errno.EINVAL;
    const size = this.size(file);
    if (size < 0) return size;
    // The system's own words for this are that memory is short.
    if (position + bytes > size) return -Errno.EINVAL;
    // The mapping object has the length of the file; the view keeps it alive when the handle is closed.
    const mapping = this.#calls.CreateFileMappingW(file, 0, how.protection, 0, 0, 0);
    if (mapping === 0) return lastFailure(this.#calls);
    const high = Math.floor(position / 2 ** 32);
    const address = this.#calls.MapViewOfFile(mapping, how.access, high, position % 2 ** 32, bytes);
    const result = address === 0 ? lastFailure(this.#calls) : address;
    this.#calls.CloseHandle(mapping);
    return result;
  }

  unmap(address: Address, bytes: number): Result {
    assertPages(address, 0, this.pageBytes);
    assertWhole(bytes, "a length is a whole number of bytes");
    return this.#result(this.#calls.UnmapViewOfFile(address));
  }

  /** The calls that tell of mappings name files, which are renamed; not their identities. */
  mappingsOf(_identity: string): readonly FileMapping[] {
    return [];
  }

  mapView(file: FileHandle, span: Span): Uint8Array | Result {
    assertHandle(file);
    assertSpan(span);
    if (span.bytes === 0) return new Uint8Array(0);
    const before = span.position % this.#granularityBytes;
    const bytes = before + span.bytes;
    // Copy on write: whoever writes into the view against the contract does not end the process.
    const how = { protection: PAGE_WRITECOPY, access: FILE_MAP_COPY };
    const address = this.#mapFile(file, { position: span.position - before, bytes }, how);
    if (address < 0) return address;
    return viewOfMapping({ address, bytes, unmapAddress: this.#unmapAddress }, before) ?? -Errno.ENOMEM;
  }

  reserve(bytes: number): Address | Result {
    assertPages(this.pageBytes, bytes, this.pageBytes);
    const address = this.#calls.VirtualAlloc(0, bytes, MEM_RESERVE, PAGE_NOACCESS);
    return address === 0 ? lastFailure(this.#calls) : address;
  }

  commit(address: Address, bytes: number): Result {
    assertPages(address, bytes, this.pageBytes);
    return this.#result(this.#calls.VirtualAlloc(address, bytes, MEM_COMMIT, PAGE_READWRITE));
  }

  decommit(address: Address, bytes: number): Result {
    assertPages(address, bytes, this.pageBytes);
    return this.#result(this.#calls.VirtualFree(address, bytes, MEM_DECOMMIT));
  }

  release(address: Address, bytes: number): Result {
    assertPages(address, bytes, this.pageBytes);
    return this.#result(this.#calls.VirtualFree(address, 0, MEM_RELEASE));
  }

  // -- time, chance and identity -------------------------------------------

  random(into: Uint8Array): void {
    if (into.length === 0) return;
    const isFilled = this.#randomCalls.ProcessPrng(into, into.length) !== 0;
    assert(isFilled, "the system gives random bytes");
  }

  /** Not `performance.now`, `process.hrtime` or `Bun.nanoseconds`: each starts anew in every Worker. */
  monotonic(): number {
    this.#calls.QueryPerformanceCounter(largeAddress);
    return readLargeInteger() / this.#ticksPerMs;
  }

  threadId(): number {
    return (this.#threadName ??= threadName(this.#calls, this.#calls.GetCurrentThreadId()));
  }

  isThreadAlive(thread: number): boolean {
    assertWhole(thread, "a thread is named by a whole number");
    return isThreadRunning(this.#calls, thread);
  }
}
