/** The keys of sealed frames, as the ordered index asks for them: by position, in memory of its own. */

import { pinned, type Pinned } from "../../ffi/memory.ts";
import { FRAME_HEADER_BYTES } from "../../log/frame.ts";
import type { LogReader } from "../../log/log-words.ts";
import type { KeySource } from "../../ordered/path.ts";
import { HEAD_BYTES } from "./frame-opening.ts";
import { SealedReader } from "./sealed-reader.ts";
import type { Vault } from "./vault.ts";

export class SealedKeys implements KeySource {
  readonly memory: Pinned = pinned(HEAD_BYTES);
  readonly keyAt = FRAME_HEADER_BYTES;
  readonly #log: LogReader;
  readonly #reader: SealedReader;

  constructor(log: LogReader, vault: Vault) {
    this.#log = log;
    this.#reader = new SealedReader(log, vault, this.memory);
  }

  /** @throws {EmdbError} EMDB_CORRUPTED when no frame at the position opens */
  loadKey(units: number): number {
    if (!this.#reader.read(units * 8)) throw this.#log.corrupted(units * 8);
    return this.#reader.opening.record.keyBytes;
  }

  corrupted(units: number): Error {
    return this.#log.corrupted(units * 8);
  }
}
