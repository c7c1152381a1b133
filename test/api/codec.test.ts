/** The ready-made codecs: order, limits, and what malformed bytes are answered with. */

import { describe, expect, test } from "bun:test";
import { runInNewContext } from "node:vm";
import { codec, givesFreshBytes } from "../../src/codec/codec.ts";
import { expectCode } from "../contract/fixture.ts";

const asBytes = (encoded: string | Uint8Array | ArrayBuffer): Uint8Array =>
  typeof encoded === "string" ? new TextEncoder().encode(encoded) : new Uint8Array(encoded);

describe("integers", () => {
  test("uint32 keeps the order of numbers in bytes, at every power of two and beside it", () => {
    const numbers = [...new Set(powers(32).flatMap((power) => [power - 1, power, power + 1]))]
      .filter((number) => number >= 0 && number < 2 ** 32)
      .sort((one, other) => one - other);
    const encoded = numbers.map((number) => asBytes(codec.uint32.encode(number)));
    for (const [index, bytes] of encoded.entries()) {
      expect(bytes).toHaveLength(4);
      expect(codec.uint32.decode(bytes)).toBe(numbers[index] ?? -1);
      const next = encoded[index + 1];
      if (next !== undefined) expect(Buffer.compare(bytes, next)).toBe(-1);
    }
  });

  test("uint64 keeps the order of bigints in bytes, at every power of two and beside it", () => {
    const numbers = [
      ...new Set(Array.from({ length: 65 }, (_, bit) => 2n ** BigInt(bit)).flatMap((power) => [power - 1n, power])),
    ].filter((number) => number < 2n ** 64n);
    const encoded = numbers.map((number) => asBytes(codec.uint64.encode(number)));
    for (const [index, bytes] of encoded.entries()) {
      expect(bytes).toHaveLength(8);
      expect(codec.uint64.decode(bytes)).toBe(numbers[index] ?? -1n);
      const next = encoded[index + 1];
      if (next !== undefined) expect(Buffer.compare(bytes, next)).toBe(-1);
    }
  });

  test("what does not fit is refused by value and limit", () => {
    for (const wrong of [-1, 2 ** 32, 1.5, Number.NaN, Number.POSITIVE_INFINITY, "5", 5n, undefined]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => codec.uint32.encode(wrong as number));
    }
    for (const wrong of [-1n, 2n ** 64n, 2n ** 4000n, 5, "5", undefined]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => codec.uint64.encode(wrong as bigint));
    }
    expect(expectCode("EMDB_INVALID_ARGUMENT", () => codec.uint32.encode(-1)).message).toContain("4294967295, got -1");
    for (const length of [0, 1, 3, 5, 7, 9]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => codec.uint32.decode(new Uint8Array(length)));
      expectCode("EMDB_INVALID_ARGUMENT", () => codec.uint64.decode(new Uint8Array(length)));
    }
  });

  test("bytes in the middle of a larger buffer decode", () => {
    const buffer = new Uint8Array([9, 9, 0, 0, 0, 0, 0, 0, 1, 2, 9]);
    expect(codec.uint32.decode(buffer.subarray(6, 10))).toBe(258);
    expect(codec.uint64.decode(buffer.subarray(2, 10))).toBe(258n);
  });
});

describe("text and JSON", () => {
  test("malformed bytes are EMDB_INVALID_ARGUMENT and are not quoted", () => {
    expectCode("EMDB_INVALID_ARGUMENT", () => codec.text.decode(new Uint8Array([0xc3])));
    expectCode("EMDB_INVALID_ARGUMENT", () => codec.json().decode(new Uint8Array([0xff])));
    const error = expectCode("EMDB_INVALID_ARGUMENT", () => codec.json().decode(asBytes("hunter2")));
    expect(error.message).not.toContain("hunter2");
  });

  test("a value that JSON would lose is refused", () => {
    const circular: { self?: unknown } = {};
    circular.self = circular;
    for (const wrong of [undefined, () => 1, Symbol("x"), 5n, circular]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => codec.json().encode(wrong));
    }
    expect(codec.json().encode(null)).toBe("null");
  });

  test("text and bytes take only theirs", () => {
    for (const wrong of [5, undefined, null, {}, new ArrayBuffer(2)]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => codec.text.encode(wrong as never));
      expectCode("EMDB_INVALID_ARGUMENT", () => codec.bytes.encode(wrong as never));
    }
    expectCode("EMDB_INVALID_ARGUMENT", () => codec.bytes.encode(Object.create(Uint8Array.prototype) as never));
    const foreign = runInNewContext("new Uint8Array(3)") as Uint8Array;
    for (const bytes of [new Uint8Array(2), Buffer.from("a"), foreign]) expect(codec.bytes.encode(bytes)).toBe(bytes);
  });
});

describe("structured", () => {
  const structured = codec.structured();

  test("what cannot be cloned is refused", () => {
    for (const wrong of [() => 1, Symbol("x"), { promise: Promise.resolve() }]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => structured.encode(wrong));
    }
  });

  test("another Bun major's bytes, a cut and no bytes at all are told apart from a value", () => {
    const bytes = asBytes(structured.encode({ a: [1, "text", new Map([[1, 2]])] }));
    const other = new Uint8Array(bytes);
    other[1] = 99;
    expect(expectCode("EMDB_INVALID_ARGUMENT", () => structured.decode(other)).message).toContain("Bun 99");
    for (let length = 0; length < bytes.length; length += 1) {
      expectCode("EMDB_INVALID_ARGUMENT", () => structured.decode(bytes.slice(0, length)));
    }
    expectCode("EMDB_INVALID_ARGUMENT", () => structured.decode(asBytes('{"json":1}')));
  });
});

test("the codecs whose bytes need no copy are exactly those that make new ones", () => {
  const fresh = [codec.text, codec.json(), codec.structured(), codec.uint32, codec.uint64].map(givesFreshBytes);
  expect(fresh).toEqual([true, true, true, true, true]);
  expect(givesFreshBytes(codec.bytes)).toBe(false);
});

function powers(count: number): number[] {
  return Array.from({ length: count + 1 }, (_, bit) => 2 ** bit);
}
