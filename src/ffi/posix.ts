/**
 * `System` on Linux, macOS and FreeBSD. What differs between them is in their `Kernel`.
 *
 * errno is read through its address right after the call that failed: a load, not a second call. The runtime
 * may still change it in between (it stops threads by signals while it collects), but then to EINTR, and a
 * call that was interrupted is made again.
 */

import { read as peek } from "bun:ffi";
import { assertHandle, assertHolds, assertPages, assertSpan, assertWhole } from "./checks.ts";
import { Errno, resultOfNumber } from "./errno.ts";
import { must } from "./io-error.ts";
import type { Kernel } from "./kernel.ts";
import { symbolAddress } from "./library.ts";
import { viewOfMapping } from "./mapped-view.ts";
import { addressOf, pinned } from "./memory.ts";
import { nodeFs } from "./node-fs.ts";
import { attempt, statusFromStats, Surroundings } from "./surroundings.ts";
import type { PosixCalls } from "./symbols-posix.ts";
import type { Address, ByteSource, FileHandle, FileMapping, FileStatus, OpenMode, Result, System } from "./system.ts";

// The same numbers on all three.
const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
const SEEK_END = 2;
/** Standard input, output and error have the descriptors before it. */
const FIRST_OWN_DESCRIPTOR = 3;

/** Linux moves at most 2 GiB less a page per call, macOS refuses more than 2 GiB. */
const transferBytesMax = 2 ** 30;

/** What a signal cannot cut short (getrandom). */
const randomBytesMax = 256;

/** What a transparent huge page covers on x86-64, and on arm64 with 4 KiB pages. */
const hugePageBytes = 2 ** 21;

/**
 * Of an address space that is limited (`ulimit -v`, RLIMIT_AS) one reservation takes at most this part, so that the
 * program and its other databases have the rest; down to the least that is of any use.
 */
const addressSpaceShare = 32;
const reservationBytesMin = 2 ** 28;
/** A map may always reach so far beyond its file: each one that a growing log needs is longer by a share, so they are few. */
const mapBeyondFactor = 1.5;

/** This thread's own place for what clock_gettime and getrlimit write. */
const scratch = pinned(16);

interface Span {
  readonly position: number;
  readonly bytes: number;
}

export class PosixSystem extends Surroundings implements System {
  readonly platform = "posix";
  readonly canMapPastEnd = true;
  readonly pageBytes: number;
  readonly pathBytesMax: number;
  readonly #kernel: Kernel;
  readonly #calls: PosixCalls;
  readonly #munmapAddress: Address;
  /** Longest stretch of address space that is taken ahead of need. */
  readonly #reservationBytesMax: number;
  readonly lacksWriteThrough: boolean;

  constructor(kernel: Kernel) {
    super();
    this.#kernel = kernel;
    this.#calls = kernel.calls;
    this.pathBytesMax = kernel.pathBytesMax;
    this.lacksWriteThrough = kernel.openWriteThrough === 0;
    this.#munmapAddress = symbolAddress(kernel.calls.munmap);
    this.pageBytes = kernel.calls.getpagesize();
    this.#reservationBytesMax = Math.max(this.#addressSpaceBytes() / addressSpaceShare, reservationBytesMin);
  }

