/**
 * One thread's engine over a shared base, and how it leaves: the last thread to leave ends the log in good
 * order and lets go of everything.
 *
 * Invariants
 * 1. Leaving decides every open flush first, then whether others stay, then gives the thread's row back. Of threads
 *    that leave at the same time exactly one is the last: they decide under the writer's lock.
 * 2. Nothing is unmapped or closed while another living thread has a row that stays. Whoever is not the last touches
 *    nothing but the shared block after the decision: the last one may have closed everything by then, and what has the
 *    number of the log's handle may be another's file.
 * 3. The last one out keeps its row until it has let go of everything, so that a death on the way is found (`attachTo`).
 */

import type { EmdbError } from "../errors.ts";
import { Heap } from "../ffi/heap.ts";
import type { System } from "../ffi/system.ts";
import { LOG_BASE, LOG_RESERVED, LOG_RING, LOG_TOUCHED, logFileOf, mapRelease, releaseMaps } from "../log/log-words.ts";
import { RING_SPACE } from "../log/new-log.ts";
import { closeFile, openHandle, type SharedFile } from "../log/shared-file.ts";
import { FileTail, MemoryTail } from "../log/tail.ts";
import { AutoCompact } from "./background/auto-compact.ts";
import { Backup } from "./copy/backup.ts";
import type { SharedBase } from "./threads/base.ts";
import { Checkpoint } from "./hint/checkpoint.ts";
import { Compaction } from "./copy/compaction.ts";
import { CLOSING, CLOSING_DONE, Control, STATE, WORK_LEFT } from "./threads/control.ts";
import { Core, LogFile, refusal, type Defer } from "./core.ts";
import { giveBackDead } from "./background/dead-work.ts";
import { Engine } from "./engine.ts";
import { ExpiryTimer, type Later } from "./background/expiry-timer.ts";
import { GroupCommit } from "./sync/group-commit.ts";
import { LockFile } from "./files/lock-file.ts";
import { LockWatch } from "./files/lock-watch.ts";
import { LongWork } from "./background/long-work.ts";
import type { AheadHelpers } from "./sealed/open-ahead.ts";
import { Ordering } from "./ordering/ordering.ts";
import { Relocation, releaseReplaced } from "./copy/relocation.ts";
import { clearRow, isAnotherStaying, markLeaving, reapDeadRows } from "./threads/rows.ts";
import type { Spaces } from "./spaces.ts";
import { endInstall } from "./copy/swap.ts";
import { Sync } from "./sync/sync.ts";
import { dropDataKey } from "./sealed/vault.ts";

/** What an engine runs on; tests bring their own. */
export interface Environment {
  readonly system: System;
  readonly defer: Defer;
  /** Undefined: nothing is done in the background. */
  readonly later?: Later;
  /** Whether commit Workers can be started. */
  readonly hasWorkers: boolean;
  /** Threads that open frames ahead of the replay of an encrypted log; undefined: none. */
  readonly helpers?: AheadHelpers;
}

/** An engine of one thread, and what belongs to it. */
export interface Opened {
  readonly base: SharedBase;
  readonly engine: Engine;
  /** Undefined in memory and for a read-only open. */
  readonly sync: Sync | undefined;
  readonly commit: GroupCommit | undefined;
  /** Undefined as `sync` is. */
  readonly checkpoint: Checkpoint | undefined;
  readonly work: LongWork;
  readonly relocation: Relocation;
  readonly compaction: Compaction;
  readonly backup: Backup;
  /** The background sweep; undefined where there is none. */
  readonly timer: ExpiryTimer | undefined;
  /** Gives this thread's part back; the last one out ends the log in good order. */
  leave(): void;
}

