/**
 * How the room above opens databases: one engine for each file and thread, found again through a registry that
 * outlives the module (`bun --hot` evaluates modules anew and keeps what was open).
 */

import { dirname } from "node:path";
import { EmdbError } from "../errors.ts";
import { Errno } from "../ffi/errno.ts";
import { hostSystem, processors } from "../ffi/host.ts";
import { must } from "../ffi/io-error.ts";
import { requireLongStack } from "./stack-room.ts";
import type { System } from "../ffi/system.ts";
import { onProcessExit, watchProcessEnd } from "../ffi/process-exit.ts";
import type { EmdbShare, FlushPolicy, ProgressOptions } from "../api/types.ts";
import type { EngineConfig, EngineDoor, FlushPlan, Lifecycle, OpenRequest, RekeyRequest } from "./life.ts";
import { EXIT_WAIT_MS_MAX, GROUP_BATCH_MAX } from "../limits.ts";
import { breakLock, isOtherFile, readHolder } from "./files/lock-file.ts";
import { LockWait } from "./files/lock-wait.ts";
import { endAbandoned, noteLeft } from "./abandoned.ts";
import type { Environment, Opened } from "./assemble.ts";
import { checkedShare, tokenOf, type SharedBase, type SharedConfig } from "./threads/base.ts";
import { Control, SWAP, SWAP_NONE } from "./threads/control.ts";
import { judgeFile } from "./open/judge-file.ts";
import { isLongName, refuseLongName } from "./files/name-room.ts";
import { HeldFolder } from "./files/open-folder.ts";
import { startHelper } from "./sealed/open-ahead.ts";
import { attachTo, openFile, openMemory, realLogPath } from "./open/open.ts";
import { findReplaced } from "./open/put-back.ts";
import { rewriteFile, rotateSecret } from "./copy/rekey.ts";
import { clearRow } from "./threads/rows.ts";
import { salvageFile } from "./salvage/salvage.ts";
import { unlockPage, wipeAsked } from "./sealed/unlock.ts";
import { statsOf } from "./stats.ts";
import { verifyDatabase } from "./verify/verify.ts";

/** An engine of this thread with its handles counted. */
interface Entry {
  readonly opened: Opened;
  /** The real path, under which another open of this thread finds it; undefined where none does. */
  readonly path: string | undefined;
  handles: number;
}

/** What this thread has open, by token id. Never rename: an older evaluation of this module looks here too. */
const REGISTRY = Symbol.for("emdb.open-engines.1");

function registry(): Map<string, Entry> {
  const holder = globalThis as { [REGISTRY]?: Map<string, Entry> };
  let map = holder[REGISTRY];
  if (map === undefined) {
    map = new Map();
    holder[REGISTRY] = map;
    const open = map;
    onProcessExit(() => {
      const until = hostSystem().monotonic() + EXIT_WAIT_MS_MAX;
      for (const entry of open.values()) spillQuietly(entry, until);
    });
  }
  return map;
}

/** What is pending goes to the page cache when the process ends in good order; durability never depends on it. */
function spillQuietly(entry: Entry, untilMs = Infinity): void {
  try {
    entry.opened.sync?.spillUntil(untilMs);
    entry.opened.sync?.markNow();
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
  }
}

/** With two the cipher takes less time than what the replay does beside it. */
const HELPERS_MAX = 2;

/** Whether the run of code is over in which this thread has put something off for the first time. */
let hasRun = false;

/**
 * Runs work when the event loop turns, or after a delay. In its first run a program often opens, writes, closes and ends: then
 * nothing is left that anybody wants, and nothing is given to the loop. With something in it, and be it taken back, the
 * runtime collects all garbage before it lets the loop turn for the first time: 3 ms of the processor.
 */
