/**
 * Where a platform keeps an application's data: `<root>/<appName>/<databaseName>`.
 *
 * The names are held to the strictest platform's rules on every platform, so that a name that works on one works on
 * all, and none leaves its folder, names a device or an alternate stream, or loses characters on the way to disk.
 *
 * Sources: XDG Base Directory Specification (relative values are to be ignored); Apple, File System Programming
 * Guide; Microsoft, "Naming Files, Paths, and Namespaces".
 */

import { posix, win32 } from "node:path";
import { EmdbError } from "../errors.ts";
import type { Environment } from "../ffi/environment.ts";
import { LOCATION_NAME_BYTES_MAX } from "../limits.ts";
import { describe, shortened } from "./describe.ts";
import type { LocationOptions } from "./types.ts";
import { faultOnWindows } from "./windows-names.ts";

const APP_NAME = "emdb";
const DATABASE_NAME = "emdb-default.emdb";

/**
 * The absolute path of the database. Creates nothing.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG for a name or root that cannot be one, or when there is no home folder
 */
export function locationPath(options: LocationOptions, environment: Environment): string {
  const { appName = APP_NAME, databaseName = DATABASE_NAME } = options;
  checkName("appName", appName);
  checkName("databaseName", databaseName);
  const { resolve } = environment.platform === "win32" ? win32 : posix;
  const root = options.dataRoot === undefined ? platformRoot(environment) : checkedRoot(options.dataRoot);
  return resolve(root, appName, databaseName);
}

function platformRoot(environment: Environment): string {
  switch (environment.platform) {
    case "win32": {
      const local = environment.variable("LOCALAPPDATA");
      if (local !== undefined && win32.isAbsolute(local)) return checkedRoot(local);
      return win32.join(homeFolder(environment, win32), "AppData", "Local");
    }
    case "darwin":
      return posix.join(homeFolder(environment, posix), "Library", "Application Support");
    default: {
      const data = environment.variable("XDG_DATA_HOME");
      if (data !== undefined && posix.isAbsolute(data)) return checkedRoot(data);
      return posix.join(homeFolder(environment, posix), ".local", "share");
    }
  }
}

function homeFolder(environment: Environment, paths: { isAbsolute(path: string): boolean }): string {
  const home = environment.homeFolder();
  if (home !== undefined && paths.isAbsolute(home)) return checkedRoot(home);
  throw wrong("there is no home folder to put the database in; give dataRoot");
}

function checkedRoot(root: unknown): string {
  if (typeof root !== "string") throw wrong(`dataRoot must be a string, got ${describe(root)}`);
  if (root === "") throw wrong("dataRoot must not be empty");
  if (root.includes("\0")) throw wrong("dataRoot must not hold a NUL");
  if (!root.isWellFormed()) throw wrong("dataRoot must not hold a lone surrogate");
  return root;
}

function checkName(option: string, name: unknown): void {
  if (typeof name !== "string") throw wrong(`${option} must be a string, got ${describe(name)}`);
  const fault = faultOf(name);
  if (fault !== undefined) throw wrong(`${option} "${shortened(name)}" ${fault}`);
}

function faultOf(name: string): string | undefined {
  if (name === "") return "is empty";
  if (name === "." || name === "..") return "is a folder reference, not a name";
  const onWindows = faultOnWindows(name);
  if (onWindows !== undefined) return onWindows;
  if (!name.isWellFormed()) return "holds a lone surrogate";
  const byteCount = Buffer.byteLength(name, "utf8");
  if (byteCount > LOCATION_NAME_BYTES_MAX) return `has ${byteCount} bytes; the limit is ${LOCATION_NAME_BYTES_MAX}`;
  return undefined;
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_CONFIG", message);
}
