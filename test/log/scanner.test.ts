/** A frame that was found sound is taken up again without its checks only from the very bytes that were checked. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { HEADER_PAGE_BYTES, SCAN_BYTES } from "../../src/limits.ts";
import { FrameEncoder } from "../../src/log/encoder.ts";
import { KIND_PUT, PLACE_ALONE } from "../../src/log/frame.ts";
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

function scanner(): Scanner {
  const system = {
    read: (_: unknown, into: Uint8Array, span: { position: number; bytes: number }): number => {
      const bytes = Math.min(span.bytes, file.length - span.position);
      into.set(file.subarray(span.position, span.position + bytes));
      return bytes;
    },
  };
  const source = { system: system as unknown as ScanSource["system"], file: 0, path: "made up", salts: SALTS };
  return new Scanner({ ...source, end: file.length }, HEADER_PAGE_BYTES);
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