function deferToTurn(work: () => void, delayMs = 0, isWanted?: () => boolean): void {
  if (delayMs > 0) setTimeout(work, delayMs);
  else if (hasRun || isWanted === undefined) setImmediate(work);
  else
    queueMicrotask(() => {
      hasRun = true;
      if (isWanted()) setImmediate(work);
    });
}

/** Runs work after a delay in a process that goes on anyway. */
function afterDelay(work: () => void, delayMs: number): () => void {
  const timer = setTimeout(work, delayMs);
  timer.unref();
  return () => clearTimeout(timer);
}

function hostEnvironment(): Environment {
  const helpers = { count: Math.min(processors() - 1, HELPERS_MAX), start: startHelper };
  return {
    system: hostSystem(),
    defer: deferToTurn,
    later: afterDelay,
    hasWorkers: true,
    helpers,
  };
}

function register(opened: Opened, path: string | undefined): Lifecycle {
  const entry = { opened, path, handles: 1 };
  watchProcessEnd();
  registry().set(opened.base.id, entry);
  return lifecycle(entry);
}

/**
 * Databases in memory that nobody else can have: when nothing of one can be reached any more, it is given back, as any other
 * data in memory is. What is shared or in a file stays until it is closed.
 */
const unreachable = new FinalizationRegistry<SharedBase>((base) => {
  clearRow(new Control(base.buffer), 0);
  noteLeft(hostEnvironment(), base);
});

/** Whoever reads or writes holds the core: handles, key spaces, iterators, streams. */
function registerUnreachable(opened: Opened): Lifecycle {
  unreachable.register(opened.engine.core, opened.base, opened.base);
  return lifecycle({ opened, path: undefined, handles: 1 });
}

function oneMore(entry: Entry): Lifecycle {
  entry.handles += 1;
  return lifecycle(entry);
}

/** Opens a database, or gives one more handle on it. */
function openOnce(request: OpenRequest): Lifecycle {
  const environment = hostEnvironment();
  if (request.createFolders) makeFolders(environment, request.path);
  const path = realLogPath(environment.system, request.path);
  endAbandoned(environment, path);
  if (request.config.readOnly) {
    // What this thread has written and the file does not hold yet is part of the moment of the open.
    for (const entry of registry().values()) if (entry.path === path) spillQuietly(entry);
    return register(openFile(environment, { ...request, path }), undefined);
  }
  for (const entry of registry().values()) {
    if (entry.path !== path) continue;
    mustAgree(entry.opened.base.config, request.config, path);
    mustHaveFile(entry.opened, path);
    proveSecret(environment, request.config, path);
    return oneMore(entry);
  }
  if (request.config.createIfMissing && isLongName(environment.system, path)) mustBeThere(environment.system, path);
  return register(openWhenFree(environment, { ...request, path }), path);
}

/** Waits for another process to close it, if that is asked for. */
function openWhenFree(environment: Environment, request: OpenRequest): Opened {
  const wait = new LockWait(environment.system, request.path, request.config.lockTimeoutMs);
  for (;;) {
    try {
      return openFile(environment, request);
    } catch (error) {
      if (!wait.isOver(error)) throw error;
    }
  }
}

/** A name that is too long for a new database is good enough for one that is there. */
function mustBeThere(system: System, path: string): void {
  if (judgeFile(system, path) === undefined && findReplaced(system, path) === undefined)
    refuseLongName(system, path, "path");
}

/** Changes how a file is encrypted, and wipes the secrets that were given for it. */
async function rekey(change: typeof rewriteFile, request: RekeyRequest, options: ProgressOptions): Promise<void> {
  const environment = hostEnvironment();
  try {
    endAbandoned(environment, realLogPath(environment.system, request.path));
    await change(environment, request, options);
  } finally {
    for (const encryption of [request.current, request.next]) wipeAsked({ encryption, cipher: undefined });
  }
}

