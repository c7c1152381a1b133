/**
 * What one Worker holds of one open database: the rooms' parts put together, and the numbers they share.
 *
 * The paths (`read-path`, `write-path`, `snapshot` ...) are functions and classes over a `Core`; it has no
 * behaviour of its own beyond the checks that each of them begins with.
 */

import { EmdbError } from "../errors.ts";
import { barrier } from "../ffi/barrier.ts";
import type { FileHandle, System } from "../ffi/system.ts";
import { KeyHash } from "../keydir/hash.ts";
import { Heap } from "../ffi/heap.ts";
import { ExpiryQueue } from "../keydir/expiry-queue.ts";
import { Keydir } from "../keydir/keydir.ts";
import { IDLE, RECLAIM_ERA, ROW_ERA_AT, Reclaim } from "../ffi/reclaim.ts";
import type { Cipher } from "../crypto/cipher.ts";
import { FrameEncoder } from "../log/encoder.ts";
import { KIND_SESSION, KIND_SPACE_CREATE, SESSION_BYTES, frameBytes, type Salts } from "../log/frame.ts";
import { saltsOf } from "../log/header.ts";
import {
  LOG_BASE,
  LOG_FENCE,
  LOG_FILE,
  LOG_GENERATION,
  LOG_VISIBLE,
  LogReader,
  positionsOf,
  type LogWords,
} from "../log/log-words.ts";
import type { MakeRoom } from "../log/reservation.ts";
import type { Tail } from "../log/tail.ts";
import {
  RELOCATED,
  ROWS_USED,
  SNAPSHOTS,
  SNAPSHOT_ROWS,
  STATE,
  STATE_CLOSED,
  STATE_POISONED,
  type Control,
} from "./threads/control.ts";
import type { LogIdentity } from "./hint/hint-format.ts";
import { KeyBuffer } from "./read/key-buffer.ts";
import { FrameBatch } from "./read/frame-batch.ts";
import type { Ordering } from "./ordering/ordering.ts";
import { ROBBED } from "./files/lock-file.ts";
import type { LockWatch } from "./files/lock-watch.ts";
import { Lookup } from "./read/lookup.ts";
import { Mutex } from "./threads/mutex.ts";
import { reapDeadRows } from "./threads/rows.ts";
import { Prefetch } from "./read/prefetch.ts";
import { SealedEncoder } from "./sealed/sealed-encoder.ts";
import { SealedLookup } from "./sealed/sealed-lookup.ts";
import { Vault } from "./sealed/vault.ts";
import { VerifiedLookup } from "./read/verified-lookup.ts";
import type { LogPlace } from "./files/siblings.ts";

/** The open log file, as it is now: a compaction puts another one in its place. */
export class LogFile {
  /** The real path. */
  readonly path: string;
  readonly #numbers: Float64Array;

  constructor(words: LogWords, path: string) {
    this.#numbers = words.numbers;
    this.path = path;
  }

  get handle(): FileHandle {
    return this.#numbers[LOG_FILE]!;
  }
}

/**
 * How a Worker puts work off to the turn of its event loop, or for so many milliseconds at least; its process lives as long. Work
 * that nobody wants any more, once the code that runs now has had its turn, need not be kept until then.
 */
export type Defer = (work: () => void, delayMs?: number, isWanted?: () => boolean) => void;

/** A log in memory that grows by so much is looked for replaced ones that nobody needs any more. */
const REPLACED_LOOK_BYTES = 256 * 1024;

/** Work that was put off: the event loop holds this until it turns, and with it what the work refers to until that is given up. */
interface PutOff {
  work: (() => void) | undefined;
}

export interface CoreParts {
  readonly system: System;
  readonly control: Control;
  readonly fileId: Uint8Array;
  readonly seed: Uint8Array;
  readonly row: number;
  readonly file: LogFile | undefined;
  readonly lockWatch: LockWatch;
  readonly isReadOnly: boolean;
  readonly verifyReads: boolean;
  readonly writeThrough: boolean;
  readonly defer: Defer;
  /** Of an encrypted database. */
  readonly cipher: Cipher | undefined;
  /** The header page of a log in memory. */
  readonly page: Uint8Array | undefined;
  makeTail(file: LogFile | undefined): Tail;
}

