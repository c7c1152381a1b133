/**
 * Opening a database: find the file, judge its header, take the lock, recover, and put an engine together.
 *
 * Invariants
 * 1. Nothing is touched before the header has been judged, and no sidecar is made beside a file that is not ours.
 * 2. An open that fails leaves the disk as it was and holds nothing.
 * 3. What was recovered is durable before anybody reads it.
 */

import { basename, dirname, join, resolve } from "node:path";
import type { RecoveryReport } from "../../api/types.ts";
import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { Heap } from "../../ffi/heap.ts";
import { ioError, must } from "../../ffi/io-error.ts";
import { FIRST_ERA, RECLAIM_ATTACHED, RECLAIM_ERA, ROW_THREAD_AT } from "../../ffi/reclaim.ts";
import type { Pinned } from "../../ffi/memory.ts";
import type { FileHandle, System } from "../../ffi/system.ts";
import { SEED_BYTES } from "../../keydir/hash.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { FRAME_HEADER_BYTES } from "../../log/frame.ts";
import { fileIdOf, saltsOf, type LogHeader } from "../../log/header.ts";
import {
  LOG_CLAIMED,
  LOG_DURABLE,
  LOG_GENERATION,
  LOG_RESERVED,
  LOG_RING,
  LOG_TAIL,
  LOG_VISIBLE,
  LOG_WRITTEN,
  addMap,
  logFileOf,
  newestMap,
} from "../../log/log-words.ts";
import { RING_SPACE, reserveMemoryLog } from "../../log/new-log.ts";
import { nameFile } from "../../log/shared-file.ts";
import { ensureMapped } from "../../log/tail.ts";
import { BatchAhead } from "./batch-ahead.ts";
import {
  assemble,
  makeCore,
  releaseBase,
  releaseMemory,
  unmapForTruncation,
  type Environment,
  type Opened,
} from "../assemble.ts";
import type { SharedBase } from "../threads/base.ts";
import { blankTail } from "./blank-tail.ts";
import { CLOSING, Control, STATE, STATE_CLOSED, SWAP, SWAP_NONE } from "../threads/control.ts";
import { LogFile, closedError, type Core } from "../core.ts";
import { createLog } from "./create.ts";
import type { EngineConfig, OpenRequest } from "../life.ts";
import { LockFile, closeLog } from "../files/lock-file.ts";
import { judgeFile, judgeHeader } from "./judge-file.ts";
import { ImageAtOpen } from "./hint-open.ts";
import { openAhead, type OpenAhead } from "../sealed/open-ahead.ts";
import { buildOrdering } from "../ordering/ordering-build.ts";
import type { ScanSource } from "../../log/scanner.ts";
import { ForgedBatch, Replayer, endsClean, type Replay } from "./recovery.ts";
import { Mutex } from "../threads/mutex.ts";
import { realPathError } from "../files/name-room.ts";
import { isFile, isMissing, noFolderError } from "../files/no-folder.ts";
import { claimRow, clearRow, isGone } from "../threads/rows.ts";
import { ScanOpener } from "../sealed/scan-opener.ts";
import { findReadable, findReplaced, missing, putBack } from "./put-back.ts";
import { refuseDraft, refuseSidecarName, refuseTakenImage } from "../files/sidecar-names.ts";
import { bytesBefore, hasPage, isBeingWritten } from "./same-file.ts";
import { Spaces } from "../spaces.ts";
import { freshPage, refuseMismatch, unlockPage, type LogKeys } from "../sealed/unlock.ts";
import { SEALED_MARK_BYTES } from "../sealed/sealed-encoder.ts";
import { storeDataKey } from "../sealed/vault.ts";

/** How often a file is opened for reading that is another one each time, and one that looks damaged. */
const READING_ATTEMPTS = 100;
const DAMAGE_ATTEMPTS = 4;
/** Links in a row that lead to no file yet. */
const LINKS_MAX = 40;