export const door: EngineDoor = {
  open(request: OpenRequest): Lifecycle {
    try {
      // Half-way, nobody would let go of the file's lock.
      requireLongStack();
      return openOnce(request);
    } finally {
      wipeAsked(request.config);
    }
  },
  openInMemory(config: EngineConfig): Lifecycle {
    try {
      requireLongStack();
      const environment = hostEnvironment();
      endAbandoned(environment, undefined);
      return registerUnreachable(openMemory(environment, config));
    } finally {
      wipeAsked(config);
    }
  },
  attach(share: EmdbShare): Lifecycle {
    requireLongStack();
    const environment = hostEnvironment();
    endAbandoned(environment, undefined);
    const base = checkedShare(share, environment.system);
    const known = registry().get(base.id);
    return known === undefined ? register(attachTo(environment, base), base.path) : oneMore(known);
  },
  lockHolder(path: string) {
    const { system } = hostEnvironment();
    const real = whereThere(system, path);
    return real === undefined ? undefined : readHolder(system, real);
  },
  breakLock(path: string, options: { readonly force: boolean }): void {
    const { system } = hostEnvironment();
    const real = whereThere(system, path);
    if (real !== undefined) breakLock(system, real, options.force);
  },
  enableEncryption: (request, options) => rekey(rewriteFile, request, options),
  disableEncryption: (request, options) => rekey(rewriteFile, request, options),
  rotateEncryptionKey: (request, options) => rekey(rotateSecret, request, options),
  async salvage(request, options) {
    try {
      return await salvageFile(hostEnvironment(), request, options);
    } finally {
      wipeAsked({ encryption: request.encryption, cipher: undefined });
    }
  },
};

/** The real path of a log; undefined where its folder does not exist, and so no lock either. */
function whereThere(system: System, path: string): string | undefined {
  try {
    return realLogPath(system, path);
  } catch (error) {
    if (error instanceof EmdbError && error.code === "EMDB_NOT_FOUND") return undefined;
    throw error;
  }
}

/** Makes the folders above a path that are missing, durably: what is flushed is lost with the folder it is in. @throws {EmdbError} EMDB_IO */
export function makeFolders(environment: Environment, path: string): void {
  const { system } = environment;
  const folder = dirname(path);
  if (folder === path || typeof system.status(folder) !== "number") return;
  makeFolders(environment, folder);
  using above = new HeldFolder(system, dirname(folder));
  const made = system.makeFolder(folder);
  if (made !== -Errno.EEXIST) must(made, { syscall: "mkdir", path: folder });
  above.mustSync("the folder is made; a loss of power may take it away, and what is written to it");
}

/** One more handle must ask for what the first one asked for. */
function mustAgree(first: SharedConfig, second: EngineConfig, path: string): void {
  const [had, asked] = [inOptions(first), inOptions(second)];
  for (const [index, option] of had.entries()) {
    const other = asked[index]!;
    if (option === other) continue;
    const message = `${JSON.stringify(path)} is open already in this thread with ${option}; this open asks for ${other}; close it first, or ask for the same`;
    throw new EmdbError("EMDB_INVALID_CONFIG", message, { path });
  }
}

/**
 * One more handle must be one on what is at the path: whoever has removed the file, or its whole folder, and opens another in its
 * place would read the removed one, and write to what nobody finds again. Windows lets nobody remove a file that is mapped, but move it.
 *
 * @throws {EmdbError} EMDB_LOCKED
 */
function mustHaveFile({ engine }: Opened, path: string): void {
  const { core } = engine;
  const { system, file, mutex, control } = core;
  core.lockWatch.look();
  if (file === undefined) return;
  const isThere = (): boolean => {
    const there = system.status(path);
    if (typeof there !== "number") return !isOtherFile(system, { handle: file.handle, path }, there);
    // A compaction may have moved it aside, and not have got its name back.
    return there !== -Errno.ENOENT || findReplaced(system, path) !== undefined;
  };
  if (isThere()) return;
  // A compaction may just be putting another file there.
  mutex.lock();
  try {
    // One whose thread has died left it to the next writer, who goes by what is there.
    if (isThere() || Atomics.load(control.flags, SWAP) !== SWAP_NONE) return;
  } finally {
    mutex.unlock();
  }
  const message = `${JSON.stringify(path)} is open already in this thread, and the file was removed or replaced since; close it first`;
  throw new EmdbError("EMDB_LOCKED", message, { path });
}

