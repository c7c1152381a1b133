/** Descriptors of this process: how many are left, as far as anybody needs to know. */

import { errnoName } from "./errno.ts";
import type { FileHandle, System } from "./system.ts";

/** There on every system, and a folder. */
const ROOT = "/";

/** Takes so many descriptors and gives them back; the name of the error if they are not to be had. */
export function shortage(system: Pick<System, "open" | "close">, count: number): "EMFILE" | "ENFILE" | undefined {
  const taken: FileHandle[] = [];
  try {
    while (taken.length < count) {
      const handle = system.open(ROOT, "folder");
      if (handle < 0) {
        const errno = errnoName(handle);
        // Whatever else it is, descriptors are not what is missing.
        return errno === "EMFILE" || errno === "ENFILE" ? errno : undefined;
      }
      taken.push(handle);
    }
    return undefined;
  } finally {
    for (const handle of taken) system.close(handle);
  }
}
