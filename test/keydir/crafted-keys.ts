/** Keys that somebody chose so that they collide, without knowing the seed of the database. */

import { pinned } from "../../src/ffi/memory.ts";
import { HASH_BITS, type KeyHash } from "../../src/keydir/hash.ts";
import type { Random } from "../sim/random.ts";

const PRIME_1 = 0x9e3779b1 | 0;
const PRIME_2 = 0x85ebca77 | 0;

/** The number whose product with an odd number is 1, modulo 2^32. */
function inverse(odd: number): number {
  let guess = odd;
  for (let round = 0; round < 5; round += 1) guess = Math.imul(guess, 2 - Math.imul(odd, guess));
  return guess;
}

const rotate = (word: number, by: number): number => (word << by) | (word >>> (32 - by));

/** Keys of 16 bytes with one unseeded XXH32: the fourth lane is solved for, round by inverted round. */
export function* xxh32Collisions(random: Random): Generator<Uint8Array> {
  const starts = [(PRIME_1 + PRIME_2) | 0, PRIME_2, 0, -PRIME_1 | 0];
  const rotations = [1, 7, 12, 18] as const;
  for (;;) {
    const lanes = new Uint32Array(4);
    let sum = 0;
    for (let lane = 0; lane < 3; lane += 1) {
      lanes[lane] = random.word();
      const mixed = (starts[lane]! + Math.imul(lanes[lane]!, PRIME_2)) | 0;
      sum = (sum + rotate(Math.imul(rotate(mixed, 13), PRIME_1), rotations[lane]!)) | 0;
    }
    const last = rotate((0x5eed - sum) | 0, 32 - rotations[3]);
    const unrotated = rotate(Math.imul(last, inverse(PRIME_1)), 32 - 13);
    lanes[3] = Math.imul((unrotated - starts[3]!) | 0, inverse(PRIME_2)) >>> 0;
    yield new Uint8Array(lanes.buffer);
  }
}

/** Keys of 24 bytes with one Bun.hash (wyhash): a factor that is the algorithm's constant makes a product zero, and with it all that it was to mix. */
export function* wyhashCollisions(random: Random): Generator<Uint8Array> {
  for (;;) {
    const key = new Uint8Array(24);
    random.randomize(key);
    new DataView(key.buffer).setBigUint64(8, 0xe7037ed1a0b428dbn, true);
    yield key;
  }
}

/** Keys of 12 bytes that all lie in one 64th of the hashes under a seed that is known. */
export function* crowdedUnder(hash: KeyHash, random: Random): Generator<Uint8Array> {
  const memory = pinned(16);
  for (;;) {
    for (let word = 0; word < 3; word += 1) memory.u32[word] = random.word();
    if (hash.of(memory, 12) >>> (HASH_BITS - 6) === 5) yield memory.u8.slice(0, 12);
  }
}
