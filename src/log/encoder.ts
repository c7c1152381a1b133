/** Builds frames, checks and all: where they are to stand, or in staging memory, from where the caller copies them there. */

import { copy, sharedScratch, wideningScratch, type Pinned } from "../ffi/memory.ts";
import { assert } from "../errors.ts";
import { COPIED_FRAME_BYTES_MAX, KEPT_TEXT_BYTES_MAX, KEY_BYTES_MAX, RING_FRAME_BYTES_MAX } from "../limits.ts";
import { XXH32_BODY_BYTES_MAX, crc32, placeSeed, xxh32, xxh32Of20 } from "./checksum.ts";
import {
  EXTENSION_BYTES_MAX,
  FRAME_OVERHEAD_BYTES_MAX,
  FRAME_HEADER_BYTES,
  SHAPE_EXPIRY,
  SHAPE_WIDE_PREV,
  SHAPE_WIDE_SPACE,
  TWO_32,
  WIDE_SPACE,
  WORD_BODY_CHECK,
  WORD_HEADER_CHECK,
  WORD_PREV,
  WORD_SHAPE,
  WORD_TAIL,
  WORD_VALUE_BYTES,
  extensionBytes,
  frameBytes,
  liveBytes,
  packDistance,
  shapeOf,
  writeWide,
  writeWord,
  type Salts,
} from "./frame.ts";
import { unitHigh, unitLow } from "./log-words.ts";

/** Strings of up to so many UTF-16 units are encoded without an allocation. */
const SHORT_STRING_UNITS = 16_384;
/**
 * What most frames fit. All that a thread holds as arrays counts for its collector, which lets a multiple of it become
 * garbage: a megabyte here was three or four for the host.
 */
export const STAGE_BYTES = Math.max(COPIED_FRAME_BYTES_MAX, FRAME_HEADER_BYTES + KEY_BYTES_MAX + EXTENSION_BYTES_MAX);
/** A frame is built and handed on within one call, so one stage does for all encoders of a thread. */
const sharedStage = sharedScratch(STAGE_BYTES);
const sharedLongStage = sharedScratch(RING_FRAME_BYTES_MAX);
const sharedText = sharedScratch(SHORT_STRING_UNITS * 3);
const longText = wideningScratch();
const encoder = new TextEncoder();
const bufferOfView: ((this: unknown) => unknown) | undefined = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  "buffer",
)?.get;
assert(STAGE_BYTES <= RING_FRAME_BYTES_MAX, "what the stage takes the ring takes");
assert(XXH32_BODY_BYTES_MAX + FRAME_HEADER_BYTES < COPIED_FRAME_BYTES_MAX, "a body that is not staged has a CRC");

/** The UTF-8 of a long text, good until the next one. */
function encodedLong(text: string): Uint8Array {
  const bytes = Buffer.byteLength(text);
  if (bytes > KEPT_TEXT_BYTES_MAX) return encoder.encode(text);
  const { u8 } = longText(bytes);
  return u8.subarray(0, encoder.encodeInto(text, u8).written);
}

export class FrameEncoder {
  #stage: Pinned = sharedStage();
  /** Of the file that the frames go to. */
  salts: Salts;
  readonly #text: Pinned = sharedText();
  /** What frames are built in while so many come that it pays (`ffi/raw-arrays.ts`), and not in the stage. */
  ring: Pinned | undefined = undefined;
  /** Bytes of a frame besides key and value, at most. */
  readonly overheadBytesMax: number = FRAME_OVERHEAD_BYTES_MAX;

  // What the next frame says; set before `encode`.
  kind = 0;
  place = 0;
  flags = 0;
  space = 0;
  /** 0: never. */
  expiresAtMs = 0;
  /** Position of the previous version; 0: none. */
  prev = 0;
  /** Everything before this position is durable. */
  durable = 0;

  /** The value's bytes, and where they are: a view, or the text memory. */
  valueBytes = 0;
  protected value: Uint8Array | number = 0;
  /** Bytes of header, key and extension. */
  headBytes = 0;
  #shape = 0;

  constructor(salts: Salts) {
    this.salts = salts;
  }

  /** Where the frame that was encoded last stands: the whole of it, or its head. */
  get stage(): Pinned {
    return this.#stage;
  }

  /** The stage, with room for a frame of that length. */
  protected stageFor(bytes: number): Pinned {
    assert(bytes <= RING_FRAME_BYTES_MAX, "a frame that is staged fits the stage");
    if (bytes > STAGE_BYTES) this.#stage = sharedLongStage();
    return this.#stage;
  }

