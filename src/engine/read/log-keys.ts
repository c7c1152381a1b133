/** The keys of frames, as the ordered index asks for them: by position, in memory of its own. */

import { copy, pinned, type Pinned } from "../../ffi/memory.ts";
import type { LogReader } from "../../log/log-words.ts";
import { FRAME_HEADER_BYTES, WORD_SHAPE } from "../../log/frame.ts";
import { KEY_BYTES_MAX } from "../../limits.ts";
import type { KeySource } from "../../ordered/path.ts";

/** Copied at once: a header and most keys. */
const PEEK_BYTES = 128;

export class LogKeys implements KeySource {
  readonly memory: Pinned = pinned(FRAME_HEADER_BYTES + KEY_BYTES_MAX + 8);
  readonly keyAt = FRAME_HEADER_BYTES;
  readonly #log: LogReader;

  constructor(log: LogReader) {
    this.#log = log;
  }

  /** @throws {EmdbError} EMDB_CORRUPTED when there is no frame at the position */
  loadKey(units: number): number {
    const log = this.#log;
    const memory = this.memory;
    for (;;) {
      const address = log.at(units * 8);
      const available = log.limit;
      if (address === 0 || available < FRAME_HEADER_BYTES) throw log.corrupted(units * 8);
      copy(memory.address, address, Math.min(available, PEEK_BYTES));
      const bytes = memory.u32[WORD_SHAPE]! >>> 16;
      const end = FRAME_HEADER_BYTES + bytes;
      if (end > PEEK_BYTES && end <= available) copy(memory.address, address, end);
      if (log.isInRing && !log.isStillWhole(units * 8)) continue;
      if (end > available) throw log.corrupted(units * 8);
      return bytes;
    }
  }

  corrupted(units: number): Error {
    return this.#log.corrupted(units * 8);
  }
}
