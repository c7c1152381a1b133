/**
 * Whether a file that is opened for reading, beside a writer in another process maybe, is the one that was looked at before,
 * and how far it may be read.
 */

import { compare } from "../../ffi/memory.ts";
import type { FileHandle, FileStatus, Result, System } from "../../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { isLockHeld } from "../files/lock-file.ts";

/** Whether another process has the log open for writing, or has changed its length since. */
export function isBeingWritten(system: System, path: string, before: FileStatus | Result): boolean {
  const now = system.status(path);
  const isSame = typeof now !== "number" && typeof before !== "number" && now.bytes === before.bytes;
  return !isSame || isLockHeld(system, path);
}

/** Whether the open file begins with a header page that was looked at before. */
export function hasPage(system: System, handle: FileHandle, page: Uint8Array): boolean {
  const bytes = new Uint8Array(HEADER_PAGE_BYTES);
  const count = system.read(handle, bytes, { position: 0, bytes: bytes.length });
  return count >= 0 && compare(bytes, page, page.length) === 0;
}

/**
 * How long a file was before it was opened; undefined when it was another one. No more of it may be mapped: an overlay
 * copies a file of its lower layer up when somebody opens it for writing, and who had opened it for reading before is told
 * of the copy by every call, while what is mapped is the original, which stays as short as it was. A page behind its end
 * ends the process. Where no map reaches beyond its file the system sees to that.
 */
export function bytesBefore(system: System, handle: FileHandle, before: FileStatus | Result): number | undefined {
  const own = system.canMapPastEnd ? system.statusOf(handle) : 0;
  if (typeof own === "number") return Infinity;
  if (typeof before === "number") return undefined;
  // The number of a file that is gone is soon another one's.
  const isSame = own.identity === before.identity && own.born === before.born;
  return isSame ? before.bytes : undefined;
}
