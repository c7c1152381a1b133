/**
 * Making names durable.
 *
 * A folder is opened before the first name in it changes. What fails then, for want of descriptors or of permission, has
 * changed nothing; behind the change nothing is left to fail but the sync itself.
 */

import { must } from "../../ffi/io-error.ts";
import type { FileHandle, Result, System } from "../../ffi/system.ts";
import { forgetFile, lendFile, type SharedFile } from "../../log/shared-file.ts";
import { folderOf } from "../threads/control.ts";
import type { Core } from "../core.ts";

/** A folder that is open. */
export class HeldFolder implements Disposable {
  readonly path: string;
  readonly #system: System;
  readonly #handle: FileHandle;
  readonly #words: SharedFile | undefined;

  /**
   * Opens a folder. The words, of a thread that others may outlive, name it meanwhile: a sync takes long, so many a
   * thread is ended in one.
   *
   * @throws {EmdbError} EMDB_IO
   */
  constructor(system: System, path: string, words?: SharedFile) {
    this.path = path;
    this.#system = system;
    this.#words = words;
    // Asked before: a thread that ends between opening and naming leaves the folder open for good.
    const status = words === undefined ? 0 : system.status(path);
    this.#handle = must(system.open(path, "folder"), { syscall: "open", path });
    if (words !== undefined && typeof status !== "number") lendFile(words, this.#handle, status);
  }

  /** Makes creations, renames and unlinks in it durable. */
  sync(): Result {
    return this.#system.syncFolder(this.path, this.#handle);
  }

  /** The same. `state` says what has been done by then, of which a loss of power may undo the names. @throws {EmdbError} EMDB_IO */
  mustSync(state: string): void {
    must(this.sync(), { syscall: "fsync", path: this.path, state });
  }

  [Symbol.dispose](): void {
    this.#system.close(this.#handle);
    if (this.#words !== undefined) forgetFile(this.#words);
  }
}

/** Opens a folder, which stands in the thread's row as long as it is held. @throws {EmdbError} EMDB_IO */
export function holdFolder({ system, control, row }: Core, path: string): HeldFolder {
  return new HeldFolder(system, path, folderOf(control, row));
}
