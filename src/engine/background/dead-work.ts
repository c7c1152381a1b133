/**
 * What a thread that died in the middle of long work has left: open files, a table of moves, a draft with its maps, the
 * lock of a backup's target, and files that nobody needs.
 *
 * The words name what it had open and mapped. What it had not named yet, or named no more and not let go of yet, is found
 * by the file's name: before the words are emptied each of the names that such work uses is looked at, and what this
 * process still has of those files after that is nobody's. Windows tells nobody what is open: there such a file loses its
 * name, and stays open until the process ends. What is mapped only Linux tells.
 *
 * Invariants
 * 1. Who calls this has the place of long work, or is the last one out: no living thread uses the names.
 * 2. A target is noted only as long as its lock is held, so its names are ours too; its lock goes last.
 * 3. What the log itself has open or mapped, or has given out views of, is left alone, whatever name its file has; so is the
 *    table of moves that a replaced file goes by, whose own file may have kept its name.
 */

import type { Address, FileHandle, System } from "../../ffi/system.ts";
import { logFileOf, segmentsOf } from "../../log/log-words.ts";
import { freeName } from "../../log/free-name.ts";
import { closeFile, namedHandle, namedIdentity } from "../../log/shared-file.ts";
import {
  movesFileOf,
  noteTarget,
  notedTarget,
  replacedFileOf,
  targetLockOf,
  type Control,
} from "../threads/control.ts";
import { closeImageFile } from "../hint/hint-writer.ts";
import { releaseReplacement } from "../copy/swap.ts";
import { backupPath, compactPath, movesPaths, newHintPath, type LogPlace } from "../files/siblings.ts";

/** A log as what names its drafts: in memory it has an id, and no path. */
interface Named extends Pick<LogPlace, "fileId"> {
  readonly path: string | undefined;
  /** Who only reads makes neither an image nor a compacted log: what has those names beside it is a living writer's. */
  readonly isReadOnly: boolean;
}

/** Gives all of it back. Under the writer's lock, if there is one. */
export function giveBackDead(system: System, control: Control, log: Named): void {
  const names = namesOf(system, log, notedTarget(control));
  const drafts = new Set(names.map((name) => identityOf(system.status(name))));
  // It has lost its name. A draft that has got another one may be open by that already, and is not looked for.
  drafts.add(namedIdentity(system, movesFileOf(control)));
  for (const handle of handlesOf(control)) drafts.delete(identityOf(system.statusOf(handle)));
  closeImageFile(system, control);
  releaseReplacement(system, control, log.path !== undefined);
  const tables = tablesOf(control);
  for (const identity of drafts) {
    if (identity === undefined) continue;
    const maps = system.mappingsOf(identity).filter(({ address }) => !tables.has(address));
    for (const { address, bytes } of maps) system.unmap(address, bytes);
    for (const handle of system.openHandles(identity)) system.close(handle);
  }
  for (const name of names) freeName(system, name);
  noteTarget(control, undefined);
  closeFile(system, replacedFileOf(control));
  closeFile(system, targetLockOf(control));
}

function namesOf(system: System, { path, fileId, isReadOnly }: Named, target: string | undefined): string[] {
  const place = path === undefined || isReadOnly ? undefined : { path, fileId };
  const drafts = place === undefined ? [] : [compactPath(place)];
  if (target !== undefined) drafts.push(backupPath(target, { fileId }));
  const image = place === undefined ? [] : [newHintPath(place)];
  return [...image, ...drafts, ...drafts.flatMap((draft) => movesPaths(system, draft))];
}

function identityOf(status: ReturnType<System["status"]>): string | undefined {
  return typeof status === "number" || status.kind !== "file" ? undefined : status.identity;
}

/** What a living database has open. */
function handlesOf({ log }: Control): FileHandle[] {
  const segments = segmentsOf(log);
  const files = [logFileOf(log), ...segments.list().flatMap((at) => [segments.file(at), segments.movesFile(at)])];
  return files.map(namedHandle).filter((handle) => handle !== undefined);
}

/** Where the tables of moves are that replaced files go by. */
function tablesOf({ log }: Control): Set<Address> {
  const segments = segmentsOf(log);
  return new Set(segments.list().map((at) => segments.facts(at).moves.address));
}
