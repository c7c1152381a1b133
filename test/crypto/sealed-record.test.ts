import { expect, test } from "bun:test";
import {
  decodeRecord,
  emptyRecord,
  encodeRecord,
  recordBytes,
  RECORD_OVERHEAD_BYTES_MAX,
  type RecordFields,
} from "../../src/crypto/sealed-record.ts";
import { EXPIRES_AT_MS_MAX, KEY_BYTES_MAX } from "../../src/limits.ts";
import { bytesOf, fromHex } from "./fixtures.ts";

const record = (change: Partial<RecordFields> = {}): RecordFields => ({
  kind: 1,
  space: 0,
  expiresAtMs: 0,
  previous: 0,
  key: fromHex("6b6579"),
  value: fromHex("76616c7565"),
  ...change,
});
const encoded = (fields: RecordFields): Uint8Array => {
  const into = new Uint8Array(recordBytes(fields));
  expect(encodeRecord(into, fields)).toBe(into.length);
  return into;
};

const facts = emptyRecord();
const decoded = (body: Uint8Array): RecordFields | undefined => {
  if (!decodeRecord(facts, body)) return undefined;
  const { kind, space, expiresAtMs, previous, keyAt, keyBytes, valueAt, valueBytes } = facts;
  const key = body.slice(keyAt, keyAt + keyBytes);
  return { kind, space, expiresAtMs, previous, key, value: body.slice(valueAt, valueAt + valueBytes) };
};

test("golden records are byte for byte what the diagram says", () => {
  expect(encoded(record()).toHex()).toBe("01 00 03 6b6579 76616c7565".replaceAll(" ", ""));
  const all = record({ kind: 2, space: 300, expiresAtMs: 0x0102030405, previous: 129 });
  expect(encoded(all).toHex()).toBe("32 ac02 03 0504030201000000 8101 6b6579 76616c7565".replaceAll(" ", ""));
});

test("a key of 24 and a value of 150 bytes take 3 bytes more", () => {
  const body = encoded(record({ key: bytesOf("key", 24), value: bytesOf("value", 150) }));
  expect(body).toHaveLength(24 + 150 + 3);
});

test("every record decodes to what was encoded, at all borders of its numbers", () => {
  const numbers = [0, 1, 127, 128, 16_383, 16_384, 2 ** 28 - 1, 2 ** 28, 2 ** 32 - 1];
  const lengths = [0, 1, 127, 128, 16_384, KEY_BYTES_MAX];
  for (const space of numbers) {
    for (const expiresAtMs of [0, 1, 2 ** 32, EXPIRES_AT_MS_MAX]) {
      for (const previous of [...numbers, 2 ** 48, Number.MAX_SAFE_INTEGER]) {
        const fields = record({ kind: 15, space, expiresAtMs, previous });
        expect(decoded(encoded(fields))).toEqual(fields);
        expect(recordBytes(fields) - 8).toBeLessThanOrEqual(RECORD_OVERHEAD_BYTES_MAX);
      }
    }
  }
  for (const keyBytes of lengths) {
    for (const valueBytes of [0, 1, 200]) {
      const fields = record({ key: bytesOf("k", keyBytes), value: bytesOf("v", valueBytes) });
      expect(decoded(encoded(fields))).toEqual(fields);
    }
  }
});

test("whatever decodes is what an encoder wrote, over all bodies of up to three bytes and many longer ones", () => {
  const check = (body: Uint8Array): void => {
    const fields = decoded(body);
    if (fields !== undefined && encoded(fields).toHex() !== body.toHex())
      throw new Error(`${body.toHex()} has two forms`);
  };
  check(new Uint8Array(0));
  for (let a = 0; a < 256; a++) {
    check(Uint8Array.of(a));
    for (let b = 0; b < 256; b++) check(Uint8Array.of(a, b));
  }
  // Middle bytes at the borders of a varint are enough: the others take the same paths.
  for (let a = 0; a < 256; a++)
    for (const b of [0, 1, 127, 128, 255]) for (const c of [0, 1, 2, 127, 128, 255]) check(Uint8Array.of(a, b, c));
  for (let round = 0; round < 20_000; round++) {
    const body = bytesOf(`body ${round}`, round % 40);
    if (body.length > 0) body[0]! &= 0x3f;
    check(body);
  }
});

test("no prefix of a record's numbers is a record, and no shape bit without meaning is taken", () => {
  const body = encoded(record({ space: 300, expiresAtMs: 5, previous: 7, value: new Uint8Array(0) }));
  for (let bytes = 0; bytes < body.length; bytes++) expect(decoded(body.slice(0, bytes))).toBeUndefined();
  for (const bit of [0x40, 0x80]) expect(decoded(Uint8Array.of(1 | bit, 0, 0))).toBeUndefined();
});

test("numbers in a longer form, out of bounds, or zero where a bit says they are there, are refused", () => {
  for (const hex of [
    "01 8000 00", // space 0 in two bytes
    "01 00 8000", // key length 0 in two bytes
    "01 ffffffff10 00", // space 2^32 and more
    "01 00 80800400", // key length 65536
    "11 00 00 0000000000000000", // expiry 0
    "11 00 00 ffffffffffffff7f", // expiry beyond time
    "21 00 00 00", // previous 0
    "21 00 00 ffffffffffffff7f", // previous 2^56 - 1
    "21 00 00 80808080808080808001", // nine bytes of number
    "01 00 01", // a key that is not there
  ]) {
    expect(decoded(fromHex(hex))).toBeUndefined();
  }
});

test("an encoder refuses what it could not read back", () => {
  const into = new Uint8Array(100_000);
  for (const bad of [
    { kind: 16 },
    { space: 2 ** 32 },
    { space: -1 },
    { expiresAtMs: EXPIRES_AT_MS_MAX + 1 },
    { previous: 2 ** 53 },
    { key: new Uint8Array(KEY_BYTES_MAX + 1) },
  ]) {
    expect(() => encodeRecord(into, record(bad))).toThrow("internal error");
  }
  expect(() => encodeRecord(new Uint8Array(10), record())).toThrow("holds");
});