/** The real path of a log that exists, or the real folder and the name it will have: where a link to nothing leads to. */
export function realLogPath(system: System, path: string): string {
  let asked = path;
  for (let links = 0; links <= LINKS_MAX; links++) {
    const real = system.realPath(asked);
    if (typeof real === "string") return real;
    if (!isMissing(real)) throw realPathError(system, real, path);
    const folder = system.realPath(dirname(asked));
    if (typeof folder !== "string" && !isMissing(folder)) throw realPathError(system, folder, dirname(asked));
    if (typeof folder !== "string" || isFile(system, folder)) throw noFolderError(system, dirname(asked), path);
    asked = join(folder, basename(asked));
    const target = system.linkTarget(asked);
    if (target === -Errno.ENAMETOOLONG) throw realPathError(system, target, asked);
    if (typeof target !== "string") return asked;
    asked = resolve(folder, target);
  }
  throw ioError(-Errno.ELOOP, { syscall: "realpath", path });
}

/** Shared memory and the words that describe it. */
function makeControl(system: System): Control {
  const control = Control.create();
  Heap.create(system, control.heap);
  control.reclaim[RECLAIM_ERA] = FIRST_ERA;
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
  if (config.readOnly) return openForReading(environment, request);
  const found = judgeFile(system, path);
  refuseMismatch(found, config, path);
  if (found === undefined && !config.createIfMissing && findReplaced(system, path) === undefined) throw missing(path);
  if (found === undefined) refuseSidecarName(system, path);
  else refuseDraft(system, path);
  const lock = LockFile.take(system, path);
  let isMade = false;
  try {
    refuseTakenImage(system, path);
    const locked = judgeFile(system, path) ?? putBack(system, path);
    const made = locked === undefined ? freshPage(system, config) : undefined;
    using keys = disposable(locked === undefined ? made?.keys : unlockPage(locked, config, path));
    // An empty file is made a database, and may have been one.
    const wasEmptied = locked === undefined && typeof system.status(path) !== "number";
    if (made !== undefined) {
      createLog(system, lock, { path, page: made.page });
      isMade = true;
    }
    const header = (locked ?? judgeFile(system, path))?.header;
    if (header === undefined) throw missing(path);
    return openLog(environment, { path, header, keys: keys.value, config, lock, wasEmptied });
  } catch (error) {
    if (isMade && lock.isOurs) system.unlink(path);
    lock.release(true);
    throw error;
  }
}

/**
 * Opens a file that another process may have open for writing. That one may put a compacted file in its place, or mend its
 * end, between any two looks at it: then they do not fit each other, and it is looked at anew.
 */
function openForReading(environment: Environment, { path, config }: OpenRequest): Opened {
  const { system } = environment;
  let opensAhead = false;
  for (let attempt = 1; ; attempt++) {
    const before = system.status(path);
    const { file, found } = findReadable(system, path);
    refuseMismatch(found, config, path);
    using keys = disposable(unlockPage(found, config, path));
    const handle = system.open(file, "read");
    // It is put in its place, or aside.
    if (handle === -Errno.ENOENT && !system.canMapPastEnd && attempt < READING_ATTEMPTS) continue;
    must(handle, { syscall: "open", path });
    const bytesMax = bytesBefore(system, handle, before);
    if (bytesMax === undefined || !hasPage(system, handle, found.page)) {
      system.close(handle);
      if (attempt < READING_ATTEMPTS) continue;
      throw new EmdbError("EMDB_LOCKED", `${JSON.stringify(path)} was replaced again and again while it was opened`, {
        path,
      });
    }
    try {
      const plan = { path, header: found.header, keys: keys.value, config, lock: undefined, opensAhead, bytesMax };
      return openLogAt(environment, plan, handle);
    } catch (error) {
      if (error instanceof ForgedBatch) {
        opensAhead = true;
        continue;
      }
      const mayBeTorn = attempt < DAMAGE_ATTEMPTS && isBeingWritten(system, path, before);
      if (!(error instanceof EmdbError) || !mayBeTorn) throw error;
    }
  }
}

/** Keys that are wiped when the block ends; by then every thread has copies of its own. */
function disposable(keys: LogKeys | undefined): Disposable & { readonly value: LogKeys | undefined } {
  return { value: keys, [Symbol.dispose]: () => keys?.dataKey.wipe() };
}

