/**
 * Salvage: every sound record of a damaged log, in a new database.
 *
 * The source's sound frames are applied to the target in the order in which they were written, so the newest
 * sound version of each key wins, removals, clears and drops are honoured, and namespaces keep their order.
 * What is lost with a frame is all that it said: an older version of its key, or a record that it removed, or
 * the records of the key space that it cleared or dropped, may then be there again.
 *
 * Invariants
 * 1. The source is opened for reading only; nothing is made beside it. Its lock, where it has one, is held.
 * 2. The target's name appears when everything under it is durable, and never replaces anything.
 * 3. Whatever fails, nothing is left beside the target.
 */

import { dirname } from "node:path";
import type { EncryptionInput, ProgressOptions, SalvageReport } from "../../api/types.ts";
import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError, must } from "../../ffi/io-error.ts";
import type { System } from "../../ffi/system.ts";
import { spareNames } from "../../log/free-name.ts";
import type { Environment } from "../assemble.ts";
import type { Engine } from "../engine.ts";
import type { OpenConfig, SalvageRequest } from "../life.ts";
import { noFile } from "../open/judge-file.ts";
import { LockFile, linkedError, readHolder } from "../files/lock-file.ts";
import { noteEnd } from "../files/made-end.ts";
import { hintPath, lockPath, salvagePath } from "../files/siblings.ts";
import { refuseSidecarName, refuseTakenImage } from "../files/sidecar-names.ts";
import { refuseLongName } from "../files/name-room.ts";
import { HeldFolder } from "../files/open-folder.ts";
import { openFile, realLogPath } from "../open/open.ts";
import { missing } from "../open/put-back.ts";
import { Pace, refuseAborted } from "../progress.ts";
import { findLog, type FoundLog } from "./salvage-header.ts";
import { LogSalvage, type DamagedLog } from "./salvage-log.ts";
import { ForwardKeys } from "../sealed/forward-keys.ts";
import { ScanOpener } from "../sealed/scan-opener.ts";
import { cipherOf, unlockPage } from "../sealed/unlock.ts";
import { SalvageTarget } from "./salvage-target.ts";
import { PatientReads } from "../verify/verify-source.ts";

const TARGET_CONFIG: OpenConfig = {
  defaultTtlMs: 0,
  rangeScans: false,
  flushPlan: { kind: "on-each-flush" },
  encryption: undefined,
  cipher: undefined,
  verifyReads: false,
  createIfMissing: true,
  lockTimeoutMs: 0,
  readOnly: false,
};

/** A name for what is made while the target has none yet, under which nobody has anything: what a death has left there stays. */
function freeDraftPath(system: System, target: string): string {
  const isFree = (path: string): boolean => system.status(path) === -Errno.ENOENT;
  const names = spareNames(salvagePath(target));
  const path = names.find((name) => [name, lockPath(name), hintPath(name)].every(isFree));
  if (path !== undefined) return path;
  const message = `files named as ${JSON.stringify(names[0])} are in the way, numbered or not; remove what is of no use`;
  throw new EmdbError("EMDB_INVALID_CONFIG", message, { path: target });
}

/**
 * Copies every sound record of a damaged log into a new database.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG when the target exists, or is the source; EMDB_LOCKED when the source
 * or the target is open; EMDB_CORRUPTED when not even the header's salts can be found out
 */
export async function salvageFile(
  environment: Environment,
  request: SalvageRequest,
  options: ProgressOptions,
): Promise<SalvageReport> {
  const { system } = environment;
  const path = mustExist(system, request.path);
  const target = realLogPath(system, request.target);
  mustBeFree(system, path, target);
  refuseLongName(system, target, "target");
  const unlock = lockSource(system, path);
  try {
    const file = must(system.open(path, "read"), { syscall: "open", path });
    try {
      if (system.lock(file) === -Errno.EAGAIN) throw linkedError(path);
      const end = must(system.size(file), { syscall: "fstat", path });
      const found = { system: new PatientReads(system), file, path, end };
      const log = findLog(found);
      using keys = keysOf(log, request.encryption, path);
      // A scan that begins anew, as after a lost session, takes what it meets: frames that do not open are lost.
      const opener =
        keys === undefined ? undefined : new ScanOpener(keys, { generation: keys.generation, isLost: () => true });
      const source = { ...found, salts: log.salts, opener, madeEnd: log.page?.header.madeEnd ?? 0 };
      const config = { ...TARGET_CONFIG, encryption: request.encryption, cipher: keys?.cipher };
      return await makeTarget(environment, { source, target, config }, options);
    } finally {
      system.close(file);
    }
  } finally {
    unlock();
  }
}

