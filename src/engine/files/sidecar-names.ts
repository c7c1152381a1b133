/**
 * Databases that would stand in each other's way: one named "a", and one named as the lock or the image of "a" is. Who
 * comes second is refused, before anything is written over.
 */

import { EmdbError } from "../../errors.ts";
import type { System } from "../../ffi/system.ts";
import { firstPage } from "./first-page.ts";
import { beginsAsImage } from "../hint/hint-format.ts";
import { hintPath, isLogBeginning, isText } from "./siblings.ts";

/**
 * Every name that a database may use beside its own; what has been made for one has a number in it. In capitals as well:
 * Windows and macOS take both for one.
 */
const SIBLING =
  /^(.*[^/\\])\.(?:lock|hint|(?:hint\.new|emdb-(?:new|compact|backup|replaced|salvage))(-[0-9a-f]{16})?(?:-moves|-gone)?(?:-\d+)?)$/is;

/** A new database must not stand where another one has, or may come to have, a file of its own. */
export function refuseSidecarName(system: System, path: string): void {
  const owner = SIBLING.exec(path)?.[1];
  if (owner === undefined || !isLog(system, owner)) return;
  throw refused(path, path, `is a name that belongs to the database ${JSON.stringify(owner)}`);
}

/** Nor is one opened that is such a file, as what a compaction was writing when it died. */
export function refuseDraft(system: System, path: string): void {
  const parts = SIBLING.exec(path);
  if (parts?.[2] !== undefined) refuseSidecarName(system, path);
}

/** Nor may a database have its image where another database is. */
export function refuseTakenImage(system: System, path: string): void {
  const image = hintPath(path);
  const found = beginningOf(system, image);
  if (isLogBeginning(found))
    throw refused(path, image, "is a database itself, and this one would write its image there");
  // Beside a database that is there, it is an image that was damaged: it costs time only.
  if (isText(found) && !beginsAsImage(found) && !isLog(system, path))
    throw refused(path, image, "is no image, and this database would write its own there");
}

function refused(path: string, named: string, what: string): EmdbError {
  return new EmdbError("EMDB_INVALID_CONFIG", `${JSON.stringify(named)} ${what}; choose another path`, { path });
}

/** Whether a log is at a path, whatever its format and state. */
export function isLog(system: System, path: string): boolean {
  return isLogBeginning(beginningOf(system, path));
}

/** The first bytes of a file; none of what cannot be read. */
function beginningOf(system: System, path: string): Uint8Array {
  const page = firstPage(system, path);
  return page instanceof Uint8Array ? page : new Uint8Array(0);
}
