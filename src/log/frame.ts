/**
 * The frame: lengths, kind and checksums around one record of the log. Never renumber: all of it is on disk.
 *
 *     0        4        8        12       16       20    22    24
 *     +--------+--------+--------+--------+--------+-----+-----+-----+-----------+-------+-----+
 *     | header | body   | shape  | value  | prev   |behind|space| key | extension | value | pad |
 *     | check  | check  |        | length | units  |     |     |     |           |       |     |
 *     +--------+--------+--------+--------+--------+-----+-----+-----+-----------+-------+-----+
 *              |<------- covered by the header check ----------->|<- covered by the body check ->|
 *
 *     shape      bits 0-3 kind, 4-5 place in the batch, 6 expiry, 7 wide space, 8 wide prev, 9 clean,
 *                10-15 zero, 16-31 key length
 *     prev       distance back to the previous version of the key, in 8-byte units; 0: none
 *     behind     distance back to the position known durable when this was written, see `packDistance`
 *     space      namespace id; 0xffff: the id is in the extension
 *     extension  expiry (8 bytes, whole milliseconds), wide space (4), wide prev (8), those that shape names
 *     pad        zeros up to the next multiple of 8
 *
 * Invariants
 * 1. A frame begins at a multiple of 8, its position (lsn); both checks are seeded with it and with the
 *    file's salts, so a frame copied elsewhere, or left over from another generation, is not valid.
 * 2. Bits that have no meaning are zero, distances stay inside the log, lengths inside the limits: what does
 *    not decode to exactly one writer's input is not a frame.
 * 3. A word of eight zero bytes at a frame's place means the end of the log.
 * 4. A mark is written behind the tail after a sync and is overwritten by the next frame: it takes no place.
 * 5. In an encrypted log every frame is a sealed one or a session (`crypto/frame-sealer.ts`, `crypto/session.ts`), in
 *    any other none is. A sealed frame has its body where a value stands, and in its header only kind, place in the
 *    batch, clean, length and behind; bytes 8 to 23 are authenticated with the body. A session's prev is the session before.
 */

import type { Pinned } from "../ffi/memory.ts";
import { placeSeed, xxh32Of20 } from "./checksum.ts";
import { assert } from "../errors.ts";
import {
  HEADER_PAGE_BYTES,
  KEY_BYTES_MAX,
  NAMESPACE_NAME_BYTES_MAX,
  SPACE_COUNT_MAX,
  VALUE_BYTES_MAX,
} from "../limits.ts";

export const FRAME_HEADER_BYTES = 24;
assert(FRAME_HEADER_BYTES - 4 === 20, "the header's check covers 20 bytes");
/** Expiry, wide space and wide prev together. */
export const EXTENSION_BYTES_MAX = 20;
/** Everything but the key and the value, at most: header, extension, padding. */
export const FRAME_OVERHEAD_BYTES_MAX = FRAME_HEADER_BYTES + EXTENSION_BYTES_MAX + 7;

// Kinds. Never renumber.
export const KIND_PUT = 1;
export const KIND_REMOVE = 2;
export const KIND_CLEAR = 3;
export const KIND_SPACE_CREATE = 4;
export const KIND_SPACE_DROP = 5;
/** Ends a batch that was given up after part of it had reached the file: the whole batch counts for nothing. */
export const KIND_ABORT = 6;
/** Says what is durable; overwritten by the next frame. */
export const KIND_MARK = 7;
/** Ends a batch whose last write turned out to need no frame. */
export const KIND_END = 8;
/** Of an encrypted log: a frame of another kind, all of whose record is in the sealed body. */
export const KIND_SEALED = 9;
/** Of an encrypted log: what follows is sealed under another key, which the value leads to. */
export const KIND_SESSION = 10;
export const KIND_MAX = KIND_SESSION;

/** Bytes of a session's value; its content is `src/crypto`'s. */
export const SESSION_BYTES = 64;
/** Longest body of a sealed frame: the longest record, its numbers and the seal. */
const SEALED_BYTES_MAX = KEY_BYTES_MAX + VALUE_BYTES_MAX + 256;

// Places in a batch. Never renumber.
export const PLACE_ALONE = 0;
export const PLACE_FIRST = 1;
export const PLACE_MIDDLE = 2;
export const PLACE_LAST = 3;

