/**
 * Giving back a long file that has lost its name, a step at a time: the last close of it would take a fifth of a millisecond
 * for each MiB, in one go.
 */

import type { FileHandle, System } from "../ffi/system.ts";

/** Cuts so many bytes off the end of an open file; false when no more than that are left. */
export function cutOff(system: Pick<System, "size" | "truncate">, file: FileHandle, bytes: number): boolean {
  const left = bytes === 0 ? 0 : system.size(file) - bytes;
  return left > 0 && system.truncate(file, left) >= 0;
}

/** All steps for a file, none where somebody else may have it. */
export function* cutSteps(system: Pick<System, "cutBytes" | "size" | "truncate">, file: FileHandle): Generator<void> {
  const bytes = system.cutBytes?.(file) ?? 0;
  while (cutOff(system, file, bytes)) yield;
}