export class Core {
  readonly system: System;
  readonly control: Control;
  readonly file: LogFile | undefined;
  readonly lockWatch: LockWatch;
  readonly page: Uint8Array | undefined;
  readonly isReadOnly: boolean;
  readonly verifyReads: boolean;
  readonly writeThrough: boolean;
  readonly defer: Defer;
  readonly row: number;
  readonly heap: Heap;
  readonly reclaim: Reclaim;
  readonly keydir: Keydir;
  readonly expiry: ExpiryQueue;
  readonly hash: KeyHash;
  readonly key: KeyBuffer;
  readonly log: LogReader;
  readonly lookup: Lookup;
  readonly tail: Tail;
  readonly encoder: FrameEncoder;
  readonly mutex: Mutex;
  readonly prefetch: Prefetch;
  readonly frames: FrameBatch;
  /** The keys of an encrypted database; undefined for any other. */
  readonly vault: Vault | undefined;
  /** The ordered index, if one is kept; set once, before the first operation. */
  ordering: Ordering | undefined = undefined;
  /** Whether other Workers may have attached; until then no era needs watching. */
  isShared = false;
  /** When the log has grown to this position, `onGrowth` is called, under the writer's lock. */
  growthAt = Infinity;
  onGrowth: () => void = () => undefined;
  /** Called after a write to the file, under the writer's lock. */
  onSpill: () => void = () => undefined;
  /** What this thread has reserved for a copy under way is given back, where the log's disk is full; under the writer's lock. */
  makeRoom: MakeRoom = () => false;
  /** Lets go of files that compactions have replaced and nobody reads any more; under the writer's lock. */
  releaseFiles: () => void = () => undefined;
  /** The era that the row says. */
  #era = IDLE;
  /** What `present` returned last. */
  #present = -1;
  #hasLeft = false;
  /** Where a log in memory ended when it was last looked for replaced ones that nobody needs. */
  #tendedAt = 0;
  readonly #putOff = new Set<PutOff>();
  #heldMs: number | undefined;
  readonly #fileId: Uint8Array;
  #salts: Salts;
  #saltsGeneration: number;

  constructor(parts: CoreParts) {
    const { system, control } = parts;
    this.system = system;
    this.control = control;
    this.#fileId = parts.fileId;
    this.#salts = this.saltsOf(this.generation);
    this.#saltsGeneration = this.generation;
    this.file = parts.file;
    this.lockWatch = parts.lockWatch;
    this.page = parts.page;
    this.isReadOnly = parts.isReadOnly;
    this.writeThrough = parts.writeThrough;
    this.defer = parts.defer;
    this.row = parts.row;
    const isAlive = (thread: number): boolean => system.isThreadAlive(thread);
    this.heap = new Heap(system, control.heap, positionsOf(control.log));
    this.reclaim = new Reclaim(this.heap, control.reclaim, isAlive);
    this.keydir = new Keydir(this.heap, this.reclaim);
    this.expiry = new ExpiryQueue(this.heap, this.keydir);
    this.hash = new KeyHash(parts.seed);
    this.key = new KeyBuffer(this.hash);
    this.log = new LogReader(control.log, parts.file?.path);
    const { cipher, fileId } = parts;
    this.vault = cipher === undefined ? undefined : new Vault({ system, control, log: this.log, cipher, fileId });
    // Of an encrypted record nothing is read that was not authenticated.
    this.verifyReads = parts.verifyReads && this.vault === undefined;
    this.lookup = this.#makeLookup();
    this.prefetch = new Prefetch(this.keydir, this.log, { buffer: this.key, hash: this.hash });
    this.frames = new FrameBatch(this.log);
    this.tail = parts.makeTail(parts.file);
    this.encoder = this.makeEncoder();
    this.mutex = new Mutex(control, parts.row, system);
    // Else every writer would wait for a dead one again and again, for as long as nobody attaches or leaves.
    this.mutex.onNobodyCame = () => reapDeadRows(control, system);
    this.mutex.beAlone();
  }

