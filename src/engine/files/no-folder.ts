/** Paths whose folder is missing, or is a file. Systems tell that in different words, and Windows gives a path in a file as a real one. */

import { dirname, relative, sep } from "node:path";
import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import type { Result, System } from "../../ffi/system.ts";

/** Whether nothing is at a path: a name in it is not there, or is no folder and has names behind it. */
export function isMissing(result: Result): boolean {
  return result === -Errno.ENOENT || result === -Errno.ENOTDIR;
}

/** Whether a path is there and is no folder. */
export function isFile(system: System, path: string): boolean {
  const status = system.status(path);
  return typeof status !== "number" && status.kind !== "folder";
}

/** What is meant where a path begins so, and is to be said instead; both can be names of folders too. */
const MEANT: Readonly<Record<string, string>> = {
  "~": "a path has no ~ for the home folder: use homedir() of node:os, or Emdb.open({ appName })",
  "file:": "for a URL give new URL(...)",
};

/** What to say of a path whose folder is none. */
export function noFolderError(system: System, folder: string, path: string): EmdbError {
  let above = folder;
  while (typeof system.status(above) === "number" && dirname(above) !== above) above = dirname(above);
  const [missing = ""] = relative(above, folder).split(sep);
  const advice = Object.hasOwn(MEANT, missing) ? MEANT[missing] : "make it first";
  const message = isFile(system, above)
    ? `${JSON.stringify(above)} is a file, not a folder; no database can be in it`
    : `the folder ${JSON.stringify(folder)} does not exist; ${advice}`;
  return new EmdbError("EMDB_NOT_FOUND", message, { path });
}
