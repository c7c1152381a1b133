/**
 * Opening a database: find the file, judge its header, take the lock, recover, and put an engine together.
 *
 * Invariants
 * 1. Nothing is touched before the header has been judged, and no sidecar is made beside a file that is not ours.
 * 2. An open that fails leaves the disk as it was and holds nothing.
 * 3. What was recovered is durable before anybody reads it.
 */

import { dirname, join, basename } from "node:path";
import { EmdbError } from "../errors.ts";
import { Errno } from "../ffi/errno.ts";
import { ioError, must } from "../ffi/io-error.ts";
import type { System } from "../ffi/system.ts";
import { HEADER_PAGE_BYTES, RING_BYTES, RING_FRAME_BYTES_MAX } from "../limits.ts";
import { SEED_BYTES } from "../keydir/hash.ts";
import { Heap } from "../ffi/heap.ts";
import { RECLAIM_ATTACHED, RECLAIM_ERA, ROW_THREAD_AT } from "../ffi/reclaim.ts";
import { FLAG_ENCRYPTED, decodeHeader, saltsOf, type LogHeader } from "../log/header.ts";
import {
  LOG_CLAIMED,
  LOG_DURABLE,
  LOG_RESERVED,
  LOG_RING,
  LOG_TAIL,
  LOG_VISIBLE,
  LOG_WRITTEN,
  addMap,
  listMaps,
} from "../log/log-words.ts";
import { FileTail, MemoryTail, ensureMapped } from "../log/tail.ts";
import type { RecoveryReport } from "../api/types.ts";
import { Control } from "./control.ts";
import { Core, type Defer, type LogFile } from "./core.ts";
import { createLog } from "./create.ts";
import { Engine } from "./engine.ts";
import type { EngineConfig, OpenRequest } from "./life.ts";
import { LockFile } from "./lock-file.ts";
import { FIRST_LSN, Replayer, type Replay } from "./recovery.ts";
import { Spaces } from "./spaces.ts";
import { Sync } from "./sync.ts";

/** What an engine runs on; tests bring their own. */
export interface Environment {
  readonly system: System;
  readonly defer: Defer;
}

/** An engine, and what has to be let go of with it. */
export interface Opened {
  readonly engine: Engine;
  readonly recovery: RecoveryReport;
  readonly path: string | undefined;
  readonly sync: Sync | undefined;
  /** Ends the log in good order if `isOrderly`, and lets go of everything in any case. */
  release(isOrderly: boolean): void;
}

const RING_SPACE = RING_BYTES + RING_FRAME_BYTES_MAX;
const MEMORY_LOG_BYTES = [64, 16, 4, 1].map((gib) => gib * 1024 ** 3);

/** The real path of a log that exists, or the real folder and the name it will have. */
export function realLogPath(system: System, path: string): string {
  const real = system.realPath(path);
  if (typeof real === "string") return real;
  if (real !== -Errno.ENOENT) throw ioError(real, { syscall: "realpath", path });
  const folder = system.realPath(dirname(path));
  if (typeof folder !== "string") {
    if (folder !== -Errno.ENOENT) throw ioError(folder, { syscall: "realpath", path: dirname(path) });
    throw new EmdbError("EMDB_NOT_FOUND", `the folder ${JSON.stringify(dirname(path))} does not exist`, { path });
  }
  return join(folder, basename(path));
}

/** The header of a log; undefined when there is no file, or an empty one. Throws for what is not ours. */
function judgeFile(system: System, path: string): LogHeader | undefined {
  const status = system.status(path);
  if (typeof status === "number") {
    if (status === -Errno.ENOENT) return undefined;
    throw ioError(status, { syscall: "stat", path });
  }
  if (status.kind !== "file")
    throw new EmdbError("EMDB_NOT_A_DATABASE", `${JSON.stringify(path)} is not a file`, { path });
  if (status.bytes === 0) return undefined;
  const handle = must(system.open(path, "read"), { syscall: "open", path });
  try {
    const bytes = new Uint8Array(HEADER_PAGE_BYTES);
    const count = must(system.read(handle, bytes, { position: 0, bytes: bytes.length }), { syscall: "pread", path });
    return judgeHeader(bytes.subarray(0, count), path);
  } finally {
    system.close(handle);
  }
}

