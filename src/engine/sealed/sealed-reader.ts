/** Reading sealed frames by their position, through the mapping or the ring. */

import { copy, sharedScratch, type Pinned } from "../../ffi/memory.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_SEALED,
  KIND_SESSION,
  PLACE_ALONE,
  SHAPE_WIDE_PREV,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
  bodyBytes,
  frameBytes,
  kindOf,
  shapeOf,
} from "../../log/frame.ts";
import type { LogReader } from "../../log/log-words.ts";
import { FrameOpening } from "./frame-opening.ts";
import type { Vault } from "./vault.ts";

/** What is copied of a frame at first: four cache lines, a whole small record. */
const PEEK_BYTES = 256;
const RAW_BYTES = 65_536;
const sharedRaw = sharedScratch(RAW_BYTES);

export class SealedReader {
  readonly opening: FrameOpening;
  /** Bytes of the frame that was read last, padding included. */
  frameBytes = 0;
  readonly #log: LogReader;
  readonly #vault: Vault;
  readonly #raw: Pinned = sharedRaw();
  #bodyBytes = 0;

  constructor(log: LogReader, vault: Vault, head: Pinned) {
    this.#log = log;
    this.#vault = vault;
    this.opening = new FrameOpening(head);
  }

  /** Reads the frame at a position and opens it; false when there is none that opens. */
  read(lsn: number): boolean {
    const source = lsn === 0 ? undefined : this.#fetch(lsn);
    if (source === undefined) return false;
    const shape = this.#shape;
    if (kindOf(shape) === KIND_SEALED) {
      const sealer = this.#vault.sealerAt(lsn);
      const frame = { source, at: 0, address: 0, lsn: this.#vault.position, bodyBytes: this.#bodyBytes };
      return this.opening.open(frame, sealer);
    }
    if (kindOf(shape) !== KIND_SESSION) return false;
    const { record } = this.opening;
    record.keyBytes = record.valueBytes = record.previous = record.expiresAtMs = record.space = 0;
    record.kind = KIND_SESSION;
    this.opening.shape = shapeOf(KIND_SESSION, PLACE_ALONE, 0, 0);
    return true;
  }

  #shape = 0;

  /** Copies the whole frame; undefined when there is none. A long one is in memory of its own, which nobody keeps. */
  #fetch(lsn: number): Uint8Array | undefined {
    const log = this.#log;
    const raw = this.#raw;
    for (;;) {
      const address = log.at(lsn);
      const limit = log.limit;
      if (address === 0 || limit < FRAME_HEADER_BYTES) return undefined;
      const peek = Math.min(limit, PEEK_BYTES);
      copy(raw.address, address, peek);
      const shape = raw.u32[WORD_SHAPE]! & (15 | 48 | SHAPE_WIDE_PREV);
      const body = bodyBytes(shape, raw.u32[WORD_VALUE_BYTES]!);
      const whole = FRAME_HEADER_BYTES + body;
      let source = raw.u8;
      if (whole > peek && whole <= limit) {
        if (whole > RAW_BYTES) source = new Uint8Array(whole);
        copy(source, address, whole);
      }
      // Only after this is what was copied, lengths included, what stood there.
      if (log.isInRing && !log.isStillWhole(lsn)) continue;
      if (whole > limit) return undefined;
      this.#shape = shape;
      this.#bodyBytes = body;
      this.frameBytes = frameBytes(shape, raw.u32[WORD_VALUE_BYTES]!);
      return source;
    }
  }
}
