/**
 * A frame that was found sound is taken up again without its checks only from the very bytes that were checked; a search ends
 * in time that is proportional to the file, whatever stands in that.
 */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { HEADER_PAGE_BYTES, SCAN_BYTES } from "../../src/limits.ts";
import { FrameEncoder } from "../../src/log/encoder.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_PUT,
  PLACE_ALONE,
  WORD_BODY_CHECK,
  WORD_HEADER_CHECK,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
  headerCheck,
  shapeOf,
} from "../../src/log/frame.ts";
import { unitHigh, unitLow } from "../../src/log/log-words.ts";
import { Scanner, type ScanSource } from "../../src/log/scanner.ts";
import { SALTS } from "./fixture.ts";

const FAR = HEADER_PAGE_BYTES + 2 * SCAN_BYTES;
const file = new Uint8Array(FAR + 4096);
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** Puts a record at a place in the file; returns where it ends. */
function put(lsn: number, value: string): number {
  const draft = new FrameEncoder(SALTS);
  draft.kind = KIND_PUT;
  draft.place = PLACE_ALONE;
  draft.durable = HEADER_PAGE_BYTES;
  draft.loadValue(value);
  const bytes = draft.measure(3, lsn);
  const key = pinned(8);
  key.u8.set(Buffer.from("key"));
  draft.encode(key, 3, lsn);
  file.set(draft.stage.u8.subarray(0, bytes), lsn);
  return lsn + bytes;
}

function scanner(bytesOf: Uint8Array = file, seen = { bytes: 0 }): Scanner {
  const system = {
    read: (_: unknown, into: Uint8Array, span: { position: number; bytes: number }): number => {
      const bytes = Math.min(span.bytes, bytesOf.length - span.position);
      into.set(bytesOf.subarray(span.position, span.position + bytes));
      seen.bytes += bytes;
      return bytes;
    },
  };
  const source = { system: system as unknown as ScanSource["system"], file: 0, path: "made up", salts: SALTS };
  return new Scanner({ ...source, end: bytesOf.length }, HEADER_PAGE_BYTES);
}

test("what is in memory still is taken up with its facts, its value and what comes next", () => {
  const second = put(HEADER_PAGE_BYTES, "first value");
  put(second, "the second one");
  const scan = scanner();
  expect(scan.next().kind).toBe("frame");
  const { reads } = scan;
  expect(scan.next().kind).toBe("frame");
  for (const [lsn, value] of [
    [HEADER_PAGE_BYTES, "first value"],
    [second, "the second one"],
  ] as const) {
    expect(scan.judgeAgain(lsn, reads).kind).toBe("frame");
    expect(scan.lsn).toBe(lsn);
    expect(text(scan.value())).toBe(value);
    const at = scan.valueAddress - scan.memory.address;
    expect(text(scan.memory.u8.subarray(at, at + scan.facts.valueBytes))).toBe(value);
  }
  scan.judgeAgain(HEADER_PAGE_BYTES, reads);
  expect(scan.next().kind).toBe("frame");
  expect(scan.lsn).toBe(second);
  expect(scan.reads).toBe(reads);
  scan.release();
});

test("what was read anew since is checked anew", () => {
  put(HEADER_PAGE_BYTES, "sound at first");
  put(FAR, "far away");
  const scan = scanner();
  expect(scan.judge(HEADER_PAGE_BYTES).kind).toBe("frame");
  const { reads } = scan;
  expect(scan.judge(FAR).kind).toBe("frame");
  file[HEADER_PAGE_BYTES + 30]! ^= 1;
  expect(scan.judgeAgain(HEADER_PAGE_BYTES, reads).kind).toBe("bad");
  scan.release();
});

/** A file full of sound headers, each of a body that reaches to the end and has another check. */
function headersOnly(end: number): Uint8Array {
  const forged = new Uint8Array(end);
  const header = pinned(FRAME_HEADER_BYTES);
  for (let lsn = HEADER_PAGE_BYTES; lsn + 2 * FRAME_HEADER_BYTES <= end; lsn += FRAME_HEADER_BYTES) {
    header.u32.fill(0);
    header.u32[WORD_BODY_CHECK] = 1;
    header.u32[WORD_SHAPE] = shapeOf(KIND_PUT, PLACE_ALONE, 0, 0);
    header.u32[WORD_VALUE_BYTES] = end - lsn - FRAME_HEADER_BYTES;
    const place = { salt: SALTS.header, unitLow: unitLow(lsn), unitHigh: unitHigh(lsn) };
    header.i32[WORD_HEADER_CHECK] = headerCheck(header, 0, place);
    forged.set(header.u8.subarray(0, FRAME_HEADER_BYTES), lsn);
  }
  return forged;
}

test("a search among headers that each claim all that is behind them ends soon, and believes one", () => {
  const forged = headersOnly(FAR);
  const seen = { bytes: 0 };
  const scan = scanner(forged, seen);
  expect(scan.findSound(HEADER_PAGE_BYTES + 8, HEADER_PAGE_BYTES)).toBeGreaterThan(HEADER_PAGE_BYTES);
  expect(seen.bytes).toBeLessThan(16 * forged.length);
  scan.release();
});

test("a body whose padding is beyond the end of the file is not read", () => {
  const forged = headersOnly(FAR + 4);
  const seen = { bytes: 0 };
  const scan = scanner(forged, seen);
  expect(scan.findSound(HEADER_PAGE_BYTES + 8, HEADER_PAGE_BYTES)).toBeUndefined();
  expect(seen.bytes).toBeLessThan(4 * forged.length);
  scan.release();
});
