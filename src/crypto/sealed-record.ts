/**
 * A record as it stands inside a seal: all that it says, so that nothing of it is in the clear. Never renumber.
 *
 *     +-------+-------+------------+----------------+-----------------+-----+----------------+
 *     | shape | space | key length | expiresAtMs    | previous        | key | value          |
 *     | 1     | 1-5   | 1-3        | 8, if shape    | 1-8, if shape   |     | to the end     |
 *     +-------+-------+------------+----------------+-----------------+-----+----------------+
 *
 *     shape      bits 0-3 kind, bit 4 expiry follows, bit 5 previous follows, bits 6-7 zero
 *     previous   distance back to the previous version of the key, in the engine's units
 *     numbers    7 bits a byte, low ones first, bit 7: another follows; the shortest form only (LEB128)
 *
 * Invariants
 * 1. Decoding is strict: bytes that no encoder wrote are refused, so one record has one form.
 * 2. The value's length is what is left: the seal has authenticated it.
 *
 * Cost: a key of 24 and a value of 150 bytes in an early namespace take 3 bytes more than key and value,
 * 23 with the seal; an expiry 8, a link to the previous version 1-8 more.
 */

import { assert } from "../errors.ts";
import type { Span } from "./aead.ts";
import { EXPIRES_AT_MS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX } from "../limits.ts";

const KIND_MASK = 15;
const SHAPE_EXPIRY = 1 << 4;
const SHAPE_PREVIOUS = 1 << 5;
const SHAPE_UNUSED = 0xc0;

/** Shape, namespace id, key length, expiry, distance: everything besides key and value, at most. */
export const RECORD_OVERHEAD_BYTES_MAX = 1 + 5 + 3 + 8 + 8;

const SPACE_MAX = 2 ** 32 - 1;
const TWO_32 = 2 ** 32;

/** What a record says besides key and value. */
export interface RecordNumbers {
  /** What the record does, 0 .. 15, in the engine's numbering. */
  readonly kind: number;
  /** Namespace id. */
  readonly space: number;
  /** 0: never. */
  readonly expiresAtMs: number;
  /** 0: none. */
  readonly previous: number;
}