/** An engine on a log whose lock the caller holds. */
export function openLocked(
  environment: Environment,
  log: Pick<LogPlan, "path" | "header" | "keys">,
  config: OpenRequest["config"],
): Opened {
  return openLog(environment, { ...log, config, lock: undefined });
}

/**
 * An engine on a log that is being made beside another one, under that one's lock: no sidecar is made for it.
 * The file is new, with this header page; when that fails, it is gone.
 */
export function openDraft(
  environment: Environment,
  draft: { readonly path: string; readonly page: Pinned; readonly keys: LogKeys | undefined },
  config: OpenRequest["config"],
): Opened {
  const { system } = environment;
  const { path, page, keys } = draft;
  const handle = must(system.open(path, "create"), { syscall: "open", path });
  const span = { position: 0, bytes: HEADER_PAGE_BYTES };
  const written = system.write(handle, page.address, span);
  system.close(handle);
  try {
    must(written, { syscall: "pwrite", path });
    return openLog(environment, { path, header: judgeHeader(page.u8, path), keys, config, lock: undefined });
  } catch (error) {
    system.unlink(path);
    throw error;
  }
}

interface LogPlan {
  readonly path: string;
  readonly header: LogHeader;
  /** Of an encrypted log. */
  readonly keys: LogKeys | undefined;
  readonly config: OpenRequest["config"];
  readonly lock: LockFile | undefined;
  /** It was made in the place of an empty file. */
  readonly wasEmptied?: boolean;
  /** A look ahead opens each frame: what the checks say of this file has been wrong. */
  readonly opensAhead?: boolean;
  /** Behind it nothing is read. */
  readonly bytesMax?: number;
}

/** Maps, recovers and starts an engine on a log whose header is sound. */
function openLog(environment: Environment, plan: LogPlan): Opened {
  const { path, config } = plan;
  const isWriteThrough = config.flushPlan.kind === "write-through";
  const mode = config.readOnly ? "read" : isWriteThrough ? "write-through" : "write";
  return openLogAt(environment, plan, must(environment.system.open(path, mode), { syscall: "open", path }));
}

/** The same on the file that was opened; closes it when that fails. */
function openLogAt(environment: Environment, plan: LogPlan, handle: FileHandle): Opened {
  const { system } = environment;
  const { path, config } = plan;
  let control: Control | undefined;
  try {
    control = makeControl(system);
    nameFile(system, logFileOf(control.log), handle);
    plan.lock?.claim(handle);
    plan.lock?.record();
    control.log.numbers[LOG_GENERATION] = plan.header.generation;
    const ring = config.readOnly ? 0 : must(system.reserve(RING_SPACE), { syscall: "mmap", path });
    control.log.numbers[LOG_RING] = ring;
    if (plan.keys !== undefined) storeDataKey(system, control, plan.keys.dataKey);
    if (ring > 0) must(system.commit(ring, RING_SPACE), { syscall: "mprotect", path });
    return recover(environment, plan, { control, file: new LogFile(control.log, path) });
  } catch (error) {
    if (control !== undefined) releaseMemory(system, control, true);
    closeLog(system, handle);
    throw error;
  }
}

function recover(
  environment: Environment,
  plan: LogPlan,
  parts: { readonly control: Control; readonly file: LogFile },
): Opened {
  const { system } = environment;
  const { path } = plan;
  const { control, file } = parts;
  const started = system.monotonic();
  const bytes = Math.min(must(system.size(file.handle), { syscall: "fstat", path }), plan.bytesMax ?? Infinity);
  const atFile = { system, file: file.handle, path, salts: saltsOf(plan.header), end: bytes };
  // A sync that failed may have left pages that pass for written: what is read has to be what the device has. What
  // is still to be written stays, and `settle` writes it. Before anything is mapped, which keeps its pages.
  const markBytes = plan.keys === undefined ? FRAME_HEADER_BYTES : SEALED_MARK_BYTES;
  if (!plan.config.readOnly && !endsClean(atFile, markBytes)) system.forgetCached(file.handle);
  ensureMapped(system, file, control.log, bytes);
  const { fileId, generation, madeEnd } = plan.header;
  const identity = { fileId, generation };
  const wasEmptied = plan.wasEmptied === true;
  using image = ImageAtOpen.look(system, { file, identity, madeEnd, bytes, wasEmptied, keys: plan.keys });
  const base = makeBase(system, control, { ...plan, fileId, seed: image.seed ?? makeSeed(system) });
  const core = makeCore(environment, base, 0);
  try {
    return recoverInto(environment, base, { ...plan, core, image, bytes, started });
  } catch (error) {
    core.vault?.wipe();
    throw error;
  }
}

