/**
 * Structured clone, as bytes:
 *
 *   offset 0  1  0xE5
 *          1  1  major version of the Bun that wrote it
 *          2  n  what `bun:jsc` serialize gave
 *
 * The engine's format changes without notice between majors; the second byte turns a value from another one into a
 * clear error. Never renumber.
 */

import { deserialize, serialize } from "bun:jsc";
import { EmdbError } from "../errors.ts";
import type { ByteCodec } from "./types.ts";

const MARK = 0xe5;
const HEADER_BYTES = 2;
const BUN_MAJOR = Number.parseInt(Bun.version, 10);

export const structuredCodec: ByteCodec<unknown, Uint8Array> = {
  encode(value) {
    const body = serialized(value);
    const bytes = new Uint8Array(HEADER_BYTES + body.length);
    bytes[0] = MARK;
    bytes[1] = BUN_MAJOR;
    bytes.set(body, HEADER_BYTES);
    return bytes;
  },
  decode(bytes) {
    const [mark, major] = bytes;
    if (bytes.length <= HEADER_BYTES || mark !== MARK) throw malformed(bytes);
    if (major !== BUN_MAJOR) {
      throw new EmdbError(
        "EMDB_INVALID_ARGUMENT",
        `the value was written by codec.structured of Bun ${major}; this is Bun ${BUN_MAJOR}, which cannot read it`,
      );
    }
    try {
      return deserialize(new Uint8Array(bytes.subarray(HEADER_BYTES)).buffer);
    } catch {
      throw malformed(bytes);
    }
  },
};

function serialized(value: unknown): Uint8Array {
  try {
    return new Uint8Array(serialize(value));
  } catch (cause) {
    throw new EmdbError(
      "EMDB_INVALID_ARGUMENT",
      "codec.structured cannot encode this value (a function, symbol or promise inside?)",
      { cause },
    );
  }
}

function malformed(bytes: Uint8Array): EmdbError {
  return new EmdbError("EMDB_INVALID_ARGUMENT", `the ${bytes.length} stored bytes are not from codec.structured`);
}
