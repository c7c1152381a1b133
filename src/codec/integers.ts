/** Unsigned integers, big-endian, so that the order of the bytes is the order of the numbers. */

import { EmdbError } from "../errors.ts";
import type { ByteCodec } from "./types.ts";

const UINT32_BYTES = 4;
const UINT64_BYTES = 8;
const UINT32_MAX = 0xffff_ffff;
const UINT64_MAX = 0xffff_ffff_ffff_ffffn;

export const uint32Codec: ByteCodec<number, Uint8Array> = {
  encode(value) {
    if (typeof value !== "number") throw wrong(`codec.uint32 takes a number, got ${typeof value}`);
    if (!Number.isInteger(value) || value < 0 || value > UINT32_MAX) {
      throw wrong(`codec.uint32 takes a whole number from 0 to ${UINT32_MAX}, got ${value}`);
    }
    const bytes = new Uint8Array(UINT32_BYTES);
    bytes[0] = value >>> 24;
    bytes[1] = value >>> 16;
    bytes[2] = value >>> 8;
    bytes[3] = value;
    return bytes;
  },
  decode(bytes) {
    if (bytes.length !== UINT32_BYTES) throw wrong(`a uint32 has ${UINT32_BYTES} bytes, stored are ${bytes.length}`);
    const [first = 0, second = 0, third = 0, fourth = 0] = bytes;
    return ((first << 24) | (second << 16) | (third << 8) | fourth) >>> 0;
  },
};

export const uint64Codec: ByteCodec<bigint, Uint8Array> = {
  encode(value) {
    if (typeof value !== "bigint") throw wrong(`codec.uint64 takes a bigint, got ${typeof value}`);
    if (value < 0n || value > UINT64_MAX) {
      // A bigint can be megabytes long; what is wrong with it is told by its side.
      throw wrong(`codec.uint64 takes a bigint from 0 to ${UINT64_MAX}, got ${outside(value)}`);
    }
    const view = new DataView(new ArrayBuffer(UINT64_BYTES));
    view.setBigUint64(0, value);
    return new Uint8Array(view.buffer);
  },
  decode(bytes) {
    if (bytes.length !== UINT64_BYTES) throw wrong(`a uint64 has ${UINT64_BYTES} bytes, stored are ${bytes.length}`);
    return new DataView(bytes.buffer, bytes.byteOffset, UINT64_BYTES).getBigUint64(0);
  },
};

function outside(value: bigint): string {
  return BigInt.asIntN(128, value) === value ? String(value) : "one of more than 128 bits";
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_ARGUMENT", message);
}
