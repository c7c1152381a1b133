/**
 * Sorting keys by their first bytes, which is exact enough where neighbours only are to come together: as many bits of
 * each key as have room in 64 beside the number that it goes by, so 44 for a million keys.
 *
 * Invariant: keys that are alike in those bits, equal ones above all, stay in the order of their numbers.
 */

import { assert } from "../../errors.ts";

export class FirstBytes {
  readonly #ranks: BigUint64Array;
  readonly #words: Uint32Array;
  /** The bits of a number. */
  readonly #mask: number;

  /** For the keys of numbers from 0 on. */
  constructor(count: number) {
    assert(count <= 2 ** 31, "a number leaves room for bits of its key");
    this.#ranks = new BigUint64Array(count);
    this.#words = new Uint32Array(this.#ranks.buffer);
    this.#mask = count < 2 ? 0 : 2 ** (32 - Math.clz32(count - 1)) - 1;
  }

  /** Notes eight bytes of the key of a number, the first four as one word. */
  note(number: number, first: number, second: number): void {
    // The engine runs on machines only that keep the lower word first.
    this.#words[2 * number + 1] = first;
    this.#words[2 * number] = (second & ~this.#mask) | number;
  }

  /** All numbers in the order of their keys; undefined when they are in it. To be called once. */
  order(): Uint32Array | undefined {
    const words = this.#words;
    const mask = this.#mask;
    this.#ranks.sort();
    const order = new Uint32Array(this.#ranks.length);
    let moved = 0;
    for (let rank = 0; rank < order.length; rank++) {
      const number = words[2 * rank]! & mask;
      order[rank] = number;
      moved |= number ^ rank;
    }
    return moved === 0 ? undefined : order;
  }
}
