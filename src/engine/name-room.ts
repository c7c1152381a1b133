/**
 * Room for the names beside a database's file, which begin with its own.
 *
 * A new file gets no name that leaves too little of it. One that is there may have such a name all the same: an earlier
 * version made it, or somebody renamed it. It is used as far as the names beside it fit: without its lock it is only read,
 * without its image's draft it gets no image, without that of a compaction it is not compacted.
 *
 * Sources: path_resolution(7), "ENAMETOOLONG"; Microsoft, "Maximum Path Length Limitation"
 */

import { basename } from "node:path";
import { EmdbError } from "../errors.ts";
import { Errno } from "../ffi/errno.ts";
import { ioError } from "../ffi/io-error.ts";
import type { Result, System } from "../ffi/system.ts";
import { FILE_NAME_BYTES_MAX, SYSTEM_NAME_BYTES_MAX } from "../limits.ts";

/** What a system counts names in. */
function unitOf(system: System): string {
  return system.platform === "win32" ? "UTF-16 units" : "bytes";
}

function lengthOf(system: System, path: string): number {
  const name = basename(path);
  return system.platform === "win32" ? name.length : Buffer.byteLength(name);
}

/** Whether a name leaves too little room for those beside it. `path` is real: what a link is called is of no account. */
export function isLongName(system: System, path: string): boolean {
  return lengthOf(system, path) > FILE_NAME_BYTES_MAX;
}

/**
 * Refuses to make a database whose name leaves no room for those beside it.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT
 */
export function refuseLongName(system: System, path: string, what: "path" | "target"): void {
  if (!isLongName(system, path)) return;
  const message =
    `the ${what} names a file to be made, and its name has ${lengthOf(system, path)} ${unitOf(system)}; the limit is ${FILE_NAME_BYTES_MAX}, ` +
    "since the names of the files beside it begin with that; choose a shorter one";
  throw new EmdbError("EMDB_INVALID_ARGUMENT", message, { path });
}

/**
 * Whether the file system takes a name. It is asked only about those beyond what all take: some take more. Windows, which
 * says of one that is too long that it is not there, takes none.
 */
function fits(system: System, path: string): boolean {
  if (lengthOf(system, path) <= SYSTEM_NAME_BYTES_MAX) return true;
  return system.platform !== "win32" && system.status(path) !== -Errno.ENAMETOOLONG;
}

/**
 * Refuses work that makes a file beside a database where there is no room for its name.
 *
 * `says` begins the sentence: what is not done
 * @throws {EmdbError} EMDB_INVALID_CONFIG; nothing was done
 */
export function mustFit(
  system: System,
  path: string,
  work: { readonly names: readonly string[]; readonly says: string },
): void {
  const longest = work.names.reduce((one, other) => (lengthOf(system, other) > lengthOf(system, one) ? other : one));
  if (fits(system, longest)) return;
  const unit = unitOf(system);
  const message =
    `${work.says}: the name of its file has ${lengthOf(system, path)} ${unit}, and the name of a file beside it would have ` +
    `${lengthOf(system, longest)}, more than the file system takes; close it and rename the file: up to ${FILE_NAME_BYTES_MAX} ${unit} ` +
    "leave room for every name";
  throw new EmdbError("EMDB_INVALID_CONFIG", message, { path });
}

/** Why there is no real path: one that is too long is told as that. */
export function realPathError(system: System, result: Result, path: string): EmdbError {
  if (result !== -Errno.ENAMETOOLONG) return ioError(result, { syscall: "realpath", path });
  const message =
    `the path is longer than the system takes: it has ${Buffer.byteLength(path)} ${unitOf(system)}, and the name at its end ` +
    `${lengthOf(system, path)}; the limit of a new database's name is ${FILE_NAME_BYTES_MAX}`;
  return new EmdbError("EMDB_INVALID_ARGUMENT", message, { path });
}