/** What opens the records of an encrypted log. @throws {EmdbError} as an open does, for a secret that is not right */
function keysOf(log: FoundLog, encryption: EncryptionInput | undefined, path: string): ForwardKeys | undefined {
  const { page, isSealed } = log;
  if (page === undefined) {
    if (encryption === undefined && !isSealed) return undefined;
    const message = `the header of ${JSON.stringify(path)} is gone, and with it what the secret opens; nothing can be salvaged`;
    throw new EmdbError("EMDB_CORRUPTED", message, { path, offset: 0 });
  }
  const asked = { encryption, cipher: undefined };
  // What else stands in a plain log's header page is no reason to leave its records.
  if (encryption === undefined && cipherOf(page.header) === undefined) return undefined;
  const keys = unlockPage(page, asked, path);
  return keys === undefined ? undefined : new ForwardKeys({ ...page.header, ...keys });
}

function mustExist(system: System, asked: string): string {
  const path = realLogPath(system, asked);
  const status = system.status(path);
  if (status === -Errno.ENOENT) throw missing(path);
  if (typeof status === "number") throw ioError(status, { syscall: "stat", path });
  if (status.kind === "file") return path;
  throw noFile(path, status.kind);
}

function mustBeFree(system: System, source: string, target: string): void {
  const status = system.status(target);
  if (status === -Errno.ENOENT) return;
  if (typeof status === "number") throw ioError(status, { syscall: "stat", path: target });
  const own = system.status(source);
  const isSource = typeof own !== "number" && own.identity === status.identity;
  const what = isSource ? "is the damaged file itself" : "exists already; give a path where nothing is";
  throw new EmdbError("EMDB_INVALID_CONFIG", `the target ${JSON.stringify(target)} ${what}`, { path: target });
}

/** Holds the source's lock if there is a lock file; makes none. Returns what lets go of it. */
function lockSource(system: System, path: string): () => void {
  const handle = system.open(lockPath(path), "read");
  if (handle < 0) return () => undefined;
  const result = system.lock(handle);
  if (result >= 0) {
    return () => {
      system.unlock(handle);
      system.close(handle);
    };
  }
  system.close(handle);
  if (result !== -Errno.EAGAIN) throw ioError(result, { syscall: "flock", path: lockPath(path) });
  const holder = readHolder(system, path);
  throw new EmdbError(
    "EMDB_LOCKED",
    `${JSON.stringify(path)} is open; close it first: salvage reads what nobody writes`,
    {
      path,
      holder,
    },
  );
}

interface Job {
  readonly source: DamagedLog;
  readonly target: string;
  /** Of the new database: encrypted as the source is, under the same secret. */
  readonly config: OpenConfig;
}

/** Makes the target under the lock that it will have as a database. */
async function makeTarget(environment: Environment, job: Job, options: ProgressOptions): Promise<SalvageReport> {
  const { system } = environment;
  const { source, target, config } = job;
  refuseSidecarName(system, target);
  const lock = LockFile.take(system, target);
  let draft: string | undefined;
  try {
    refuseTakenImage(system, target);
    mustBeFree(system, source.path, target);
    lock.record();
    const pace = new Pace(environment, options, source.end);
    await pace.begin();
    draft = freeDraftPath(system, target);
    const report = await fillDraft(environment, { source, target: draft, config }, pace);
    refuseAborted(options);
    mustBeFree(system, source.path, target);
    using folder = new HeldFolder(system, dirname(target));
    lock.mustBeOurs();
    must(system.rename(draft, target), { syscall: "rename", path: target });
    folder.mustSync("the target is whole and in its place; a loss of power may take its name away, so keep the source");
    pace.finish();
    return report;
  } finally {
    if (draft !== undefined) removeDraft(system, draft);
    lock.release(true);
  }
}

/**
 * Removes the draft with all that a database has beside it. What cannot be removed is in nobody's way, since the next salvage takes
 * another name: it neither hides why a salvage failed nor makes one that is done a failure.
 */
function removeDraft(system: System, draft: string): void {
  for (const path of [draft, lockPath(draft), hintPath(draft)]) system.unlink(path);
}

async function fillDraft(environment: Environment, job: Job, pace: Pace): Promise<SalvageReport> {
  const opened = openFile(environment, { path: job.target, createFolders: false, config: job.config });
  try {
    const report = await replay({ source: job.source, engine: opened.engine }, pace);
    noteEnd(opened.engine.core);
    return report;
  } finally {
    opened.leave();
  }
}

async function replay(
  { source, engine }: { readonly source: DamagedLog; readonly engine: Engine },
  pace: Pace,
): Promise<SalvageReport> {
  const target = new SalvageTarget(engine);
  const log = new LogSalvage(source, {
    apply: (frame) => target.apply(frame),
    name: (frame) => target.name(frame),
  });
  try {
    while (log.step()) if (pace.isDue(log.lsn)) await pace.pause(log.lsn);
    return { recoveredRecords: target.records, lostRanges: log.lostRanges };
  } finally {
    log.release();
  }
}
