/**
 * Backup: a copy of the log as of one moment, made while reads and writes go on, put in the place of the target.
 *
 * It is the copy that a compaction makes (`log-copy.ts`), which holds the records of the moment when it has caught up
 * and nobody writes; that moment is taken under the writer's lock, for the little that is left then.
 *
 * Invariants
 * 1. The target is replaced by one rename, by a file that is whole and durable; until then it is untouched.
 * 2. Nothing is left of a backup that failed.
 */

import { dirname } from "node:path";
import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError, must } from "../../ffi/io-error.ts";
import type { System } from "../../ffi/system.ts";
import type { ProgressOptions } from "../../api/types.ts";
import { cutSteps } from "../../log/cut.ts";
import { LOG_FILE, mapRelease, releaseMaps } from "../../log/log-words.ts";
import { closeFile, nameFile, openHandle } from "../../log/shared-file.ts";
import { noteTarget, replacedFileOf, targetLockOf } from "../threads/control.ts";
import { beginDraft, copySteps, writeEnd, type CompactionParts, type Draft } from "./compaction.ts";
import type { Core } from "../core.ts";
import type { LogCopy } from "./log-copy.ts";
import { beginsAsImage } from "../hint/hint-format.ts";
import { LockFile } from "../files/lock-file.ts";
import { refuseLongName } from "../files/name-room.ts";
import { holdFolder } from "../files/open-folder.ts";
import { Pace } from "../progress.ts";
import {
  backupPath,
  compactPath,
  hintPath,
  lockPath,
  movesPaths,
  newPath,
  replacedPaths,
  spelled,
} from "../files/siblings.ts";
import { refuseSidecarName, refuseTakenImage } from "../files/sidecar-names.ts";

/** Numbers that a generation is drawn from: no other file of this log has the same one. */
const GENERATION_BYTES = 6;
/** How much of a file tells whether it is an image. */
const BEGIN_BYTES = 8;

/** Where the copy goes, and the lock that the database there has. */
interface Target {
  readonly path: string;
  readonly lock: LockFile;
}

export class Backup {
  readonly #parts: CompactionParts;
  readonly #core: Core;
  /** Under way. */
  #copy: LogCopy | undefined;

  constructor(parts: CompactionParts) {
    this.#parts = parts;
    this.#core = parts.engine.core;
  }

  /**
   * Writes the database to `target`, a real path.
   *
   * @throws {EmdbError} EMDB_INVALID_CONFIG when that is the database itself, or no file; EMDB_LOCKED when it is open
   */
  async run(target: string, options: ProgressOptions): Promise<void> {
    const core = this.#core;
    core.enter();
    refuseTarget(core, target);
    const pace = new Pace(core, options, core.visible - core.base);
    let lock: LockFile | undefined;
    const end = (): void => {
      noteTarget(core.control, undefined);
      closeFile(core.system, replacedFileOf(core.control));
      lock?.release(true, targetLockOf(core.control));
    };
    await this.#parts.work.run({ draftPath: backupPath(target, core.identity), options, end }, async (check) => {
      await pace.begin();
      check();
      lock = LockFile.take(core.system, target, targetLockOf(core.control));
      refuseTakenImage(core.system, target);
      this.#refuseOpen({ path: target, lock });
      lock.record();
      noteTarget(core.control, target);
      let isPublished = false;
      const publish = (): void => {
        isPublished = true;
        pace.commit();
      };
      try {
        await pace.drive(core, this.#steps({ path: target, lock }, publish), {
          check,
          needsLock: () => this.#needsLock,
        });
      } catch (error) {
        // A close, while the file before was given back: the backup is in its place.
        if (!isPublished || !(error instanceof EmdbError) || error.code !== "EMDB_CLOSED") throw error;
      }
    });
    pace.finish();
  }

  *#steps(target: Target, onPublished: () => void): Generator<number, void> {
    const { engine, sync, relocation } = this.#parts;
    const core = this.#core;
    const path = backupPath(target.path, core.identity);
    const exclusively = this.#exclusively;
    const options = { keepFrom: () => Infinity, exclusively, exclusivelyInMemory: exclusively };
    if (!core.isReadOnly) while (relocation.step()) yield 0;
    const draft = this.#exclusively(() => {
      if (!core.isReadOnly) core.tail.spill();
      return beginDraft(engine, { path, generation: drawGeneration(core.system) }, options);
    });
    this.#copy = draft.copy;
    try {
      yield* copySteps(engine, sync, { ...draft, finish: () => this.#copyRest(draft) });
      this.#publish(draft, path, target);
      onPublished();
      const replaced = openHandle(replacedFileOf(core.control));
      if (replaced !== undefined) for (const _ of cutSteps(core.system, replaced)) yield draft.copy.done;
    } finally {
      this.#copy = undefined;
      draft.copy.release();
    }
  }

  /** The moment that the backup is of. */
  #copyRest({ copy }: Draft): void {
    const core = this.#core;
    this.#exclusively(() => {
      if (!core.isReadOnly) core.tail.spill();
      copy.catchUp(core.visible - core.base);
    });
  }

  /** Of a database that is only read nothing is exclusive. */
  get #needsLock(): boolean {
    return !this.#core.isReadOnly && (this.#copy?.needsLock ?? true);
  }

  /** A database that was moved to the target while it was open has another lock file, and would lose its file. */
  #refuseOpen({ path, lock }: Target): void {
    const { system, control } = this.#core;
    const handle = system.open(path, "read");
    // What we may not open is replaced as any other file is.
    if (handle === -Errno.ENOENT || handle === -Errno.EACCES) return;
    must(handle, { syscall: "open", path });
    const file = replacedFileOf(control);
    nameFile(system, file, handle);
    try {
      lock.claim(handle);
      system.unlock(handle);
    } finally {
      closeFile(system, file);
    }
  }

  /** With the writer's lock and nothing half-written; a database that is only read does not change. */
  readonly #exclusively = <T>(body: () => T): T =>
    this.#core.isReadOnly ? body() : this.#parts.engine.exclusively(body);

  /** Ends the log in good order and gives it the target's name. */
  #publish(draft: Draft, path: string, { path: target, lock }: Target): void {
    const { system, control } = this.#core;
    const handle = control.draft.numbers[LOG_FILE]!;
    draft.log.tail.spill();
    const markBytes = writeEnd(this.#core, draft, true);
    // Before it is cut, which a mapped file cannot be everywhere, and while its name leads to what a death would leave.
    releaseMaps(control.draft, undefined, mapRelease(system, true));
    must(system.truncate(handle, draft.log.end + markBytes), { syscall: "ftruncate", path });
    draft.log.sync();
    this.#holdReplaced(target);
    using folder = holdFolder(this.#core, dirname(target));
    lock.mustBeOurs();
    // An image of what was there before would be passed over; it is of no use to anybody. What is none is another's.
    removeImage(system, target);
    must(system.rename(path, target), { syscall: "rename", path: target });
    folder.mustSync("the backup is whole and has replaced the target; a loss of power may undo that, so back up again");
  }

  /** Opens what is at the target, to give it back a step at a time once it has lost its name. */
  #holdReplaced(target: string): void {
    const { system, control } = this.#core;
    if (system.canCut === undefined) return;
    // Where it cannot be had it goes with the rename, all at once.
    const handle = system.open(target, "write");
    if (handle < 0) return;
    const file = replacedFileOf(control);
    nameFile(system, file, handle);
    // Network file systems keep a file that is open by another name, or refuse to replace it.
    if (!system.canCut(handle)) closeFile(system, file);
  }
}

