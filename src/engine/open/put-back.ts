/**
 * Finding and putting back the log that a compaction has moved aside, where a mapped file cannot be replaced: it is between its
 * two renames, or died there, and nothing has the log's name.
 *
 * Such a file says in its name which log it is, and in its header the same. Whatever else is there is another's.
 */

import { basename, dirname, join } from "node:path";
import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError, must } from "../../ffi/io-error.ts";
import type { System } from "../../ffi/system.ts";
import { decodeHeader, type LogHeader } from "../../log/header.ts";
import { firstPage } from "../files/first-page.ts";
import { judgeFile } from "./judge-file.ts";
import { isMissing } from "../files/no-folder.ts";
import { isIdOf, replacedName } from "../files/siblings.ts";
import type { HeaderPage } from "../sealed/unlock.ts";

/**
 * The newest of the files that compactions have replaced and not removed yet; undefined when there is none. What may be one and
 * cannot be read is no reason to believe that there is none: a new log would be made in its place.
 *
 * @throws {EmdbError} EMDB_IO
 */
export function findReplaced(system: System, path: string): string | undefined {
  if (system.canMapPastEnd) return undefined;
  let newest: { readonly file: string; readonly generation: number } | undefined;
  const folder = dirname(path);
  const names = system.list(folder);
  if (typeof names === "number" && !isMissing(names)) throw ioError(names, { syscall: "readdir", path: folder });
  for (const name of typeof names === "number" ? [] : names) {
    const found = replacedName(basename(path), name);
    if (found === undefined) continue;
    // As it is asked for: where capitals are told apart there is nothing under that name.
    const file = join(folder, found.name);
    const header = headerAt(system, file);
    if (header === undefined || !isIdOf(found.id, header.fileId)) continue;
    const { generation } = header;
    if (generation > (newest?.generation ?? -1)) newest = { file, generation };
  }
  return newest?.file;
}

/** The sound header of a file; undefined when it has none, or there is no such file. */
function headerAt(system: System, path: string): LogHeader | undefined {
  const page = firstPage(system, path);
  if (page instanceof Uint8Array) {
    const verdict = decodeHeader(page);
    return verdict.kind === "sound" ? verdict.header : undefined;
  }
  if (page.result === -Errno.ENOENT || page.result === -Errno.EISDIR) return undefined;
  throw ioError(page.result, page);
}

/** Gives it the log's name again. Under the lock. */
export function putBack(system: System, path: string): HeaderPage | undefined {
  const replaced = findReplaced(system, path);
  if (replaced === undefined) return undefined;
  must(system.rename(replaced, path), { syscall: "rename", path });
  must(system.syncFolder(dirname(path)), { syscall: "fsync", path: dirname(path) });
  return judgeFile(system, path);
}

/** The error for a log that is not there. */
export function missing(path: string): EmdbError {
  return new EmdbError("EMDB_NOT_FOUND", `there is no database at ${JSON.stringify(path)}`, { path });
}

/** How often the names change between two looks before a log counts as none. */
const LOOKS_MAX = 100;

/**
 * The file to read of a log that another process may have open: the one at the path, or what was moved aside.
 *
 * @throws {EmdbError} EMDB_NOT_FOUND, and what `judgeFile` and `findReplaced` throw
 */
export function findReadable(system: System, path: string): { readonly file: string; readonly found: HeaderPage } {
  let hasLooked = false;
  for (let look = 1; look <= LOOKS_MAX; look++) {
    try {
      const found = judgeFile(system, path);
      if (found !== undefined) return { file: path, found };
      const file = findReplaced(system, path);
      const aside = file === undefined ? undefined : judgeFile(system, file);
      if (file !== undefined && aside !== undefined) return { file, found: aside };
      // It may have got its name back between the two looks.
      if (system.canMapPastEnd || (file === undefined && hasLooked)) break;
      hasLooked = file === undefined;
    } catch (error) {
      // Or have lost it within one.
      if (!(error instanceof EmdbError) || error.code !== "EMDB_NOT_FOUND" || system.canMapPastEnd) throw error;
    }
  }
  throw missing(path);
}
