/** Making names durable, for a thread that others may outlive: the folder that is open meanwhile stands in its row. */

import type { Result } from "../ffi/system.ts";
import { forgetFile, lendFile } from "../log/shared-file.ts";
import { folderOf } from "./control.ts";
import type { Core } from "./core.ts";

/** Makes creations, renames and unlinks in a folder durable. A sync takes long, so many a thread is ended in one. */
export function syncFolder({ system, control, row }: Core, path: string): Result {
  const words = folderOf(control, row);
  const status = system.status(path);
  return system.syncFolder(path, (folder) => {
    if (folder === undefined || typeof status === "number") forgetFile(words);
    else lendFile(words, folder, status.identity);
  });
}