function judgeHeader(bytes: Uint8Array, path: string): LogHeader {
  const verdict = decodeHeader(bytes);
  switch (verdict.kind) {
    case "sound":
      return verdict.header;
    case "foreign":
      throw new EmdbError("EMDB_NOT_A_DATABASE", `${JSON.stringify(path)} is not an emdb database`, { path });
    case "future":
      throw new EmdbError(
        "EMDB_VERSION",
        `${JSON.stringify(path)} has format version ${verdict.version}; this emdb reads version 1`,
        { path },
      );
    case "damaged":
      throw new EmdbError("EMDB_CORRUPTED", `the header of ${JSON.stringify(path)} is damaged`, {
        path,
        offset: verdict.offset,
      });
  }
}

/** Shared memory and the words that describe it. */
function makeControl(system: System): Control {
  const control = Control.create();
  Heap.create(system, control.heap);
  control.reclaim[RECLAIM_ERA] = 1;
  control.reclaim[RECLAIM_ATTACHED] = 1;
  control.reclaim[ROW_THREAD_AT] = system.threadId() + 1;
  return control;
}

function makeSeed(system: System): Uint8Array {
  const seed = new Uint8Array(SEED_BYTES);
  system.random(seed);
  return seed;
}

/** Opens a database that nobody in this thread has open. `path` is real. */
export function openFile(environment: Environment, request: OpenRequest): Opened {
  const { system } = environment;
  const { config, path } = request;
  const header = judgeFile(system, path);
  refuseSecrets(header, config, path);
  if (config.readOnly) {
    if (header === undefined) throw missing(path);
    return openLog(environment, { path, header, config, lock: undefined });
  }
  if (header === undefined && !config.createIfMissing) throw missing(path);
  const lock = LockFile.take(system, path);
  try {
    let locked = judgeFile(system, path);
    if (locked === undefined) {
      createLog(system, path, dirname(path));
      locked = judgeFile(system, path);
    }
    if (locked === undefined) throw missing(path);
    return openLog(environment, { path, header: locked, config, lock });
  } catch (error) {
    lock.release(true);
    throw error;
  }
}

function missing(path: string): EmdbError {
  return new EmdbError("EMDB_NOT_FOUND", `there is no database at ${JSON.stringify(path)}`, { path });
}

function refuseSecrets(header: LogHeader | undefined, config: EngineConfig, path: string | undefined): void {
  const isEncrypted = header !== undefined && (header.flags & FLAG_ENCRYPTED) !== 0;
  if (isEncrypted || config.encryption !== undefined || config.cipher !== undefined) {
    throw new EmdbError("EMDB_UNSUPPORTED", "this version does not read or write encrypted databases yet", { path });
  }
}

interface LogPlan {
  readonly path: string;
  readonly header: LogHeader;
  readonly config: OpenRequest["config"];
  readonly lock: LockFile | undefined;
}

/** Maps, recovers and starts an engine on a log whose header is sound. */
function openLog(environment: Environment, plan: LogPlan): Opened {
  const { system } = environment;
  const { path, config } = plan;
  const isWriteThrough = config.flushPlan.kind === "write-through";
  const mode = config.readOnly ? "read" : isWriteThrough ? "write-through" : "write";
  const handle = must(system.open(path, mode), { syscall: "open", path });
  let control: Control | undefined;
  try {
    control = makeControl(system);
    const file = { handle, path };
    const ring = config.readOnly ? 0 : must(system.reserve(RING_SPACE), { syscall: "mmap", path });
    control.log.numbers[LOG_RING] = ring;
    if (ring > 0) must(system.commit(ring, RING_SPACE), { syscall: "mprotect", path });
    return recover(environment, plan, { control, file, isWriteThrough });
  } catch (error) {
    if (control !== undefined) releaseMemory(system, control);
    system.close(handle);
    throw error;
  }
}

