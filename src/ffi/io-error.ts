/** From a negative result of `System` to the `EmdbError` that a caller sees. */

import { EmdbError, type EmdbErrorCode } from "../errors.ts";
import { errnoName, type ErrnoName } from "./errno.ts";
import type { Result } from "./system.ts";

/** No room on the disk, within the quota, or in a file as long as the system or a limit of the process lets it be. */
const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Whether a call failed for want of room. */
export function lacksRoom(result: Result): boolean {
  return result < 0 && FULL.has(errnoName(result));
}

/** What the errors that somebody can do something about mean. A `Map`: the name comes from the system. */
const MEANINGS: ReadonlyMap<string, string> = new Map<ErrnoName, string>([
  [
    "EACCES",
    "no permission: the user of this process must be let into the file and its folder, and on Windows the file not be marked as read-only",
  ],
  [
    "EPERM",
    "the system does not let this process do it; where Windows protects a folder (controlled folder access) the program must be let in",
  ],
  ["EROFS", "the file system is read-only; what is there opens with readOnly"],
  ["ENOSPC", "the disk is full; make room on it"],
  ["EDQUOT", "the quota on the disk is used up; make room"],
  ["EFBIG", "the file would be longer than its file system or the limit of this process, ulimit -f, lets it be"],
  ["EMFILE", "this process has as many files open as its limit, ulimit -n, lets it have"],
  ["ENFILE", "the system has as many files open as it can"],
  ["ENOMEM", "the system gives no more memory or address space; close databases that nobody uses"],
  [
    "EBUSY",
    "another program has the file open and shares it with nobody, or has it mapped; or the file itself is mounted, where its folder should be",
  ],
  [
    "ENODEV",
    "the file system does not let its files be mapped into memory, as some of FUSE do not (direct_io); or the device is gone",
  ],
  ["ENOTDIR", "a folder in the path is a file"],
  ["ENAMETOOLONG", "the name or the path is longer than the file system takes"],
  ["EHOSTUNREACH", "the server in the path, or its share, is not reached; whether the file is there is not known"],
  ["ELOOP", "too many symbolic links lead on to each other"],
  ["EIO", "the device cannot read or write it"],
]);

/** Windows denies to replace a file, and to remove it, in the same words as one that may not be touched. */
const DENIED_NAME = "Windows says so of a file, too, that another program has open or mapped: close it there";

/** What failed, and on which file. */
export interface FailedCall {
  readonly syscall: string;
  readonly path: string | undefined;
  /** What the caller finds now, where that is not what there was before the call. */
  readonly state?: string | undefined;
}

/** EMDB_FULL when there is no space, EMDB_NOT_FOUND when there is no such file or no folder for it, otherwise EMDB_IO. */
export function ioError(result: Result, call: FailedCall): EmdbError {
  return errorOf(codeFor(errnoName(result)), result, call);
}

/** Of a sync of the log: EMDB_IO for want of room as well, since what was written may be lost and is not to be tried again. */
export function syncError(result: Result, path: string): EmdbError {
  return errorOf("EMDB_IO", result, { syscall: "fdatasync", path });
}

function errorOf(code: EmdbErrorCode, result: Result, call: FailedCall): EmdbError {
  const errno = errnoName(result);
  const on = call.path === undefined ? "" : ` on ${JSON.stringify(call.path)}`;
  const state = call.state === undefined ? "" : `; ${call.state}`;
  const meaning = MEANINGS.get(errno);
  const { syscall } = call;
  const isDenied = (syscall === "rename" && errno === "EACCES") || (syscall === "unlink" && errno === "EPERM");
  const more = isDenied ? `; ${DENIED_NAME}` : "";
  const told = meaning === undefined ? errno : `${errno} (${meaning}${more})`;
  const details = { path: call.path, syscall: call.syscall, errno };
  return new EmdbError(code, `${call.syscall}${on} failed: ${told}${state}`, details);
}

function codeFor(errno: string): EmdbErrorCode {
  if (FULL.has(errno)) return "EMDB_FULL";
  return errno === "ENOENT" || errno === "ENOTDIR" ? "EMDB_NOT_FOUND" : "EMDB_IO";
}

/** Passes a good result on and throws for a bad one. */
export function must<T extends number>(result: T, call: FailedCall): T {
  if (result < 0) throw ioError(result, call);
  return result;
}
