/** Frames as tests make them: every field from a seed, and what a decoder must say of them. */

import { FrameEncoder } from "../../src/log/encoder.ts";
import {
  KIND_ABORT,
  KIND_CLEAR,
  KIND_END,
  KIND_MARK,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  PLACE_ALONE,
  PLACE_LAST,
  SHAPE_CLEAN,
  type FrameFacts,
  type Salts,
} from "../../src/log/frame.ts";
import { pinned, type Pinned } from "../../src/ffi/memory.ts";
import { EXPIRES_AT_MS_MAX, HEADER_PAGE_BYTES, LOG_BYTES_MAX, SPACE_COUNT_MAX } from "../../src/limits.ts";
import type { Random } from "../sim/random.ts";

export const SALTS: Salts = { header: 0x1234567, body: -0x7654321 };

/** What a writer may say in a frame. */
export interface FrameInput {
  readonly kind: number;
  readonly place: number;
  readonly flags: number;
  readonly space: number;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly expiresAtMs: number;
  readonly prev: number;
  readonly durable: number;
  readonly lsn: number;
}

const KINDS = [
  KIND_PUT,
  KIND_PUT,
  KIND_PUT,
  KIND_REMOVE,
  KIND_CLEAR,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  KIND_ABORT,
  KIND_MARK,
  KIND_END,
];

/** A multiple of 8 in [from, below), now near and now far. */
function position(random: Random, from: number, below: number): number {
  const units = (below - from) / 8;
  const reach = Math.min(units, 2 ** random.below(37));
  return from + Math.floor((random.word() / 2 ** 32) * reach) * 8;
}

function bytes(random: Random, length: number): Uint8Array {
  const made = new Uint8Array(length);
  random.randomize(made);
  return made;
}

/** One frame that a writer could have written, at any place of the largest log. */
export function randomInput(random: Random): FrameInput {
  const kind = random.pick(KINDS);
  const isRecord = kind === KIND_PUT || kind === KIND_REMOVE;
  const isNothing = kind === KIND_ABORT || kind === KIND_END || kind === KIND_MARK;
  const lsn = position(random, HEADER_PAGE_BYTES, LOG_BYTES_MAX);
  const smallest = kind === KIND_SPACE_CREATE || kind === KIND_SPACE_DROP ? 1 : 0;
  const space = random.chance(0.3) ? 65_535 + random.below(SPACE_COUNT_MAX - 65_535) : smallest + random.below(9);
  const keyBytes = kind === KIND_SPACE_CREATE ? 1 + random.below(40) : isRecord ? random.below(90) : 0;
  const hasPrev = isRecord && lsn > HEADER_PAGE_BYTES && random.chance(0.6);
  return {
    kind,
    place: kind === KIND_MARK ? PLACE_ALONE : isNothing ? PLACE_LAST : random.below(4),
    flags: kind === KIND_MARK && random.chance(0.5) ? SHAPE_CLEAN : 0,
    space: isNothing ? 0 : space,
    key: bytes(random, keyBytes),
    value: kind === KIND_PUT ? bytes(random, random.below(random.pick([1, 20, 300, 9000]))) : new Uint8Array(0),
    expiresAtMs:
      kind === KIND_PUT && random.chance(0.3) ? 1 + Math.floor(random.word() * (EXPIRES_AT_MS_MAX / 2 ** 32)) : 0,
    prev: hasPrev ? position(random, HEADER_PAGE_BYTES, lsn) : 0,
    durable: random.chance(0.3) ? lsn : position(random, HEADER_PAGE_BYTES, lsn + 8),
    lsn,
  };
}

/** Builds a frame; its bytes are at the start of `encoder.stage`. Returns how many. */
export function encode(encoder: FrameEncoder, input: FrameInput): number {
  const frameBytes = measure(encoder, input);
  encoder.encode(keyOf(input), input.key.length, input.lsn);
  return frameBytes;
}

export function keyOf(input: FrameInput): Pinned {
  const key = pinned(65_544);
  key.u8.set(input.key);
  return key;
}

/** Tells an encoder of a frame; returns how long that will be. */
export function measure(encoder: FrameEncoder, input: FrameInput): number {
  encoder.kind = input.kind;
  encoder.place = input.place;
  encoder.flags = input.flags;
  encoder.space = input.space;
  encoder.expiresAtMs = input.expiresAtMs;
  encoder.prev = input.prev;
  encoder.durable = input.durable;
  if (input.value.length > 0) encoder.loadValue(input.value);
  else encoder.loadNothing();
  return encoder.measure(input.key.length, input.lsn);
}

export function newEncoder(): FrameEncoder {
  return new FrameEncoder(SALTS);
}

export function emptyFacts(): FrameFacts {
  return {
    kind: 0,
    place: 0,
    space: 0,
    keyBytes: 0,
    valueBytes: 0,
    expiresAtMs: 0,
    prev: 0,
    durable: 0,
    frameBytes: 0,
    liveBytes: 0,
    isClean: false,
  };
}
