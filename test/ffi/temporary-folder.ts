/** A folder of its own for one test, gone afterwards; and the host's system as tests use it. */

import { mkdtempSync, readdirSync, realpathSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errnoName } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { FileHandle, OpenMode, Result } from "../../src/ffi/system.ts";

export const system = hostSystem();

/** "ok" for success, or the name of the error: reads better than a number when a test fails. */
export function outcome(result: Result | object | string): string {
  return typeof result === "number" && result < 0 ? errnoName(result) : "ok";
}

/** A handle that nothing has. (The number of one that was closed may by now be another's in this process.) */
export const neverOpened: FileHandle = 0x7fff_fff0;

/** Text as bytes. */
export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** As `rmSync` with `recursive`, which does not work under Wine. */
function removeFolder(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeFolder(join(path, entry.name));
    else unlinkSync(join(path, entry.name));
  }
  rmdirSync(path);
}

export class TemporaryFolder implements Disposable {
  readonly path = realpathSync.native(mkdtempSync(join(tmpdir(), "emdb-ffi-")));
  readonly #open = new Set<FileHandle>();

  /** The path of a name in here. */
  at(name: string): string {
    return join(this.path, name);
  }

  /** A new file with this text. */
  file(name: string, text: string): string {
    writeFileSync(this.at(name), text);
    return this.at(name);
  }

  /** Opens or throws; closed with the folder. */
  open(name: string, mode: OpenMode): FileHandle {
    const file = system.open(this.at(name), mode);
    if (file < 0) throw new Error(`open ${name} as ${mode}: ${errnoName(file)}`);
    this.#open.add(file);
    return file;
  }

  close(file: FileHandle): Result {
    this.#open.delete(file);
    return system.close(file);
  }

  /** A new file, open for writing, with this text. */
  opened(name: string, text: string): FileHandle {
    this.file(name, text);
    return this.open(name, "write");
  }

  [Symbol.dispose](): void {
    for (const file of this.#open) system.close(file);
    try {
      removeFolder(this.path);
    } catch (thrown) {
      // Windows keeps a file that is mapped; a view may not have been collected yet.
      if (process.platform !== "win32") throw thrown;
    }
  }
}

/** The text of `[position, position + bytes)` of an open file, shorter at its end. */
export function readText(file: FileHandle, position: number, bytes: number): string {
  const into = new Uint8Array(bytes);
  const count = system.read(file, into, { position, bytes });
  if (count < 0) throw new Error(`read: ${errnoName(count)}`);
  return new TextDecoder().decode(into.subarray(0, count));
}
