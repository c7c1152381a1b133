/**
 * A simulated machine: its disk, its page cache and its clock, from one seed.
 *
 * Processes run on it (`boot`); `capture` keeps what a crash at this moment could see, `restore` makes the
 * machine that comes up after it. Capturing costs references, restoring costs the bytes of the files that
 * are opened, so that every call of a script can be a crash point.
 *
 * Invariants
 * 1. A crash point is immutable and may be restored any number of times, by any draw.
 * 2. `changeCount` moves with every change that a crash could see, and with no other.
 * 3. Everything by chance comes from `random`, which a restore seeds anew: what runs after a crash never
 *    sees the numbers from before it again.
 */

import { bytesOf, contentOf } from "./content.ts";
import { Fate } from "./draw.ts";
import { durableInode, Inode, newInode } from "./inode.ts";
import { Names, renderNames } from "./names.ts";
import { renderCrash } from "./pending.ts";
import { mixSeed, Random } from "./random.ts";
import { SimulatedSystem } from "./system.ts";
import type { FileContent } from "./content.ts";
import type { Draw, JournalMode } from "./draw.ts";
import type { InodeState, MemoryMode, SyncFailure } from "./inode.ts";
import type { NameChange, NameEdit, NameEntry, NameTable } from "./names.ts";
import type { ProcessOptions } from "./system.ts";

export interface MachineOptions {
  readonly seed: number;
  readonly journal: JournalMode;
  readonly sectorBytes: 512 | 4096;
  /** No rename over, removal or truncation of a mapped file; names are durable at once; no mapping past the end. */
  readonly isWindows: boolean;
  readonly canMapPastEnd: boolean;
  /** A file that is removed while it is open keeps its name until it is closed: Windows, off NTFS. */
  readonly keepsOpenNames: boolean;
  /** pooled is fast; strict kills the process that touches what is not mapped. */
  readonly memory: MemoryMode;
  /** What the disk holds; infinite unless given. */
  readonly spaceBytesMax: number;
  readonly fileBytesMax: number;
  /** Whether `allocate` works on this file system. */
  readonly canAllocate: boolean;
  readonly recordsFirstWrites: boolean;
  /** A file that is opened for writing through needs syncs like any other: macOS, Windows. */
  readonly lacksWriteThrough: boolean;
  /** Whether a process can make the system read a file from the disk again. */
  readonly canForgetCached: boolean;
  readonly syncFailure: SyncFailure;
  readonly nowMs: number;
  /** How long it takes to look at the monotonic clock: long work pauses at every chance when that is some milliseconds. */
  readonly lookMs: number;
  /** Folders that are there, durably, at the start. */
  readonly folders: readonly string[];
}

export const DEFAULT_MACHINE: MachineOptions = {
  seed: 1,
  journal: "strict",
  sectorBytes: 512,
  isWindows: false,
  canMapPastEnd: true,
  keepsOpenNames: false,
  memory: "pooled",
  spaceBytesMax: Number.POSITIVE_INFINITY,
  fileBytesMax: 64 * 1024 * 1024,
  canAllocate: true,
  recordsFirstWrites: false,
  lacksWriteThrough: false,
  canForgetCached: true,
  syncFailure: "clean",
  nowMs: 1_700_000_000_000,
  lookMs: 0.001,
  folders: ["/db"],
};

/** What a crash at one moment could see. */
export interface CrashPoint {
  readonly options: MachineOptions;
  readonly durableNames: NameTable;
  readonly journal: readonly NameChange[];
  readonly inodes: readonly InodeState[];
  readonly nextInode: number;
  readonly nextSequence: number;
  readonly committedSequence: number;
  readonly nowMs: number;
  readonly hasLostAcknowledged: boolean;
}

let serialCount = 0;

export class Machine {
  readonly options: MachineOptions;
  readonly names: Names;
  readonly inodes = new Map<number, Inode>();
  readonly random: Random;
  /** Tells machines apart in `FileStatus.identity`. */
  readonly serial: number;
  nowMs: number;
  changeCount = 0;
  /** Made durable and lost again by a failing sync: no store can bring that back. */
  hasLostAcknowledged = false;
  #nextInode = 1;
  #nextSequence = 0;
  #committedSequence = 0;