/** Removes the image, whoever's it was, from where the copy has its own. */
function removeImage(system: System, target: string): void {
  const path = hintPath(target);
  const handle = system.open(path, "read");
  if (handle < 0) return;
  const begin = new Uint8Array(BEGIN_BYTES);
  const count = system.read(handle, begin, { position: 0, bytes: BEGIN_BYTES });
  system.close(handle);
  if (count >= 0 && beginsAsImage(begin.subarray(0, count))) system.unlink(path);
}

function refuseTarget(core: Core, target: string): void {
  const { system, file } = core;
  refuseLongName(system, target, "target");
  refuseSibling(core, target);
  const status = system.status(target);
  refuseSidecarName(system, target);
  if (status === -Errno.ENOENT) return;
  if (typeof status === "number") throw ioError(status, { syscall: "stat", path: target });
  const own = file === undefined ? undefined : system.statusOf(file.handle);
  const isSource = typeof own === "object" && own.identity === status.identity;
  if (!isSource && status.kind === "file") return;
  const what = isSource ? "is the database itself" : "is not a file";
  throw new EmdbError("EMDB_INVALID_CONFIG", `the target ${JSON.stringify(target)} ${what}`, { path: target });
}

/** Nothing that a backup replaces, removes or locks may be a file of the database itself, nor the other way round. */
function refuseSibling({ system, file, place }: Core, target: string): void {
  if (file === undefined || place === undefined) return;
  const { path } = file;
  const compact = compactPath(place);
  const siblings = [hintPath(path), lockPath(path), compact, newPath(place)];
  const names = [...siblings, ...movesPaths(system, compact), ...replacedPaths(system, place)];
  // Of names that differ in capitals alone the file itself says whether they are one database; if not, nothing beside it is.
  const seen = spelled(target) === spelled(path) ? (name: string): string => name : spelled;
  const own = new Set([path, ...names].map(seen));
  const draft = backupPath(target, place);
  const log = system.statusOf(file.handle);
  for (const touched of [target, hintPath(target), lockPath(target), draft, ...movesPaths(system, draft)]) {
    const status = typeof log === "number" || touched === target ? 0 : system.status(touched);
    const isLog = typeof log !== "number" && typeof status !== "number" && status.identity === log.identity;
    // The database itself is told as that.
    if (target === path) break;
    if (!isLog && !own.has(seen(touched))) continue;
    const what = `the target ${JSON.stringify(target)} would take the place of ${JSON.stringify(touched)}, which is the database's own`;
    throw new EmdbError("EMDB_INVALID_CONFIG", what, { path: target });
  }
}

function drawGeneration(system: System): number {
  const bytes = new Uint8Array(GENERATION_BYTES);
  system.random(bytes);
  return bytes.reduce((number, byte) => number * 256 + byte, 0) + 2;
}
