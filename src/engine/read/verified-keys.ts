/**
 * The keys of frames as a range asks for them with `verifyReads`: one that has rotted would put the range's bounds, or the place
 * where it goes on, among other records, and leave some out.
 *
 * Readers alone look this way. A writer compares keys unchecked: one that could not take back what it wrote, for the rot of
 * a neighbour, could write nothing any more.
 */

import { WORD_SHAPE, WORD_VALUE_BYTES } from "../../log/frame.ts";
import { verifyFound } from "./body-check.ts";
import type { Core } from "../core.ts";
import { LogKeys } from "./log-keys.ts";

export class VerifiedKeys extends LogKeys {
  readonly #core: Core;

  constructor(core: Core) {
    super(core.log);
    this.#core = core;
  }

  /** @throws {EmdbError} EMDB_CORRUPTED when the frame at the position is not as it was written */
  override loadKey(units: number): number {
    const bytes = super.loadKey(units);
    const words = this.memory.u32;
    const lookup = { lsn: units * 8, shape: words[WORD_SHAPE]!, valueBytes: words[WORD_VALUE_BYTES]! };
    verifyFound({ log: this.#core.log, lookup, written: (lsn) => this.#core.written(lsn) });
    return bytes;
  }
}
