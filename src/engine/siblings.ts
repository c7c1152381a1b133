/**
 * The files that stand beside a log for a while. Their names say whose they are: what a user has put there with a plainer
 * name ("data.old", "data.new") is never touched.
 */

import type { FileHandle, System } from "../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../limits.ts";
import { firstFree, goneNames, numberedNames } from "../log/free-name.ts";
import { decodeHeader } from "../log/header.ts";

const BEGIN_BYTES = 8;

/** A new log before it has its name. */
export function newPath(path: string): string {
  return `${path}.emdb-new`;
}

/** An image before it has its name. */
export function newHintPath(path: string): string {
  return `${path}.hint.new`;
}

/** What a compaction writes. */
export function compactPath(path: string): string {
  return `${path}.emdb-compact`;
}

/**
 * The names that what a compaction replaces may have, where that keeps one as long as it is mapped: one for each file
 * that is kept, and one for the next.
 */
export function replacedPaths(system: System, path: string): string[] {
  return numberedNames(system, `${path}.emdb-replaced`);
}

/** What a backup writes, beside its target. */
export function backupPath(target: string): string {
  return `${target}.emdb-backup`;
}

/** The names that a table of moves may have, beside the log that it belongs to; it keeps one as the files do. */
export function movesPaths(system: System, draft: string): string[] {
  return numberedNames(system, `${draft}-moves`);
}

/** Removes what dead processes have left beside a log. Under the lock; what cannot be removed now is in nobody's way. */
export function removeLeftOvers(system: System, path: string): void {
  const drafts = [compactPath(path), newHintPath(path)];
  const others = [...movesPaths(system, compactPath(path)), ...replacedPaths(system, path)];
  for (const sibling of [newPath(path), ...drafts, ...others]) system.unlink(sibling);
  for (const draft of drafts) firstFree(system, goneNames(system, draft));
}

/**
 * Whether a file begins as a log does: one of ours, of a later format or a damaged one too. What is shorter than any log
 * is none: after a power loss a small file that was never synced may hold what another file's block once held.
 */
export function beginsAsLog(system: System, handle: FileHandle): boolean {
  const bytes = new Uint8Array(BEGIN_BYTES);
  const count = system.read(handle, bytes, { position: 0, bytes: BEGIN_BYTES });
  if (count !== BEGIN_BYTES || system.size(handle) < HEADER_PAGE_BYTES) return false;
  return decodeHeader(bytes).kind !== "foreign";
}
