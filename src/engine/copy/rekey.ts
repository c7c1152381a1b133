/**
 * Changing how a file is encrypted, while nobody has it open.
 *
 * Enabling and disabling write every record into a new file with a new data key, or none, and put it in the place of
 * the old one. Changing the secret writes the data key anew into a slot, and no record.
 *
 * Invariants
 * 1. The log's lock is held from before the first look to after the last write.
 * 2. The path always opens with the old secret or the new one: the new file gets the name when it is whole and durable;
 *    a slot is overwritten only when the other one holds (`crypto/key-area.ts`).
 * 3. The checkpoint image of the old file goes before the new file gets the name: of a plain log it is plain.
 * 4. Whatever fails before that leaves the file as it was, and nothing beside it. What a crash leaves beside it, the
 *    next change or open for writing removes.
 * 5. Memory is that of the two indexes; records go through one by one.
 */

import { dirname } from "node:path";
import type { ProgressOptions } from "../../api/types.ts";
import { replaceSlot } from "../../crypto/key-area.ts";
import { newSlotLater } from "../../crypto/new-lock.ts";
import { callerSecret } from "../../crypto/open-matrix.ts";
import { stretchLater } from "../../crypto/argon2.ts";
import { EmdbError, assert } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError, must } from "../../ffi/io-error.ts";
import type { FileHandle, System } from "../../ffi/system.ts";
import type { Environment } from "../assemble.ts";
import type { Engine } from "../engine.ts";
import type { OpenConfig, RekeyRequest } from "../life.ts";
import { LockFile } from "../files/lock-file.ts";
import { judgeFile } from "../open/judge-file.ts";
import { noteEnd } from "../files/made-end.ts";
import { mustFit } from "../files/name-room.ts";
import { HeldFolder } from "../files/open-folder.ts";
import { openDraft, openLocked, realLogPath } from "../open/open.ts";
import { Pace, refuseAborted } from "../progress.ts";
import { findReplaced, missing, putBack } from "../open/put-back.ts";
import { hintPath, newPath, removeLeftOvers, type LogPlace } from "../files/siblings.ts";
import { refuseTakenImage } from "../files/sidecar-names.ts";
import type { SpaceState } from "../spaces.ts";
import { cipherOf, freshPageLater, keyPageOf, unlockPageLater, type HeaderPage } from "../sealed/unlock.ts";

const CONFIG: OpenConfig = {
  defaultTtlMs: 0,
  rangeScans: false,
  flushPlan: { kind: "on-each-flush" },
  encryption: undefined,
  cipher: undefined,
  verifyReads: true,
  createIfMissing: false,
  lockTimeoutMs: 0,
  readOnly: false,
};

/**
 * Writes a log anew, encrypted or not. From plain to encrypted or back, as the request's secrets say.
 *
 * @throws {EmdbError} EMDB_NOT_FOUND, EMDB_LOCKED, EMDB_INVALID_CONFIG, EMDB_KEY_MISMATCH, EMDB_CORRUPTED,
 * EMDB_ABORTED, EMDB_FULL, EMDB_IO; the file is as it was
 */
export async function rewriteFile(
  environment: Environment,
  request: RekeyRequest,
  options: ProgressOptions,
): Promise<void> {
  await underLock(environment, request.path, async (path, found, { lock, letGo }) => {
    const { system } = environment;
    const isEncrypted = cipherOf(found.header) !== undefined;
    if (isEncrypted && request.current === undefined) {
      const message = "the database is encrypted already; rotateEncryptionKey gives it another secret";
      throw new EmdbError("EMDB_INVALID_CONFIG", message, { path });
    }
    if (!isEncrypted && request.next === undefined) throw notEncrypted(path, "there is nothing to disable");
    const current = { encryption: request.current, cipher: undefined };
    const next = { encryption: request.next, cipher: request.cipher };
    const names = [newPath({ path, fileId: found.header.fileId })];
    mustFit(system, path, { names, says: "the database is not written anew" });
    const keys = await unlockPageLater(found, current, path);
    let pace: Pace;
    try {
      const made = await freshPageLater(system, next);
      try {
        const draft = { path: newPath({ path, fileId: found.header.fileId }), page: made.page, keys: made.keys };
        pace = await copyInto(environment, { path, found, keys, draft }, options);
      } finally {
        made.keys?.dataKey.wipe();
      }
    } finally {
      keys?.dataKey.wipe();
    }
    // Not every system replaces a file that is open.
    letGo();
    takeName(system, { path, fileId: found.header.fileId }, lock);
    pace.finish();
  });
}

interface Rewrite {
  readonly path: string;
  readonly found: HeaderPage;
  readonly keys: Parameters<typeof openLocked>[1]["keys"];
  readonly draft: Parameters<typeof openDraft>[1];
}

/** Makes the draft whole and durable; when that fails, it is gone. Returns what tells of the rest. */
async function copyInto(environment: Environment, rewrite: Rewrite, options: ProgressOptions): Promise<Pace> {
  const { system } = environment;
  const { path, found, keys, draft } = rewrite;
  const source = openLocked(environment, { path, header: found.header, keys }, { ...CONFIG, readOnly: true });
  let isWhole = false;
  try {
    const { base, engine } = source;
    refuseCut(base.recovery.missingBytes, engine.core.visible, path);
    const target = openDraft(environment, draft, CONFIG);
    let pace: Pace;
    try {
      pace = new Pace(environment, options, engine.core.visible);
      await copyRecords(engine, target.engine, pace);
      noteEnd(target.engine.core);
      refuseAborted(options);
      system.copyAccess?.(engine.core.file!.handle, target.engine.core.file!.handle);
    } catch (error) {
      abandon(target.leave);
      throw error;
    }
    target.leave();
    isWhole = true;
    return pace;
  } finally {
    source.leave();
    if (!isWhole) system.unlink(draft.path);
  }
}

