/**
 * Builds the frames of an encrypted log: the record whole in the body, sealed for its place. See `crypto/frame-sealer.ts`
 * for the body and `crypto/sealed-record.ts` for what is in it.
 *
 * Invariant: each `encode` takes a counter of its own. What is encoded again, at the same place or another, is
 * sealed again.
 */

import { addressOf, copy, sharedScratch, type Pinned } from "../../ffi/memory.ts";
import type { SealTarget } from "../../crypto/aead.ts";
import { SEAL_BYTES, type FrameSealer } from "../../crypto/frame-sealer.ts";
import {
  encodeRecordHead,
  recordHeadBytes,
  RECORD_OVERHEAD_BYTES_MAX,
  type OpenedRecord,
} from "../../crypto/sealed-record.ts";
import { RING_FRAME_BYTES_MAX } from "../../limits.ts";
import { XXH32_BODY_BYTES_MAX, crc32, placeSeed, xxh32 } from "../../log/checksum.ts";
import { FrameEncoder, STAGE_BYTES } from "../../log/encoder.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_SEALED,
  SHAPE_CLEAN,
  WORD_BODY_CHECK,
  WORD_HEADER_CHECK,
  WORD_PREV,
  WORD_SHAPE,
  WORD_TAIL,
  WORD_VALUE_BYTES,
  frameBytes,
  packDistance,
  shapeOf,
  type Salts,
} from "../../log/frame.ts";
import { unitHigh, unitLow } from "../../log/log-words.ts";

const NO_BYTES = new Uint8Array(0);
/** Bytes of a sealed mark: its record is three numbers of a byte each. */
export const SEALED_MARK_BYTES = frameBytes(KIND_SEALED, 3 + SEAL_BYTES);

/** What a record that was opened takes in a compacted log: without what says where the previous version is. */
export function sealedLiveBytes(record: OpenedRecord): number {
  const { keyBytes, valueBytes } = record;
  return frameBytes(KIND_SEALED, recordHeadBytes(record, keyBytes, 0) + keyBytes + valueBytes + SEAL_BYTES);
}
/** The bytes of a frame's header that its seal covers: all behind the two checks. */
export const CLEAR_AT = 8;
export const CLEAR_BYTES = FRAME_HEADER_BYTES - CLEAR_AT;
const sharedPlain = sharedScratch(STAGE_BYTES);
const sharedLongPlain = sharedScratch(RING_FRAME_BYTES_MAX);

/** The session that frames are sealed in. */
export interface SealSource {
  readonly sealer: FrameSealer;
  /** A counter that nothing else in the session is sealed with. */
  nextCounter(): number;
}

export class SealedEncoder extends FrameEncoder {
  override readonly overheadBytesMax: number = FRAME_HEADER_BYTES + RECORD_OVERHEAD_BYTES_MAX + SEAL_BYTES + 7;
  readonly #source: SealSource;
  #plain: Pinned = sharedPlain();
  readonly #numbers = { kind: 0, space: 0, expiresAtMs: 0, previous: 0 };
  #bodyBytes = 0;
  #sealed: Uint8Array = NO_BYTES;
  /** The part of the plain memory that the body before took: a view costs 50 ns, and lengths come again. */
  #view: Uint8Array = NO_BYTES;

  constructor(salts: Salts, source: SealSource) {
    super(salts);
    this.#source = source;
  }

  /** The sealed body of a frame that is appended, not placed. */
  override get longValue(): Uint8Array {
    return this.#sealed;
  }

