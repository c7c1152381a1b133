/** Making a new log: a header page in a sibling, synced, then given its name. */

import { Errno } from "../ffi/errno.ts";
import { must } from "../ffi/io-error.ts";
import type { System } from "../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../limits.ts";
import { FILE_ID_BYTES, encodeHeader, type LogHeader } from "../log/header.ts";

/** The sibling that a log is made in before it has its name. */
export function newPath(path: string): string {
  return `${path}.new`;
}

/** A header for a new file. */
function freshHeader(system: System): LogHeader {
  const fileId = new Uint8Array(FILE_ID_BYTES);
  system.random(fileId);
  return { flags: 0, fileId, generation: 1, createdAtMs: system.now(), cipher: 0 };
}

/** Creates the log at `path`, durably, name and all; when that fails, nothing is there. Under the lock. */
export function createLog(system: System, path: string, folder: string): void {
  const sibling = newPath(path);
  const stale = system.unlink(sibling);
  if (stale < 0 && stale !== -Errno.ENOENT) must(stale, { syscall: "unlink", path: sibling });
  const handle = must(system.open(sibling, "create"), { syscall: "open", path: sibling });
  let isDone = false;
  try {
    const page = encodeHeader(freshHeader(system));
    must(system.write(handle, page.address, { position: 0, bytes: HEADER_PAGE_BYTES }), {
      syscall: "pwrite",
      path: sibling,
    });
    must(system.sync(handle), { syscall: "fdatasync", path: sibling });
    isDone = true;
  } finally {
    system.close(handle);
    if (!isDone) system.unlink(sibling);
  }
  const renamed = system.rename(sibling, path);
  if (renamed < 0) system.unlink(sibling);
  must(renamed, { syscall: "rename", path });
  const synced = system.syncFolder(folder);
  if (synced < 0) system.unlink(path);
  must(synced, { syscall: "fsync", path: folder });
}