/** The core of one thread. */
export function makeCore(environment: Environment, base: SharedBase, row: number): Core {
  const { system, defer } = environment;
  const control = new Control(base.buffer);
  const { path, lock } = base;
  const lockFile = path !== undefined && lock !== undefined ? LockFile.adopt(system, path, lock) : undefined;
  const lockWatch = new LockWatch(lockFile);
  const isWriteThrough = base.config.flushPlan.kind === "write-through";
  const core: Core = new Core({
    system,
    control,
    lockWatch,
    fileId: base.fileId,
    cipher: base.cipher,
    page: base.page,
    seed: base.seed,
    row,
    file: path === undefined ? undefined : new LogFile(control.log, path),
    isReadOnly: base.isReadOnly,
    verifyReads: base.config.verifyReads,
    writeThrough: isWriteThrough,
    defer,
    makeTail: (file) =>
      file === undefined
        ? new MemoryTail(system, control.log)
        : new FileTail(system, file, control.log, {
            look: () => lockWatch.look(),
            isWriteThrough,
            isSyncedOften: true,
            makeRoom: () => core.makeRoom(),
          }),
  });
  return core;
}

/** An engine over a core that is ready to be used. */
export function assemble(
  environment: Environment,
  base: SharedBase,
  parts: { readonly core: Core; readonly spaces: Spaces },
): Opened {
  const { core, spaces } = parts;
  const { lock } = base;
  const { file } = core;
  if (base.config.rangeScans) core.ordering ??= new Ordering(core);
  const engine = new Engine(core, spaces, { hasRangeScans: base.config.rangeScans });
  const sync =
    file === undefined || base.isReadOnly
      ? undefined
      : new Sync(core, file, base.config.flushPlan.kind === "on-each-flush");
  const options = { plan: base.config.flushPlan, hasWorkers: environment.hasWorkers };
  const commit = sync === undefined ? undefined : new GroupCommit(core, sync, options);
  const work = new LongWork(core, (body) => (base.isReadOnly ? body() : engine.exclusively(body)));
  const relocation = new Relocation(core, spaces, (body) => engine.exclusivelyInMemory(body));
  const checkpoint =
    // A draft, which has no lock of its own, gets no image either.
    sync === undefined || commit === undefined || file === undefined || lock === undefined
      ? undefined
      : new Checkpoint(engine, { file, sync, commit, work, relocation });
  const drafts = { engine, work, relocation, sync };
  const compaction = new Compaction(drafts);
  const backup = new Backup(drafts);
  const { onSpill } = core;
  core.releaseFiles = () => {
    if (core.base !== 0) relocation.releaseUnneeded();
  };
  core.onSpill = () => {
    onSpill();
    core.releaseFiles();
  };
  const { autoCompact } = base.config;
  if (autoCompact !== undefined && !base.isReadOnly) void new AutoCompact(drafts, compaction, autoCompact);
  const timer = makeTimer(environment, base, engine);
  const opened = { base, engine, sync, commit, work, relocation, checkpoint, compaction, backup, timer };
  return { ...opened, leave: () => leave(opened) };
}

/** One thread sweeps in the background, the one with the first row: who opened the database, or attached when that one had left. */
function makeTimer(environment: Environment, base: SharedBase, engine: Engine): ExpiryTimer | undefined {
  const { core, spaces, sweeper } = engine;
  const { later } = environment;
  const intervalMs = base.config.sweepIntervalMs;
  if (later === undefined || intervalMs === 0 || base.isReadOnly || core.row !== 0) return undefined;
  return new ExpiryTimer({ core, spaces, sweeper }, { later, intervalMs });
}

