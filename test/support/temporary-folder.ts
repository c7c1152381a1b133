/**
 * A folder of a test's own: `using folder = temporaryFolder();`, then `folder.file("data.emdb")`.
 *
 * It is removed file by file, because `rmSync` with `recursive` fails under Wine (EFAULT).
 */

import { existsSync, lstatSync, mkdtempSync, readdirSync, rmdirSync, statfsSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { emulator } from "./platform.ts";

export interface TemporaryFolder extends Disposable {
  readonly path: string;
  /** The path of a name inside; creates nothing. */
  file(name: string): string;
}

/** `start` is how its path begins. */
export function temporaryFolder(start: string = join(tmpdir(), "emdb-test-")): TemporaryFolder {
  const path = mkdtempSync(start);
  return { path, file: (name) => join(path, name), [Symbol.dispose]: () => removeTree(path) };
}

const ROOM_BYTES = 2 ** 29;

/** As `temporaryFolder`, in memory where the platform has such a folder with room in it: for large files that no disk need see. */
export function roomyFolder(): TemporaryFolder {
  const memory = "/dev/shm";
  if (process.platform !== "linux" || !existsSync(memory)) return temporaryFolder();
  const { bavail, bsize } = statfsSync(memory);
  return bavail * bsize > ROOM_BYTES ? temporaryFolder(join(memory, "emdb-test-")) : temporaryFolder();
}

/** Removes a file, or a folder with all that is in it; a symbolic link is removed, not followed. */
export function removeTree(path: string): void {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!status.isDirectory()) return removeFile(path);
  for (const name of readdirSync(path)) removeTree(join(path, name));
  try {
    rmdirSync(path);
  } catch (error) {
    // Wine takes a removed file out of its folder only when the last handle is closed, here by a thread that is ending.
    const isWaiting = emulator === "wine" && (error as { code?: string }).code === "ENOTEMPTY";
    if (!isWaiting) throw error;
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    // What a thread that was ended had open or mapped on Windows, and no word names yet, stays so (docs/workers.md).
    const isHeld = emulator === "wine" && (error as { code?: string }).code === "EPERM";
    if (!isHeld) throw error;
  }
}
