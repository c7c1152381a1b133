/**
 * Databases that would stand in each other's way: one named "a", and one named as the lock or the image of "a" is. Who
 * comes second is refused, before anything is written over.
 */

import { EmdbError } from "../errors.ts";
import type { System } from "../ffi/system.ts";
import { hintPath } from "./hint-writer.ts";
import { lockPath } from "./lock-file.ts";
import { beginsAsLog } from "./siblings.ts";

/** A new database must not stand where another one has its lock or its image. */
export function refuseSidecarName(system: System, path: string): void {
  for (const sidecar of [lockPath, hintPath]) {
    const ending = sidecar("");
    const owner = path.slice(0, -ending.length);
    if (path.endsWith(ending) && isLog(system, owner)) {
      const what = `belongs to the database ${JSON.stringify(owner)}, which would write it anew`;
      throw refused(path, path, what);
    }
  }
}

/** Nor may a database have its image where another database is. */
export function refuseTakenImage(system: System, path: string): void {
  const image = hintPath(path);
  if (isLog(system, image))
    throw refused(path, image, "is a database itself, and this one would write its image there");
}

function refused(path: string, named: string, what: string): EmdbError {
  return new EmdbError("EMDB_INVALID_CONFIG", `${JSON.stringify(named)} ${what}; choose another path`, { path });
}

function isLog(system: System, path: string): boolean {
  const handle = system.open(path, "read");
  if (handle < 0) return false;
  const isOne = beginsAsLog(system, handle);
  system.close(handle);
  return isOne;
}