  #failure(): Result {
    const { dialect, errnoAddress } = this.#kernel;
    return resultOfNumber(dialect, peek.i32(errnoAddress, 0));
  }

  /** The result of a call that answers 0 or -1, made again as long as signals interrupt it. */
  #untilDone(call: () => number): Result {
    for (;;) {
      if (call() === 0) return 0;
      const result = this.#failure();
      if (result !== -Errno.EINTR) return result;
    }
  }

  // -- files ---------------------------------------------------------------

  open(path: string, mode: OpenMode): FileHandle | Result {
    const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } =
      this.#kernel.names?.flags ?? nodeFs().constants;
    const flagsOfMode: Record<OpenMode, number> = {
      read: O_RDONLY,
      write: O_RDWR,
      "write-through": O_RDWR | this.#kernel.openWriteThrough,
      create: O_RDWR | O_CREAT | O_EXCL,
      "write-or-create": O_RDWR | O_CREAT | O_NOFOLLOW,
      folder: O_RDONLY | O_DIRECTORY,
    };
    // O_NONBLOCK: opening a named pipe would otherwise wait for its other end. Files do not know the flag.
    const flags = flagsOfMode[mode] | this.#kernel.openCloseOnExec | O_NONBLOCK;
    const opened = this.#openBy(path, flags);
    if (opened >= 0) return this.#beyondStandard(opened, { path, isNew: mode === "create" });
    if (opened !== -Errno.EACCES || mode !== "write-or-create") return opened;
    // In a sticky folder Linux refuses O_CREAT on what is there and another user's, also to root (fs.protected_regular, proc(5)).
    const existing = this.#openBy(path, flags & ~O_CREAT);
    return existing < 0 ? opened : this.#beyondStandard(existing, { path, isNew: false });
  }

  /** Of a program that has closed its standard output the next open gets that number: what is printed would go to the database. */
  #beyondStandard(opened: FileHandle, { path, isNew }: { readonly path: string; readonly isNew: boolean }): Result {
    if (opened >= FIRST_OWN_DESCRIPTOR) return opened;
    const moved = this.#kernel.duplicate(opened, FIRST_OWN_DESCRIPTOR);
    const result = moved < 0 ? this.#failure() : moved;
    this.close(opened);
    if (result < 0 && isNew) this.unlink(path);
    return result;
  }

  #openBy(path: string, flags: number): FileHandle | Result {
    return this.#kernel.names?.open(path, flags, 0o600) ?? attempt(() => nodeFs().openSync(path, flags, 0o600));
  }

  close(file: FileHandle): Result {
    assertHandle(file);
    if (this.#calls.close(file) === 0) return 0;
    // An interrupted close has closed; making it again could close a file that another thread just opened.
    const result = this.#failure();
    return result === -Errno.EINTR ? 0 : result;
  }

  read(file: FileHandle, into: Uint8Array, span: Span): Result {
    assertHandle(file);
    assertSpan(span);
    assertHolds(into, span.bytes);
    let done = 0;
    while (done < span.bytes) {
      const chunk = Math.min(span.bytes - done, transferBytesMax);
      const place = done === 0 ? into : addressOf(into) + done;
      const count = this.#calls.pread(file, place, chunk, span.position + done);
      if (count > 0) done += count;
      else if (count === 0) break;
      else {
        const result = this.#failure();
        if (result !== -Errno.EINTR) return result;
      }
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
      const place = done === 0 ? from : (typeof from === "number" ? from : addressOf(from)) + done;
      const count = this.#calls.pwrite(file, place, chunk, span.position + done);
      if (count > 0) done += count;
      // Nothing written and no reason given: to try for ever would be worse than to say so.
      else if (count === 0) return -Errno.EIO;
      else {
        const result = this.#failure();
        if (result !== -Errno.EINTR) return result;
      }
    }
    return done;
  }

  sync(file: FileHandle): Result {
    assertHandle(file);
    return this.#untilDone(() => this.#kernel.sync(file));
  }

  forgetCached(file: FileHandle): Result {
    assertHandle(file);
    const bytes = this.size(file);
    return bytes > 0 ? this.#kernel.forgetCached(file, bytes) : bytes;
  }

  syncFolder(path: string, folder?: FileHandle): Result {
    const opened = folder ?? this.open(path, "folder");
    if (opened < 0) return opened;
    const result = this.#untilDone(() => this.#kernel.syncFolder(opened));
    if (folder === undefined) this.close(opened);
    // EINVAL: fsync(2) says that the file system cannot sync folders; there is nothing better to do.
    return result === -Errno.EINVAL ? 0 : result;
  }

  recordsFirstWrites(file: FileHandle): boolean {
    return this.#kernel.recordsFirstWrites?.(file) ?? false;
  }

  allocate(file: FileHandle, bytes: number): Result {
    assertHandle(file);
    assertWhole(bytes, "a length is a whole number of bytes");
    const size = this.size(file);
    if (size < 0 || bytes === 0) return Math.min(size, 0);
    for (;;) {
      const result = this.#kernel.allocate(file, { size, bytes });
      if (result === -Errno.EINTR) continue;
      // On a disk that fills up half-way the file has grown as far as it went.
      if (result < 0 && this.size(file) > size) this.truncate(file, size);
      return result;
    }
  }

  truncate(file: FileHandle, bytes: number): Result {
    assertHandle(file);
    assertWhole(bytes, "a length is a whole number of bytes");
    return this.#untilDone(() => this.#calls.ftruncate(file, bytes));
  }

  writeBack(file: FileHandle, span: Span): Result {
    assertHandle(file);
    assertSpan(span);
    return this.#kernel.writeBack?.(file, span) ?? -Errno.EOPNOTSUPP;
  }

  canCut(file: FileHandle): boolean {
    assertHandle(file);
    return this.#kernel.canCut?.(file) ?? false;
  }

  cutBytes(file: FileHandle): number {
    assertHandle(file);
    return this.#kernel.cutBytes?.(file) ?? 0;
  }

  copyAccess(from: FileHandle, to: FileHandle): Result {
    assertHandle(from);
    assertHandle(to);
    const fs = nodeFs();
    return attempt(() => {
      const { mode, uid, gid } = fs.fstatSync(from);
      const own = fs.fstatSync(to);
      const give = (user: number): boolean => attempt(() => (fs.fchownSync(to, user, gid), 0)) === 0;
      const isGroups = (own.uid === uid && own.gid === gid) || give(uid) || own.gid === gid || give(own.uid);
      // Behind the owner, whose change takes bits away.
      fs.fchmodSync(to, mode & (isGroups ? 0o777 : 0o707));
      return 0;
    });
  }

  size(file: FileHandle): Result {
    assertHandle(file);
    // Moves the file's own position, which nothing here uses.
    const bytes = this.#calls.lseek(file, 0, SEEK_END);
    return bytes >= 0 ? bytes : this.#failure();
  }

  // -- names ---------------------------------------------------------------

  status(path: string): FileStatus | Result {
    return this.#kernel.status?.(path) ?? attempt(() => statusFromStats(nodeFs().statSync(path, { bigint: true })));
  }

  statusOf(file: FileHandle): FileStatus | Result {
    assertHandle(file);
    return this.#kernel.status?.(file) ?? attempt(() => statusFromStats(nodeFs().fstatSync(file, { bigint: true })));
  }

  openHandles(identity: string): readonly FileHandle[] {
    // Linux, macOS; FreeBSD tells of the first three only, unless fdescfs is mounted.
    const names = attempt(() => nodeFs().readdirSync("/dev/fd"));
    if (typeof names === "number") return [];
    return names.map(Number).filter((file) => {
      const status = Number.isSafeInteger(file) ? this.statusOf(file) : -Errno.EBADF;
      return typeof status !== "number" && status.identity === identity;
    });
  }

  rename(from: string, to: string): Result {
    return this.#kernel.names?.rename(from, to) ?? attempt(() => (nodeFs().renameSync(from, to), 0));
  }

  override unlink(path: string): Result {
    return this.#kernel.names?.unlink(path) ?? super.unlink(path);
  }

  override realPath(path: string): string | Result {
    return this.#kernel.names?.realPath(path) ?? super.realPath(path);
  }

  // -- locks ---------------------------------------------------------------

  lock(file: FileHandle): Result {
    assertHandle(file);
    return this.#untilDone(() => this.#calls.flock(file, LOCK_EX | LOCK_NB));
  }

  probeLock(file: FileHandle): Result {
    assertHandle(file);
    const result = this.#untilDone(() => this.#calls.flock(file, LOCK_SH | LOCK_NB));
    if (result >= 0) this.unlock(file);
    return result;
  }

  unlock(file: FileHandle): Result {
    assertHandle(file);
    return this.#untilDone(() => this.#calls.flock(file, LOCK_UN));
  }

  // -- memory --------------------------------------------------------------

  map(file: FileHandle, bytes: number): Address | Result {
    assertWhole(bytes, "a length is a whole number of bytes");
    // What lies beyond the end of the file is taken ahead of need.
    if (bytes > this.#reservationBytesMax && bytes > this.size(file) * mapBeyondFactor) return -Errno.ENOMEM;
    return this.#mapFile(file, { position: 0, bytes }, { access: PROT_READ, flags: MAP_SHARED });
  }

  mapPrivate(file: FileHandle, bytes: number): Address | Result {
    const flags = MAP_PRIVATE | this.#kernel.mapNoReserve;
    return this.#mapFile(file, { position: 0, bytes }, { access: PROT_READ | PROT_WRITE, flags });
  }

  #mapFile(file: FileHandle, span: Span, how: { readonly access: number; readonly flags: number }): Address | Result {
    assertHandle(file);
    assertSpan(span);
    const address = this.#calls.mmap(0, span.bytes, how.access, how.flags, file, span.position);
    return address > 0 ? address : this.#failure();
  }

  unmap(address: Address, bytes: number): Result {
    assertPages(address, 0, this.pageBytes);
    assertWhole(bytes, "a length is a whole number of bytes");
    return this.#calls.munmap(address, bytes) === 0 ? 0 : this.#failure();
  }

  mappingsOf(identity: string): readonly FileMapping[] {
    return this.#kernel.mappingsOf?.(identity) ?? [];
  }

  mapView(file: FileHandle, span: Span): Uint8Array | Result {
    assertHandle(file);
    assertSpan(span);
    if (span.bytes === 0) return new Uint8Array(0);
    const before = span.position % this.pageBytes;
    const bytes = before + span.bytes;
    // Private and writable: whoever writes into the view against the contract changes a copy of the page and
    // does not end the process.
    const how = { access: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | this.#kernel.mapNoReserve };
    const address = this.#mapFile(file, { position: span.position - before, bytes }, how);
    if (address < 0) return address;
    return viewOfMapping({ address, bytes, unmapAddress: this.#munmapAddress }, before) ?? -Errno.ENOMEM;
  }

  /** How large this process's address space may be: struct rlimit begins with it as a u64. Infinity: as large as it gets. */
  #addressSpaceBytes(): number {
    if (this.#calls.getrlimit(this.#kernel.addressSpaceLimit, scratch.address) !== 0) return Infinity;
    const bytes = scratch.u32[0]! + scratch.u32[1]! * 2 ** 32;
    // RLIM_INFINITY has all bits set, on the BSDs all but the first.
    return bytes < 2 ** 62 ? bytes : Infinity;
  }

  reserve(bytes: number): Address | Result {
    assertPages(this.pageBytes, bytes, this.pageBytes);
    if (bytes > this.#reservationBytesMax) return -Errno.ENOMEM;
    // From the border of a huge page on, so that commits can have huge pages.
    const spare = bytes >= hugePageBytes ? hugePageBytes : 0;
    const flags = MAP_PRIVATE | this.#kernel.mapAnonymous | this.#kernel.mapNoReserve;
    const start = this.#calls.mmap(0, bytes + spare, PROT_NONE, flags, -1, 0);
    if (start <= 0) return this.#failure();
    if (spare === 0) return start;
    const address = Math.ceil(start / hugePageBytes) * hugePageBytes;
    const behind = start + spare - address;
    if (address > start) this.#calls.munmap(start, address - start);
    if (behind > 0) this.#calls.munmap(address + bytes, behind);
    return address;
  }

  commit(address: Address, bytes: number): Result {
    assertPages(address, bytes, this.pageBytes);
    if (this.#calls.mprotect(address, bytes, PROT_READ | PROT_WRITE) !== 0) return this.#failure();
    if (bytes > 0 && address % hugePageBytes === 0 && bytes % hugePageBytes === 0) {
      this.#kernel.adviseHuge(address, bytes);
    }
    return 0;
  }

  decommit(address: Address, bytes: number): Result {
    assertPages(address, bytes, this.pageBytes);
    // Every page with a map of its own would soon be as many as a process may have.
    const { discard } = this.#kernel;
    if (discard !== undefined) return discard(address, bytes) === 0 ? 0 : this.#failure();
    // A fresh mapping in place: elsewhere nothing else promises zeros.
    const flags = MAP_PRIVATE | MAP_FIXED | this.#kernel.mapAnonymous | this.#kernel.mapNoReserve;
    return this.#calls.mmap(address, bytes, PROT_NONE, flags, -1, 0) === address ? 0 : this.#failure();
  }

  release(address: Address, bytes: number): Result {
    return this.unmap(address, bytes);
  }

  // -- time and identity ---------------------------------------------------

  /** Not `performance.now`, `process.hrtime` or `Bun.nanoseconds`: each starts anew in every Worker. */
  monotonic(): number {
    // struct timespec: seconds i64, nanoseconds i64; neither leaves its low 53 and 32 bits.
    this.#calls.clock_gettime(this.#kernel.monotonicClock, scratch.address);
    const { u32 } = scratch;
    return (u32[0]! + u32[1]! * 2 ** 32) * 1000 + u32[2]! / 1e6;
  }

  /**
   * Straight from the system into the caller's memory: the runtime's own source keeps a cache of what it gave out,
   * and keys are made of this.
   */
  random(into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const count = this.#kernel.random(into.subarray(done, done + randomBytesMax));
      if (count > 0) done += count;
      else if (this.#failure() !== -Errno.EINTR) return this.#randomFromDevice(into);
    }
  }

  /** Where a filter refuses the call. Page: random(4). */
  #randomFromDevice(into: Uint8Array): void {
    const path = "/dev/urandom";
    const device = must(this.open(path, "read"), { syscall: "open", path });
    const count = this.read(device, into, { position: 0, bytes: into.length });
    this.close(device);
    must(count < 0 || count === into.length ? count : -Errno.EIO, { syscall: "read", path });
  }

  threadId(): number {
    return this.#kernel.threadId();
  }

  isThreadAlive(thread: number): boolean {
    assertWhole(thread, "a thread is named by a whole number");
    return this.#kernel.isThreadAlive(thread);
  }
}
