/**
 * Putting the file that a compaction has written in the place of the one before, under the writer's lock.
 *
 *     names    the folder opened, <path>.emdb-compact -> <path>, the folder synced
 *              where a mapped file cannot be replaced: <path> -> <path>.emdb-replaced (-1, -2 ... while others have the
 *              name) before that, removed when it can be
 *     words    the old file becomes a segment, the draft's words become the log's
 *
 * Invariants
 * 1. At every moment the path, or else the newest `.emdb-replaced`, is one whole database (`open.ts` puts it back).
 * 2. The new file is durable before it gets the name; nothing is written to it before the folder is durable.
 * 3. A thread that dies in between leaves the `SWAP` flag: the next writer looks which file is at the path and ends what
 *    was begun, or takes it back. Every step may be done twice.
 */

import { dirname } from "node:path";
import { EmdbError, assert } from "../../errors.ts";
import { barrier } from "../../ffi/barrier.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError } from "../../ffi/io-error.ts";
import type { Result, System } from "../../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { firstFree } from "../../log/free-name.ts";
import { KIND_SESSION, SESSION_BYTES, frameBytes } from "../../log/frame.ts";
import {
  LOG_BASE,
  LOG_CLAIMED,
  LOG_DURABLE,
  LOG_FENCE,
  LOG_FILE,
  LOG_GENERATION,
  LOG_RESERVED,
  LOG_TAIL,
  LOG_VISIBLE,
  LOG_STRIDE,
  LOG_WRITTEN,
  LOG_ZEROED,
  addMapAgain,
  dropMaps,
  listMaps,
  logFileOf,
  newestMap,
  positionsInUse,
} from "../../log/log-words.ts";
import { releaseDraft, releaseRing } from "../../log/new-log.ts";
import { copyFile, forgetFile, openHandle } from "../../log/shared-file.ts";
import {
  IMAGE_START,
  MOVES_ADDRESS,
  MOVES_BYTES,
  MOVES_PAIRS,
  NEXT_BASE,
  RELOCATED,
  RELOCATED_SPACE,
  SESSION_ACTIVE,
  SESSION_LAST,
  STATE,
  STATE_POISONED,
  SWAP,
  SWAP_EMPTIES,
  SWAP_INSTALLS,
  SWAP_NONE,
  SWAP_RENAMES,
  movesFileOf,
  type Control,
} from "../threads/control.ts";
import type { Core } from "../core.ts";
import { isLocked, isOtherFile } from "../files/lock-file.ts";
import { closeMovesFile, forgetMoves, releaseMoves } from "./move-table.ts";
import { holdFolder, type HeldFolder } from "../files/open-folder.ts";
import { compactPath, replacedPaths, type LogPlace } from "../files/siblings.ts";
import type { Spaces } from "../spaces.ts";

/** Renames the draft over the log, in two steps where the system does not replace a mapped one. Returns 0 or an error, the names as before. */
function replace(system: System, log: LogPlace): number {
  const [from, to] = [compactPath(log), log.path];
  // Where the log is mapped this is denied for good, under the writer's lock: what follows waits for whoever else is in the way.
  const renamed = system.rename(from, to, "at once");
  if (system.canMapPastEnd || (renamed !== -Errno.EBUSY && renamed !== -Errno.EACCES)) return renamed;
  // What makes room removes what has such a name, and the log itself has where a compaction could not give its own back.
  if (typeof system.status(to) === "number") return renamed;
  const old = firstFree(system, replacedPaths(system, log));
  if (typeof old === "number") return renamed;
  const moved = system.rename(to, old);
  if (moved < 0) {
    if (system.status(to) === -Errno.ENOENT) system.rename(old, to);
    return moved;
  }
  const placed = system.rename(from, to);
  if (placed < 0) system.rename(old, to);
  // What is mapped keeps its name until nobody reads it.
  else system.unlink(old);
  return placed;
}

/** Somebody may have put another file in the log's place, a backup say, which must not be lost. */
function refuseOther({ system, control }: Core, path: string): void {
  const there = system.status(path);
  if (there === -Errno.ENOENT) return;
  if (typeof there === "number") throw ioError(there, { syscall: "stat", path });
  if (!isOtherFile(system, { handle: control.log.numbers[LOG_FILE]!, path }, there)) return;
  const what = `another file is at ${JSON.stringify(path)} by now, which a compaction would replace; close this database first`;
  throw new EmdbError("EMDB_LOCKED", what, { path });
}