/** Closes what is to be thrown away; that its disk may be full is no news. */
function abandon(leave: () => void): void {
  try {
    leave();
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
  }
}

function refuseCut(missingBytes: number, offset: number, path: string): void {
  if (missingBytes === 0) return;
  const message =
    `${missingBytes} bytes that were durable are missing from the end of ${JSON.stringify(path)}; ` +
    "open it, which tells so in db.recovery, before its records are written anew";
  throw new EmdbError("EMDB_CORRUPTED", message, { path, offset });
}

/** Every live record of every key space, deadlines included; namespaces in their order. */
async function copyRecords(source: Engine, target: Engine, pace: Pace): Promise<void> {
  let done = 0;
  const copySpace = async (from: SpaceState, to: SpaceState): Promise<void> => {
    for (const { key, value, expiresAtMs } of source.snapshot(from)) {
      target.insert(to, key, value, expiresAtMs);
      done += key.length + value.length;
      if (pace.isDue(done)) await pace.pause(done);
    }
  };
  await pace.begin();
  await copySpace(source.spaces.default, target.spaces.default);
  for (const space of source.spaces.list()) await copySpace(space, target.spaceNamed(space.name));
}

/** The draft, whole and durable, takes the log's name. */
function takeName(system: System, log: LogPlace, lock: LockFile): void {
  const { path } = log;
  const draft = newPath(log);
  let isNamed = false;
  try {
    using folder = new HeldFolder(system, dirname(path));
    // The checkpoint is a robber's as well.
    lock.mustBeOurs();
    const hint = hintPath(path);
    const gone = system.unlink(hint);
    if (gone < 0 && gone !== -Errno.ENOENT) throw ioError(gone, { syscall: "unlink", path: hint });
    folder.mustSync("the checkpoint is removed; nothing else has changed");
    lock.mustBeOurs();
    must(system.rename(draft, path), { syscall: "rename", path });
    isNamed = true;
    folder.mustSync(
      "the file has been written anew as was asked and is whole; a loss of power may bring back the one before",
    );
  } finally {
    if (!isNamed) system.unlink(draft);
  }
}

/**
 * Locks the data key under another secret. Some milliseconds and a kilobyte, whatever the file's size; what a
 * passphrase costs besides is stretching it.
 *
 * @throws {EmdbError} EMDB_NOT_FOUND, EMDB_LOCKED, EMDB_INVALID_CONFIG, EMDB_KEY_MISMATCH, EMDB_CORRUPTED,
 * EMDB_ABORTED; the file is as it was. EMDB_IO: it opens with the old secret, the new one, or both
 */
export async function rotateSecret(
  environment: Environment,
  request: RekeyRequest,
  options: ProgressOptions,
): Promise<void> {
  await underLock(environment, request.path, async (path, found, { lock }) => {
    const { system } = environment;
    if (cipherOf(found.header) === undefined) throw notEncrypted(path, "enableEncryption gives it a secret");
    using secret = callerSecret(request.next);
    const keys = await unlockPageLater(found, { encryption: request.current, cipher: undefined }, path);
    assert(keys !== undefined, "what has a cipher has keys");
    const { cipher, dataKey, slotIndex } = keys;
    try {
      const random = (into: Uint8Array): void => system.random(into);
      const home = keyPageOf(found, cipher);
      const slot = await newSlotLater(dataKey, { secret, home, random }, stretchLater);
      const writes = replaceSlot(slotIndex, slot);
      const pace = new Pace(environment, options, writes.length);
      await pace.begin();
      lock.mustBeOurs();
      writeSlots(system, path, writes);
      pace.finish();
    } finally {
      dataKey.wipe();
    }
  });
}

function notEncrypted(path: string, advice: string): EmdbError {
  return new EmdbError("EMDB_INVALID_CONFIG", `the database ${JSON.stringify(path)} is not encrypted; ${advice}`, {
    path,
  });
}

function writeSlots(system: System, path: string, writes: ReturnType<typeof replaceSlot>): void {
  const handle = must(system.open(path, "write"), { syscall: "open", path });
  try {
    for (const { fileOffset, bytes } of writes) {
      must(system.write(handle, bytes, { position: fileOffset, bytes: bytes.length }), { syscall: "pwrite", path });
      // Before the next write destroys what this one replaces.
      must(system.sync(handle), { syscall: "fdatasync", path });
    }
  } finally {
    system.close(handle);
  }
}

/** Runs work on a file that nobody has open, and sees to it that nobody opens it meanwhile. */
async function underLock(
  environment: Environment,
  asked: string,
  work: (path: string, found: HeaderPage, held: { lock: LockFile; letGo: () => void }) => Promise<void>,
): Promise<void> {
  const { system } = environment;
  const path = realLogPath(system, asked);
  if (judgeFile(system, path) === undefined && findReplaced(system, path) === undefined) throw missing(path);
  const lock = LockFile.take(system, path);
  try {
    const found = judgeFile(system, path) ?? putBack(system, path);
    if (found === undefined) throw missing(path);
    refuseTakenImage(system, path);
    let log: FileHandle | undefined = must(system.open(path, "read"), { syscall: "open", path });
    const letGo = (): void => {
      if (log !== undefined) system.close(log);
      log = undefined;
    };
    try {
      lock.claim(log);
      lock.record();
      removeLeftOvers(system, { path, fileId: found.header.fileId });
      await work(path, found, { lock, letGo });
    } finally {
      letGo();
    }
  } finally {
    lock.release(true);
  }
}
