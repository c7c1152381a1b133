/** The header page: sound, foreign, from the future or damaged, told apart at every length and every bit. */

import { expect, test } from "bun:test";
import {
  FILE_ID_BYTES,
  FORMAT_VERSION,
  KEY_AREA_AT,
  decodeHeader,
  encodeHeader,
  saltsOf,
} from "../../src/log/header.ts";
import { xxh32 } from "../../src/log/checksum.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { HEADER_PAGE_BYTES, LOG_BYTES_MAX } from "../../src/limits.ts";
import { Random } from "../sim/random.ts";

const fileId = new Uint8Array(FILE_ID_BYTES).map((_, index) => 0x41 + index);
const header = { flags: 0, fileId, generation: 7, createdAtMs: 1_700_000_000_000, cipher: 0, madeEnd: 0 };

function page(): Uint8Array {
  return encodeHeader(header).u8.slice(0, HEADER_PAGE_BYTES);
}

test("a header comes back as it was written, for random fields", () => {
  const random = new Random(21);
  for (let round = 0; round < 200; round += 1) {
    const id = new Uint8Array(FILE_ID_BYTES);
    random.randomize(id);
    const made = {
      flags: round % 2,
      fileId: id,
      generation: 1 + random.word() * 1000,
      createdAtMs: random.word() * 1000,
      cipher: (round % 2) * (1 + (random.word() % 1000)),
      madeEnd: round % 3 === 0 ? 0 : 4096 + 8 * random.word(),
    };
    expect(decodeHeader(encodeHeader(made).u8)).toEqual({ kind: "sound", header: made });
  }
});

test("a page that was cut at any length is foreign without its magic, damaged after it", () => {
  const whole = page();
  for (let length = 0; length < HEADER_PAGE_BYTES; length += 1) {
    const verdict = decodeHeader(whole.subarray(0, length));
    expect(verdict).toEqual(length < 8 ? { kind: "foreign" } : { kind: "damaged", offset: length });
  }
});

test("every flipped bit of the first sector is foreign in the magic, future or damaged in the version, damaged behind", () => {
  for (let bit = 0; bit < KEY_AREA_AT * 8; bit += 1) {
    const bytes = page();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    const { kind } = decodeHeader(bytes);
    const isVersion = bit >= 64 && bit < 96;
    const expected = bit < 64 ? "foreign" : isVersion && bit !== 64 ? "future" : "damaged";
    if (kind !== expected) throw new Error(`bit ${bit}: ${kind}, not ${expected}`);
  }
});

test("a later version is from the future whatever else it holds, and version 0 is damaged", () => {
  const random = new Random(22);
  const bytes = page();
  random.randomize(bytes.subarray(12));
  bytes[8] = FORMAT_VERSION + 1;
  expect(decodeHeader(bytes)).toEqual({ kind: "future", version: FORMAT_VERSION + 1 });
  expect(decodeHeader(bytes.subarray(0, 20))).toEqual({ kind: "future", version: FORMAT_VERSION + 1 });

  const zero = pinned(HEADER_PAGE_BYTES);
  zero.u8.set(page());
  zero.u32[2] = 0;
  zero.i32[127] = xxh32(zero, 0, 508, 0);
  expect(decodeHeader(zero.u8)).toEqual({ kind: "damaged", offset: 0 });
});

test("text, zeros, random bytes and other databases are foreign", () => {
  const random = new Random(23);
  const noise = new Uint8Array(8192);
  random.randomize(noise);
  const texts = ["", "e", "emdb", "SQLite format 3\0", "PK\x03\x04", "emdb\n\r\n\0", "{}"];
  for (const bytes of [noise, new Uint8Array(8192), ...texts.map((text) => new TextEncoder().encode(text))]) {
    expect(decodeHeader(bytes)).toEqual({ kind: "foreign" });
  }
});

test("two files, and two generations of one, have different salts", () => {
  const salts = saltsOf(header);
  const next = saltsOf({ ...header, generation: 8 });
  const other = saltsOf({ ...header, fileId: fileId.map((byte, index) => (index === 15 ? byte ^ 1 : byte)) });
  for (const salt of [next, other]) {
    expect(salt.header).not.toBe(salts.header);
    expect(salt.body).not.toBe(salts.body);
  }
  expect(salts.header).not.toBe(salts.body);
});

test("a whole page with a flag that nobody knows is from the future, one whose fields contradict each other is damaged", () => {
  const fields = { flags: 0, fileId: new Uint8Array(FILE_ID_BYTES), generation: 1, createdAtMs: 0, cipher: 0 };
  const header = { ...fields, madeEnd: 0 };
  const verdict = (changes: Partial<typeof header>): string =>
    decodeHeader(encodeHeader({ ...header, ...changes }).u8).kind;
  expect(verdict({})).toBe("sound");
  expect(verdict({ flags: 2 })).toBe("future");
  expect(verdict({ cipher: 7 })).toBe("damaged");
  expect(verdict({ flags: 1 })).toBe("damaged");
  expect(verdict({ generation: 0 })).toBe("damaged");
  for (const madeEnd of [4096, 4104, LOG_BYTES_MAX]) expect(verdict({ madeEnd })).toBe("sound");
  for (const madeEnd of [8, 4088, 4100, LOG_BYTES_MAX + 8, 2 ** 53 - 8]) expect(verdict({ madeEnd })).toBe("damaged");
});