/** What must agree, each as a caller writes it. */
function inOptions(config: SharedConfig | EngineConfig): readonly string[] {
  const { defaultTtlMs, sweepIntervalMs = 0, autoCompact, rangeScans, verifyReads, flushPlan } = config;
  const plan = autoCompact && { ratio: autoCompact.ratio, minBytes: autoCompact.bytesMin };
  return [
    defaultTtlMs === 0 ? "no defaultTtlMs" : `defaultTtlMs ${defaultTtlMs}`,
    sweepIntervalMs === 0 ? "no sweepIntervalMs" : `sweepIntervalMs ${sweepIntervalMs}`,
    `autoCompact ${JSON.stringify(plan ?? false)}`,
    `rangeScans ${rangeScans}`,
    `verifyReads ${verifyReads}`,
    `flushPolicy ${JSON.stringify(asPolicy(flushPlan))}`,
  ];
}

function asPolicy(plan: FlushPlan): FlushPolicy {
  if (plan.kind !== "group") return plan.kind;
  const { waitMsMax: maxWaitMs, batchMax: maxBatch } = plan;
  return maxWaitMs === 0 && maxBatch === GROUP_BATCH_MAX ? "group" : { group: { maxWaitMs, maxBatch } };
}

/** One more handle must know the secret too. @throws {EmdbError} as an open does */
function proveSecret(environment: Environment, config: EngineConfig, path: string): void {
  const found = judgeFile(environment.system, path);
  if (found !== undefined) unlockPage(found, config, path)?.dataKey.wipe();
}

function lifecycle(entry: Entry): Lifecycle {
  const { opened } = entry;
  const { engine, sync, commit, base } = opened;
  let isClosed = false;
  /** Gives the handle back; returns whether others of this thread go on. */
  const giveBack = (): boolean => {
    isClosed = true;
    entry.handles -= 1;
    return entry.handles > 0;
  };
  const leave = (): void => {
    unreachable.unregister(base);
    registry().delete(base.id);
    try {
      opened.leave();
    } finally {
      noteLeft(hostEnvironment(), base);
    }
  };
  // What this handle has written is flushed either way, and a refusal is told: whoever closes counts on it.
  const closeSync = (): void => {
    if (isClosed) return;
    if (!giveBack()) leave();
    else sync?.flushRest();
  };
  const close = async (): Promise<void> => {
    if (isClosed) return;
    if (!giveBack()) leave();
    else await commit?.flush();
  };
  return {
    store: engine,
    defaultTtlMs: base.config.defaultTtlMs,
    path: base.path,
    recovery: base.recovery,
    findSpace: (name) => engine.findSpace(name),
    share: () => {
      unreachable.unregister(base);
      registry().set(base.id, entry);
      engine.core.becomeShared();
      return tokenOf(base);
    },
    stats: () => statsOf(opened.engine, opened.base),
    flush: () => commit?.flush() ?? Promise.resolve(),
    flushSync: () => sync?.flush(),
    checkpoint: async () => {
      engine.core.enter();
      const path = base.path;
      if (engine.isReadOnly) throw new EmdbError("EMDB_READ_ONLY", "the database was opened with readOnly", { path });
      await opened.checkpoint?.run();
    },
    compact: (options) => opened.compaction.run(options),
    backupTo: async (target, options) => opened.backup.run(realLogPath(engine.core.system, target), options),
    verify: (options) => verifyDatabase(opened, options),
    close,
    closeSync,
  };
}