function recover(
  environment: Environment,
  plan: LogPlan,
  parts: { readonly control: Control; readonly file: LogFile; readonly isWriteThrough: boolean },
): Opened {
  const { system, defer } = environment;
  const { config, lock, path } = plan;
  const { control, file } = parts;
  const started = system.monotonic();
  const bytes = must(system.size(file.handle), { syscall: "fstat", path });
  ensureMapped(system, file, control.log, bytes);
  const salts = saltsOf(plan.header);
  const core = new Core({
    system,
    control,
    salts,
    seed: makeSeed(system),
    row: 0,
    file,
    isReadOnly: config.readOnly,
    verifyReads: config.verifyReads,
    writeThrough: parts.isWriteThrough,
    defer,
    makeTail: () => new FileTail(system, file, control.log),
  });
  const spaces = new Spaces(core);
  const source = { system, file: file.handle, path, salts, end: bytes };
  const replay = new Replayer(core, spaces, source, { lsn: FIRST_LSN }).run(bytes);
  if (!config.readOnly) settle(system, file, replay);
  const numbers = control.log.numbers;
  for (const word of [LOG_RESERVED, LOG_CLAIMED, LOG_DURABLE]) numbers[word] = replay.end;
  lock?.record();
  const checkLock = (): void => lock?.mustBeOurs();
  const engine = new Engine(core, spaces, { checkLock, hasRangeScans: config.rangeScans });
  const sync = config.readOnly ? undefined : new Sync(core, file, checkLock);
  const recovery = reportOf(replay, system.monotonic() - started);
  return {
    engine,
    recovery,
    path,
    sync,
    release: (isOrderly) => releaseFile({ engine, sync, file, lock, replay }, isOrderly),
  };
}

/** Cuts a torn tail off and makes what was recovered durable, unless the log was closed in good order. */
function settle(system: System, file: LogFile, replay: Replay): void {
  const { path, handle } = file;
  if (replay.isClean) return;
  if (replay.tornBytes > 0) must(system.truncate(handle, replay.end), { syscall: "ftruncate", path });
  must(system.sync(handle), { syscall: "fdatasync", path });
}

function reportOf(replay: Replay, durationMs: number): RecoveryReport {
  return {
    usedCheckpoint: false,
    replayedRecords: replay.records,
    tornBytes: replay.tornBytes,
    missingBytes: 0,
    durationMs,
  };
}

interface Holdings {
  readonly engine: Engine;
  readonly sync: Sync | undefined;
  readonly file: LogFile;
  readonly lock: LockFile | undefined;
  readonly replay: Replay;
}

function releaseFile(holdings: Holdings, isOrderly: boolean): void {
  const { engine, sync, file, lock, replay } = holdings;
  const { core } = engine;
  const { system, control } = core;
  try {
    const isUntouched = replay.isClean && core.visible === replay.end && core.tail.end === replay.end;
    if (isOrderly && sync !== undefined && !isUntouched) {
      engine.settle();
      sync.finish();
    }
  } finally {
    engine.snapshots.closeAll();
    engine.markClosed();
    releaseMemory(system, control);
    system.close(file.handle);
    lock?.release(false);
  }
}

function releaseMemory(system: System, control: Control): void {
  for (const map of listMaps(control.log)) system.unmap(map.address, map.bytes);
  const ring = control.log.numbers[LOG_RING]!;
  if (ring > 0) system.release(ring, RING_SPACE);
  new Heap(system, control.heap).release();
}

/** A database with no file at all. */
export function openMemory(environment: Environment, config: EngineConfig): Opened {
  const { system, defer } = environment;
  refuseSecrets(undefined, config, undefined);
  const control = makeControl(system);
  const region = reserveMemoryLog(system);
  addMap(control.log, region);
  const numbers = control.log.numbers;
  for (const word of [LOG_VISIBLE, LOG_TAIL, LOG_WRITTEN, LOG_CLAIMED, LOG_DURABLE]) numbers[word] = FIRST_LSN;
  const header = { flags: 0, fileId: makeSeed(system), generation: 1, createdAtMs: system.now(), cipher: 0 };
  const core = new Core({
    system,
    control,
    salts: saltsOf(header),
    seed: makeSeed(system),
    row: 0,
    file: undefined,
    isReadOnly: false,
    verifyReads: config.verifyReads,
    writeThrough: false,
    defer,
    makeTail: () => new MemoryTail(system, control.log, region),
  });
  const spaces = new Spaces(core);
  const engine = new Engine(core, spaces, { checkLock: () => undefined, hasRangeScans: config.rangeScans });
  const recovery = { usedCheckpoint: false, replayedRecords: 0, tornBytes: 0, missingBytes: 0, durationMs: 0 };
  const release = (): void => {
    engine.snapshots.closeAll();
    engine.markClosed();
    system.release(region.address, region.bytes);
    new Heap(system, control.heap).release();
  };
  return { engine, recovery, path: undefined, sync: undefined, release };
}

function reserveMemoryLog(system: System): { address: number; bytes: number } {
  let failure = 0;
  for (const bytes of MEMORY_LOG_BYTES) {
    const address = system.reserve(bytes);
    if (address > 0) return { address, bytes };
    failure = address;
  }
  throw ioError(failure, { syscall: "mmap", path: undefined });
}
