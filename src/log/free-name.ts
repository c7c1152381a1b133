/**
 * Freeing a file's name for a new file.
 *
 * Windows keeps a name in two cases: a file that is mapped cannot be removed, and off NTFS one that is removed has its
 * name until it is closed. Somebody of this process may have it open for good: a thread that died between a call that
 * opens and the note of what it opened left a handle that nobody knows, and kernel32 has no list of them. It can be
 * renamed all the same. So there each of our names has a few more to move to.
 */

import { Errno } from "../ffi/errno.ts";
import type { Result, System } from "../ffi/system.ts";
import { SEGMENT_COUNT_MAX } from "./segments.ts";

/** The names that a file which keeps its name may have besides the first; only the first where none does. */
export function numberedNames({ canMapPastEnd }: System, name: string): string[] {
  return canMapPastEnd ? [name] : spareNames(name);
}

/** A name and the numbered ones behind it. */
export function spareNames(name: string): string[] {
  return [name, ...Array.from({ length: SEGMENT_COUNT_MAX }, (_, index) => `${name}-${index + 1}`)];
}

/** The first of some names that nothing has, once what nobody uses any more is removed; the error of the last when there is none. */
export function firstFree(system: System, names: readonly string[]): string | Result {
  let failure: Result = -Errno.EEXIST;
  for (const name of names) {
    const removed = system.unlink(name);
    if (removed === -Errno.ENOENT) return name;
    // Windows may say that a file is removed which keeps its name until it is closed.
    if (removed >= 0 && (system.canMapPastEnd || system.status(name) === -Errno.ENOENT)) return name;
    failure = removed < 0 ? removed : -Errno.EBUSY;
  }
  return failure;
}

/** Where a file goes whose name is needed while it may be open; nothing where a removed file has no name. */
export function goneNames(system: System, path: string): string[] {
  return system.canMapPastEnd ? [] : numberedNames(system, `${path}-gone`);
}

/** Removes a file so that its name is free for another, whoever has it open. 0 also when there was none. */
export function freeName(system: System, path: string): Result {
  if (!system.canMapPastEnd) {
    const aside = firstFree(system, goneNames(system, path));
    const moved = typeof aside === "string" ? system.rename(path, aside) : aside;
    if (moved === -Errno.ENOENT) return 0;
    // What is mapped stays there until it no longer is.
    if (typeof aside === "string" && moved >= 0) return Math.max(0, system.unlink(aside));
  }
  const removed = system.unlink(path);
  return removed === -Errno.ENOENT ? 0 : removed;
}