function leave(opened: Omit<Opened, "leave">): void {
  const { base, engine, sync, commit, checkpoint } = opened;
  const { core } = engine;
  const { control, system } = core;
  let isLast = false;
  let refused: EmdbError | undefined;
  opened.timer?.stop();
  try {
    opened.work.cancel();
    checkpoint?.cancel();
    // Of a verify, or of work that has the place and has not begun.
    opened.work.give();
    commit?.finish();
    try {
      flushIfHealthy(opened);
    } finally {
      commit?.close();
      engine.snapshots.closeAll();
      // Asked before the decision: behind it the last one out may have closed the database, which is no refusal.
      if (sync !== undefined && control.flags[STATE] !== 0) refused = refusal(core);
      isLast = isLastOut(core, sync);
    }
    // Whoever closes counts on what it has written, also where others go on.
    if (!isLast && refused !== undefined) throw refused;
    if (isLast && sync !== undefined) {
      const { numbers } = control.log;
      const isUntouched =
        core.visible === base.cleanEnd && numbers[LOG_RESERVED] === base.cleanEnd && numbers[LOG_TOUCHED] === 0;
      if (!isUntouched) engine.conclude();
      checkpoint?.runAtEnd();
      if (!isUntouched) sync.finish(() => unmapForTruncation(system, control));
    }
  } finally {
    sync?.markNever();
    // A log in memory has concluded nothing, and where a file's could not a swap may be left as well.
    if (isLast) endInstall(core, engine.spaces);
    core.leave();
    try {
      if (isLast) {
        engine.markClosed();
        releaseBase(system, base);
      }
    } finally {
      clearRow(control, core.row);
    }
  }
}

/** What this thread has not flushed would be nobody's duty any more. */
function flushIfHealthy(opened: Omit<Opened, "leave">): void {
  if (opened.engine.core.control.flags[STATE] === 0) opened.sync?.flushRest();
}

/** Decides whether no other living thread has the database open. Where one has, the mark that this one owes is written first. */
function isLastOut(core: Core, sync: Sync | undefined): boolean {
  const { control, system } = core;
  core.mutex.lock();
  try {
    reapDeadRows(control, system);
    // This thread reads nothing any more, so it is not what its own pieces wait for.
    core.rest();
    core.reclaim.finish();
    if (isAnotherStaying(control, core.row)) {
      core.reclaim.leaveRest();
      // Where others stay the log ends with no clean mark, maybe for long.
      sync?.markNow();
      markLeaving(control, core.row);
      return false;
    }
    Atomics.store(control.flags, CLOSING, core.row + 1);
    return true;
  } finally {
    core.mutex.unlock();
  }
}

/** Where a mapped file cannot be cut, the maps go first. Those of files that it has replaced stay: who goes on behind a death reads them. */
export function unmapForTruncation(system: System, control: Control): void {
  if (system.canMapPastEnd) return;
  releaseMaps(control.log, control.log.numbers[LOG_BASE], mapRelease(system, true));
}

/**
 * Lets go of memory, file and lock, for whose row the word `CLOSING` says, of a database that is marked as closed. Each is
 * forgotten before it is let go of: after a death whoever attaches next does the rest. The lock is not forgotten, as the
 * next open may have it under the same number: once it is its turn all is done.
 */
export function releaseBase(system: System, base: SharedBase): void {
  const control = new Control(base.buffer);
  const log = base.path === undefined ? undefined : { path: base.path, fileId: base.fileId };
  if (control.flags[WORK_LEFT] !== 0) giveBackDead(system, control, base);
  releaseReplaced(system, control, log);
  releaseMemory(system, control, base.path !== undefined);
  if (base.path !== undefined) closeSharedLog(system, logFileOf(control.log));
  Atomics.store(control.flags, CLOSING, CLOSING_DONE);
  if (base.path !== undefined && base.lock !== undefined) LockFile.adopt(system, base.path, base.lock).release(false);
}

/** As `closeLog`, also when a thread has died while it did the same. */
function closeSharedLog(system: System, file: SharedFile): void {
  const handle = openHandle(file);
  if (handle !== undefined) system.unlock(handle);
  closeFile(system, file);
}

/** Gives back everything that is mapped or reserved for a database. */
export function releaseMemory(system: System, control: Control, hasFile: boolean): void {
  releaseMaps(control.log, undefined, mapRelease(system, hasFile));
  const ring = control.log.numbers[LOG_RING]!;
  control.log.numbers[LOG_RING] = 0;
  if (ring > 0) system.release(ring, RING_SPACE);
  dropDataKey(system, control);
  new Heap(system, control.heap).release();
}
