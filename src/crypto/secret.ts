/**
 * Bytes that nobody may see: held in one buffer, wiped when done, silent when printed.
 *
 * Invariants
 * 1. The bytes are in a private field; `inspect`, `toJSON` and `toString` give a fixed word.
 * 2. After `wipe` the buffer is zeros and the bytes cannot be asked for any more.
 *
 * Wiping is best effort: a moving collector, a spilled register or a swapped page may keep a copy. What is
 * certain is that our own buffers hold nothing afterwards.
 */

import { assert } from "../errors.ts";

/** Length of every key in this room: both ciphers take 256 bits, and SHA-256 gives as many. */
export const KEY_BYTES = 32;

const REDACTED = "[redacted]";
const INSPECT = Symbol.for("nodejs.util.inspect.custom");

/**
 * Zeroed memory for a secret, that stays where it is. A small typed array begins inside the collector's heap
 * and is copied out when its `.buffer` is first touched, which any library may do, and the bytes left behind
 * are out of reach of `wipe`. Over an ArrayBuffer of its own it never moves.
 */
export function secretBuffer(bytes: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(bytes));
}

/** A copy in such memory. */
export function secretCopy(from: Uint8Array): Uint8Array {
  const copy = secretBuffer(from.length);
  copy.set(from);
  return copy;
}

/** Overwrites bytes with zeros. */
export function wipe(bytes: Uint8Array): void {
  bytes.fill(0);
}

/** Whether two byte strings are equal, in a time that depends on their length only. */
export function equalsInConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let index = 0; index < a.length; index++) difference |= a[index]! ^ b[index]!;
  return difference === 0;
}

const keepers: ((secret: SecretBytes) => void)[] = [];

/** Calls back, for good, just before a secret of this thread is wiped: for who keeps another form of one. */
export function whenWiped(keeper: (secret: SecretBytes) => void): void {
  keepers.push(keeper);
}

/** A secret byte string, owned: whoever holds it calls `wipe`, or declares it with `using`. */
export class SecretBytes implements Disposable {
  #bytes: Uint8Array | undefined;

  /** Takes the buffer over, without a copy: it may lie in shared memory, and `wipe` zeroes it there. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The buffer itself, not a copy; zeros after `wipe`. */
  get bytes(): Uint8Array {
    assert(this.#bytes !== undefined, "a secret is used after it was wiped");
    return this.#bytes;
  }

  get isWiped(): boolean {
    return this.#bytes === undefined;
  }

  /** Zeroes the bytes and lets go of them. Idempotent. */
  wipe(): void {
    if (this.#bytes === undefined) return;
    for (const keeper of keepers) keeper(this);
    wipe(this.#bytes);
    this.#bytes = undefined;
  }

  [Symbol.dispose](): void {
    this.wipe();
  }

  toJSON(): string {
    return REDACTED;
  }

  toString(): string {
    return REDACTED;
  }

  [INSPECT](): string {
    return REDACTED;
  }
}

/** A key of `KEY_BYTES`: the data key of a file, a session's subkey, a key-encryption key. */
export class SecretKey extends SecretBytes {
  constructor(bytes: Uint8Array) {
    super(bytes);
    assert(bytes.length === KEY_BYTES, `a key has ${KEY_BYTES} bytes, not ${bytes.length}`);
  }
}
