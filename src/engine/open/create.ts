/** Making a new log: a header page in a sibling, synced, then given its name. */

import { dirname } from "node:path";
import { Errno } from "../../ffi/errno.ts";
import { must } from "../../ffi/io-error.ts";
import type { Pinned } from "../../ffi/memory.ts";
import type { System } from "../../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import type { LockFile } from "../files/lock-file.ts";
import { createPath, isBegun } from "../files/siblings.ts";

/** What is none of ours is told by the create that fails. */
function removeBegun(system: System, path: string): void {
  const there = system.status(path);
  if (there === -Errno.ENOENT) return;
  if (typeof there === "number") must(there, { syscall: "stat", path });
  else if (isBegun(there)) must(system.unlink(path), { syscall: "unlink", path });
}

/** Creates the log at `path` with this header page, durably, name and all; when that fails, nothing is there. Under its lock. */
export function createLog(
  system: System,
  lock: LockFile,
  { path, page }: { readonly path: string; readonly page: Pinned },
): void {
  const folder = dirname(path);
  const sibling = createPath(path);
  removeBegun(system, sibling);
  const handle = must(system.open(sibling, "create"), { syscall: "open", path: sibling });
  let isDone = false;
  try {
    must(system.write(handle, page.address, { position: 0, bytes: HEADER_PAGE_BYTES }), {
      syscall: "pwrite",
      path: sibling,
    });
    must(system.sync(handle), { syscall: "fdatasync", path: sibling });
    // The rename replaces what is there, and who has broken the lock meanwhile may have made a database.
    lock.mustBeOurs();
    isDone = true;
  } finally {
    system.close(handle);
    if (!isDone) system.unlink(sibling);
  }
  const renamed = system.rename(sibling, path);
  if (renamed < 0) system.unlink(sibling);
  must(renamed, { syscall: "rename", path });
  const synced = system.syncFolder(folder);
  // Who has broken the lock since has this one open.
  if (synced < 0 && lock.isOurs) system.unlink(path);
  must(synced, { syscall: "fsync", path: folder });
}
