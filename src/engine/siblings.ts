/**
 * The files that stand beside a log for a while. Their names say whose they are: what a user has put there with a plainer
 * name ("data.old", "data.new") is never touched.
 */

import type { FileHandle, System } from "../ffi/system.ts";
import { decodeHeader } from "../log/header.ts";

const BEGIN_BYTES = 8;

/** A new log before it has its name. */
export function newPath(path: string): string {
  return `${path}.emdb-new`;
}

/** What a compaction writes. */
export function compactPath(path: string): string {
  return `${path}.emdb-compact`;
}

/** What a compaction replaces, where that keeps a name as long as it is mapped. */
export function replacedPath(path: string): string {
  return `${path}.emdb-replaced`;
}

/** What a backup writes, beside its target. */
export function backupPath(target: string): string {
  return `${target}.emdb-backup`;
}

/** A table of moves, beside the log that it belongs to. */
export function movesPath(draft: string): string {
  return `${draft}-moves`;
}

/** Removes what dead processes have left beside a log. Under the lock; what cannot be removed now is in nobody's way. */
export function removeLeftOvers(system: System, path: string): void {
  const compact = compactPath(path);
  for (const sibling of [newPath(path), compact, movesPath(compact), replacedPath(path)]) system.unlink(sibling);
}

/** Whether a file begins as a log does: one of ours, of a later format or a damaged one too. */
export function beginsAsLog(system: System, handle: FileHandle): boolean {
  const bytes = new Uint8Array(BEGIN_BYTES);
  const count = system.read(handle, bytes, { position: 0, bytes: BEGIN_BYTES });
  return count === BEGIN_BYTES && decodeHeader(bytes).kind !== "foreign";
}
