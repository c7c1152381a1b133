/** The key of the operation at hand: its bytes in pinned memory, padded with zeros to whole words where it is hashed, and its hash. */

import { copy, sharedScratch, type Pinned } from "../../ffi/memory.ts";
import { EmdbError } from "../../errors.ts";
import type { KeyHash } from "../../keydir/hash.ts";
import { KEY_BYTES_MAX } from "../../limits.ts";
import type { Bytes } from "../contract.ts";

const encoder = new TextEncoder();
const sharedMemory = sharedScratch(KEY_BYTES_MAX + 8);

export class KeyBuffer {
  readonly memory: Pinned = sharedMemory();
  readonly #hash: KeyHash;
  bytes = 0;
  hash = 0;

  constructor(hash: KeyHash) {
    this.#hash = hash;
  }

  /**
   * Takes a key, whose length was checked at the door: once more, since code of the caller's may have run behind that check
   * (a codec, a proxy) and have made its buffer longer.
   *
   * @throws {EmdbError} EMDB_TOO_LARGE
   */
  load(key: Bytes): void {
    const memory = this.memory;
    let bytes: number;
    if (typeof key === "string") {
      bytes = encoder.encodeInto(key, memory.u8).written;
      for (let at = bytes; (at & 3) !== 0; at++) memory.u8[at] = 0;
    } else {
      bytes = key.length;
      if (bytes > KEY_BYTES_MAX) throw outgrown(bytes);
      memory.u32[bytes >> 2] = 0;
      if (bytes > 0) copy(memory.address, key, bytes);
    }
    this.bytes = bytes;
    this.hash = this.#hash.of(memory, bytes);
  }

  /** Takes a key from pinned memory. */
  loadFrom(address: number, bytes: number): void {
    this.memory.u32[bytes >> 2] = 0;
    if (bytes > 0) copy(this.memory.address, address, bytes);
    this.bytes = bytes;
    this.hash = this.#hash.of(this.memory, bytes);
  }

  /** The same for a key whose hash is known, or not asked for: the caller sets it. */
  takeFrom(address: number, bytes: number): void {
    if (bytes > 0) copy(this.memory.address, address, bytes);
    this.bytes = bytes;
  }
}

/** What was checked at the door has more bytes by now. */
export function outgrown(bytes: number): EmdbError {
  return new EmdbError("EMDB_TOO_LARGE", `the key has grown to ${bytes} bytes; the limit is ${KEY_BYTES_MAX}`);
}
