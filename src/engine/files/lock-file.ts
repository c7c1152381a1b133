/**
 * The advisory lock beside the log, `<path>.lock`, with its holder's record inside.
 *
 * Invariants
 * 1. What counts is the operating system's lock on the file, which dies with its holder; the record only tells.
 * 2. The file that is locked is the file at the path: after taking the lock its identity is compared, so a
 *    file that was unlinked in between is not mistaken for the lock.
 * 3. It is unlinked only while its lock is held (an open that failed and had made it), or by force.
 *    The log's own file is locked besides, for who comes by another name of it.
 * 4. Whose file is no longer the one at the path has been robbed and writes no more.
 * 5. Nothing is written to, or unlinked, but an empty file, zeros, and what begins as a record. A link at the place of the
 *    lock is not followed, and a database there refused. So is a text where there is no database yet. Any other short file
 *    may be what a power loss has left of a record: it is locked as it is.
 */

import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError, must } from "../../ffi/io-error.ts";
import type { FileHandle, FileStatus, Result, System } from "../../ffi/system.ts";
import type { LockHolder } from "../../api/types.ts";
import { closeFile, nameFile, type SharedFile } from "../../log/shared-file.ts";
import { PACKAGE_VERSION } from "../../version.ts";
import { mustFit } from "./name-room.ts";
import { isLog } from "./sidecar-names.ts";
import { isLogBeginning, isText, lockPath } from "./siblings.ts";

const RECORD_BYTES_MAX = 4096;
const ATTEMPTS = 100;
/** Milliseconds that somebody else may have the lock before the database counts as open. */
const PAUSES = 5;
/** What a handle is told whose lock file is no longer the one at the path, by `breakLock` or by hand. */
export const ROBBED =
  "somebody broke this database's lock, or removed its .lock file, and may be writing to it; this handle writes no more: close it and open again, without what it has not flushed";
const pauseWord = new Int32Array(new SharedArrayBuffer(4));

export class LockFile {
  readonly #system: System;
  readonly #handle: FileHandle;
  readonly #logPath: string;
  readonly #identity: string;
  readonly #isNew: boolean;
  /** What stood in the file, where a record may be written. */
  readonly #found: Uint8Array | undefined;
  #isRecorded = false;
  /** The file that the one who was robbed of this lock has still open and locked. */
  #broken: string | undefined;

  private constructor(
    system: System,
    logPath: string,
    file: { handle: FileHandle; identity: string; isNew: boolean; found: Uint8Array | undefined },
  ) {
    this.#system = system;
    this.#logPath = logPath;
    this.#handle = file.handle;
    this.#identity = file.identity;
    this.#isNew = file.isNew;
    this.#found = file.found;
  }

