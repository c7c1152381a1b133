/**
 * Seals what a frame carries, bound to the frame's place. Never renumber: the sealed body is on disk.
 *
 *     sealed body        0         4               4 + n       20 + n
 *                        +---------+---------------+-----------+
 *                        | counter | ciphertext    | tag       |
 *                        +---------+---------------+-----------+
 *
 *     associated data    0         16           24    32     33     34      36
 *     (not stored)       +---------+------------+-----+------+------+-------+-----------------+
 *                        | file id | generation | lsn | kind | zero | clear | the frame's own |
 *                        |         |            |     |      |      | bytes | clear bytes     |
 *                        +---------+------------+-----+------+------+-------+-----------------+
 *
 * Invariants
 * 1. A frame opens only in its file, its generation, at its position, as its kind, and with every clear byte
 *    as it was: moved, swapped, replayed or relabelled, it does not open. The counter is the nonce, so it is
 *    covered too.
 * 2. The clear bytes are what the frame says outside the seal and does not compute from it: lengths, place in
 *    the batch, distances. Checksums are left out: they are computed over the sealed body.
 * 3. One object per session and thread; its buffers are used again by each call.
 */

import { assert } from "../errors.ts";
import { NONCE_BYTES, TAG_BYTES, type Aead, type SealTarget, type Span } from "./aead.ts";
import type { Cipher } from "./cipher.ts";
import { createAead } from "./create-aead.ts";
import { writeWholeNumber } from "./derive.ts";
import { writeNonce } from "./nonce-counter.ts";
import type { SecretKey } from "./secret.ts";

export const COUNTER_BYTES = 4;
/** What sealing adds to a body: 20 bytes. */
export const SEAL_BYTES = COUNTER_BYTES + TAG_BYTES;

const FILE_ID_BYTES = 16;
const FILE_ID_AT = 0;
const GENERATION_AT = FILE_ID_AT + FILE_ID_BYTES;
export const ASSOCIATED_LSN_AT = GENERATION_AT + 8;
const KIND_AT = ASSOCIATED_LSN_AT + 8;
const ZERO_AT = KIND_AT + 1;
const CLEAR_BYTES_AT = ZERO_AT + 1;
export const ASSOCIATED_CLEAR_AT = CLEAR_BYTES_AT + 2;
assert(ASSOCIATED_CLEAR_AT === 36, "the fixed part of the associated data has 36 bytes");

/** Most clear bytes: a few words of a frame's header. */
export const CLEAR_BYTES_MAX = 64;

export interface SealerOptions {
  readonly cipher: Cipher;
  /** The session's key; taken over, wiped by `wipe`. */
  readonly key: SecretKey;
  readonly fileId: Uint8Array;
  readonly generation: number;
  /** How many clear bytes each frame has. */
  readonly clearBytes: number;
}

/** Where a sealed body stands. `kind` is the frame's clear kind, or the structure's if it is not a frame. */
export interface SealPlace {
  readonly lsn: number;
  readonly kind: number;
}

export class FrameSealer implements Disposable {
  readonly #aead: Aead;
  readonly #key: SecretKey;
  readonly #associatedData: Uint8Array;
  readonly #context: { readonly nonce: Uint8Array; readonly associatedData: Uint8Array };
  /** Write the frame's clear bytes here before each `sealInto` and `openInto`. */
  readonly clear: Uint8Array;

  constructor(options: SealerOptions) {
    const { fileId, generation, clearBytes } = options;
    assert(fileId.length === FILE_ID_BYTES, "a file id has 16 bytes");
    assert(clearBytes >= 0 && clearBytes <= CLEAR_BYTES_MAX, "the clear bytes are few");
    this.#key = options.key;
    this.#aead = createAead(options.cipher, options.key);
    this.#associatedData = new Uint8Array(ASSOCIATED_CLEAR_AT + clearBytes);
    this.#associatedData.set(fileId, FILE_ID_AT);
    writeWholeNumber(this.#associatedData, { at: GENERATION_AT, value: generation });
    this.#associatedData[CLEAR_BYTES_AT] = clearBytes;
    this.#context = { nonce: new Uint8Array(NONCE_BYTES), associatedData: this.#associatedData };
    this.clear = this.#associatedData.subarray(ASSOCIATED_CLEAR_AT);
  }

  /**
   * Writes the sealed body of `body.length + SEAL_BYTES` bytes into `into` from `at` on. They must not overlap.
   * `counter` is one that `NonceCounter.next` gave out for this session and that is used here only.
   */
  sealInto(body: Uint8Array, place: SealPlace & { readonly counter: number }, target: SealTarget): void {
    const { into, at } = target;
    this.#bind(place, place.counter);
    this.#aead.sealInto(body, this.#context, { into, at: at + COUNTER_BYTES });
    // The nonce's last four bytes, the same way round.
    for (let index = 0; index < COUNTER_BYTES; index++) {
      into[at + index] = this.#context.nonce[NONCE_BYTES - COUNTER_BYTES + index]!;
    }
  }

  /**
   * Writes the body of `span.bytes - SEAL_BYTES` bytes, sealed at `span` in `source`, to the beginning of `into`; they must not
   * overlap. False when it was not sealed in this session for this place.
   */
  openInto(source: Uint8Array, place: SealPlace, span: Span, into: Uint8Array): boolean {
    const { at, bytes } = span;
    if (bytes < SEAL_BYTES) return false;
    this.#bind(place, counterOf(source, at));
    return this.#aead.openInto(source, this.#context, { at: at + COUNTER_BYTES, bytes: bytes - COUNTER_BYTES }, into);
  }

  /** Writes what another thread needs to open frames of a kind: the key, and the associated data but for place and clear bytes. */
  share(kind: number, into: { readonly key: Uint8Array; readonly associatedData: Uint8Array }): void {
    into.key.set(this.#key.bytes);
    into.associatedData.set(this.#associatedData);
    into.associatedData[KIND_AT] = kind;
  }

  /** Zeroes the session's key; the object is of no use afterwards. Idempotent. */
  wipe(): void {
    this.#key.wipe();
  }

  [Symbol.dispose](): void {
    this.wipe();
  }

  #bind(place: SealPlace, counter: number): void {
    assert(place.kind >= 0 && place.kind < 256, "a kind is a byte");
    writeNonce(this.#context.nonce, counter);
    writeWholeNumber(this.#associatedData, { at: ASSOCIATED_LSN_AT, value: place.lsn });
    this.#associatedData[KIND_AT] = place.kind;
  }
}

/** The counter that the sealed body at `at` says it was sealed with; it is believed only once the body opens. */
export function counterOf(source: Uint8Array, at: number): number {
  assert(at >= 0 && at + SEAL_BYTES <= source.length, "a sealed body has its counter and tag");
  return ((source[at]! << 24) | (source[at + 1]! << 16) | (source[at + 2]! << 8) | source[at + 3]!) >>> 0;
}