const PLACE_SHIFT = 4;
export const SHAPE_EXPIRY = 1 << 6;
export const SHAPE_WIDE_SPACE = 1 << 7;
export const SHAPE_WIDE_PREV = 1 << 8;
/** On a mark, sealed or not: the database was closed in good order right behind it. */
export const SHAPE_CLEAN = 1 << 9;
const SHAPE_UNUSED = 0xfc00;
/** Everything in a shape but kind, place and key length. */
export const SHAPE_FLAGS = SHAPE_EXPIRY | SHAPE_WIDE_SPACE | SHAPE_WIDE_PREV | SHAPE_CLEAN | SHAPE_UNUSED;
export const WIDE_SPACE = 0xffff;

// Word indexes within a header.
export const WORD_HEADER_CHECK = 0;
export const WORD_BODY_CHECK = 1;
export const WORD_SHAPE = 2;
export const WORD_VALUE_BYTES = 3;
export const WORD_PREV = 4;
export const WORD_TAIL = 5;

/** The salts of one file and generation. */
export interface Salts {
  readonly header: number;
  readonly body: number;
}

export const TWO_32 = 4294967296;

/** The bits of a shape word that hold the kind. */
export const KIND_MASK = 15;

/** The kind in a shape word. */
export function kindOf(shape: number): number {
  return shape & KIND_MASK;
}

/** The places of the frames of a batch of `count`. */
export function placeInBatch(index: number, count: number): number {
  if (count === 1) return PLACE_ALONE;
  if (index === 0) return PLACE_FIRST;
  return index === count - 1 ? PLACE_LAST : PLACE_MIDDLE;
}

/** The place in the batch in a shape word. */
export function placeOf(shape: number): number {
  return (shape >>> PLACE_SHIFT) & 3;
}

/** The shape word of a frame. */
export function shapeOf(kind: number, place: number, flags: number, keyBytes: number): number {
  return (kind | (place << PLACE_SHIFT) | flags | (keyBytes << 16)) >>> 0;
}

/** Bytes of the extension that a shape asks for. */
export function extensionBytes(shape: number): number {
  let bytes = 0;
  if ((shape & SHAPE_EXPIRY) !== 0) bytes += 8;
  if ((shape & SHAPE_WIDE_SPACE) !== 0) bytes += 4;
  if ((shape & SHAPE_WIDE_PREV) !== 0) bytes += 8;
  return bytes;
}

/** Bytes that the checksum of the body covers: key, extension, value. */
export function bodyBytes(shape: number, valueBytes: number): number {
  return (shape >>> 16) + extensionBytes(shape) + valueBytes;
}

/** Bytes of the whole frame, padding included. */
export function frameBytes(shape: number, valueBytes: number): number {
  const bytes = FRAME_HEADER_BYTES + bodyBytes(shape, valueBytes);
  return bytes + ((8 - (bytes % 8)) % 8);
}

/** From a session's first record to its second: the first with a short distance to the session before, or a wide one. */
export const SESSION_TWIN_BYTES: readonly number[] = [0, SHAPE_WIDE_PREV].map((flag) =>
  frameBytes(shapeOf(KIND_SESSION, PLACE_ALONE, flag, 0), SESSION_BYTES),
);

/** Bytes of the same frame without what says where the previous version is. */
export function liveBytes(shape: number, valueBytes: number): number {
  return frameBytes(shape & ~SHAPE_WIDE_PREV, valueBytes);
}

/**
 * Packs a distance in 8-byte units into 16 bits: 11 bits of mantissa, 5 of exponent, rounded up, so that a
 * reader learns a durable position at or before the true one and never one after it.
 */
export function packDistance(units: number): number {
  // Beyond 31 bits, which takes 16 GiB that were never synced, whole multiples of 2^16 are close enough.
  const isHuge = units >= 2 ** 31;
  const small = isHuge ? Math.ceil(units / 65536) : units;
  let exponent = small < 2048 ? 0 : 21 - Math.clz32(small);
  let mantissa = (small + (1 << exponent) - 1) >>> exponent;
  if (mantissa === 2048) {
    mantissa = 1024;
    exponent += 1;
  }
  return mantissa | ((exponent + (isHuge ? 16 : 0)) << 11);
}

/** The distance in units that `packDistance` stored. */
export function unpackDistance(packed: number): number {
  const exponent = packed >>> 11;
  // A power of a floating-point number is a call of 20 ns; all but the widest distances are done by a shift.
  return exponent < 20 ? (packed & 2047) << exponent : (packed & 2047) * 2 ** exponent;
}

/** Whether `packDistance` gives this for some distance of at most `unitsMax`. */
function isPackedDistance(packed: number, unitsMax: number): boolean {
  if (packed >= 2048 && (packed & 1024) === 0) return false;
  return unpackDistance(packed) <= unitsMax || packed <= packDistance(unitsMax);
}