  #makeLookup(): Lookup {
    if (this.vault !== undefined) return new SealedLookup(this, this.vault);
    return this.verifyReads ? new VerifiedLookup(this) : new Lookup(this.keydir, this.log, this.key);
  }

  /** An encoder of frames for this log. */
  makeEncoder(): FrameEncoder {
    return this.vault === undefined ? new FrameEncoder(this.salts) : new SealedEncoder(this.salts, this.vault);
  }

  /** Bytes of the frame that creates a namespace. */
  creationBytes(space: { readonly id: number; readonly name: string }): number {
    const draft = this.makeEncoder();
    draft.kind = KIND_SPACE_CREATE;
    draft.space = space.id;
    return draft.measure(Buffer.byteLength(space.name), 0);
  }

  /** Bytes of the session that an encrypted log cannot be without, if anything was ever written: two records. */
  get sessionBytes(): number {
    return this.vault?.last === undefined ? 0 : 2 * frameBytes(KIND_SESSION, SESSION_BYTES);
  }

  /** The clock that expiry goes by; it stands still within `atOneMoment`. */
  now(): number {
    return this.#heldMs ?? this.system.now();
  }

  /** Runs `body` with the clock standing still; nests. */
  atOneMoment<T>(body: () => T): T {
    if (this.#heldMs !== undefined) return body();
    this.#heldMs = this.system.now();
    try {
      return body();
    } finally {
      this.#heldMs = undefined;
    }
  }

  /** The position of the first byte of the file: 0 until a compaction puts another file in its place. */
  get base(): number {
    return this.control.log.numbers[LOG_BASE]!;
  }

  get generation(): number {
    return this.control.log.numbers[LOG_GENERATION]!;
  }

  /** Where the log is, and which one; undefined in memory. */
  get place(): LogPlace | undefined {
    return this.file && { path: this.file.path, fileId: this.#fileId };
  }

  /** Which log the file is. */
  get identity(): LogIdentity {
    return { fileId: this.#fileId, generation: this.generation };
  }

  /** The salts of the current file. */
  get salts(): Salts {
    if (this.#saltsGeneration !== this.generation) {
      this.#saltsGeneration = this.generation;
      this.#salts = this.saltsOf(this.#saltsGeneration);
    }
    return this.#salts;
  }

  /** To be called by who has got the writer's lock: a compaction may have put another file in place meanwhile. */
  takeFile(): void {
    this.encoder.salts = this.salts;
    this.expiry.present = this.control.numbers[RELOCATED] === 0 ? undefined : this.#present8;
  }

  /** Where the frame at a position, both in 8-byte units, is in the current file. */
  readonly #present8 = (units: number): number => this.log.segments.present(units * 8) / 8;

  /** The salts of a generation of this log. */
  saltsOf(generation: number): Salts {
    return saltsOf({ fileId: this.#fileId, generation });
  }

  /** The salts that the frame that was read at a position was written with, and where it is in its file. */
  written(lsn: number): { readonly salts: Salts; readonly position: number } {
    const { base, generation } = this.log.fileOf(lsn);
    const salts = generation === this.#saltsGeneration ? this.#salts : this.saltsOf(generation);
    return { salts, position: lsn - base };
  }

  /** Where the frame at a position is in the current file, in bytes; 0 when a compaction left it out, or there is none. */
  inFile(lsn: number): number {
    if (lsn === 0) return 0;
    const { base } = this;
    const place = lsn >= base ? lsn : this.log.segments.present(lsn);
    return place === 0 ? 0 : place - base;
  }

  /** What readers may see now, as a position. */
  get visible(): number {
    return this.control.log.numbers[LOG_VISIBLE]!;
  }

  /** The same for a read that begins: what it reads then is at least as new. */
  present(): number {
    const visible = this.control.log.numbers[LOG_VISIBLE]!;
    if (visible !== this.#present) {
      this.#present = visible;
      this.log.barrier();
    }
    return visible;
  }

  /** Resolves when this thread's event loop has turned. */
  async turned(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.defer(resolve);
    return promise;
  }

  /**
   * Runs something under the writer's lock as soon as that can be had, while the event loop turns.
   *
   * @throws {EmdbError} EMDB_CLOSED when the database has been closed before or right behind it
   */
  async inTurns<T>(body: () => T): Promise<T> {
    const result = await this.mutex.inTurns(() => this.enter(), body);
    this.enter();
    return result;
  }

  /** With each publication: what else a spill brings with it, where none is due. Each write was one, or there is no file. */
  tendFiles(): void {
    if (this.writeThrough) this.onSpill();
    else if (this.file === undefined && this.visible - this.#tendedAt >= REPLACED_LOOK_BYTES) {
      this.#tendedAt = this.visible;
      this.releaseFiles();
    }
  }

  /** Puts work off as `defer` does; what has not run when this thread leaves never does, and nothing holds it any more. */
  putOff(work: () => void, delayMs?: number): void {
    const cell: PutOff = {
      work: () => {
        this.#putOff.delete(cell);
        work();
      },
    };
    this.#putOff.add(cell);
    this.defer(runnerOf(cell), delayMs, lookInto(cell));
  }

  get isClosed(): boolean {
    return this.#hasLeft || (this.control.flags[STATE]! & STATE_CLOSED) !== 0;
  }

  /** Begins an operation that reads: open, and no index memory that it reaches is given away meanwhile. */
  enter(): void {
    if (this.isClosed) throw closedError(this.file?.path);
    if (this.control.reclaim[RECLAIM_ERA] !== this.#era) this.#catchUp();
  }

  #catchUp(): void {
    const rows = this.control.reclaim;
    for (;;) {
      const era = Atomics.load(rows, RECLAIM_ERA);
      Atomics.store(rows, ROW_ERA_AT + this.row, era);
      if (Atomics.load(rows, RECLAIM_ERA) === era) {
        if (this.#era === IDLE && this.isShared) this.putOff(() => this.rest());
        this.#era = era;
        return;
      }
    }
  }

  /** This thread has given its part back: to it the database is closed. */
  leave(): void {
    this.#hasLeft = true;
    for (const cell of this.#putOff) cell.work = undefined;
    this.#putOff.clear();
    this.mutex.leave();
    this.vault?.wipe();
  }

  /** What others were reading when it was retired is free by now, maybe: much of it goes back to the system. Under the writer's lock. */
  tidyIndex(): void {
    this.reclaim.finish();
    this.keydir.trim();
  }

  /** Says that no operation of this Worker is under way. */
  rest(): void {
    this.#era = IDLE;
    if (this.#hasLeft) return;
    Atomics.store(this.control.reclaim, ROW_ERA_AT + this.row, IDLE);
  }

  /** What was written before is seen by whoever sees what is written after. */
  orderStores(): void {
    // Alone there is nobody to see; who attaches later was sent a message, which orders everything before it.
    if (this.isShared) barrier(this.control.log.flags, LOG_FENCE);
  }

  /** Other Workers may come and go from now on. */
  becomeShared(): void {
    this.isShared = true;
    this.mutex.share();
    this.rest();
  }

  /** The oldest position, in 8-byte units, whose versions somebody may still ask for. */
  keepFrom(): number {
    let oldest = this.visible;
    const { flags, numbers } = this.control;
    if (flags[SNAPSHOTS]! > 0) {
      // Each write of a new key comes here: all rows that there can be would be 250 ns of the 700 that it takes.
      const end = SNAPSHOT_ROWS + flags[ROWS_USED]!;
      for (let row = SNAPSHOT_ROWS; row < end; row++) oldest = Math.min(oldest, numbers[row]!);
    }
    return oldest / 8;
  }
}

/** Refers to the cell alone, as the next one does. */
function runnerOf(cell: PutOff): () => void {
  return () => cell.work?.();
}

function lookInto(cell: PutOff): () => boolean {
  return () => cell.work !== undefined;
}

export function closedError(path: string | undefined): EmdbError {
  return new EmdbError("EMDB_CLOSED", "the database is closed", { path });
}

/** Why a database that is not healthy refuses a write. */
export function refusal(core: Core): EmdbError {
  const path = core.file?.path;
  const state = core.control.flags[STATE]!;
  if (core.isClosed) return closedError(path);
  if ((state & STATE_POISONED) !== 0) {
    return new EmdbError(
      "EMDB_POISONED",
      "a sync failed, so what is on the disk is unknown; reopen the database to recover what is there",
      { path },
    );
  }
  return new EmdbError("EMDB_LOCKED", ROBBED, { path });
}