interface Recovery extends LogPlan {
  readonly core: Core;
  readonly image: ImageAtOpen;
  readonly bytes: number;
  readonly started: number;
}

/** Fills the index from the image and the log, and settles how the log ends. */
function recoverInto(environment: Environment, base: SharedBase, recovering: Recovery): Opened {
  const { system } = environment;
  const { core, config, image, lock } = recovering;
  const { control } = core;
  const file = core.file!;
  const { spaces, from } = image.load(core, config.rangeScans);
  const replay = replayLog(environment, recovering, { spaces, from });
  spaces.publishCounts();
  if (config.rangeScans && !image.isOrdered) core.ordering = buildOrdering(core, spaces);
  const missingBytes = image.missingBytes(replay);
  if (!config.readOnly) {
    // To read the log takes long, and what is beside it now is a robber's if there is one.
    lock?.mustBeOurs();
    image.tidy();
    settle(core, file, replay);
  }
  const numbers = control.log.numbers;
  for (const word of [LOG_RESERVED, LOG_CLAIMED, LOG_DURABLE]) numbers[word] = replay.end;
  const { usedCheckpoint } = image;
  const recovery = { ...reportOf(replay, system.monotonic() - recovering.started), usedCheckpoint, missingBytes };
  const cleanEnd = replay.isClean ? replay.end : 0;
  const opened = assemble(environment, { ...base, recovery, cleanEnd }, { core, spaces });
  if (image.isWanted(replay)) opened.checkpoint?.runAtOpen();
  return opened;
}

/** Puts what the log holds into the index. */
function replayLog(
  environment: Environment,
  recovering: Recovery,
  { spaces, from }: ReturnType<ImageAtOpen["load"]>,
): Replay {
  const { system } = environment;
  const { core, config, path, bytes } = recovering;
  const { vault, generation, salts } = core;
  const file = core.file!.handle;
  const rest = { system, file, from: from.lsn, end: bytes };
  using opened = vault === undefined ? undefined : openAhead(environment.helpers, vault.cipher, rest);
  const sourceOf = (helped?: OpenAhead): ScanSource => {
    const opener = vault && new ScanOpener(vault, { generation, last: vault.last, ahead: helped });
    return { system, file, path, salts, opener, end: bytes };
  };
  const ahead = config.readOnly ? new BatchAhead(sourceOf(), recovering.opensAhead === true) : undefined;
  return new Replayer(core, spaces, { source: sourceOf(opened), ahead }, from).run(bytes);
}

interface BaseParts {
  readonly config: EngineConfig & { readonly readOnly?: boolean };
  readonly lock: LockFile | undefined;
  readonly path: string | undefined;
  /** Of a log in memory. */
  readonly page?: Uint8Array;
  readonly fileId: Uint8Array;
  readonly keys: LogKeys | undefined;
  /** Of the keys' hash. */
  readonly seed: Uint8Array;
}

const NOTHING_RECOVERED = { usedCheckpoint: false, replayedRecords: 0, tornBytes: 0, missingBytes: 0, durationMs: 0 };

function makeBase(system: System, control: Control, parts: BaseParts): SharedBase {
  const { defaultTtlMs, sweepIntervalMs = 0, autoCompact, rangeScans, flushPlan, verifyReads } = parts.config;
  const id = new Uint8Array(16);
  system.random(id);
  return {
    kind: "emdb-share",
    id: id.toHex(),
    pid: system.processId(),
    buffer: control.buffer,
    fileId: parts.fileId,
    cipher: parts.keys?.cipher,
    seed: parts.seed,
    config: { defaultTtlMs, sweepIntervalMs, autoCompact, rangeScans, flushPlan, verifyReads },
    isReadOnly: parts.config.readOnly === true,
    recovery: NOTHING_RECOVERED,
    path: parts.path,
    page: parts.page,
    lock: parts.lock?.token,
    cleanEnd: 0,
  };
}

