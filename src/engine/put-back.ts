/**
 * Putting back the log that a compaction has moved aside, where a mapped file cannot be replaced: it died between its
 * two renames, and nothing has the log's name.
 *
 * Such a file says in its name which log it is, and in its header the same. Whatever else is there is another's.
 */

import { basename, dirname, join } from "node:path";
import { must } from "../ffi/io-error.ts";
import type { System } from "../ffi/system.ts";
import { decodeHeader } from "../log/header.ts";
import { judgeFile } from "./judge-file.ts";
import { isIdOf, replacedId } from "./siblings.ts";
import { beginningOf } from "./sidecar-names.ts";
import type { HeaderPage } from "./unlock.ts";

/** The newest of the files that compactions have replaced and not removed yet; undefined when there is none. */
export function findReplaced(system: System, path: string): string | undefined {
  if (system.canMapPastEnd) return undefined;
  let newest: { readonly file: string; readonly generation: number } | undefined;
  const names = system.list(dirname(path));
  for (const name of typeof names === "number" ? [] : names) {
    const id = replacedId(basename(path), name);
    if (id === undefined) continue;
    const file = join(dirname(path), name);
    const verdict = decodeHeader(beginningOf(system, file));
    if (verdict.kind !== "sound" || !isIdOf(id, verdict.header.fileId)) continue;
    const { generation } = verdict.header;
    if (generation > (newest?.generation ?? -1)) newest = { file, generation };
  }
  return newest?.file;
}

/** Gives it the log's name again. Under the lock. */
export function putBack(system: System, path: string): HeaderPage | undefined {
  const replaced = findReplaced(system, path);
  if (replaced === undefined) return undefined;
  must(system.rename(replaced, path), { syscall: "rename", path });
  must(system.syncFolder(dirname(path)), { syscall: "fsync", path: dirname(path) });
  return judgeFile(system, path);
}
