/**
 * The two checksums of a frame: XXH32 for its header and for bodies of up to `XXH32_BODY_BYTES_MAX` bytes,
 * CRC-32 (ISO-HDLC) for longer bodies. Never renumber: both are on disk.
 *
 * Why two: for the short bodies that a key-value store is full of, XXH32 over 32-bit words runs inside the
 * JIT (40 ns for 174 bytes) where a native call plus the view it needs costs twice that; for a megabyte the
 * native CRC-32 is seven times faster than the native XXH32. Both are published algorithms with native twins
 * in Bun, against which `test/log/checksum.test.ts` holds this file.
 *
 * Source: the xxHash specification (XXH32); RFC 1952 section 8 (CRC-32).
 */

import type { Pinned } from "../ffi/memory.ts";

const PRIME_1 = 0x9e3779b1 | 0;
const PRIME_2 = 0x85ebca77 | 0;
const PRIME_3 = 0xc2b2ae3d | 0;
const PRIME_4 = 0x27d4eb2f | 0;
const PRIME_5 = 0x165667b1 | 0;

/** Bodies up to this long carry an XXH32, longer ones a CRC-32. Never renumber. */
export const XXH32_BODY_BYTES_MAX = 4096;

/** XXH32 of `length` bytes at the 4-byte aligned offset `at` of pinned memory; the result is signed. */
export function xxh32(memory: Pinned, at: number, length: number, seed: number): number {
  const words = memory.i32;
  const end = at + length;
  let word = at >> 2;
  let hash: number;
  if (length >= 16) {
    let a = (seed + PRIME_1 + PRIME_2) | 0;
    let b = (seed + PRIME_2) | 0;
    let c = seed | 0;
    let d = (seed - PRIME_1) | 0;
    const last = (end - 16) >> 2;
    while (word <= last) {
      a = (a + Math.imul(words[word]!, PRIME_2)) | 0;
      a = Math.imul((a << 13) | (a >>> 19), PRIME_1);
      b = (b + Math.imul(words[word + 1]!, PRIME_2)) | 0;
      b = Math.imul((b << 13) | (b >>> 19), PRIME_1);
      c = (c + Math.imul(words[word + 2]!, PRIME_2)) | 0;
      c = Math.imul((c << 13) | (c >>> 19), PRIME_1);
      d = (d + Math.imul(words[word + 3]!, PRIME_2)) | 0;
      d = Math.imul((d << 13) | (d >>> 19), PRIME_1);
      word += 4;
    }
    hash =
      (((a << 1) | (a >>> 31)) + ((b << 7) | (b >>> 25)) + ((c << 12) | (c >>> 20)) + ((d << 18) | (d >>> 14))) | 0;
  } else {
    hash = (seed + PRIME_5) | 0;
  }
  hash = (hash + length) | 0;
  let position = word << 2;
  while (position + 4 <= end) {
    hash = (hash + Math.imul(words[position >> 2]!, PRIME_3)) | 0;
    hash = Math.imul((hash << 17) | (hash >>> 15), PRIME_4);
    position += 4;
  }
  const bytes = memory.u8;
  while (position < end) {
    hash = (hash + Math.imul(bytes[position]!, PRIME_5)) | 0;
    hash = Math.imul((hash << 11) | (hash >>> 21), PRIME_1);
    position += 1;
  }
  hash ^= hash >>> 15;
  hash = Math.imul(hash, PRIME_2);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, PRIME_3);
  return hash ^ (hash >>> 16);
}

/** What `xxh32` gives for the 20 bytes from a word of memory on, the length of a header; straight on, without its loops. */
export function xxh32Of20(words: Int32Array, word: number, seed: number): number {
  let a = (seed + PRIME_1 + PRIME_2 + Math.imul(words[word]!, PRIME_2)) | 0;
  let b = (seed + PRIME_2 + Math.imul(words[word + 1]!, PRIME_2)) | 0;
  let c = (seed + Math.imul(words[word + 2]!, PRIME_2)) | 0;
  let d = (seed - PRIME_1 + Math.imul(words[word + 3]!, PRIME_2)) | 0;
  a = Math.imul((a << 13) | (a >>> 19), PRIME_1);
  b = Math.imul((b << 13) | (b >>> 19), PRIME_1);
  c = Math.imul((c << 13) | (c >>> 19), PRIME_1);
  d = Math.imul((d << 13) | (d >>> 19), PRIME_1);
  let hash =
    (((a << 1) | (a >>> 31)) + ((b << 7) | (b >>> 25)) + ((c << 12) | (c >>> 20)) + ((d << 18) | (d >>> 14))) | 0;
  hash = (hash + 20 + Math.imul(words[word + 4]!, PRIME_3)) | 0;
  hash = Math.imul((hash << 17) | (hash >>> 15), PRIME_4);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, PRIME_2);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, PRIME_3);
  return hash ^ (hash >>> 16);
}

/** CRC-32 of `bytes`, going on from the CRC of what came before; the result is signed. */
export function crc32(bytes: Uint8Array, before: number): number {
  return Bun.hash.crc32(bytes, before >>> 0) | 0;
}

/**
 * The seed that binds a checksum to one file, one generation and one place in it: `salt` comes from the
 * header page, `unit` is the position in 8-byte units, as its low 32 bits and the bits above.
 */
export function placeSeed(salt: number, unitLow: number, unitHigh: number): number {
  let seed = (salt ^ Math.imul(unitLow, PRIME_3)) | 0;
  seed = (seed + Math.imul(unitHigh + 1, PRIME_4)) | 0;
  return seed ^ (seed >>> 16);
}
