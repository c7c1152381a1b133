/** The frame: what a writer says comes back as it was said, and what no writer says is not a frame. */

import { expect, test } from "bun:test";
import { copy, pinned } from "../../src/ffi/memory.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_MARK,
  KIND_PUT,
  PLACE_ALONE,
  WORD_HEADER_CHECK,
  decodeInto,
  frameBytes,
  headerCheck,
  isPlausible,
  packDistance,
  unpackDistance,
} from "../../src/log/frame.ts";
import { unitHigh, unitLow } from "../../src/log/log-words.ts";
import { HEADER_PAGE_BYTES, LOG_BYTES_MAX } from "../../src/limits.ts";
import { Random } from "../sim/random.ts";
import { emulator } from "../support/platform.ts";
import { SALTS, emptyFacts, encode, keyOf, measure, newEncoder, randomInput, type FrameInput } from "./fixture.ts";

/** Frames that are forged; of one in forty at least the forgery must be believed. */
const FORGED = emulator === undefined ? 40_000 : 10_000;

const unitsMax = LOG_BYTES_MAX / 8;

function expectHonest(units: number): void {
  const packed = packDistance(units);
  const unpacked = unpackDistance(packed);
  const isSound = packed >= 0 && packed <= 0xffff && unpacked >= units && unpacked <= units * (1 + 1 / 1024);
  if (!isSound) throw new Error(`${units} units come back as ${unpacked}`);
}

test("a packed distance is never shorter than the true one, nor a thousandth longer: all short ones", () => {
  for (let units = 0; units < 1 << 20; units += 1) expectHonest(units);
});

test("a packed distance is never shorter than the true one, nor a thousandth longer: long ones to the largest log", () => {
  const random = new Random(11);
  for (let round = 0; round < 200_000; round += 1) {
    expectHonest(Math.min(unitsMax, Math.floor((random.word() / 2 ** 32) * 2 ** (20 + random.below(18)))));
  }
  for (let power = 20; power <= 36; power += 1) {
    for (const units of [2 ** power - 1, 2 ** power, 2 ** power + 1]) expectHonest(units);
  }
});

test("packed distances are in the order of the distances", () => {
  let before = -1;
  for (let power = 0; power < 37; power += 0.001) {
    const packed = packDistance(Math.floor(2 ** power));
    expect(packed).toBeGreaterThanOrEqual(before);
    before = packed;
  }
});

/** Everything that decoding a frame at the start of memory says. */
function decoded(memory: ReturnType<typeof pinned>, lsn: number): ReturnType<typeof emptyFacts> | undefined {
  const facts = emptyFacts();
  if (!isPlausible(memory, 0, lsn)) return undefined;
  return decodeInto(facts, memory, { at: 0, lsn }) ? facts : undefined;
}

function checkOf(memory: ReturnType<typeof pinned>, lsn: number): number {
  return headerCheck(memory, 0, { salt: SALTS.header, unitLow: unitLow(lsn), unitHigh: unitHigh(lsn) });
}

test("random frames of every kind come back as they were said, wide forms included", () => {
  const random = new Random(12);
  const encoder = newEncoder();
  let wideCount = 0;
  for (let round = 0; round < 5000; round += 1) {
    const input = randomInput(random);
    const bytes = encode(encoder, input);
    const facts = decoded(encoder.stage, input.lsn);
    const { kind, place, space, key, value, expiresAtMs, prev } = input;
    const isClean = input.flags !== 0;
    const told = { kind, place, space, expiresAtMs, prev, isClean, keyBytes: key.length, valueBytes: value.length };
    expect(facts).toMatchObject({ ...told, frameBytes: bytes });
    expect(facts!.durable).toBeLessThanOrEqual(input.durable);
    expect(input.lsn - facts!.durable).toBeLessThanOrEqual((input.lsn - input.durable) * (1 + 1 / 1024));
    expect(checkOf(encoder.stage, input.lsn)).toBe(encoder.stage.i32[WORD_HEADER_CHECK]!);
    expect(bytes % 8).toBe(0);
    if (prev > 0 && input.lsn - prev >= 2 ** 35) wideCount += 1;
  }
  expect(wideCount).toBeGreaterThan(20);
});

test("a frame that is built in any memory is the one that is built in the stage, and nothing besides is written to", () => {
  const random = new Random(15);
  const [staged, placed] = [newEncoder(), newEncoder()];
  const memory = pinned(32_768);
  const untouched = new Uint8Array(memory.u8.length).fill(0xa5);
  for (let round = 0; round < 3000; round += 1) {
    const input = randomInput(random);
    const bytes = encode(staged, input);
    const at = 8 * random.below((memory.u8.length - bytes) / 8);
    memory.u8.fill(0xa5);
    expect(measure(placed, input)).toBe(bytes);
    placed.encodeAt(memory, at, keyOf(input), input.key.length, input.lsn);
    expect(Buffer.compare(memory.u8.subarray(at, at + bytes), staged.stage.u8.subarray(0, bytes))).toBe(0);
    const [end, length] = [at + bytes, memory.u8.length];
    expect(Buffer.compare(memory.u8.subarray(0, at), untouched.subarray(0, at))).toBe(0);
    expect(Buffer.compare(memory.u8.subarray(end), untouched.subarray(0, length - end))).toBe(0);
  }
});

