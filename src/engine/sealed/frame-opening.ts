/**
 * A sealed frame opened: the record inside, its key laid out where a plain frame has it, so that whoever reads keys
 * of frames need not know which kind it was.
 *
 *     head     0       24      24 + key
 *              +-------+-------+----------------------+
 *              | shape | key   | value, if it is short|
 *              +-------+-------+----------------------+
 *
 * Invariants
 * 1. Nothing of a body is looked at before it has been authenticated, in its place.
 * 2. What no encoder writes is refused even then: kinds without a key have none, distances stay inside the log.
 */

import { utf8TextIn } from "../../codec/text.ts";
import { assert } from "../../errors.ts";
import { addressOf, copy, pinned, type Pinned } from "../../ffi/memory.ts";
import type { Address } from "../../ffi/system.ts";
import type { Span } from "../../crypto/aead.ts";
import { SEAL_BYTES, type FrameSealer } from "../../crypto/frame-sealer.ts";
import { decodeRecord, emptyRecord, RECORD_OVERHEAD_BYTES_MAX, type OpenedRecord } from "../../crypto/sealed-record.ts";
import { HEADER_PAGE_BYTES, KEY_BYTES_MAX, SPACE_COUNT_MAX } from "../../limits.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_MARK,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SEALED,
  SHAPE_CLEAN,
  SHAPE_EXPIRY,
  WORD_SHAPE,
  hasSoundRole,
  placeOf,
  shapeOf,
} from "../../log/frame.ts";
import type { ClosedFrame } from "../../log/scanner.ts";
import { CLEAR_AT, CLEAR_BYTES } from "./sealed-encoder.ts";

const NO_BYTES = new Uint8Array(0);
/** What is copied of a body behind its numbers, at most: the longest key, or a short record whole. */
const LAID_OUT_BYTES_MAX = KEY_BYTES_MAX + 8;
/** Bytes of the memory that is passed as head. */
export const HEAD_BYTES = FRAME_HEADER_BYTES + LAID_OUT_BYTES_MAX;
/** Expiry, three bytes of namespace, three of the key's length, six of the distance, the shape. */
const NUMBERS_BYTES_MAX = 21;
assert(NUMBERS_BYTES_MAX <= FRAME_HEADER_BYTES, "a record's numbers fit before the key's place");
assert(NUMBERS_BYTES_MAX <= RECORD_OVERHEAD_BYTES_MAX, "the room that decodes allows for as many");

/** Memory for most records, and the most that is kept for the next; longer ones have some of their own. */
const SHORT_BYTES = 4096;
const KEPT_BYTES_MAX = 65_536;

/** Where records are that were opened elsewhere. */
export interface OpenedMemory {
  readonly u8: Uint8Array;
  readonly address: Address;
}

export class FrameOpening {
  readonly head: Pinned;
  readonly record: OpenedRecord = emptyRecord();
  /** What a plain frame of this record would have as its shape, extensions besides the expiry apart. */
  shape = 0;
  /** The body that was opened last, which may be followed by others. */
  #body: Uint8Array = NO_BYTES;
  /** Memory of its own, which each short frame is opened to. */
  #memory: OpenedMemory = pinned(SHORT_BYTES);

  constructor(head: Pinned) {
    assert(head.u8.length >= HEAD_BYTES, "the head holds the longest key");
    this.head = head;
  }

  /** Opens a frame; false when it was not sealed for its place, or was changed. */
  open(frame: ClosedFrame, sealer: FrameSealer | undefined): boolean {
    const { source, at, lsn, bodyBytes } = frame;
    if (sealer === undefined) return false;
    const clear = sealer.clear;
    for (let index = 0; index < CLEAR_BYTES; index++) clear[index] = source[at + CLEAR_AT + index]!;
    const seal = { lsn, kind: KIND_SEALED };
    const bytes = bodyBytes - SEAL_BYTES;
    if (bytes < 0) return false;
    const { u8: body, address } = this.#memoryFor(bytes);
    if (!sealer.openInto(source, seal, { at: at + FRAME_HEADER_BYTES, bytes: bodyBytes }, body)) return false;
    return this.#take(frame, { body, address, at: 0, bytes });
  }

  /** Where a body of so many bytes is opened to. */
  #memoryFor(bytes: number): OpenedMemory {
    if (bytes <= this.#memory.u8.length) return this.#memory;
    if (bytes <= KEPT_BYTES_MAX) return (this.#memory = pinned(KEPT_BYTES_MAX));
    const long = new Uint8Array(bytes);
    return { u8: long, address: addressOf(long) };
  }

  /** Takes the body of a frame that was opened elsewhere, a part of some memory. */
  takeOpened(frame: ClosedFrame, memory: OpenedMemory, { at, bytes }: Span): boolean {
    return this.#take(frame, { body: memory.u8, address: memory.address + at, at, bytes });
  }

  #take(frame: ClosedFrame, opened: Span & { readonly body: Uint8Array; readonly address: Address }): boolean {
    const { record, head } = this;
    const { body, address, at, bytes } = opened;
    this.#body = body;
    if (!decodeRecord(record, body, opened)) return false;
    const shape = frame.source[frame.at + CLEAR_AT]! | (frame.source[frame.at + CLEAR_AT + 1]! << 8);
    if (!isSound(record, shape, frame.lsn)) return false;
    this.shape = shapeOf(record.kind, placeOf(shape), record.expiresAtMs === 0 ? 0 : SHAPE_EXPIRY, record.keyBytes);
    const numbersBytes = record.keyAt - at;
    // With the numbers in front, so that the copy needs no view of a part.
    copy(head.address + FRAME_HEADER_BYTES - numbersBytes, address, Math.min(bytes, numbersBytes + LAID_OUT_BYTES_MAX));
    head.u32[WORD_SHAPE] = this.shape;
    return true;
  }

  /** A copy of the value. */
  valueCopy(): Uint8Array {
    const { keyBytes, valueBytes } = this.record;
    if (keyBytes + valueBytes > LAID_OUT_BYTES_MAX) {
      const long = new Uint8Array(valueBytes);
      long.set(this.value());
      return long;
    }
    const value = new Uint8Array(valueBytes);
    if (valueBytes > 0) copy(value, this.head.address + FRAME_HEADER_BYTES + keyBytes, valueBytes);
    return value;
  }

  /** The value as text. @throws {EmdbError} EMDB_INVALID_ARGUMENT when it is not UTF-8 */
  valueText(): string {
    const { valueAt, valueBytes } = this.record;
    return utf8TextIn(this.#body, valueAt, valueAt + valueBytes);
  }

  /** The value itself, good until the next frame is opened. */
  value(): Uint8Array {
    const { valueAt, valueBytes } = this.record;
    return this.#body.subarray(valueAt, valueAt + valueBytes);
  }
}

/** What each kind must and must not carry (as `isPlausible` of `log/frame.ts` has it for plain frames), and where it may stand. */
function isSound(record: OpenedRecord, shape: number, lsn: number): boolean {
  const { kind, keyBytes, valueBytes, space, previous, expiresAtMs } = record;
  if (space >= SPACE_COUNT_MAX || previous * 8 > lsn - HEADER_PAGE_BYTES) return false;
  if (kind !== KIND_PUT && (valueBytes !== 0 || expiresAtMs !== 0)) return false;
  if (kind !== KIND_PUT && kind !== KIND_REMOVE && previous !== 0) return false;
  if ((shape & SHAPE_CLEAN) !== 0 && kind !== KIND_MARK) return false;
  return hasSoundRole(kind, shape, keyBytes, space);
}