  constructor(options: Partial<MachineOptions> = {}, from?: { readonly names: NameTable; readonly seed: number }) {
    const platform = options.isWindows === true ? { canMapPastEnd: false, canForgetCached: false } : {};
    this.options = { ...DEFAULT_MACHINE, ...platform, ...options };
    this.random = new Random(from?.seed ?? mixSeed(this.options.seed));
    this.nowMs = this.options.nowMs;
    const folders = ["/", ...this.options.folders].map((path): [string, NameEntry] => [path, { kind: "folder" }]);
    this.names = new Names(from?.names ?? new Map(folders), this.options.journal);
    serialCount += 1;
    this.serial = serialCount;
  }

  /** A process of this machine. */
  boot(options: ProcessOptions = {}): SimulatedSystem {
    return new SimulatedSystem(this, options);
  }

  // -- what the processes do ---------------------------------------------------

  /** A new, empty file; its name is a change of its own. */
  createInode(): Inode {
    const inode = newInode(this.#nextInode, this.options.memory);
    this.#nextInode += 1;
    this.inodes.set(inode.number, inode);
    return inode;
  }

  inodeAt(path: string): Inode | undefined {
    const entry = this.names.current.get(path);
    return entry?.kind === "file" ? this.inodes.get(entry.inode) : undefined;
  }

  takeSequence(): number {
    this.changeCount += 1;
    this.#nextSequence += 1;
    return this.#nextSequence - 1;
  }

  changeNames(edits: readonly NameEdit[]): void {
    const sequence = this.takeSequence();
    this.names.change({ sequence, edits });
    if (this.options.isWindows) this.#committed(this.names.commitBefore(sequence + 1));
    this.releaseUnnamed();
  }

  syncFolder(path: string): void {
    this.changeCount += 1;
    this.#committed(this.names.syncFolder(path));
  }

  /** A good sync of a file, through a handle. Where the journal is ordered it takes along everything before the file's own changes. */
  syncInode(inode: Inode, handle: number): void {
    this.changeCount += 1;
    if (inode.isDiverged && handle >= inode.unaware) this.hasLostAcknowledged = true;
    const last = inode.commit();
    if (this.options.journal === "strict") return;
    const sequence = Math.max(last, this.names.lastSequenceOf(inode.number)) + 1;
    if (sequence > this.#committedSequence) this.#committed(this.names.commitBefore(sequence));
  }

  failSync(inode: Inode): void {
    this.changeCount += 1;
    const failure = this.options.syncFailure;
    if (failure === "late" || failure === "takes-acknowledged") this.hasLostAcknowledged = true;
    inode.fail(failure, this.random);
  }

  /** How many more bytes a file may have backed, the disk's and the file's own limits together. */
  roomFor(inode: Inode): number {
    const limit = this.options.fileBytesMax - inode.allocatedBytes;
    if (this.options.spaceBytesMax === Number.POSITIVE_INFINITY) return limit;
    const named = new Set([...this.names.current.values()].map((entry) => (entry.kind === "file" ? entry.inode : 0)));
    let used = 0;
    for (const other of this.inodes.values()) {
      if (named.has(other.number) || other.handleCount + other.mappingCount > 0) used += other.allocatedBytes;
    }
    return Math.max(0, Math.min(limit, this.options.spaceBytesMax - used));
  }

  /** Gives the memory of files back that nobody can reach any more. */
  releaseUnnamed(): void {
    const named = new Set<number>();
    for (const entry of this.names.current.values()) if (entry.kind === "file") named.add(entry.inode);
    for (const inode of this.inodes.values()) {
      if (!named.has(inode.number) && inode.handleCount + inode.mappingCount === 0) inode.dispose();
    }
  }

  // -- what the tests do ---------------------------------------------------------

  capture(): CrashPoint {
    const inodes = new Map<number, InodeState>();
    const keep = (entry: NameEntry | undefined): void => {
      const inode = entry?.kind === "file" ? this.inodes.get(entry.inode) : undefined;
      if (inode !== undefined && !inodes.has(inode.number)) inodes.set(inode.number, inode.capture());
    };
    for (const entry of this.names.durable.values()) keep(entry);
    for (const change of this.names.journal) for (const edit of change.edits) keep(edit.entry);
    return {
      options: this.options,
      durableNames: this.names.durable,
      journal: this.names.journal.slice(),
      inodes: [...inodes.values()],
      nextInode: this.#nextInode,
      nextSequence: this.#nextSequence,
      committedSequence: this.#committedSequence,
      nowMs: this.nowMs,
      hasLostAcknowledged: this.hasLostAcknowledged,
    };
  }

  /** The machine that comes up after a crash; limits and faults of the old one may be changed. */
  static restore(point: CrashPoint, draw: Draw, changes: Partial<MachineOptions> = {}): Machine {
    const options = { ...point.options, nowMs: point.nowMs, ...changes };
    const drawSeed = draw.kind === "random" ? draw.seed : draw.kind.length;
    const seed = mixSeed(options.seed, drawSeed, point.nextSequence, point.inodes.length);
    const machine = new Machine(options, { names: point.durableNames, seed });
    machine.hasLostAcknowledged = point.hasLostAcknowledged;
    machine.#nextInode = point.nextInode;
    if (draw.kind === "kill") machine.#resume(point);
    else machine.#powerUp(point, draw);
    return machine;
  }

  /** A crash now. This machine is gone. */
  crash(draw: Draw): Machine {
    const point = this.capture();
    this.dispose();
    return Machine.restore(point, draw);
  }

  /** What a file would hold if only synced data survived; undefined when no such name is durable. */
  durableBytes(path: string): Uint8Array | undefined {
    const entry = this.names.durable.get(path);
    const inode = entry?.kind === "file" ? this.inodes.get(entry.inode) : undefined;
    return inode === undefined ? undefined : bytesOf(inode.durable);
  }

  /** What reads see now. */
  visibleBytes(path: string): Uint8Array | undefined {
    return this.inodeAt(path)?.visibleBytes();
  }

  /** Puts a whole, durable file there, as if it had come from elsewhere: for damage and for old formats. */
  plant(path: string, bytes: Uint8Array): void {
    const old = this.inodeAt(path);
    if (old !== undefined && old.handleCount + old.mappingCount > 0) throw new Error(`${path} is in use`);
    const inode = durableInode(this.#nextInode, { content: contentOf(bytes), memory: this.options.memory });
    this.#nextInode += 1;
    this.inodes.set(inode.number, inode);
    const sequence = this.takeSequence();
    this.names.change({ sequence, edits: [{ path, entry: { kind: "file", inode: inode.number } }] });
    this.#committed(this.names.commitBefore(sequence + 1));
    old?.dispose();
  }

  setNow(nowMs: number): void {
    this.nowMs = nowMs;
  }

  advance(ms: number): void {
    this.nowMs += ms;
  }

  /** Gives all memory back. */
  dispose(): void {
    for (const inode of this.inodes.values()) inode.dispose();
    this.inodes.clear();
  }

  #committed(sequence: number): void {
    this.#committedSequence = Math.max(this.#committedSequence, sequence);
  }

  /** After the end of a process: the page cache is as it was. */
  #resume(point: CrashPoint): void {
    this.names.resume(point.journal);
    this.#nextSequence = point.nextSequence;
    this.#committedSequence = point.committedSequence;
    for (const state of point.inodes) this.inodes.set(state.number, new Inode(state, this.options.memory));
  }

  #powerUp(point: CrashPoint, draw: Exclude<Draw, { readonly kind: "kill" }>): void {
    const isOrdered = this.options.journal === "ordered";
    const fate = new Fate(draw, this.options.journal);
    if (isOrdered) fate.cutJournal(pendingSequences(point));
    const names = renderNames(point.durableNames, { journal: point.journal, fate });
    this.names.reset(names);
    const alive = new Set([...names.values()].map((entry) => (entry.kind === "file" ? entry.inode : 0)));
    const stale = draw.kind === "random" ? staleChunks(point.inodes) : [];
    const { committedSequence } = point;
    const { sectorBytes, memory } = this.options;
    for (const { number, durable, changes } of point.inodes) {
      if (!alive.has(number)) continue;
      const content = renderCrash(durable, {
        changes,
        fate,
        options: { sectorBytes, committedSequence, stale, isOrdered },
      });
      this.inodes.set(number, durableInode(number, { content, memory }));
    }
  }
}

function pendingSequences(point: CrashPoint): number[] {
  const sequences = point.journal.map((change) => change.sequence);
  for (const { changes } of point.inodes) {
    for (const change of changes) {
      if (change.kind === "resize" && change.sequence >= point.committedSequence) sequences.push(change.sequence);
    }
  }
  return sequences.sort((a, b) => a - b);
}

/** A few blocks of the disk's files, as what a fresh block may show. */
function staleChunks(inodes: readonly { readonly durable: FileContent }[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (const { durable } of inodes) {
    for (const chunk of durable.chunks.values()) {
      chunks.push(chunk);
      if (chunks.length >= 8) return chunks;
    }
  }
  return chunks;
}
