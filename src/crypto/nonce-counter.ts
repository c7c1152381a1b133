/**
 * Nonces that cannot repeat: a counter under a session's key.
 *
 *     nonce, 12 bytes   =   8 zeros | counter, 32 bits, big endian
 *
 * Every thread that writes in a session claims blocks of 4096 counters from one word in shared memory, and
 * counts through its block alone:
 *
 *     shared word (i32)   the number of blocks claimed so far, 0 .. 2^20
 *
 * Invariants
 * 1. A counter is given out once in a session: blocks by an atomic add, counters by this object alone.
 * 2. What a block has left when its thread ends is never used.
 * 3. 2^32 counters are a session's end: `next` gives undefined from then on, and the engine begins another.
 *    The block word cannot wrap: no claim adds to it once it is full, but for one late one per thread.
 *
 * Bounds: with counters there is no birthday bound on the number of nonces (NIST SP 800-38D, 8.3); what is
 * bounded is the amount sealed under one key. A session ends at 2^32 seals or `SESSION_BYTES_MAX` of log,
 * whichever comes first: 2^36 blocks keep AES-GCM's distinguishing advantage near (2^36)^2 / 2^129 = 2^-57
 * (draft-irtf-cfrg-aead-limits); ChaCha20-Poly1305 has no such bound.
 */

import { assert } from "../errors.ts";
import { NONCE_BYTES } from "./aead.ts";

/** Seals in one session, at most. */
export const SESSION_SEALS_MAX = 2 ** 32;
/** Log bytes in one session, at most: 1 TiB is 2^36 cipher blocks. */
export const SESSION_BYTES_MAX = 2 ** 40;
/** Counters in a block: one atomic add in 4096 seals; a thread that ends wastes at most a millionth of the session. */
export const BLOCK_COUNTERS = 4096;
export const BLOCKS_MAX = SESSION_SEALS_MAX / BLOCK_COUNTERS;
assert(Number.isInteger(BLOCKS_MAX) && BLOCKS_MAX < 2 ** 31, "the block number fits a signed word");

const COUNTER_AT = NONCE_BYTES - 4;

/** Claims the next block: its number, or undefined when the session is spent. */
export type ClaimBlock = () => number | undefined;

/** Claims from a word of shared memory that was zero when the session began. */
export function sharedClaim(words: Int32Array, word: { readonly index: number }): ClaimBlock {
  return () => {
    if (Atomics.load(words, word.index) >= BLOCKS_MAX) return undefined;
    const block = Atomics.add(words, word.index, 1);
    return block < BLOCKS_MAX ? block : undefined;
  };
}

/** Gives out counters to one thread. */
export class NonceCounter {
  readonly #claim: ClaimBlock;
  #next = 0;
  #end = 0;
  #isSpent = false;

  constructor(claim: ClaimBlock) {
    this.#claim = claim;
  }

  /** A counter that nobody else gets; undefined for ever once the session is spent: begin another. */
  next(): number | undefined {
    if (this.#next === this.#end && !this.#refill()) return undefined;
    const counter = this.#next;
    this.#next = counter + 1;
    return counter;
  }

  #refill(): boolean {
    if (this.#isSpent) return false;
    const block = this.#claim();
    if (block === undefined) {
      this.#isSpent = true;
      return false;
    }
    assert(Number.isInteger(block) && block >= 0 && block < BLOCKS_MAX, "a block lies inside the session");
    this.#next = block * BLOCK_COUNTERS;
    this.#end = this.#next + BLOCK_COUNTERS;
    return true;
  }
}

/** Writes the nonce of a counter over the last one. */
export function writeNonce(nonce: Uint8Array, counter: number): void {
  assert(counter >= 0 && counter < SESSION_SEALS_MAX && Number.isInteger(counter), "a counter lies inside its session");
  nonce[COUNTER_AT] = counter >>> 24;
  nonce[COUNTER_AT + 1] = counter >>> 16;
  nonce[COUNTER_AT + 2] = counter >>> 8;
  nonce[COUNTER_AT + 3] = counter;
}
