/**
 * A process of a simulated machine: `System` as the engine sees it, each call passing through `calls.ts`.
 *
 * Invariants
 * 1. A handle's number is never used twice, so a use after close is seen: `misuses` lists what no correct caller does.
 * 2. After `kill` every call fails with EIO and changes nothing: the machine outlives its processes.
 */

import { AnonymousMemory } from "./anonymous-memory.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { Calls } from "./calls.ts";
import { PAGE_BYTES, RESERVATION_BYTES } from "./image.ts";
import { Mappings } from "./mappings.ts";
import {
  createFolder,
  cutBytesOf,
  findOrCreate,
  isPinned,
  linkFile,
  listFolder,
  lastClose,
  missing,
  removeFile,
  renameFile,
  statusAt,
  statusOfInode,
} from "./name-calls.ts";
import { Random } from "./random.ts";
import { takeBytes, viewOf } from "./real-memory.ts";
import type {
  Address,
  ByteSource,
  FileHandle,
  FileMapping,
  FileStatus,
  OpenMode,
  Result,
  System,
} from "../../src/ffi/system.ts";
import type { ByteSpan, Point } from "./calls.ts";
import type { Fault, FaultPlan } from "./faults.ts";
import type { Inode } from "./inode.ts";
import type { Machine } from "./machine.ts";
import type { Trace } from "./trace.ts";

export interface ProcessOptions {
  readonly faults?: readonly Fault[];
  readonly processId?: number;
  readonly threadId?: number;
  /** Views of a mapping show the file itself instead of a copy; they die with the machine. */
  readonly viewsAlias?: boolean;
}

interface OpenFile {
  readonly inode: Inode;
  readonly mode: OpenMode;
  readonly path: string;
}

export class SimulatedSystem implements System {
  readonly platform = "simulated";
  readonly canMapPastEnd: boolean;
  readonly lacksWriteThrough: boolean;
  readonly pageBytes = PAGE_BYTES;
  readonly pathBytesMax = Infinity;
  readonly recordsFirstWrites = (): boolean => this.#machine.options.recordsFirstWrites;
  readonly hostName = (): string => "simulated";
  readonly canCut = (): boolean => !this.#machine.options.isWindows;
  readonly cutBytes = (file: FileHandle): number => cutBytesOf(this.#machine, this.#files.get(file)?.inode);
  /** What no correct caller does: using a closed handle, unmapping what is not mapped. */
  readonly misuses: string[] = [];
  readonly liveThreads = new Set<number>();
  currentThread: number;
  readonly #calls: Calls;
  readonly #machine: Machine;
  readonly #options: ProcessOptions;
  readonly #memory: AnonymousMemory;
  readonly #files = new Map<FileHandle, OpenFile>();
  readonly #mappings = new Mappings();
  readonly #chance: Random;
  #nextHandle = 3;
  #monotonicMs = 0;

  constructor(machine: Machine, options: ProcessOptions) {
    this.#machine = machine;
    this.#options = options;
    this.canMapPastEnd = machine.options.canMapPastEnd;
    this.lacksWriteThrough = machine.options.lacksWriteThrough;
    this.#calls = new Calls(options.faults ?? []);
    this.#chance = new Random(machine.random.word());
    this.currentThread = options.threadId ?? 1;
    this.liveThreads.add(this.currentThread);
    this.#memory = new AnonymousMemory(machine.options.memory);
    this.#memory.onMisuse = (what) => this.misuses.push(what);
  }

  /** How many calls that can fail were made. */
  get callCount(): number {
    return this.#calls.count;
  }

  /** Bytes of memory that were committed so far. */
  get committedBytes(): number {
    return this.#memory.committedBytes;
  }

  get faults(): FaultPlan {
    return this.#calls.faults;
  }

  get trace(): Trace {
    return this.#calls.trace;
  }

  /** Is told of every moment at which a crash is worth looking at. */
  set onPoint(onPoint: (point: Point) => void) {
    this.#calls.onPoint = onPoint;
  }

  /** What is still held: after a close it has to be empty. */
  held(): string[] {
    const held: string[] = [];
    for (const [handle, { inode }] of this.#files) held.push(`handle ${handle} of inode ${inode.number}`);
    held.push(...this.#mappings.held());
    if (this.#memory.count > 0) held.push(`${this.#memory.count} reservations of memory`);
    return held;
  }

  /** The process dies: handles, locks, mappings and memory are gone, the machine stays. */
  kill(): void {
    this.#calls.isAlive = false;
    this.#mappings.dispose();
    for (const [handle, file] of this.#files) this.#endFile(handle, file);
    this.#memory.dispose();
    this.#machine.releaseUnnamed();
  }

  // -- files -------------------------------------------------------------------

  open(path: string, mode: OpenMode): FileHandle | Result {
    const handle = this.#nextHandle;
    return this.#calls.make(
      { name: "open", subject: `${path} ${mode}` },
      () => this.#open(path, mode),
      () => {
        // The file may be there after a failing open; a handle is not.
        const opened = this.#files.get(handle);
        if (opened !== undefined) this.#endFile(handle, opened);
        return undefined;
      },
    );
  }

  close(file: FileHandle): Result {
    // A failing close has closed all the same (close(2), Linux), whatever the fault says.
    const open = this.#files.get(file);
    const result = this.#calls.make({ name: "close", subject: file }, () =>
      open === undefined ? this.#unknown(file) : 0,
    );
    if (open !== undefined && this.#calls.isAlive) {
      this.#endFile(file, open);
      this.#machine.releaseUnnamed();
    }
    return result;
  }

  read(file: FileHandle, into: Uint8Array, span: ByteSpan): Result {
    return this.#calls.make({ name: "read", subject: file, span }, () => {
      const inode = this.#files.get(file)?.inode;
      if (inode === undefined) return this.#unknown(file);
      return inode.read(into.subarray(0, span.bytes), span.position);
    });
  }

  write(file: FileHandle, from: ByteSource, span: ByteSpan): Result {
    let partial = 0;
    const result = this.#calls.make(
      { name: "write", subject: file, span },
      () => this.#write(file, { from, span }),
      (fault) => void (partial = Math.floor((fault.partial ?? 0) * span.bytes)),
    );
    if (partial > 0) this.#write(file, { from, span: { position: span.position, bytes: partial } });
    return result;
  }

