import { EmdbError } from "../errors.ts";
import { isByteArray } from "./byte-array.ts";
import type { ByteCodec } from "./types.ts";

/** Strict, and keeps a byte order mark: the default would drop the first character of a text that has one. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Takes any byte array. */
const toText = Buffer.prototype.toString;

/**
 * Bytes as text.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT when they are not UTF-8
 */
export function utf8Text(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `the ${bytes.length} stored bytes are not UTF-8 text`, { cause });
  }
}

/**
 * The same of bytes `from` to `to` of an array, without a view of them.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT when they are not UTF-8
 */
export function utf8TextIn(bytes: Uint8Array, from: number, to: number): string {
  const text = toText.call(bytes, "utf8", from, to);
  // What is no UTF-8 has become this there. A text may have one of its own.
  return text.includes("\ufffd") ? utf8Text(bytes.subarray(from, to)) : text;
}

export const textCodec: ByteCodec<string, string> = {
  encode(value) {
    if (typeof value === "string") return value;
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `codec.text takes a string, got ${typeof value}`);
  },
  decode: utf8Text,
};

export const bytesCodec: ByteCodec<Uint8Array, Uint8Array> = {
  encode(value) {
    if (isByteArray(value)) return value;
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `codec.bytes takes a Uint8Array, got ${typeof value}`);
  },
  decode: (bytes) => bytes,
};