/** Computes the header check of the header at byte `at` of pinned memory for the place it is written to. */
export function headerCheck(
  memory: Pinned,
  at: number,
  place: { salt: number; unitLow: number; unitHigh: number },
): number {
  return xxh32Of20(memory.i32, (at >> 2) + 1, placeSeed(place.salt, place.unitLow, place.unitHigh));
}

/**
 * Whether a header's fields, taken apart from its checksum, could have come from a writer at `lsn`
 * (invariant 2). Callers compare the checksum first or after, as suits them.
 */
export function isPlausible(memory: Pinned, at: number, lsn: number): boolean {
  const word = at >> 2;
  const shape = memory.u32[word + WORD_SHAPE]!;
  const kind = kindOf(shape);
  if (kind === 0 || kind > KIND_MAX || (shape & SHAPE_UNUSED) !== 0) return false;
  if (kind > KIND_END) return isPlausibleSealed(memory, at, lsn);
  const valueBytes = memory.u32[word + WORD_VALUE_BYTES]!;
  const keyBytes = shape >>> 16;
  if (keyBytes > KEY_BYTES_MAX || valueBytes > VALUE_BYTES_MAX) return false;
  if (kind !== KIND_PUT && (valueBytes !== 0 || (shape & SHAPE_EXPIRY) !== 0)) return false;
  if ((shape & SHAPE_CLEAN) !== 0 && kind !== KIND_MARK) return false;
  const prev = memory.u32[word + WORD_PREV]!;
  if (kind !== KIND_PUT && kind !== KIND_REMOVE && (prev !== 0 || (shape & SHAPE_WIDE_PREV) !== 0)) return false;
  if (prev !== 0 && (shape & SHAPE_WIDE_PREV) !== 0) return false;
  if (prev * 8 > lsn - HEADER_PAGE_BYTES) return false;
  const tail = memory.u32[word + WORD_TAIL]!;
  const space = tail >>> 16;
  if ((space === WIDE_SPACE) !== ((shape & SHAPE_WIDE_SPACE) !== 0)) return false;
  if (!isPackedDistance(tail & 0xffff, (lsn - HEADER_PAGE_BYTES) / 8)) return false;
  return hasSoundRole(kind, shape, keyBytes, space);
}

/** The same for the kinds of an encrypted log. */
function isPlausibleSealed(memory: Pinned, at: number, lsn: number): boolean {
  const word = at >> 2;
  const shape = memory.u32[word + WORD_SHAPE]!;
  const valueBytes = memory.u32[word + WORD_VALUE_BYTES]!;
  const prev = memory.u32[word + WORD_PREV]!;
  const tail = memory.u32[word + WORD_TAIL]!;
  if (tail >>> 16 !== 0 || !isPackedDistance(tail & 0xffff, (lsn - HEADER_PAGE_BYTES) / 8)) return false;
  if (kindOf(shape) === KIND_SEALED) {
    // Whether it is a mark only the body tells.
    const isBare = shape === shapeOf(KIND_SEALED, placeOf(shape), shape & SHAPE_CLEAN, 0);
    return isBare && prev === 0 && valueBytes > 0 && valueBytes <= SEALED_BYTES_MAX;
  }
  // What a session's header could say and its MAC does not cover is left unsaid.
  if (tail !== packDistance((lsn - HEADER_PAGE_BYTES) / 8)) return false;
  const isWide = (shape & SHAPE_WIDE_PREV) !== 0;
  if (shape !== shapeOf(KIND_SESSION, PLACE_ALONE, isWide ? SHAPE_WIDE_PREV : 0, 0)) return false;
  return valueBytes === SESSION_BYTES && (prev === 0 || !isWide) && prev * 8 <= lsn - HEADER_PAGE_BYTES;
}

/** Whether a frame of its kind may stand at its place in a batch, with a key so long and of this namespace. */
export function hasSoundRole(kind: number, shape: number, keyBytes: number, space: number): boolean {
  switch (kind) {
    case KIND_PUT:
    case KIND_REMOVE:
      return true;
    case KIND_CLEAR:
      return keyBytes === 0;
    case KIND_SPACE_CREATE:
      return keyBytes > 0 && keyBytes <= NAMESPACE_NAME_BYTES_MAX && space !== 0;
    case KIND_SPACE_DROP:
      return keyBytes === 0 && space !== 0;
    case KIND_ABORT:
    case KIND_END:
      return keyBytes === 0 && space === 0 && placeOf(shape) === PLACE_LAST;
    case KIND_MARK:
      return keyBytes === 0 && space === 0 && placeOf(shape) === PLACE_ALONE;
    default:
      return false;
  }
}

