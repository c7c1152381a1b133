/** From a negative result of `System` to the `EmdbError` that a caller sees. */

import { EmdbError, type EmdbErrorCode } from "../errors.ts";
import { errnoName } from "./errno.ts";
import type { Result } from "./system.ts";

/** No room on the disk, within the quota, or in a file as long as the system or a limit of the process lets it be. */
const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Whether a call failed for want of room. */
export function lacksRoom(result: Result): boolean {
  return result < 0 && FULL.has(errnoName(result));
}

/** What failed, and on which file. */
export interface FailedCall {
  readonly syscall: string;
  readonly path: string | undefined;
  /** What the caller finds now, where that is not what there was before the call. */
  readonly state?: string | undefined;
}

/** EMDB_FULL when there is no space, EMDB_NOT_FOUND when there is no such file, otherwise EMDB_IO. */
export function ioError(result: Result, call: FailedCall): EmdbError {
  const errno = errnoName(result);
  const on = call.path === undefined ? "" : ` on ${JSON.stringify(call.path)}`;
  const state = call.state === undefined ? "" : `; ${call.state}`;
  const details = { path: call.path, syscall: call.syscall, errno };
  return new EmdbError(codeFor(errno), `${call.syscall}${on} failed: ${errno}${state}`, details);
}

function codeFor(errno: string): EmdbErrorCode {
  if (FULL.has(errno)) return "EMDB_FULL";
  return errno === "ENOENT" ? "EMDB_NOT_FOUND" : "EMDB_IO";
}

/** Passes a good result on and throws for a bad one. */
export function must<T extends number>(result: T, call: FailedCall): T {
  if (result < 0) throw ioError(result, call);
  return result;
}
