/**
 * An open file whose handle stands in the block that all Workers share, so that another thread can close it when the
 * one that opened it has died.
 *
 *     two words (f64)   the handle   its state: 0 nothing is named; > 0 open; < 0 being closed
 *
 * What the state is besides its sign is a number made of the file's identity, or `UNKNOWN`.
 *
 * A thread may end at any instruction. One that ends between closing a handle and saying so leaves a number that may be
 * somebody else's file by now: who finds a file that is being closed asks whether the handle still is that file.
 *
 * Invariants
 * 1. The handle is written before the state, and closed before the state is 0: what is open is named.
 * 2. Only one living thread at a time closes a file: the holder of the lock that guards its words.
 */

import type { FileHandle, FileStatus, System } from "../ffi/system.ts";

/** The state of a file that could not be asked what it is; no identity gives this number. */
const UNKNOWN = 1;
const FNV_PRIME = 16_777_619;

/** Where the two words of a file are. */
export interface SharedFile {
  readonly numbers: Float64Array;
  readonly handleAt: number;
  readonly stateAt: number;
}

/** A number for a file: equal for the same one, and hardly ever for others. */
function numberOf({ identity, born }: Pick<FileStatus, "identity" | "born">): number {
  const text = `${identity} ${born ?? 0}`;
  let low = 0x811c_9dc5;
  let high = 0x1000_193;
  for (let index = 0; index < text.length; index++) {
    low = Math.imul(low ^ text.charCodeAt(index), FNV_PRIME) >>> 0;
    high = Math.imul(high ^ low ^ (low >>> 13), FNV_PRIME) >>> 0;
  }
  return UNKNOWN + 1 + low + (high & 0xf_ffff) * 2 ** 32;
}

function stateOf(system: System, handle: FileHandle): number {
  const status = system.statusOf(handle);
  return typeof status === "number" ? UNKNOWN : numberOf(status);
}

/** Names a file that has just been opened. */
export function nameFile(system: System, file: SharedFile, handle: FileHandle): void {
  file.numbers[file.handleAt] = handle;
  // Who dies in the call that follows has named it.
  file.numbers[file.stateAt] = UNKNOWN;
  file.numbers[file.stateAt] = stateOf(system, handle);
}

/** The same for a file that its thread closes by itself, which then calls `forgetFile`: after its death somebody asks first. */
export function lendFile(file: SharedFile, handle: FileHandle, status: FileStatus): void {
  file.numbers[file.handleAt] = handle;
  file.numbers[file.stateAt] = -numberOf(status);
}

/** Another file's words name what these do. */
export function copyFile(from: SharedFile, to: SharedFile): void {
  to.numbers[to.handleAt] = from.numbers[from.handleAt]!;
  to.numbers[to.stateAt] = from.numbers[from.stateAt]!;
}

/** Names nothing any more; the file has been closed, or is named elsewhere. */
export function forgetFile(file: SharedFile): void {
  file.numbers[file.stateAt] = 0;
}

/** The handle that is named, if nobody has begun to close it: from then on the number may be another file's. */
export function openHandle(file: SharedFile): FileHandle | undefined {
  return file.numbers[file.stateAt]! > 0 ? file.numbers[file.handleAt]! : undefined;
}

/** The handle that is named; undefined when there is none. */
export function namedHandle(file: SharedFile): FileHandle | undefined {
  return file.numbers[file.stateAt] === 0 ? undefined : file.numbers[file.handleAt]!;
}

/** The identity of the file that is named, if it still is that one: after a death the handle may be another file's. */
export function namedIdentity(system: System, file: SharedFile): string | undefined {
  const handle = namedHandle(file);
  if (handle === undefined) return undefined;
  const status = system.statusOf(handle);
  const isThat = typeof status !== "number" && numberOf(status) === Math.abs(file.numbers[file.stateAt]!);
  return isThat ? status.identity : undefined;
}

/** Closes what is named, whoever opened it, also when that one died while it did the same. */
export function closeFile(system: System, file: SharedFile): void {
  const { numbers, handleAt, stateAt } = file;
  const handle = numbers[handleAt]!;
  const state = numbers[stateAt]!;
  if (state > 0) {
    numbers[stateAt] = -state;
    system.close(handle);
  } else if (state < -UNKNOWN && stateOf(system, handle) === -state) system.close(handle);
  numbers[stateAt] = 0;
}