/** Cuts a torn tail off, or blanks it, and makes what was recovered durable, unless the log was closed in good order. */
function settle(core: Core, file: LogFile, replay: Replay): void {
  const { system, control } = core;
  const { path, handle } = file;
  if (replay.isClean && replay.tornBytes === 0) return;
  if (replay.tornBytes > 0) {
    // Who has broken the lock meanwhile may have written there.
    core.lockWatch.look();
    unmapForTruncation(system, control);
    const cut = system.truncate(handle, replay.soundEnd, "at once");
    // Windows refuses while another process has the file mapped.
    if (cut === -Errno.EBUSY) blankTail(core, file, replay);
    else must(cut, { syscall: "ftruncate", path });
    ensureMapped(system, file, control.log, replay.soundEnd);
    core.log.takeMap();
  }
  must(system.sync(handle), { syscall: "fdatasync", path });
  // Who made the log may have died before its name was durable.
  must(system.syncFolder(dirname(path)), { syscall: "fsync", path: dirname(path) });
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

/** A database with no file at all. */
export function openMemory(environment: Environment, config: EngineConfig): Opened {
  const { system } = environment;
  const { page, keys: made } = freshPage(system, config);
  using keys = disposable(made);
  const control = makeControl(system);
  try {
    if (keys.value !== undefined) storeDataKey(system, control, keys.value.dataKey);
    addMap(control.log, reserveMemoryLog(system));
    const numbers = control.log.numbers;
    for (const at of [LOG_VISIBLE, LOG_TAIL, LOG_WRITTEN, LOG_CLAIMED, LOG_DURABLE]) numbers[at] = HEADER_PAGE_BYTES;
    numbers[LOG_GENERATION] = 1;
    const found = { fileId: fileIdOf(page.u8), seed: makeSeed(system), keys: keys.value, page: page.u8.slice() };
    const base = makeBase(system, control, { config, lock: undefined, path: undefined, ...found });
    const core = makeCore(environment, base, 0);
    return assemble(environment, base, { core, spaces: new Spaces(core) });
  } catch (error) {
    releaseMemory(system, control, false);
    throw error;
  }
}

/**
 * The core of one more thread. The last one out may have died behind `unmapForTruncation`; where a swap is not ended, the words
 * may be of two files, and whoever ends it sees to the map.
 */
function goOnAt(environment: Environment, base: SharedBase, row: number): Core {
  const { system } = environment;
  const { log, flags } = new Control(base.buffer);
  const isMapGone = !system.canMapPastEnd && flags[SWAP] === SWAP_NONE && newestMap(log) === undefined;
  if (base.path !== undefined && isMapGone)
    ensureMapped(system, new LogFile(log, base.path), log, log.numbers[LOG_WRITTEN]!);
  return makeCore(environment, base, row);
}

/** The same database in another thread of the process that opened it. */
export function attachTo(environment: Environment, base: SharedBase): Opened {
  const { system } = environment;
  const control = new Control(base.buffer);
  const row = claimRow(control, system);
  const mutex = new Mutex(control, row, system);
  mutex.lock();
  let core: Core | undefined;
  let isLeft = false;
  let isDecided = false;
  try {
    // Nobody puts another file in place while it looks which one there is.
    if (!isGone(control, system)) {
      isLeft = (control.flags[STATE]! & STATE_CLOSED) !== 0;
      if (isLeft) Atomics.store(control.flags, CLOSING, row + 1);
      else core = goOnAt(environment, base, row);
    }
    isDecided = true;
  } finally {
    mutex.unlock();
    // With a row that nobody uses no other thread would ever be the last one out.
    if (!isDecided) clearRow(control, row);
  }
  if (core === undefined) {
    // The last one out died while it let go of everything.
    if (isLeft) releaseBase(system, base);
    clearRow(control, row);
    throw closedError(base.path);
  }
  core.becomeShared();
  return assemble(environment, base, { core, spaces: new Spaces(core) });
}
