/**
 * The files that stand beside a log, most of them for a while.
 *
 * A death leaves them in any state, a power loss with any content. So it is the name that says whose a file is: it has
 * the first half of the log's file id in it, which is random. No user's file has such a name, and what a user has put
 * there under a plainer one ("data.new", "data.emdb-compact") is never touched. A log that is being made has no id that
 * the next open could know: its name has a number made of the log's own name, and only a file that holds no more than
 * a header page is taken for one. It is made under the log's lock, so whoever has that finds none that somebody still makes.
 */

import { basename } from "node:path";
import { Errno } from "../../ffi/errno.ts";
import { pinned } from "../../ffi/memory.ts";
import type { FileStatus, System } from "../../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { xxh32 } from "../../log/checksum.ts";
import { goneNames, numberedNames } from "../../log/free-name.ts";
import { decodeHeader } from "../../log/header.ts";

const BEGIN_BYTES = 8;

/** Where a log is, and which one. */
export interface LogPlace {
  readonly path: string;
  readonly fileId: Uint8Array;
}

const ID_BYTES = 8;

function named(kind: string, { path, fileId }: LogPlace): string {
  return `${path}.${kind}-${shortId(fileId)}`;
}

function shortId(fileId: Uint8Array): string {
  return fileId.subarray(0, ID_BYTES).toHex();
}

/** Where the lock of a log is. */
export function lockPath(path: string): string {
  return `${path}.lock`;
}

/** Where the image of a log is. */
export function hintPath(path: string): string {
  return `${path}.hint`;
}

/** A log that is being made where there is none, before it has its name. */
export function createPath(path: string): string {
  const name = new TextEncoder().encode(basename(path));
  const memory = pinned(name.length + ID_BYTES);
  memory.u8.set(name);
  const halves = [1, 2].map((seed) => xxh32(memory, 0, name.length, seed) >>> 0);
  return `${path}.emdb-new-${halves.map((half) => half.toString(16).padStart(8, "0")).join("")}`;
}

/** Whether what is there may be what a death has left of one; anything longer is none of ours. */
export function isBegun({ kind, bytes }: FileStatus): boolean {
  return kind === "file" && bytes <= HEADER_PAGE_BYTES;
}

/** A log that is being written to take another one's place. */
export function newPath(log: LogPlace): string {
  return named("emdb-new", log);
}

/** An image before it has its name. */
export function newHintPath(log: LogPlace): string {
  return named("hint.new", log);
}

/** The same, and where it goes if it is in the way of another. */
export function newHintPaths(system: System, log: LogPlace): string[] {
  const path = newHintPath(log);
  return [path, ...goneNames(system, path)];
}

/** What a compaction writes. */
export function compactPath(log: LogPlace): string {
  return named("emdb-compact", log);
}

/** What a salvage writes, beside its target. */
export function salvagePath(target: string): string {
  return `${target}.emdb-salvage`;
}

/**
 * The names that what a compaction replaces may have, where that keeps one as long as it is mapped: one for each file
 * that is kept, and one for the next.
 */
export function replacedPaths(system: System, log: LogPlace): string[] {
  return numberedNames(system, named("emdb-replaced", log));
}

/**
 * Whether a name in a folder is one of these of a log, in whatever capitals: the name as the log's is spelled, and the file id
 * that it says, as far as it does; undefined for any other.
 */
export function replacedName(log: string, name: string): { readonly name: string; readonly id: string } | undefined {
  const [, of = "", ending = "", id = ""] = /^(.*)(\.emdb-replaced-([0-9a-f]{16})(?:-\d+)?)$/is.exec(name) ?? [];
  return spelled(of) === spelled(log) ? { name: log + ending, id: id.toLowerCase() } : undefined;
}

/** Whether it is the id of a log. */
export function isIdOf(id: string, fileId: Uint8Array): boolean {
  return id === shortId(fileId);
}

/** What a backup of a log writes, beside its target. */
export function backupPath(target: string, { fileId }: Pick<LogPlace, "fileId">): string {
  return named("emdb-backup", { path: target, fileId });
}

/** The names that a table of moves may have, beside the log that it belongs to; it keeps one as the files do. */
export function movesPaths(system: System, draft: string): string[] {
  return numberedNames(system, `${draft}-moves`);
}

/** The names that work with a draft may need beside its file. */
export function draftPaths(system: System, draft: string): string[] {
  return [draft, ...goneNames(system, draft), ...movesPaths(system, draft)];
}

/** Removes what dead processes have left beside a log. Under the lock; what cannot be removed now is in nobody's way. */
export function removeLeftOvers(system: System, log: LogPlace): void {
  const drafts = [compactPath(log), newHintPath(log)];
  const others = [...movesPaths(system, compactPath(log)), ...replacedPaths(system, log)];
  for (const sibling of [newPath(log), ...drafts, ...others]) system.unlink(sibling);
  // One for each death of a process's threads, in order: behind the first name that nothing has there is mostly none.
  for (const draft of drafts) goneNames(system, draft).some((gone) => system.unlink(gone) === -Errno.ENOENT);
  // A power loss may bring back a log that had been removed, beside one that was being made in its place.
  const begun = createPath(log.path);
  const there = system.status(begun);
  if (typeof there !== "number" && isBegun(there)) system.unlink(begun);
}

/** A path as systems see it that do not tell capitals, nor two encodings of one letter: equal for what may be one file. */
export function spelled(path: string): string {
  return path.normalize("NFC").toLowerCase();
}

/** Whether bytes are a text: what somebody has written there, and no power loss has left. */
export function isText(bytes: Uint8Array): boolean {
  if (bytes.length === 0 || bytes.some((byte) => byte < 0x20 && (byte < 9 || byte > 13))) return false;
  try {
    // The last character may be cut.
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether the first bytes of a file are a log's: one of ours, of a later format or a damaged one too. What is shorter than any log
 * is none: after a power loss a small file that was never synced may hold what another file's block once held.
 */
export function isLogBeginning(bytes: Uint8Array): boolean {
  return bytes.length >= HEADER_PAGE_BYTES && decodeHeader(bytes.subarray(0, BEGIN_BYTES)).kind !== "foreign";
}
