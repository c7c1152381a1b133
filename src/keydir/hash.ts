/**
 * The keyed hash of the index: 27 bits that nobody can aim at without the seed.
 *
 * Multilinear hashing over 16-bit halves, with half as many products: to both halves of a word secret random 32-bit numbers
 * are added, and the products are summed, modulo 2^32. Of two such sums, and the length times a number of its own in each,
 * the upper 16 bits are kept. For two fixed keys those of one sum agree with probability at most 2^-15, whatever the keys,
 * over the choice of the secret numbers: the difference of the products of a word in which they differ is linear in
 * its numbers. The second sum has the numbers of the first one word further on (Toeplitz): behind the last word in which the
 * keys differ all is the same in both, so that of the numbers which decide the second sum there the first one's difference
 * has none, and both agree with at most 2^-30. No choice of keys made without the seed does better, which is more than can be said of
 * xxHash32 or wyhash under a seed (both have differences that cancel whatever the seed). Sums of keys
 * that count up lie in even steps, which would crowd some shards: a last bijective mix (MurmurHash3's) spreads
 * them and adds no collision. Measured: 12 ns for 24 bytes and 490 for 1900, where sums of four products a word took 18 and 860;
 * it needs no view.
 *
 * Source: Lemire and Kaser, "Strongly universal string hashing is fast" (2014), Multilinear-HM; Dietzfelbinger (1996); Black
 * and others, "UMAC: Fast and Secure Message Authentication" (1999), the Toeplitz construction.
 */

import type { Pinned } from "../ffi/memory.ts";

/** Bits of a hash; a slot keeps all of them. */
export const HASH_BITS = 27;
/** How many hashes there are; the one behind the last of them. */
export const HASHES: number = 2 ** HASH_BITS;
export const SEED_BYTES = 16;

/** The first hash behind the shard of a depth that a hash is in: where a walk goes on, whatever becomes of the shard meanwhile. */
export function hashBehind(hash: number, depth: number): number {
  const width = 1 << (HASH_BITS - depth);
  return (Math.floor(hash / width) + 1) * width;
}

/** Numbers for keys of 64 bytes: most databases have no longer ones, and an open makes no more. */
const FIRST_WORDS = 16;
const DIGEST_BYTES = 64;

export class KeyHash {
  readonly seed: Uint8Array;
  /** Two for the length, one for each sum; then one for each half of a word, and two more for the last word's second sum. */
  #numbers: Int32Array;
  #words = 0;

  constructor(seed: Uint8Array) {
    this.seed = seed.slice();
    this.#numbers = new Int32Array(0);
    this.#grow(FIRST_WORDS);
  }

  /** The hash of the `length` bytes at the start of pinned memory, whose last word is padded with zeros. */
  of(key: Pinned, length: number): number {
    const words = (length + 3) >> 2;
    if (words > this.#words) this.#grow(words);
    const numbers = this.#numbers;
    const input = key.i32;
    let first = Math.imul(length, numbers[0]!) | 0;
    let second = Math.imul(length, numbers[1]!) | 0;
    let one = numbers[2]!;
    let other = numbers[3]!;
    let at = 4;
    for (let index = 0; index < words; index++) {
      const word = input[index]!;
      const low = word & 0xffff;
      const high = word >>> 16;
      first = (first + Math.imul((low + one) | 0, (high + other) | 0)) | 0;
      one = numbers[at]!;
      other = numbers[at + 1]!;
      second = (second + Math.imul((low + one) | 0, (high + other) | 0)) | 0;
      at += 2;
    }
    return mix(first, second);
  }

  /** The same for a key at any 4-byte aligned offset of pinned memory, with whatever there is behind it. */
  at(memory: Pinned, offset: number, length: number): number {
    const whole = length >> 2;
    const rest = length & 3;
    if (whole >= this.#words) this.#grow(whole + 1);
    const numbers = this.#numbers;
    const input = memory.i32;
    let first = Math.imul(length, numbers[0]!) | 0;
    let second = Math.imul(length, numbers[1]!) | 0;
    let one = numbers[2]!;
    let other = numbers[3]!;
    let at = 4;
    let from = offset >> 2;
    const last = from + whole;
    for (; from < last || (from === last && rest !== 0); from++) {
      let word = input[from]!;
      if (from === last) word &= (1 << (8 * rest)) - 1;
      const low = word & 0xffff;
      const high = word >>> 16;
      first = (first + Math.imul((low + one) | 0, (high + other) | 0)) | 0;
      one = numbers[at]!;
      other = numbers[at + 1]!;
      second = (second + Math.imul((low + one) | 0, (high + other) | 0)) | 0;
      at += 2;
    }
    return mix(first, second);
  }

  #grow(words: number): void {
    const target = Math.max(words, this.#words * 2);
    const bytes = (target + 2) * 8;
    const stream = expand(this.seed, Math.ceil(bytes / DIGEST_BYTES));
    this.#numbers = new Int32Array(stream.buffer, 0, bytes / 4);
    this.#words = target;
  }
}

/**
 * SHA-512 of seed and counter, a digest behind the other: a longer stream begins as a shorter one did, a kilobyte of it takes 10 us, and
 * the runtime has it at hand, where `node:crypto` takes 6 to 10 ms to load.
 */
function expand(seed: Uint8Array, digests: number): Uint8Array<ArrayBuffer> {
  const stream = new Uint8Array(digests * DIGEST_BYTES);
  const block = new Uint8Array(SEED_BYTES + 4);
  block.set(seed);
  for (let counter = 0; counter < digests; counter++) {
    for (let byte = 0; byte < 4; byte++) block[SEED_BYTES + byte] = counter >>> (8 * byte);
    Bun.SHA512.hash(block, stream.subarray(counter * DIGEST_BYTES, (counter + 1) * DIGEST_BYTES));
  }
  return stream;
}

/** The upper halves of both sums, mixed. */
function mix(first: number, second: number): number {
  let hash = (first & 0xffff0000) | (second >>> 16);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> (32 - HASH_BITS);
}