  /** Takes the value of the next frame; a string is its UTF-8 bytes. */
  loadValue(value: Uint8Array | string): void {
    if (typeof value === "string") {
      if (value.length <= SHORT_STRING_UNITS) {
        this.valueBytes = encoder.encodeInto(value, this.#text.u8).written;
        this.value = this.#text.address;
        return;
      }
      this.value = encodedLong(value);
    } else {
      this.value = value;
    }
    this.valueBytes = this.value.length;
  }

  /** The same of a value in pinned memory, for a frame that is staged whole. */
  loadValueFrom(address: number, bytes: number): void {
    this.value = address;
    this.valueBytes = bytes;
  }

  /** The next frame has no value. */
  loadNothing(): void {
    this.valueBytes = 0;
    this.value = 0;
  }

  /** The value taken last, for a frame that is not staged whole. */
  get longValue(): Uint8Array {
    if (typeof this.value !== "number") return this.value;
    const isText = this.value === this.#text.address || this.valueBytes === 0;
    assert(isText, "a value that is not staged is a view, text or nothing");
    return this.#text.u8.subarray(0, this.valueBytes);
  }

  /** Bytes of the frame that `encode` would build for a key of this length at this position. */
  measure(keyBytes: number, lsn: number): number {
    let flags = this.flags;
    if (this.expiresAtMs > 0) flags |= SHAPE_EXPIRY;
    if (this.space >= WIDE_SPACE) flags |= SHAPE_WIDE_SPACE;
    if (this.prev > 0 && (lsn - this.prev) / 8 >= TWO_32) flags |= SHAPE_WIDE_PREV;
    this.#shape = shapeOf(this.kind, this.place, flags, keyBytes);
    this.headBytes = FRAME_HEADER_BYTES + keyBytes + extensionBytes(this.#shape);
    return frameBytes(this.#shape, this.valueBytes);
  }

  /** What the frame that was measured last takes in a compacted log. */
  get liveBytes(): number {
    return liveBytes(this.#shape, this.valueBytes);
  }

  /** Builds the frame that `measure` has just measured: all of it in `stage`, or its head alone. */
  encode(key: Pinned, keyBytes: number, lsn: number, isStaged = true): void {
    if (!isStaged) this.#ownShared();
    const stage = isStaged ? this.stageFor(frameBytes(this.#shape, this.valueBytes)) : this.#stage;
    this.encodeAt(stage, 0, key, keyBytes, lsn, isStaged);
  }

  /**
   * The same at byte `at` of any memory, a multiple of 8. In one piece: what stands in a function of its own here, and is as
   * long as a header, is called, which takes as long as it does.
   */
  encodeAt(memory: Pinned, at: number, key: Pinned, keyBytes: number, lsn: number, isWhole = true): void {
    const words = memory.u32;
    const first = at >> 2;
    const shape = this.#shape;
    const { valueBytes } = this;
    if (isWhole) {
      const end = first + (frameBytes(shape, valueBytes) >> 2);
      words[end - 1] = 0;
      words[end - 2] = 0;
    }
    const prevUnits = this.prev === 0 ? 0 : (lsn - this.prev) / 8;
    words[first + WORD_SHAPE] = shape;
    words[first + WORD_VALUE_BYTES] = valueBytes;
    words[first + WORD_PREV] = (shape & SHAPE_WIDE_PREV) === 0 ? prevUnits : 0;
    const space = this.space >= WIDE_SPACE ? WIDE_SPACE : this.space;
    words[first + WORD_TAIL] = ((space << 16) | packDistance((lsn - this.durable) / 8)) >>> 0;
    const body = at + FRAME_HEADER_BYTES;
    if (keyBytes > 0) copy(memory.address + body, key.address, keyBytes);
    if ((shape & (SHAPE_EXPIRY | SHAPE_WIDE_SPACE | SHAPE_WIDE_PREV)) !== 0)
      this.#putExtension(memory, body + keyBytes, prevUnits);
    const headBytes = this.headBytes - FRAME_HEADER_BYTES;
    if (isWhole && valueBytes > 0) copy(memory.address + body + headBytes, this.value, valueBytes);
    const low = unitLow(lsn);
    const high = unitHigh(lsn);
    const bodySeed = placeSeed(this.salts.body, low, high);
    const bytes = headBytes + valueBytes;
    if (bytes <= XXH32_BODY_BYTES_MAX) words[first + WORD_BODY_CHECK] = xxh32(memory, body, bytes, bodySeed);
    else {
      const check = crc32(memory.u8.subarray(body, body + (isWhole ? bytes : headBytes)), bodySeed);
      words[first + WORD_BODY_CHECK] = isWhole ? check : crc32(this.longValue, check);
    }
    words[first + WORD_HEADER_CHECK] = xxh32Of20(memory.i32, first + 1, placeSeed(this.salts.header, low, high));
  }

  /**
   * A value that is not staged is checked, and then written, from where it is: what another thread writes to memory that it
   * shares in between would be rot. It may have made the memory longer too: what was measured is taken.
   */
  #ownShared(): void {
    const { value, valueBytes } = this;
    // The getter of all views: one that somebody gave to this view would run here, between measure and copy.
    if (typeof value === "number" || bufferOfView?.call(value) instanceof ArrayBuffer) return;
    this.value = new Uint8Array(valueBytes);
    if (valueBytes > 0) copy(this.value, value, valueBytes);
  }

  #putExtension(memory: Pinned, start: number, prevUnits: number): void {
    const shape = this.#shape;
    let at = start;
    if ((shape & SHAPE_EXPIRY) !== 0) {
      writeWide(memory, at, this.expiresAtMs);
      at += 8;
    }
    if ((shape & SHAPE_WIDE_SPACE) !== 0) {
      writeWord(memory, at, this.space);
      at += 4;
    }
    if ((shape & SHAPE_WIDE_PREV) !== 0) writeWide(memory, at, prevUnits);
  }
}