/** Gives the draft's file the name of the log. Throws with the names as before, or, when it is unknown what has the name, poisoned. */
export function takeName(core: Core): void {
  const { system, control, place } = core;
  if (place !== undefined) {
    core.lockWatch.look();
    refuseOther(core, place.path);
  }
  Atomics.store(control.flags, SWAP, SWAP_RENAMES);
  // In memory nothing has a name. Whoever dies from here on leaves a swap to be ended all the same: without the word its
  // segment would be taken for a file that was replaced, and the log in service be given back.
  if (place === undefined) return;
  const { path } = place;
  const renamed = replace(system, place);
  if (renamed >= 0) return;
  // It may have been done all the same. Then the log in service would have no name, and what is written to it be lost.
  const there = fileAt(core, path);
  if (there === "draft") return;
  if (there !== "log") Atomics.or(control.flags, STATE, STATE_POISONED);
  Atomics.store(control.flags, SWAP, SWAP_NONE);
  throw ioError(renamed, { syscall: "rename", path });
}

/** Opens the log's folder, before the name in it changes. @throws {EmdbError} EMDB_IO; nothing has changed */
export function holdLogFolder(core: Core): HeldFolder | undefined {
  return core.file && holdFolder(core, dirname(core.file.path));
}

/** Makes the new name durable. If that fails, what comes after it could be lost with it: the database is poisoned. */
export function syncName({ control }: Core, folder: HeldFolder | undefined): void {
  const synced = folder?.sync() ?? 0;
  if (synced >= 0) return;
  Atomics.or(control.flags, STATE, STATE_POISONED);
  const state =
    "the compacted log is whole and in its place; a loss of power may bring back the one before, so nothing more is " +
    "written to it: reopen the database";
  throw ioError(synced, { syscall: "fsync", path: folder?.path, state });
}

/** Lets the draft's words be the log's. Nothing here can fail; every step may be done again. */
export function install(core: Core, spaces: Spaces): void {
  const { flags } = core.control;
  const phase = Atomics.load(flags, SWAP);
  if (phase !== SWAP_INSTALLS && phase !== SWAP_EMPTIES) {
    addSegment(core);
    Atomics.store(flags, SWAP, SWAP_INSTALLS);
  }
  if (phase !== SWAP_EMPTIES) takeWords(core, spaces);
  // From here on the draft's words may be half empty: nobody must take them once more.
  Atomics.store(flags, SWAP, SWAP_EMPTIES);
  emptyDraft(core);
  Atomics.store(flags, SWAP, SWAP_NONE);
}

function takeWords(core: Core, spaces: Spaces): void {
  const { log, draft, numbers } = core.control;
  const base = numbers[NEXT_BASE]!;
  const end = base + draft.numbers[LOG_TAIL]!;
  if (core.vault !== undefined) {
    numbers[SESSION_ACTIVE] = 0;
    // The second of the two records that the file begins with.
    numbers[SESSION_LAST] = base + HEADER_PAGE_BYTES + frameBytes(KIND_SESSION, SESSION_BYTES);
  }
  log.numbers[LOG_GENERATION] = draft.numbers[LOG_GENERATION]!;
  barrier(log.flags, LOG_FENCE);
  // Behind the generation and before the file: who sees the new base sees that generation, and who has read the file
  // and then finds the base unchanged has read the file of that base.
  log.numbers[LOG_BASE] = base;
  barrier(log.flags, LOG_FENCE);
  copyFile(logFileOf(draft), logFileOf(log));
  for (const map of listMaps(draft)) addMapAgain(log, map);
  log.numbers[LOG_RESERVED] = Math.min(base + draft.numbers[LOG_RESERVED]!, positionsInUse(log).end);
  log.numbers[LOG_ZEROED] = draft.numbers[LOG_ZEROED]!;
  log.numbers[LOG_STRIDE] = 0;
  log.numbers[LOG_CLAIMED] = end;
  barrier(log.flags, LOG_FENCE);
  log.numbers[LOG_WRITTEN] = end;
  log.numbers[LOG_TAIL] = end;
  // The draft is durable if its name is: `syncName` says so before this is called.
  if ((core.control.flags[STATE]! & STATE_POISONED) === 0) log.numbers[LOG_DURABLE] = end;
  barrier(log.flags, LOG_FENCE);
  log.numbers[LOG_VISIBLE] = end;
  numbers[IMAGE_START] = 0;
  spaces.relocateCreations((lsn) => (lsn >= base ? lsn : core.log.segments.present(lsn)));
  numbers[RELOCATED_SPACE] = 0;
}

/** What the draft named is the log's, a segment's, or of no use any more. */
function emptyDraft({ system, control }: Core): void {
  const { draft } = control;
  dropMaps(draft);
  releaseRing(system, draft);
  forgetMoves(control);
  if (system.canMapPastEnd) closeMovesFile(system, control);
  // The segment has it.
  else forgetFile(movesFileOf(control));
  draft.numbers.fill(0);
}

