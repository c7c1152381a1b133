/** Scratch folders, on the disk that is to be measured. */

import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A fresh folder that goes away with `using`. Set EMDB_BENCH_DIR to measure another disk. */
export class Folder implements Disposable {
  readonly path: string;

  constructor() {
    const root = process.env["EMDB_BENCH_DIR"] ?? tmpdir();
    mkdirSync(root, { recursive: true });
    this.path = mkdtempSync(join(root, "emdb-bench-"));
  }

  /** A path inside the folder, nothing created. */
  at(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Bytes on the disk under a file or folder and its siblings that start with the same name (logs, sidecars). */
export function bytesUnder(path: string): number {
  const folder = join(path, "..");
  const name = path.slice(folder.length + 1);
  let bytes = 0;
  for (const entry of readdirSync(folder)) if (entry.startsWith(name)) bytes += bytesOf(join(folder, entry));
  return bytes;
}

function bytesOf(path: string): number {
  const status = statSync(path);
  // A sparse file (lmdb's writable map) counts with its blocks, not with the length it pretends to.
  if (!status.isDirectory()) return Math.min(status.size, status.blocks * 512);
  let bytes = 0;
  for (const entry of readdirSync(path)) bytes += bytesOf(join(path, entry));
  return bytes;
}
