/** Records of an encrypted log that verify has passed already, read again by their position with system reads. */

import { must } from "../../ffi/io-error.ts";
import { copy, pinned, sharedScratch, type Pinned } from "../../ffi/memory.ts";
import { FRAME_HEADER_BYTES, KIND_SEALED, WORD_SHAPE, WORD_VALUE_BYTES, isPlausible, kindOf } from "../../log/frame.ts";
import type { ScanSource } from "../../log/scanner.ts";
import type { OpenedRecord } from "../../crypto/sealed-record.ts";
import { FrameOpening, HEAD_BYTES } from "../sealed/frame-opening.ts";
import type { SessionKeeper } from "../sealed/scan-opener.ts";

/** Read at once: a whole small record. */
const PEEK_BYTES = 4096;
const sharedPeek = sharedScratch(PEEK_BYTES);

export class PastRecords {
  /** Header and key of the record that was read last. */
  readonly head: Pinned = pinned(HEAD_BYTES);
  readonly #source: ScanSource;
  readonly #keys: SessionKeeper;
  readonly #opening: FrameOpening;

  constructor(source: ScanSource, keys: SessionKeeper) {
    this.#source = source;
    this.#keys = keys;
    this.#opening = new FrameOpening(this.head);
  }

  /** What the record at a position says; undefined when none opens there. */
  read(position: number): OpenedRecord | undefined {
    const { system, file, path } = this.#source;
    const peek = sharedPeek();
    const there = must(system.read(file, peek.u8, { position, bytes: PEEK_BYTES }), { syscall: "pread", path });
    if (there < FRAME_HEADER_BYTES || !isPlausible(peek, 0, position)) return undefined;
    const shape = peek.u32[WORD_SHAPE]!;
    const bodyBytes = peek.u32[WORD_VALUE_BYTES]!;
    const whole = FRAME_HEADER_BYTES + bodyBytes;
    if (kindOf(shape) !== KIND_SEALED || position + whole > this.#source.end) return undefined;
    let frame = peek.u8;
    if (whole > there) {
      frame = new Uint8Array(whole);
      copy(frame, peek.address, there);
      const rest = { position: position + there, bytes: whole - there };
      const read = must(system.read(file, frame.subarray(there), rest), { syscall: "pread", path });
      if (read < rest.bytes) return undefined;
    }
    const closed = { source: frame, at: 0, address: 0, lsn: position, bodyBytes };
    if (!this.#opening.open(closed, this.#keys.sealerAt(position))) return undefined;
    return this.#opening.record;
  }
}
