/** Making a new log: a header page in a sibling, synced, then given its name. */

import { dirname } from "node:path";
import { Errno } from "../ffi/errno.ts";
import { must } from "../ffi/io-error.ts";
import type { Pinned } from "../ffi/memory.ts";
import type { System } from "../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../limits.ts";
import { newPath } from "./siblings.ts";

/** Creates the log at `path` with this header page, durably, name and all; when that fails, nothing is there. Under the lock. */
export function createLog(system: System, path: string, page: Pinned): void {
  const folder = dirname(path);
  const sibling = newPath(path);
  const stale = system.unlink(sibling);
  if (stale < 0 && stale !== -Errno.ENOENT) must(stale, { syscall: "unlink", path: sibling });
  const handle = must(system.open(sibling, "create"), { syscall: "open", path: sibling });
  let isDone = false;
  try {
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