test("a frame of a 24-byte key and a 150-byte value is at most 32 bytes longer than both", () => {
  const shape = { kind: KIND_PUT, place: PLACE_ALONE, flags: 0, space: 3, expiresAtMs: 0, prev: 8192, durable: 8192 };
  const input: FrameInput = { ...shape, key: new Uint8Array(24), value: new Uint8Array(150), lsn: 65_536 };
  expect(encode(newEncoder(), input)).toBeLessThanOrEqual(24 + 150 + 32);
});

test("every flipped bit of a header fails its check, or the header still says the same", () => {
  const random = new Random(13);
  const encoder = newEncoder();
  for (let round = 0; round < 300; round += 1) {
    const input = randomInput(random);
    encode(encoder, input);
    const facts = decoded(encoder.stage, input.lsn);
    for (let bit = 0; bit < FRAME_HEADER_BYTES * 8; bit += 1) {
      encoder.stage.u8[bit >> 3]! ^= 1 << (bit & 7);
      const isBelieved = checkOf(encoder.stage, input.lsn) === encoder.stage.i32[WORD_HEADER_CHECK];
      if (isBelieved) expect(decoded(encoder.stage, input.lsn)).toEqual(facts);
      encoder.stage.u8[bit >> 3]! ^= 1 << (bit & 7);
    }
  }
});

test("a header that is taken for a frame, checks apart, is exactly what a writer would write for what it says", () => {
  const random = new Random(14);
  const encoder = newEncoder();
  const forged = pinned(FRAME_HEADER_BYTES + 128 + 9000);
  let believed = 0;
  for (let round = 0; round < FORGED; round += 1) {
    const input = { ...randomInput(random), value: new Uint8Array(0) };
    const bytes = encode(encoder, input);
    copy(forged.address, encoder.stage.address, Math.min(bytes, 512));
    for (let flips = 1 + random.below(3); flips > 0; flips -= 1) {
      const bit = 64 + random.below(128);
      forged.u8[bit >> 3]! ^= 1 << (bit & 7);
    }
    if (forged.u32[2]! >>> 16 > 8000) continue;
    const facts = decoded(forged, input.lsn);
    if (facts === undefined || facts.valueBytes > 8000) continue;
    believed += 1;
    const at = FRAME_HEADER_BYTES;
    const key = forged.u8.slice(at, at + facts.keyBytes);
    const flags = facts.isClean ? 1 << 9 : 0;
    encode(encoder, { ...facts, flags, key, value: new Uint8Array(facts.valueBytes), lsn: input.lsn });
    const words = [2, 3, 4, 5].map((word) => encoder.stage.u32[word]!.toString(16));
    expect(words).toEqual([2, 3, 4, 5].map((word) => forged.u32[word]!.toString(16)));
  }
  expect(believed).toBeGreaterThan(FORGED / 40);
});

test("random bytes are next to never plausible, and never reach out of the log", () => {
  const random = new Random(15);
  const memory = pinned(4096);
  for (let round = 0; round < 20_000; round += 1) {
    random.randomize(memory.u8.subarray(0, 64));
    const facts = decoded(memory, HEADER_PAGE_BYTES + 4096);
    if (facts === undefined) continue;
    expect(facts.prev === 0 || facts.prev >= HEADER_PAGE_BYTES).toBe(true);
    expect(facts.durable).toBeGreaterThanOrEqual(0);
    expect(facts.frameBytes).toBe(frameBytes(memory.u32[2]!, memory.u32[3]!));
  }
});

test("a frame is valid at its own place, in its own file and generation only", () => {
  const random = new Random(16);
  const encoder = newEncoder();
  for (let round = 0; round < 200; round += 1) {
    const input = randomInput(random);
    encode(encoder, input);
    const check = encoder.stage.i32[WORD_HEADER_CHECK];
    expect(checkOf(encoder.stage, input.lsn + 8)).not.toBe(check);
    expect(checkOf(encoder.stage, input.lsn + 4096)).not.toBe(check);
    const place = { unitLow: unitLow(input.lsn), unitHigh: unitHigh(input.lsn) };
    expect(headerCheck(encoder.stage, 0, { salt: SALTS.header + 1, ...place })).not.toBe(check);
  }
});

test("a mark says that all before it is durable", () => {
  const mark = { kind: KIND_MARK, place: PLACE_ALONE, flags: 0, space: 0, expiresAtMs: 0, prev: 0 };
  const nothing = new Uint8Array(0);
  const encoder = newEncoder();
  for (const lsn of [HEADER_PAGE_BYTES, 2 ** 20, 2 ** 38]) {
    expect(encode(encoder, { ...mark, key: nothing, value: nothing, durable: lsn, lsn })).toBe(FRAME_HEADER_BYTES);
    expect(decoded(encoder.stage, lsn)).toMatchObject({ durable: lsn });
  }
});
