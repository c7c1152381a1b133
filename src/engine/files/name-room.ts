/**
 * Room for the names beside a database's file, which begin with its own, and for their whole paths.
 *
 * A new file gets no name and no path that leaves too little of it. One that is there may have such a one all the same: an
 * earlier version made it, or somebody renamed or moved it. It is used as far as the names beside it fit: without its lock it is
 * only read, without its image's draft it gets no image, without that of a compaction it is not compacted.
 *
 * Sources: path_resolution(7), "ENAMETOOLONG"; Microsoft, "Maximum Path Length Limitation"
 */

import { basename } from "node:path";
import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError } from "../../ffi/io-error.ts";
import type { Result, System } from "../../ffi/system.ts";
import { FILE_NAME_BYTES_MAX, SIDECAR_ENDING_BYTES_MAX, SYSTEM_NAME_BYTES_MAX } from "../../limits.ts";

/** What a system counts names and paths in. */
function unitOf(system: System): string {
  return system.platform === "win32" ? "UTF-16 units" : "bytes";
}

function unitsOf(system: System, text: string): number {
  return system.platform === "win32" ? text.length : Buffer.byteLength(text);
}

function lengthOf(system: System, path: string): number {
  return unitsOf(system, basename(path));
}

/** Longest path that leaves room for those beside it. */
function pathMax(system: System): number {
  return system.pathBytesMax - SIDECAR_ENDING_BYTES_MAX;
}

/** Whether a name or its path leaves too little room for those beside it. `path` is real: what a link is called is of no account. */
export function isLongName(system: System, path: string): boolean {
  return lengthOf(system, path) > FILE_NAME_BYTES_MAX || unitsOf(system, path) > pathMax(system);
}

/**
 * Refuses to make a database whose name or path leaves no room for those beside it.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT
 */
export function refuseLongName(system: System, path: string, what: "path" | "target"): void {
  if (!isLongName(system, path)) return;
  const isName = lengthOf(system, path) > FILE_NAME_BYTES_MAX;
  const [has, max] = isName
    ? [`its name has ${lengthOf(system, path)}`, FILE_NAME_BYTES_MAX]
    : [`the whole path has ${unitsOf(system, path)}`, pathMax(system)];
  const message =
    `the ${what} names a file to be made, and ${has} ${unitOf(system)}; the limit is ${max}, ` +
    "since the names of the files beside it begin with that; choose a shorter one";
  throw new EmdbError("EMDB_INVALID_ARGUMENT", message, { path });
}

/**
 * Whether the file system takes a name. It is asked only about those beyond what all take: some take more. Windows, which
 * says of one that is too long that it is not there, takes none.
 */
function takesName(system: System, path: string): boolean {
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
  const unit = unitOf(system);
  const isPathLong = unitsOf(system, longest) > system.pathBytesMax;
  if (!isPathLong && takesName(system, longest)) return;
  const message = isPathLong
    ? `${work.says}: its path has ${unitsOf(system, path)} ${unit}, and that of a file beside it would have ` +
      `${unitsOf(system, longest)}, more than the system takes; close it and move the file: up to ${pathMax(system)} ${unit} ` +
      "leave room for every path"
    : `${work.says}: the name of its file has ${lengthOf(system, path)} ${unit}, and the name of a file beside it would have ` +
      `${lengthOf(system, longest)}, more than the file system takes; close it and rename the file: up to ${FILE_NAME_BYTES_MAX} ${unit} ` +
      "leave room for every name";
  throw new EmdbError("EMDB_INVALID_CONFIG", message, { path });
}

/** Why there is no real path: one that is too long is told as that. */
export function realPathError(system: System, result: Result, path: string): EmdbError {
  if (result !== -Errno.ENAMETOOLONG) return ioError(result, { syscall: "realpath", path });
  const message =
    `the path, or what its links lead to, is longer than the system takes: it has ${unitsOf(system, path)} ${unitOf(system)}, and the name at its end ` +
    `${lengthOf(system, path)}; the limits of a new database are ${pathMax(system)} and ${FILE_NAME_BYTES_MAX}`;
  return new EmdbError("EMDB_INVALID_ARGUMENT", message, { path });
}