function addSegment(core: Core): void {
  const { control } = core;
  const { log, numbers } = control;
  const { segments } = core.log;
  // A thread that died right behind this has left an entry for the same file.
  const own = segments.ofBase(log.numbers[LOG_BASE]!);
  const at = own === 0 ? segments.free() : own;
  assert(at !== 0, "a compaction begins with a free segment");
  if (core.file !== undefined) copyFile(logFileOf(log), segments.file(at));
  // Windows empties what is removed with its last handle, mapped or not.
  if (core.file !== undefined && !core.system.canMapPastEnd) copyFile(movesFileOf(control), segments.movesFile(at));
  segments.add(at, {
    base: log.numbers[LOG_BASE]!,
    end: log.numbers[LOG_WRITTEN]!,
    // A file in which nothing was written has no map, and no position that would be looked for.
    origin: newestMap(log)?.origin ?? 0,
    next: numbers[NEXT_BASE]!,
    generation: log.numbers[LOG_GENERATION]!,
    session: core.vault === undefined ? 0 : numbers[SESSION_LAST]! - log.numbers[LOG_BASE]!,
    moves: { address: numbers[MOVES_ADDRESS]!, pairs: numbers[MOVES_PAIRS]!, bytes: numbers[MOVES_BYTES]! },
  });
  numbers[RELOCATED] = at;
}

/** Gives up a draft, whoever has made it, and its file. */
export function discardDraft(core: Core, path: string | undefined): void {
  const { system, control, file } = core;
  const hadFile = control.draft.numbers[LOG_FILE]! > 0;
  releaseReplacement(system, control, file !== undefined);
  if (hadFile && path !== undefined) system.unlink(path);
}

/** Lets go of everything that a draft, whoever has made it, holds of the system. */
export function releaseReplacement(system: System, control: Control, hasFile: boolean): void {
  releaseMoves(system, control, hasFile);
  releaseDraft(system, control.draft);
}

/** After the death of a writer: ends or takes back the swap that it was at. Under the writer's lock. */
export function endSwap(core: Core, spaces: Spaces): void {
  const { system, control, place } = core;
  const phase = Atomics.load(control.flags, SWAP);
  if (phase === SWAP_NONE) return;
  if (phase === SWAP_RENAMES && place !== undefined && !hasDraftTheName(core, place.path)) {
    // It may have died between two names.
    if (system.status(place.path) === -Errno.ENOENT) takeBackName(core, place);
    Atomics.store(control.flags, SWAP, SWAP_NONE);
    return;
  }
  if (phase === SWAP_RENAMES) {
    // Where it cannot even be opened no sync has failed: the next writer tries again.
    using folder = holdLogFolder(core);
    syncName(core, folder);
  }
  install(core, spaces);
}

/**
 * For the last one out: what a dead writer had begun to install is the log's or a segment's alone, so that nothing is let go of
 * twice. Nobody else is there, and nothing here can fail.
 */
export function endInstall(core: Core, spaces: Spaces): void {
  const { flags, log } = core.control;
  const phase = Atomics.load(flags, SWAP);
  if (phase === SWAP_NONE || (phase === SWAP_RENAMES && core.log.segments.ofBase(log.numbers[LOG_BASE]!) === 0)) return;
  install(core, spaces);
}

/** Whether the dead writer's rename was done. Throws where nobody can tell, since what is written to the wrong one of the two nobody reads. */
function hasDraftTheName(core: Core, path: string): boolean {
  const { flags } = core.control;
  const there = fileAt(core, path);
  // The next writer asks again.
  if (typeof there === "number") throw ioError(there, { syscall: "stat", path });
  if (there !== "other") return there === "draft";
  Atomics.or(flags, STATE, STATE_POISONED);
  Atomics.store(flags, SWAP, SWAP_NONE);
  const what =
    "another file is where the log was when the thread died that was putting the compacted log there; nothing more is written";
  throw new EmdbError("EMDB_POISONED", what, { path });
}

/** Of the files that compactions have replaced the one that the log has open gets its name back. */
function takeBackName({ system, control }: Core, log: LogPlace): void {
  const own = system.statusOf(control.log.numbers[LOG_FILE]!);
  for (const replaced of replacedPaths(system, log)) {
    const there = system.status(replaced);
    if (typeof there === "number" || typeof own === "number" || there.identity !== own.identity) continue;
    system.rename(replaced, log.path);
  }
}

/** Which file is at the path; an error when the system does not tell. What is not there has not been replaced. */
function fileAt({ system, control }: Core, path: string): "draft" | "log" | "other" | Result {
  const there = system.status(path);
  if (there === -Errno.ENOENT) return "log";
  if (typeof there === "number") return there;
  const own = system.statusOf(control.draft.numbers[LOG_FILE]!);
  if (typeof own !== "number" && there.identity === own.identity) return "draft";
  const former = system.statusOf(control.log.numbers[LOG_FILE]!);
  if (typeof former === "number") return former;
  if (there.identity === former.identity) return "log";
  // The handle of a file that was renamed may not know its volume any more (Wine), and what has the name is claimed.
  const hasDraft = openHandle(logFileOf(control.draft)) !== undefined;
  if (!system.canMapPastEnd && hasDraft && isLocked(system, path)) return "draft";
  return typeof own === "number" ? own : "other";
}
