/**
 * Seal and open: authenticated encryption with associated data, two ciphers behind one interface.
 *
 *     plaintext n bytes  ->  ciphertext n bytes | tag 16 bytes
 *
 * Invariants
 * 1. Key 32, nonce 12, tag 16 bytes, always: the shorter tags that GCM and node:crypto allow are never
 *    made and never accepted.
 * 2. One (key, nonce) pair seals one message. This file does not watch over it; `nonce-counter.ts` does.
 * 3. What was decrypted before the tag failed is wiped, not given out.
 *
 * Neither cipher commits to its key: one sealed message can be made to open under two keys (Dodis et al.,
 * 2018; Len et al., 2021). Who needs to know that a key is the right one compares a commitment, see
 * `key-slot.ts`.
 *
 * Sources: NIST SP 800-38D (GCM), RFC 8439 (ChaCha20-Poly1305), RFC 5116 (the interface).
 */

import { assert } from "../errors.ts";
import type { Cipher } from "./cipher.ts";

export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

/** Far below what either cipher allows for one message (2^36 - 32 bytes for GCM), far above any record. */
const PLAINTEXT_BYTES_MAX = 2 ** 31 - 1;

/** What a sealed message is bound to besides the key. */
export interface AeadContext {
  readonly nonce: Uint8Array;
  readonly associatedData: Uint8Array;
}

/** A part of a buffer; no view is made for it, which would cost 50 ns. */
export interface Span {
  readonly at: number;
  readonly bytes: number;
}

/** Where a sealed message goes, from `at` on. */
export interface SealTarget {
  readonly into: Uint8Array;
  readonly at: number;
}

/** A cipher under one key. The key stays the caller's: whoever wipes it ends the use of this object. */
export interface Aead {
  readonly cipher: Cipher;
  /** Writes ciphertext and tag, `plaintext.length + TAG_BYTES` bytes, into `into` from `at` on. They must not overlap the plaintext. */
  sealInto(plaintext: Uint8Array, context: AeadContext, target: SealTarget): void;
  /**
   * Writes the plaintext of the sealed message that stands at `span` in `source`, `span.bytes - TAG_BYTES` bytes, to the beginning of `into`.
   * They must not overlap. False when anything at all differs from what was sealed, and as many bytes of `into` may be zeros then.
   */
  openInto(source: Uint8Array, context: AeadContext, span: Span, into: Uint8Array): boolean;
}

/** Whether the message can be one at all. What is asked for is checked to lie inside its buffers. */
export function checkOpen(source: Uint8Array, context: AeadContext, span: Span, into: Uint8Array): boolean {
  const { at, bytes } = span;
  checkContext(context);
  const isWhole = Number.isInteger(at) && Number.isInteger(bytes);
  assert(isWhole && at >= 0 && bytes >= 0 && at + bytes <= source.length, "the sealed message lies inside its buffer");
  if (bytes < TAG_BYTES) return false;
  assert(bytes - TAG_BYTES <= PLAINTEXT_BYTES_MAX, "a plaintext is shorter than 2 GiB");
  assert(bytes - TAG_BYTES <= into.length, "the target holds the plaintext");
  return true;
}

export function checkSeal(plaintext: Uint8Array, context: AeadContext, target: SealTarget): void {
  checkContext(context);
  assert(plaintext.length <= PLAINTEXT_BYTES_MAX, "a plaintext is shorter than 2 GiB");
  const { into, at } = target;
  const isHeld = Number.isInteger(at) && at >= 0 && at + plaintext.length + TAG_BYTES <= into.length;
  assert(isHeld, "the target holds the sealed message");
}

function checkContext(context: AeadContext): void {
  assert(context.nonce.length === NONCE_BYTES, "a nonce has 12 bytes");
}
