/**
 * Files that are written as a whole before anybody needs them: what is written goes to the disk bit by bit meanwhile, so
 * that neither the system holds much of it nor the last sync, for which others may have to wait, takes long.
 */

import { Errno } from "../ffi/errno.ts";
import { must } from "../ffi/io-error.ts";
import type { FileHandle, System } from "../ffi/system.ts";

const PAGE_BYTES = 4096;

export interface WrittenFile {
  readonly handle: FileHandle;
  readonly path: string;
}

/**
 * Sees to it that of what has been written to a file up to `end`, and was not before `from`, the most is on its way to
 * the disk, and what is before that has arrived there. Returns the next `from`. Nothing is durable without a sync.
 */
export function writeBack(
  system: Pick<System, "writeBack" | "sync">,
  file: WrittenFile,
  part: { readonly from: number; readonly end: number },
): number {
  const { handle, path } = file;
  // The last page is written on.
  const end = Math.floor(part.end / PAGE_BYTES) * PAGE_BYTES;
  const span = { position: part.from, bytes: end - part.from };
  const result = system.writeBack?.(handle, span) ?? -Errno.EOPNOTSUPP;
  if (result !== -Errno.EOPNOTSUPP) must(result, { syscall: "sync_file_range", path });
  else must(system.sync(handle), { syscall: "fdatasync", path });
  return end;
}