  override measure(keyBytes: number, lsn: number): number {
    const numbers = this.#numbers;
    numbers.kind = this.kind;
    numbers.space = this.space;
    numbers.expiresAtMs = this.expiresAtMs;
    numbers.previous = this.prev === 0 ? 0 : (lsn - this.prev) / 8;
    this.#bodyBytes = recordHeadBytes(numbers, keyBytes) + keyBytes + this.valueBytes;
    this.headBytes = FRAME_HEADER_BYTES;
    return frameBytes(KIND_SEALED, this.#bodyBytes + SEAL_BYTES);
  }

  override get liveBytes(): number {
    const saved = recordHeadBytes(this.#numbers, 0) - recordHeadBytes(this.#numbers, 0, 0);
    return frameBytes(KIND_SEALED, this.#bodyBytes - saved + SEAL_BYTES);
  }

  override encode(key: Pinned, keyBytes: number, lsn: number, isStaged = true): void {
    const sealedBytes = this.#bodyBytes + SEAL_BYTES;
    const bytes = frameBytes(KIND_SEALED, sealedBytes);
    const isInStage = isStaged || bytes <= RING_FRAME_BYTES_MAX;
    const stage = isInStage ? this.stageFor(bytes) : this.stage;
    const words = stage.u32;
    if (isStaged) {
      words[(bytes >> 2) - 1] = 0;
      words[(bytes >> 2) - 2] = 0;
    }
    words[WORD_SHAPE] = shapeOf(KIND_SEALED, this.place, this.flags & SHAPE_CLEAN, 0);
    words[WORD_VALUE_BYTES] = sealedBytes;
    words[WORD_PREV] = 0;
    words[WORD_TAIL] = packDistance((lsn - this.durable) / 8);
    const sealed = isInStage ? stage.u8 : new Uint8Array(sealedBytes);
    const at = isInStage ? FRAME_HEADER_BYTES : 0;
    this.#sealed = isStaged ? NO_BYTES : sealed.subarray(at, at + sealedBytes);
    this.#seal(this.#body(key, keyBytes), lsn, { into: sealed, at });
    const low = unitLow(lsn);
    const high = unitHigh(lsn);
    const seed = placeSeed(this.salts.body, low, high);
    words[WORD_BODY_CHECK] = this.#bodyCheckOf(sealedBytes, seed);
    const headerSeed = placeSeed(this.salts.header, low, high);
    words[WORD_HEADER_CHECK] = xxh32(stage, 4, FRAME_HEADER_BYTES - 4, headerSeed);
  }

  /** What this builds is sealed in the stage: nothing plain may get to the log. */
  override encodeAt(): never {
    throw new Error("emdb: internal error: a sealed frame is built in the stage");
  }

  #seal(body: Uint8Array, lsn: number, target: SealTarget): void {
    const source = this.#source;
    const { sealer } = source;
    const header = this.stage.u8;
    const { clear } = sealer;
    for (let index = 0; index < CLEAR_BYTES; index++) clear[index] = header[CLEAR_AT + index]!;
    sealer.sealInto(body, { lsn, kind: KIND_SEALED, counter: source.nextCounter() }, target);
  }

  /** The record, front to back. */
  #body(key: Pinned, keyBytes: number): Uint8Array {
    const bytes = this.#bodyBytes;
    if (bytes > RING_FRAME_BYTES_MAX) return this.#longBody(key, keyBytes);
    if (bytes > STAGE_BYTES) this.#plain = sharedLongPlain();
    const plain = this.#plain;
    let at = encodeRecordHead(plain.u8, this.#numbers, keyBytes);
    if (keyBytes > 0) copy(plain.address + at, key.address, keyBytes);
    at += keyBytes;
    if (this.valueBytes > 0) copy(plain.address + at, this.value, this.valueBytes);
    if (this.#view.length !== bytes) this.#view = plain.u8.subarray(0, bytes);
    return this.#view;
  }

  #longBody(key: Pinned, keyBytes: number): Uint8Array {
    const body = new Uint8Array(this.#bodyBytes);
    const at = encodeRecordHead(body, this.#numbers, keyBytes);
    body.set(key.u8.subarray(0, keyBytes), at);
    // As many bytes as were measured: another thread may have made the memory of a value that it shares longer.
    if (this.valueBytes > 0) copy(addressOf(body) + at + keyBytes, this.value, this.valueBytes);
    return body;
  }

  #bodyCheckOf(sealedBytes: number, seed: number): number {
    if (this.#sealed.length > 0) return crc32(this.#sealed, seed);
    if (sealedBytes <= XXH32_BODY_BYTES_MAX) return xxh32(this.stage, FRAME_HEADER_BYTES, sealedBytes, seed);
    return crc32(this.stage.u8.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + sealedBytes), seed);
  }
}