/** Everything that a header and its extension say, besides the checks. */
export interface FrameFacts {
  kind: number;
  place: number;
  space: number;
  keyBytes: number;
  valueBytes: number;
  /** 0: never. */
  expiresAtMs: number;
  /** Position of the previous version; 0: none. */
  prev: number;
  /** Everything before this position was durable when the frame was written. */
  durable: number;
  frameBytes: number;
  /** The same without what says where the previous version is: what the record takes in a compacted log. */
  liveBytes: number;
  isClean: boolean;
}

/** Facts to be filled in, once and again. */
export function emptyFacts(): FrameFacts {
  const numbers = { kind: 0, place: 0, space: 0, keyBytes: 0, valueBytes: 0, expiresAtMs: 0, prev: 0, durable: 0 };
  return { ...numbers, frameBytes: 0, liveBytes: 0, isClean: false };
}

/** Reads a whole-millisecond time or a position: two 32-bit halves, the upper one below 2^21. Undefined when above. */
export function readWide(memory: Pinned, at: number): number | undefined {
  const bytes = memory.u8;
  const low = (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
  const high = (bytes[at + 4]! | (bytes[at + 5]! << 8) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 24)) >>> 0;
  if (high >= 2097152) return undefined;
  return high * TWO_32 + low;
}

/** Writes what `readWide` reads. */
export function writeWide(memory: Pinned, at: number, value: number): void {
  writeWord(memory, at, value % TWO_32);
  writeWord(memory, at + 4, Math.floor(value / TWO_32));
}

/** Writes 32 bits at any byte offset. */
export function writeWord(memory: Pinned, at: number, value: number): void {
  const bytes = memory.u8;
  bytes[at] = value & 255;
  bytes[at + 1] = (value >>> 8) & 255;
  bytes[at + 2] = (value >>> 16) & 255;
  bytes[at + 3] = (value >>> 24) & 255;
}

/** Reads what `writeWord` writes, unsigned. */
export function readWord(memory: Pinned, at: number): number {
  const bytes = memory.u8;
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Decodes a plausible header at `at` and its extension, which must be in the memory too. False when the extension makes no sense. */
export function decodeInto(
  facts: FrameFacts,
  memory: Pinned,
  place: { readonly at: number; readonly lsn: number },
): boolean {
  const { at, lsn } = place;
  const word = at >> 2;
  const shape = memory.u32[word + WORD_SHAPE]!;
  const tail = memory.u32[word + WORD_TAIL]!;
  facts.kind = kindOf(shape);
  facts.place = placeOf(shape);
  facts.keyBytes = shape >>> 16;
  facts.valueBytes = memory.u32[word + WORD_VALUE_BYTES]!;
  facts.space = tail >>> 16;
  facts.expiresAtMs = 0;
  facts.isClean = (shape & SHAPE_CLEAN) !== 0;
  facts.frameBytes = frameBytes(shape, facts.valueBytes);
  facts.liveBytes = liveBytes(shape, facts.valueBytes);
  facts.durable = Math.max(0, lsn - unpackDistance(tail & 0xffff) * 8);
  const prev = memory.u32[word + WORD_PREV]!;
  facts.prev = prev === 0 ? 0 : lsn - prev * 8;
  if ((shape & (SHAPE_EXPIRY | SHAPE_WIDE_SPACE | SHAPE_WIDE_PREV)) === 0) return true;
  return decodeExtension(facts, memory, { at: at + FRAME_HEADER_BYTES + facts.keyBytes, lsn, shape });
}

function decodeExtension(
  facts: FrameFacts,
  memory: Pinned,
  place: { readonly at: number; readonly lsn: number; readonly shape: number },
): boolean {
  let at = place.at;
  if ((place.shape & SHAPE_EXPIRY) !== 0) {
    const expiresAtMs = readWide(memory, at);
    if (expiresAtMs === undefined || expiresAtMs === 0) return false;
    facts.expiresAtMs = expiresAtMs;
    at += 8;
  }
  if ((place.shape & SHAPE_WIDE_SPACE) !== 0) {
    const space = readWord(memory, at);
    if (space < WIDE_SPACE || space >= SPACE_COUNT_MAX) return false;
    facts.space = space;
    at += 4;
  }
  if ((place.shape & SHAPE_WIDE_PREV) !== 0) {
    const units = readWide(memory, at);
    if (units === undefined || units < TWO_32 || units * 8 > place.lsn - HEADER_PAGE_BYTES) return false;
    facts.prev = place.lsn - units * 8;
  }
  return true;
}