  sync(file: FileHandle): Result {
    const inode = this.#files.get(file)?.inode;
    return this.#calls.make(
      { name: "sync", subject: file },
      () => {
        if (inode === undefined) return this.#unknown(file);
        if (inode.owesError) return this.#failSync(inode) ?? -Errno.EIO;
        this.#machine.syncInode(inode, file);
        return 0;
      },
      () => (inode === undefined ? undefined : this.#failSync(inode)),
    );
  }

  forgetCached(file: FileHandle): Result {
    return this.#calls.make({ name: "forgetCached", subject: file }, () => {
      const inode = this.#files.get(file)?.inode;
      if (inode === undefined) return this.#unknown(file);
      if (this.#machine.options.canForgetCached) inode.forgetClean();
      return 0;
    });
  }

  syncFolder(path: string, folder?: FileHandle): Result {
    return this.#calls.make({ name: "syncFolder", subject: path }, () => {
      if (folder !== undefined && this.#files.get(folder)?.path !== path) return this.#unknown(folder);
      const kind = this.#machine.names.current.get(path)?.kind;
      if (kind !== "folder") return kind === undefined ? -Errno.ENOENT : -Errno.ENOTDIR;
      this.#machine.syncFolder(path);
      return 0;
    });
  }

  allocate(file: FileHandle, bytes: number): Result {
    return this.#calls.make({ name: "allocate", subject: file, span: { position: 0, bytes } }, () => {
      const inode = this.#writable(file);
      if (typeof inode === "number") return inode;
      if (!this.#machine.options.canAllocate) return -Errno.EOPNOTSUPP;
      if (bytes > this.#machine.options.fileBytesMax) return -Errno.EFBIG;
      if (bytes - inode.allocatedBytes > this.#machine.roomFor(inode)) return -Errno.ENOSPC;
      if (bytes > inode.bytes) inode.resize(bytes, this.#machine.takeSequence());
      inode.allocatedBytes = Math.max(inode.allocatedBytes, bytes);
      return 0;
    });
  }

  truncate(file: FileHandle, bytes: number): Result {
    return this.#calls.make({ name: "truncate", subject: file, span: { position: 0, bytes } }, () => {
      const inode = this.#writable(file);
      if (typeof inode === "number") return inode;
      if (bytes > this.#machine.options.fileBytesMax) return -Errno.EFBIG;
      if (isPinned(this.#machine, inode) && bytes < inode.bytes) return -Errno.EBUSY;
      if (bytes !== inode.bytes) inode.resize(bytes, this.#machine.takeSequence());
      return 0;
    });
  }

  size(file: FileHandle): Result {
    return this.#calls.make(
      { name: "size", subject: file },
      () => this.#files.get(file)?.inode.bytes ?? this.#unknown(file),
    );
  }

  // -- names -------------------------------------------------------------------

  status(path: string): FileStatus | Result {
    return this.#calls.make({ name: "status", subject: path }, () => statusAt(this.#machine, path));
  }

  statusOf(file: FileHandle): FileStatus | Result {
    return this.#calls.make({ name: "statusOf", subject: file }, () => {
      const open = this.#files.get(file);
      // Not a misuse: who follows a dead thread asks whether a handle still is open.
      if (open === undefined) return -Errno.EBADF;
      return open.mode === "folder" ? statusAt(this.#machine, open.path) : statusOfInode(this.#machine, open.inode);
    });
  }

  openHandles(identity: string): readonly FileHandle[] {
    return [...this.#files].flatMap(([handle, { inode }]) => (this.#isFile(inode, identity) ? [handle] : []));
  }

  mappingsOf(identity: string): readonly FileMapping[] {
    return this.#mappings.list((inode) => this.#isFile(inode, identity));
  }

  /** As kernel32, which tells nobody. */
  #isFile(inode: Inode, identity: string): boolean {
    return !this.#machine.options.isWindows && statusOfInode(this.#machine, inode).identity === identity;
  }

  realPath(path: string): string | Result {
    return this.#calls.make({ name: "realPath", subject: path }, () =>
      this.#machine.names.current.has(path) ? path : missing(this.#machine, path),
    );
  }

  /** There are no links here. */
  readonly linkTarget = (): Result => -Errno.EINVAL;

  rename(from: string, to: string): Result {
    return this.#calls.make({ name: "rename", subject: `${from} ${to}` }, () =>
      renameFile(this.#machine, { from, to }),
    );
  }

  link(from: string, to: string): Result {
    return this.#calls.make({ name: "link", subject: `${from} ${to}` }, () => linkFile(this.#machine, { from, to }));
  }

  unlink(path: string): Result {
    return this.#calls.make({ name: "unlink", subject: path }, () => removeFile(this.#machine, path));
  }

  makeFolder(path: string): Result {
    return this.#calls.make({ name: "makeFolder", subject: path }, () => createFolder(this.#machine, path));
  }

  list(folder: string): readonly string[] | Result {
    return this.#calls.make({ name: "list", subject: folder }, () => listFolder(this.#machine, folder));
  }

  // -- locks -------------------------------------------------------------------

  lock(file: FileHandle): Result {
    return this.#calls.make({ name: "lock", subject: file }, () => {
      const result = this.#probe(file);
      if (result === 0) this.#files.get(file)!.inode.lockedBy = this.#files.get(file);
      return result;
    });
  }

  probeLock(file: FileHandle): Result {
    return this.#calls.make({ name: "lock", subject: file }, () => this.#probe(file));
  }

  #probe(file: FileHandle): Result {
    const open = this.#files.get(file);
    if (open === undefined) return this.#unknown(file);
    return (open.inode.lockedBy ?? open) === open ? 0 : -Errno.EWOULDBLOCK;
  }

  unlock(file: FileHandle): Result {
    return this.#calls.make({ name: "unlock", subject: file }, () => {
      const result = this.#probe(file);
      if (result === 0) this.#files.get(file)!.inode.lockedBy = undefined;
      return result === -Errno.EWOULDBLOCK ? 0 : result;
    });
  }

  // -- memory ------------------------------------------------------------------

  map(file: FileHandle, bytes: number): Address | Result {
    return this.#calls.make({ name: "map", subject: file, span: { position: 0, bytes } }, () =>
      this.#map(file, { bytes, isPrivate: false }),
    );
  }

  mapPrivate(file: FileHandle, bytes: number): Address | Result {
    return this.#calls.make({ name: "mapPrivate", subject: file, span: { position: 0, bytes } }, () =>
      this.#map(file, { bytes, isPrivate: true }),
    );
  }

  unmap(address: Address, bytes: number): Result {
    return this.#calls.make({ name: "unmap", span: { position: 0, bytes } }, () => {
      if (!this.#mappings.remove(address, bytes))
        return this.#misuse(`unmap of ${bytes} bytes that are not mapped`, Errno.EINVAL);
      this.#machine.releaseUnnamed();
      return 0;
    });
  }

  mapView(file: FileHandle, span: ByteSpan): Uint8Array | Result {
    return this.#calls.make({ name: "mapView", subject: file, span }, () => {
      const inode = this.#files.get(file)?.inode;
      if (inode === undefined) return this.#unknown(file);
      if (span.position + span.bytes > inode.bytes)
        return this.#misuse("a view beyond the end of the file", Errno.EINVAL);
      if (this.#options.viewsAlias === true && span.bytes > 0) {
        return new Uint8Array(viewOf(inode.image.address + span.position, span.bytes));
      }
      const copy = new Uint8Array(span.bytes);
      inode.read(copy, span.position);
      return copy;
    });
  }

  reserve(bytes: number): Address | Result {
    return this.#calls.make({ name: "reserve", span: { position: 0, bytes } }, () => this.#memory.reserve(bytes));
  }

  commit(address: Address, bytes: number): Result {
    return this.#calls.make({ name: "commit", span: { position: 0, bytes } }, () =>
      this.#memory.commit(address, bytes),
    );
  }

  decommit(address: Address, bytes: number): Result {
    return this.#calls.make({ name: "decommit", span: { position: 0, bytes } }, () =>
      this.#memory.decommit(address, bytes),
    );
  }

  release(address: Address, bytes: number): Result {
    return this.#calls.make({ name: "release", span: { position: 0, bytes } }, () =>
      this.#memory.release(address, bytes),
    );
  }

  // -- time, chance, identity --------------------------------------------------

  now(): number {
    return this.#machine.nowMs;
  }

  /** Moves by itself, so that a loop that waits for a deadline ends. */
  monotonic(): number {
    this.#monotonicMs += this.#machine.options.lookMs;
    return this.#monotonicMs;
  }

  random(into: Uint8Array): void {
    this.#chance.randomize(into);
  }

  processId(): number {
    return this.#options.processId ?? 4242;
  }

  threadId(): number {
    return this.currentThread;
  }

  isThreadAlive(thread: number): boolean {
    return this.liveThreads.has(thread);
  }

  // -- inside ------------------------------------------------------------------

  #open(path: string, mode: OpenMode): FileHandle | Result {
    const inode = findOrCreate(this.#machine, path, mode);
    if (typeof inode === "number") return inode;
    const handle = this.#nextHandle;
    this.#nextHandle += 1;
    inode.handleCount += 1;
    this.#files.set(handle, { inode, mode, path });
    return handle;
  }

  #write(file: FileHandle, { from, span }: { readonly from: ByteSource; readonly span: ByteSpan }): Result {
    const inode = this.#writable(file);
    if (typeof inode === "number") return inode;
    const { position, bytes } = span;
    const over = position + bytes - inode.allocatedBytes - (bytes > 0 ? this.#machine.roomFor(inode) : 0);
    // A full disk takes what fits and fails.
    const taken = over > 0 ? Math.max(0, bytes - over) : bytes;
    const first = inode.changes.length;
    if (taken > 0) {
      inode.write(position, takeBytes(from, taken));
      this.#machine.changeCount += 1;
    }
    if (this.#files.get(file)?.mode === "write-through" && !this.lacksWriteThrough && taken > 0) {
      this.#calls.during();
      inode.commitFrom(first);
      this.#machine.changeCount += 1;
    }
    if (taken === bytes) return bytes;
    return position + bytes > this.#machine.options.fileBytesMax ? -Errno.EFBIG : -Errno.ENOSPC;
  }

  #map(
    file: FileHandle,
    { bytes, isPrivate }: { readonly bytes: number; readonly isPrivate: boolean },
  ): Address | Result {
    const inode = this.#files.get(file)?.inode;
    if (inode === undefined) return this.#unknown(file);
    if (!(bytes > 0) || (!this.canMapPastEnd && bytes > inode.bytes)) return -Errno.EINVAL;
    if (bytes > RESERVATION_BYTES) return -Errno.ENOMEM;
    return this.#mappings.add(inode, { bytes, isPrivate });
  }

  #endFile(handle: FileHandle, file: OpenFile): void {
    this.#files.delete(handle);
    file.inode.handleCount -= 1;
    lastClose(this.#machine, file.inode);
    if (file.inode.lockedBy === file) file.inode.lockedBy = undefined;
  }

  /** What the caller hears if it is not the error: 0 where that comes one call late. */
  #failSync(inode: Inode): Result | undefined {
    const isRepeat = inode.owesError;
    this.#machine.failSync(inode);
    inode.unaware = this.#nextHandle;
    inode.owesError &&= !isRepeat;
    return inode.owesError ? 0 : undefined;
  }

  #writable(file: FileHandle): Inode | Result {
    const open = this.#files.get(file);
    if (open === undefined) return this.#unknown(file);
    return open.mode === "read" || open.mode === "folder" ? -Errno.EBADF : open.inode;
  }

  #unknown(file: FileHandle): Result {
    return this.#misuse(`handle ${file} is not open`, Errno.EBADF);
  }

  #misuse(what: string, errno: number): Result {
    this.misuses.push(what);
    return -errno;
  }
}
