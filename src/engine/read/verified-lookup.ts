/**
 * Finding versions with `verifyReads`: the way back is believed only as far as checksums say that it was written so.
 *
 * Invariant: a frame on the way whose header is not as it was written, or whose key is not the one that the way began
 * with, is damage. Of the frame at its end the header is held against its check when that says there is no value; a value
 * is for who takes it to check, whole (`body-check.ts`).
 */

import { compare, copy, pinned, type Pinned } from "../../ffi/memory.ts";
import { KEY_BYTES_MAX } from "../../limits.ts";
import { FRAME_HEADER_BYTES, SHAPE_WIDE_PREV } from "../../log/frame.ts";
import { verifyFound, verifyHeader, type Checked } from "./body-check.ts";
import type { Core } from "../core.ts";
import { Lookup } from "./lookup.ts";

export class VerifiedLookup extends Lookup {
  readonly #checked: Checked;
  /** The key that the way back began with; made for the first one. */
  #key: Pinned | undefined;
  #keyBytes = 0;

  constructor(core: Pick<Core, "key" | "keydir" | "log" | "written">) {
    super(core.keydir, core.log, core.key);
    this.#checked = { log: core.log, lookup: this, written: (lsn) => core.written(lsn) };
  }

  override walkBack(before: number): boolean {
    if (this.lsn >= before) this.#keepKey();
    const isValue = super.walkBack(before);
    if (!isValue) verifyHeader(this.#checked);
    return isValue;
  }

  protected override stepBack(before: number): boolean {
    // A wide distance stands in the body.
    if ((this.shape & SHAPE_WIDE_PREV) !== 0) verifyFound(this.#checked);
    else verifyHeader(this.#checked);
    if (!super.stepBack(before)) return false;
    if (!this.#hasKey()) throw this.log.corrupted(this.lsn);
    return true;
  }

  #keepKey(): void {
    this.#keyBytes = this.shape >>> 16;
    this.#key ??= pinned(KEY_BYTES_MAX + 8);
    copy(this.#key.address, this.frame.address + FRAME_HEADER_BYTES, this.#keyBytes);
  }

  #hasKey(): boolean {
    const bytes = this.#keyBytes;
    if (this.shape >>> 16 !== bytes) return false;
    return compare(this.frame.address + FRAME_HEADER_BYTES, this.#key!.address, bytes) === 0;
  }
}
