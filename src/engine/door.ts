/**
 * How the room above opens databases: one engine for each file and thread, found again through a registry that
 * outlives the module (`bun --hot` evaluates modules anew and keeps what was open).
 */

import { EmdbError } from "../errors.ts";
import { hostSystem } from "../ffi/host.ts";
import { onProcessExit } from "../ffi/process-exit.ts";
import type { EmdbStats } from "../api/types.ts";
import type { EngineConfig, EngineDoor, Lifecycle, OpenRequest } from "./life.ts";
import { LOG_TAIL, LOG_VISIBLE } from "../log/log-words.ts";
import { frameBytes, shapeOf, KIND_SPACE_CREATE, PLACE_ALONE } from "../log/frame.ts";
import { HEADER_PAGE_BYTES } from "../limits.ts";
import { breakLock, readHolder } from "./lock-file.ts";
import { openFile, openMemory, realLogPath, type Environment, type Opened } from "./open.ts";

/** An engine with its handles counted. */
interface Entry {
  readonly opened: Opened;
  readonly config: EngineConfig;
  handles: number;
  isReleased: boolean;
}

/** Never rename: an older evaluation of this module in the same thread looks here too. */
const REGISTRY = Symbol.for("emdb.open-engines.1");

function registry(): Map<string, Entry> {
  const holder = globalThis as { [REGISTRY]?: Map<string, Entry> };
  let map = holder[REGISTRY];
  if (map === undefined) {
    map = new Map();
    holder[REGISTRY] = map;
    const open = map;
    onProcessExit(() => {
      for (const entry of open.values()) spillQuietly(entry);
    });
  }
  return map;
}

/** What is pending goes to the page cache when the process ends in good order; durability never depends on it. */
function spillQuietly(entry: Entry): void {
  try {
    if (!entry.isReleased) entry.opened.sync?.spill();
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
  }
}

/** Runs work when the event loop turns. */
function deferToTurn(work: () => void): void {
  setImmediate(work);
}

function hostEnvironment(): Environment {
  return { system: hostSystem(), defer: deferToTurn };
}

export const door: EngineDoor = {
  open(request: OpenRequest): Lifecycle {
    const environment = hostEnvironment();
    if (request.createFolders) makeFolders(environment, request.path);
    const path = realLogPath(environment.system, request.path);
    if (request.config.readOnly)
      return lifecycle(
        { opened: openFile(environment, { ...request, path }), config: request.config, handles: 1, isReleased: false },
        undefined,
      );
    const known = registry().get(path);
    if (known !== undefined) {
      mustAgree(known.config, request.config, path);
      known.handles += 1;
      return lifecycle(known, path);
    }
    const opened = openFile(environment, { ...request, path });
    const entry = { opened, config: request.config, handles: 1, isReleased: false };
    registry().set(path, entry);
    return lifecycle(entry, path);
  },
  openInMemory(config: EngineConfig): Lifecycle {
    const opened = openMemory(hostEnvironment(), config);
    return lifecycle({ opened, config, handles: 1, isReleased: false }, undefined);
  },
  lockHolder(path: string) {
    const { system } = hostEnvironment();
    return readHolder(system, realLogPath(system, path));
  },
  breakLock(path: string, options: { readonly force: boolean }): void {
    const { system } = hostEnvironment();
    breakLock(system, realLogPath(system, path), options.force);
  },
  attach: () => notYet("attach"),
  enableEncryption: () => notYetAsync("enableEncryption"),
  disableEncryption: () => notYetAsync("disableEncryption"),
  rotateEncryptionKey: () => notYetAsync("rotateEncryptionKey"),
  salvage: () => notYetAsync("salvage"),
};

function notYet(what: string): never {
  throw new EmdbError("EMDB_UNSUPPORTED", `${what} is not in this version yet`);
}

async function notYetAsync(what: string): Promise<never> {
  return notYet(what);
}

function makeFolders(environment: Environment, path: string): void {
  const { system } = environment;
  const folder = path.slice(0, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")));
  if (folder === "" || typeof system.status(folder) !== "number") return;
  makeFolders(environment, folder);
  system.makeFolder(folder);
}

/** One more handle must ask for what the first one asked for. */
function mustAgree(first: EngineConfig, second: EngineConfig, path: string): void {
  const names = ["defaultTtlMs", "rangeScans", "verifyReads", "flushPlan"] as const;
  for (const name of names) {
    const [had, asked] = [JSON.stringify(first[name]), JSON.stringify(second[name])];
    if (had === asked) continue;
    const message = `the database is open already in this thread with ${name} ${had}; this open asks for ${asked}`;
    throw new EmdbError("EMDB_INVALID_CONFIG", message, { path });
  }
}

function lifecycle(entry: Entry, key: string | undefined): Lifecycle {
  const { opened, config } = entry;
  const { engine, sync } = opened;
  let isClosed = false;
  const closeSync = (): void => {
    if (isClosed) return;
    isClosed = true;
    entry.handles -= 1;
    if (entry.handles > 0) return;
    entry.isReleased = true;
    if (key !== undefined) registry().delete(key);
    opened.release(true);
  };
  return {
    store: engine,
    defaultTtlMs: config.defaultTtlMs,
    path: opened.path,
    recovery: opened.recovery,
    findSpace: (name) => engine.findSpace(name),
    share: () => notYet("share"),
    stats: () => statsOf(opened, config),
    flush: async () => sync?.flush(),
    flushSync: () => sync?.flush(),
    checkpoint: () => notYetAsync("checkpoint"),
    compact: () => notYetAsync("compact"),
    backupTo: () => notYetAsync("backupTo"),
    verify: () => notYetAsync("verify"),
    close: async () => closeSync(),
    closeSync,
  };
}

function statsOf(opened: Opened, config: EngineConfig): EmdbStats {
  const { core, spaces } = opened.engine;
  core.enter();
  const logical = core.control.log.numbers[core.isReadOnly ? LOG_VISIBLE : LOG_TAIL]!;
  const named = spaces.list();
  let records = 0;
  let liveBytes = HEADER_PAGE_BYTES;
  for (const space of [spaces.default, ...named]) {
    const counts = spaces.counts(space);
    records += counts.records;
    liveBytes += counts.bytes;
    if (space.id !== 0)
      liveBytes += frameBytes(shapeOf(KIND_SPACE_CREATE, PLACE_ALONE, 0, Buffer.byteLength(space.name)), 0);
  }
  const fileSizeBytes = core.file === undefined ? logical : Math.max(0, core.system.size(core.file.handle));
  return {
    liveRecords: records,
    namespaceCount: named.length,
    logicalSizeBytes: logical,
    fileSizeBytes,
    preallocatedBytes: Math.max(0, fileSizeBytes - logical),
    deadBytes: logical - liveBytes,
    indexBytes: core.heap.bytes,
    rangeScansEnabled: config.rangeScans,
    encrypted: false,
  };
}