  /**
   * Takes the lock of a log, or throws EMDB_LOCKED with its holder. `words`, if others may have to let go of it, name
   * the file before it is locked.
   */
  static take(system: System, logPath: string, words?: SharedFile): LockFile {
    const path = lockPath(logPath);
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const existed = typeof system.status(path) !== "number";
      const handle = openPatiently(system, path);
      if (handle < 0) {
        if (handle === -Errno.EACCES && isGoing(system, system.status(path))) throw lockedError(system, logPath);
        refuseLink(system, logPath);
        mustFit(system, logPath, {
          names: [path],
          says: "the database cannot be locked, so it opens with readOnly alone",
        });
      }
      must(handle, { syscall: "open", path });
      if (words !== undefined) nameFile(system, words, handle);
      const result = lockPatiently(system, handle);
      if (result < 0) {
        closeLock(system, handle, words);
        if (result === -Errno.EAGAIN) throw lockedError(system, logPath);
        throw ioError(result, { syscall: "flock", path });
      }
      const own = system.statusOf(handle);
      const there = system.status(path);
      const found = recordBytes(system, { handle, logPath }, words);
      if (typeof own !== "number" && typeof there !== "number" && own.identity === there.identity) {
        return new LockFile(system, logPath, { handle, identity: own.identity, isNew: !existed, found });
      }
      closeLock(system, handle, words);
      // What the system did not tell once it may tell the next time.
      if (attempt < ATTEMPTS) continue;
      if (typeof own === "number") throw ioError(own, { syscall: "fstat", path });
      mustBeTold(system, there, path);
    }
    throw new EmdbError(
      "EMDB_LOCKED",
      `the lock file ${JSON.stringify(path)} kept changing while it was being locked`,
      { path: logPath },
    );
  }

  /** A lock that another thread of this process has taken. */
  static adopt(
    system: System,
    logPath: string,
    token: { readonly handle: FileHandle; readonly identity: string },
  ): LockFile {
    return new LockFile(system, logPath, { ...token, isNew: false, found: undefined });
  }

  /** What `adopt` takes. */
  get token(): { readonly handle: FileHandle; readonly identity: string } {
    return { handle: this.#handle, identity: this.#identity };
  }

  /**
   * Locks the log's own file as well, which may have other names: a hard link leads past the lock file. Who was robbed of
   * the lock by force keeps that one until it closes; the record tells of it, and it is passed over.
   *
   * @throws {EmdbError} EMDB_LOCKED
   */
  claim(handle: FileHandle): void {
    const system = this.#system;
    const result = lockPatiently(system, handle);
    if (result >= 0) return;
    const path = this.#logPath;
    if (result !== -Errno.EAGAIN) throw ioError(result, { syscall: "flock", path });
    const status = system.statusOf(handle);
    const broken = recordIn(system, this.#handle)?.["broken"];
    if (typeof status === "number" || status.identity !== broken) throw linkedError(path);
    this.#broken = status.identity;
  }

  /** Writes down who holds the lock, where a record may stand: before anything that takes long, since the one before is dead. */
  record(): void {
    if (this.#found === undefined) return;
    this.#isRecorded = true;
    const system = this.#system;
    const holder = {
      pid: system.processId(),
      hostname: system.hostName(),
      acquiredAtMs: system.now(),
      packageVersion: PACKAGE_VERSION,
      broken: this.#broken,
    };
    try {
      this.#write(new TextEncoder().encode(`${JSON.stringify(holder)}\n`));
    } catch (error) {
      // A full disk: the lock holds without a record, which only tells. But of a lock that was broken only the record says so.
      if (!(error instanceof EmdbError) || error.code !== "EMDB_FULL" || this.#broken !== undefined) throw error;
      // Rather none than that of a dead one.
      system.truncate(this.#handle, 0);
    }
  }

  #write(bytes: Uint8Array): void {
    const system = this.#system;
    const path = lockPath(this.#logPath);
    must(system.write(this.#handle, bytes, { position: 0, bytes: bytes.length }), { syscall: "pwrite", path });
    must(system.truncate(this.#handle, bytes.length), { syscall: "ftruncate", path });
  }

  /** Writes back what stood there. */
  #takeBack(): void {
    try {
      if (this.#isRecorded && this.#found !== undefined) this.#write(this.#found);
    } catch (error) {
      // The record then names a process that has let go, which is told.
      if (!(error instanceof EmdbError)) throw error;
    }
  }

  /** Whether nobody has broken this lock. */
  get isOurs(): boolean {
    return this.#isLocked(this.#system.status(lockPath(this.#logPath)));
  }

  /** Whether what is at the place of the lock is what was locked. */
  #isLocked(there: FileStatus | Result): boolean {
    return typeof there !== "number" && there.identity === this.#identity;
  }

  /** Throws EMDB_LOCKED when somebody has, and EMDB_IO when the system does not tell. */
  mustBeOurs(): void {
    const path = lockPath(this.#logPath);
    const there = this.#system.status(path);
    if (this.#isLocked(there)) return;
    mustBeTold(this.#system, there, path);
    const holder = readHolder(this.#system, this.#logPath);
    throw new EmdbError("EMDB_LOCKED", ROBBED, { path: this.#logPath, holder });
  }

  /** Lets go of the lock. After a failed open nothing stays that was not there before; what a robber has put there does. */
  release(hasFailed: boolean, words?: SharedFile): void {
    if (hasFailed && this.#isNew && this.isOurs) this.#system.unlink(lockPath(this.#logPath));
    else if (hasFailed) this.#takeBack();
    this.#system.unlock(this.#handle);
    closeLock(this.#system, this.#handle, words);
  }
}

/**
 * Throws when it is unknown what is at the place of the lock. That nothing is there is known; Windows says EACCES of what has
 * been removed and is still open.
 */
function mustBeTold(system: System, status: FileStatus | Result, path: string): void {
  const isGone = status === -Errno.ENOENT || status === -Errno.ENOTDIR;
  if (typeof status === "number" && !isGone && !isGoing(system, status))
    throw ioError(status, { syscall: "stat", path });
}

/** How often a lock was broken by this thread: what it knew of locks before is worth nothing then. */
export const locksBroken = { count: 0 };

/** Whether a file is removed, and has its name until who has it open closes it (Windows). */
function isGoing(system: System, status: FileStatus | Result): boolean {
  return !system.canMapPastEnd && status === -Errno.EACCES;
}

/** Opens the lock file, or makes it. What is removed by who has made it, and could not open the database, is closed in a moment. */
function openPatiently(system: System, path: string): FileHandle | Result {
  let handle = system.open(path, "write-or-create");
  for (let pause = 0; isGoing(system, handle) && pause < PAUSES; pause++) {
    Atomics.wait(pauseWord, 0, 0, 1);
    handle = system.open(path, "write-or-create");
  }
  return handle;
}

/** Who only asks whether the lock is held has it for a moment. */
function lockPatiently(system: System, handle: FileHandle): Result {
  let result = system.lock(handle);
  for (let pause = 0; result === -Errno.EAGAIN && pause < PAUSES; pause++) {
    Atomics.wait(pauseWord, 0, 0, 1);
    result = system.lock(handle);
  }
  return result;
}

/**
 * Whether what is at the path of a claimed log is another file than the one that is open. On Windows the handle of one that
 * was renamed may not know its volume any more (Wine): there what has the log's lock is taken for the log.
 */
export function isOtherFile(
  system: System,
  { handle, path }: { readonly handle: FileHandle; readonly path: string },
  there: FileStatus,
): boolean {
  const own = system.statusOf(handle);
  if (typeof own === "number" || own.identity === there.identity) return false;
  return system.canMapPastEnd || !isLocked(system, path);
}

/** Whether somebody, it may be this process, holds the lock of the file at a path: of a log whoever has it open for writing. */
export function isLocked(system: System, path: string): boolean {
  const handle = system.open(path, "read");
  if (handle < 0) return false;
  const result = system.probeLock(handle);
  system.close(handle);
  return result === -Errno.EAGAIN;
}

/** Closes a log that may have been claimed: as long as a view of it is mapped somewhere, closing alone keeps it locked. */
export function closeLog(system: System, handle: FileHandle): void {
  system.unlock(handle);
  system.close(handle);
}

function closeLock(system: System, handle: FileHandle, words: SharedFile | undefined): void {
  if (words === undefined) system.close(handle);
  else closeFile(system, words);
}

/** Whether somebody has the log open for writing. Who found no room for a record has it as well. */
export function isLockHeld(system: System, logPath: string): boolean {
  return isLocked(system, lockPath(logPath));
}

/** Who opened the log last, and whether somebody has it now. */
export function readHolder(system: System, logPath: string): LockHolder | undefined {
  const path = lockPath(logPath);
  const handle = system.open(path, "read");
  if (handle < 0) return undefined;
  try {
    const record = holderOf(recordIn(system, handle));
    if (record === undefined) return undefined;
    return { ...record, isHeld: system.probeLock(handle) === -Errno.EAGAIN };
  } finally {
    system.close(handle);
  }
}

/** How every record begins. */
const RECORD_START = new TextEncoder().encode('{"pid":');

/**
 * What stands in a lock file, if a record may be written over it. Throws, the file closed and as it was, when what is at the
 * place of the lock is something else.
 */
function recordBytes(
  system: System,
  at: { readonly handle: FileHandle; readonly logPath: string },
  words?: SharedFile,
): Uint8Array | undefined {
  const { handle, logPath } = at;
  const bytes = new Uint8Array(RECORD_BYTES_MAX + 1);
  const count = system.read(handle, bytes, { position: 0, bytes: bytes.length });
  const found = bytes.subarray(0, Math.max(0, count));
  const isStart = RECORD_START.every((byte, index) => index >= found.length || found[index] === byte);
  if (count >= 0 && count <= RECORD_BYTES_MAX && (isStart || found.every((byte) => byte === 0))) return found;
  const isDatabase = isLogBeginning(found);
  // Of a database that is there already it is the lock, whatever has become of it.
  const isOwn = !isText(found) || isLog(system, logPath);
  if (count <= RECORD_BYTES_MAX && !isDatabase && isOwn) return undefined;
  closeLock(system, handle, words);
  throw stranger(logPath, isDatabase ? "is a database itself" : "is not a lock file");
}

/** Throws when the lock's place is a symbolic link: who takes the lock would write to what it leads to. */
function refuseLink(system: System, logPath: string): void {
  if (typeof system.linkTarget(lockPath(logPath)) === "string") throw stranger(logPath, "is a symbolic link");
}

function stranger(logPath: string, what: string): EmdbError {
  const message = `${JSON.stringify(lockPath(logPath))} ${what}, and this database would lock it; choose another path`;
  return new EmdbError("EMDB_INVALID_CONFIG", message, { path: logPath });
}

/** What stands in a lock file, whatever that is. */
function recordIn(system: System, handle: FileHandle): Record<string, unknown> | undefined {
  const bytes = new Uint8Array(RECORD_BYTES_MAX);
  const count = system.read(handle, bytes, { position: 0, bytes: bytes.length });
  if (count <= 0) return undefined;
  try {
    // Behind the line there may be the rest of a longer one that is just being replaced.
    const [line = ""] = new TextDecoder().decode(bytes.subarray(0, count)).split("\n", 1);
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function holderOf(record: Record<string, unknown> | undefined): Omit<LockHolder, "isHeld"> | undefined {
  const { pid, hostname, acquiredAtMs, packageVersion } = record ?? {};
  if (typeof pid !== "number" || typeof hostname !== "string") return undefined;
  if (typeof acquiredAtMs !== "number" || typeof packageVersion !== "string") return undefined;
  return { pid, hostname, acquiredAtMs, packageVersion };
}

/** Whether the holder of a lock is this process. */
export function isHeldHere(system: System, logPath: string, holder: LockHolder | undefined): boolean {
  const hasOurName = holder?.pid === system.processId() && holder.hostname === system.hostName();
  return hasOurName && mayBeOpenHere(system, lockPath(logPath));
}

/**
 * Whether this process has a file open, as far as the system tells: in containers that share the host's name, each with process
 * numbers of its own, another process may be called as this one is.
 */
function mayBeOpenHere(system: System, path: string): boolean {
  const handle = system.open(path, "read");
  if (handle < 0) return true;
  const status = system.statusOf(handle);
  const open = typeof status === "number" ? [] : system.openHandles(status.identity);
  system.close(handle);
  // Where not even this handle is told of, nothing is known.
  return !open.includes(handle) || open.length > 1;
}

function lockedError(system: System, logPath: string): EmdbError {
  const holder = readHolder(system, logPath);
  const isOurs = isHeldHere(system, logPath, holder);
  const who = holder === undefined ? "another process" : `process ${holder.pid} on ${holder.hostname}`;
  const path = JSON.stringify(logPath);
  const message = isOurs
    ? `${path} is open in this process: close it, or if it is another Worker's, post db.share() to this one and use Emdb.attach`
    : `${path} is open in ${who}; close it there, or only read it: an open with readOnly needs no lock`;
  return new EmdbError("EMDB_LOCKED", message, { path: logPath, holder });
}

/** The error for a file that is locked while its lock file is free. */
export function linkedError(path: string): EmdbError {
  const name = JSON.stringify(path);
  const what = `the file ${name} is open under another name, a hard link or the one that it had before, or its lock file was removed while it was open; close it there`;
  return new EmdbError("EMDB_LOCKED", what, { path });
}

/**
 * After a lock was broken by force: says in a new lock file whose lock on the log itself is of no account any more, if
 * somebody has one: of a lock that was held its holder, otherwise the one of whom the file said so. Whoever has the log under
 * another name has not been robbed. When that fails the log is refused to everybody until the robbed one has closed it.
 */
function noteBroken(
  system: System,
  logPath: string,
  was: { readonly isHeld: boolean; readonly broken: unknown },
): void {
  const log = system.open(logPath, "read");
  if (log < 0) return;
  const status = system.probeLock(log) === -Errno.EAGAIN ? system.statusOf(log) : undefined;
  system.close(log);
  if (typeof status !== "object" || (!was.isHeld && was.broken !== status.identity)) return;
  const handle = system.open(lockPath(logPath), "create");
  if (handle < 0) return;
  const bytes = new TextEncoder().encode(`${JSON.stringify({ pid: null, broken: status.identity })}\n`);
  system.write(handle, bytes, { position: 0, bytes: bytes.length });
  system.close(handle);
}

/** Removes what a dead holder left; of a living one only by force. */
export function breakLock(system: System, logPath: string, isForced: boolean): void {
  locksBroken.count += 1;
  const path = lockPath(logPath);
  refuseLink(system, logPath);
  const there = system.open(path, "read");
  const was = { isHeld: false, broken: undefined as unknown };
  if (there >= 0) {
    const isRecord = recordBytes(system, { handle: there, logPath }) !== undefined;
    was.isHeld = system.probeLock(there) === -Errno.EAGAIN;
    was.broken = recordIn(system, there)?.["broken"];
    system.close(there);
    if (!isRecord) throw stranger(logPath, "is not a lock file");
  }
  if (isForced) {
    const result = system.unlink(path);
    // What no file can be called there is none of.
    const isNone = result === -Errno.ENOENT || result === -Errno.ENAMETOOLONG;
    if (result < 0 && !isNone) throw ioError(result, { syscall: "unlink", path });
    noteBroken(system, logPath, was);
    return;
  }
  if (was.isHeld) throw lockedError(system, logPath);
  if (typeof system.status(path) === "number") return;
  const lock = LockFile.take(system, logPath);
  system.unlink(path);
  lock.release(false);
}