export interface RecordFields extends RecordNumbers {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** What `decodeRecord` fills in: where key and value stand. Made once, used for every record. */
export interface OpenedRecord {
  kind: number;
  space: number;
  expiresAtMs: number;
  previous: number;
  keyAt: number;
  keyBytes: number;
  valueAt: number;
  valueBytes: number;
}

/** One to pass to `decodeRecord`. */
export function emptyRecord(): OpenedRecord {
  const numbers = { kind: 0, space: 0, expiresAtMs: 0, previous: 0 };
  return { ...numbers, keyAt: 0, keyBytes: 0, valueAt: 0, valueBytes: 0 };
}

/** Bytes that a record's body takes. */
export function recordBytes(record: RecordFields): number {
  return recordHeadBytes(record, record.key.length) + record.key.length + record.value.length;
}

/** Bytes of what stands before the key, with this distance to the version before. */
export function recordHeadBytes(record: RecordNumbers, keyBytes: number, previous = record.previous): number {
  let bytes = 1 + varBytes(record.space) + varBytes(keyBytes);
  if (record.expiresAtMs !== 0) bytes += 8;
  if (previous !== 0) bytes += varBytes(previous);
  return bytes;
}

/** Writes a record's body into `into` from 0 on; returns its length. */
export function encodeRecord(into: Uint8Array, record: RecordFields): number {
  const { key, value } = record;
  assert(value.length <= VALUE_BYTES_MAX, "a value is inside its limit");
  assert(recordBytes(record) <= into.length, "the buffer holds the record");
  let at = encodeRecordHead(into, record, key.length);
  into.set(key, at);
  at += key.length;
  into.set(value, at);
  return at + value.length;
}

/** Writes what stands before the key, `recordHeadBytes` bytes; returns where the key goes. */
export function encodeRecordHead(into: Uint8Array, record: RecordNumbers, keyBytes: number): number {
  const { kind, space, expiresAtMs, previous } = record;
  assert(kind >= 0 && kind <= KIND_MASK, "a kind fits four bits");
  assert(space >= 0 && space <= SPACE_MAX, "a namespace id fits 32 bits");
  assert(expiresAtMs >= 0 && expiresAtMs <= EXPIRES_AT_MS_MAX, "a deadline is a time");
  assert(keyBytes <= KEY_BYTES_MAX, "a key is inside its limit");
  into[0] = kind | (expiresAtMs !== 0 ? SHAPE_EXPIRY : 0) | (previous !== 0 ? SHAPE_PREVIOUS : 0);
  let at = writeVar(into, 1, space);
  at = writeVar(into, at, keyBytes);
  if (expiresAtMs !== 0) {
    writeFixed(into, at, expiresAtMs);
    at += 8;
  }
  if (previous !== 0) at = writeVar(into, at, previous);
  return at;
}

/**
 * Reads a body, or a part of some memory that holds one: key and value then stand where they are in that memory. False
 * when no encoder wrote it (of a body that opened: a bug, or a thief of the key). Makes no
 * views: each costs 50 ns or more. A caller's value is best copied out, into an array of its own: a view costs
 * as much (250 ns, the buffer of a Buffer has to be made first), would keep the key's bytes alive with it,
 * and would be a Buffer where a Uint8Array is promised.
 */
export function decodeRecord(record: OpenedRecord, body: Uint8Array, span?: Span): boolean {
  const from = span === undefined ? 0 : span.at;
  const end = span === undefined ? body.length : from + span.bytes;
  const reader = { at: from + 1, end, isSound: end > from };
  const shape = body[from] ?? 0;
  if ((shape & SHAPE_UNUSED) !== 0) return false;
  record.kind = shape & KIND_MASK;
  record.space = readVar(body, reader, SPACE_MAX);
  record.keyBytes = readVar(body, reader, KEY_BYTES_MAX);
  record.expiresAtMs = 0;
  record.previous = 0;
  if ((shape & SHAPE_EXPIRY) !== 0) {
    record.expiresAtMs = readFixed(body, reader);
    if (record.expiresAtMs === 0 || record.expiresAtMs > EXPIRES_AT_MS_MAX) return false;
  }
  if ((shape & SHAPE_PREVIOUS) !== 0) {
    record.previous = readVar(body, reader, Number.MAX_SAFE_INTEGER);
    if (record.previous === 0) return false;
  }
  record.keyAt = reader.at;
  record.valueAt = reader.at + record.keyBytes;
  record.valueBytes = end - record.valueAt;
  return reader.isSound && record.valueBytes >= 0 && record.valueBytes <= VALUE_BYTES_MAX;
}

interface Reader {
  at: number;
  readonly end: number;
  isSound: boolean;
}

function varBytes(value: number): number {
  if (value < 128) return 1;
  let bytes = 1;
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

/** Division in place of shifts: a distance may pass 32 bits. */
function writeVar(into: Uint8Array, at: number, value: number): number {
  assert(Number.isSafeInteger(value) && value >= 0, "a number is whole and not negative");
  let rest = value;
  let next = at;
  while (rest >= 128) {
    into[next++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  into[next++] = rest;
  return next;
}

function readVar(body: Uint8Array, reader: Reader, most: number): number {
  const first = body[reader.at];
  if (first !== undefined && first < 128 && reader.at < reader.end) {
    reader.at += 1;
    return first;
  }
  let value = 0;
  let scale = 1;
  for (let index = 0; index < 8; index++) {
    if (reader.at >= reader.end) break;
    const byte = body[reader.at++]!;
    value += (byte & 127) * scale;
    if (byte < 128) {
      // A last byte of zero is a longer form of a shorter number.
      if ((byte === 0 && index > 0) || value > most) break;
      return value;
    }
    scale *= 128;
  }
  reader.isSound = false;
  return 0;
}

function writeFixed(into: Uint8Array, at: number, value: number): void {
  let rest = value;
  for (let index = 0; index < 8; index++) {
    into[at + index] = rest % 256;
    rest = Math.floor(rest / 256);
  }
}

function readFixed(body: Uint8Array, reader: Reader): number {
  const at = reader.at;
  reader.at = at + 8;
  if (reader.at > reader.end) {
    reader.isSound = false;
    return 0;
  }
  const low = (body[at]! | (body[at + 1]! << 8) | (body[at + 2]! << 16) | (body[at + 3]! << 24)) >>> 0;
  const high = (body[at + 4]! | (body[at + 5]! << 8) | (body[at + 6]! << 16) | (body[at + 7]! << 24)) >>> 0;
  return high * TWO_32 + low;
}
