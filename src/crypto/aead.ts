/**
 * Seal and open: authenticated encryption with associated data, two ciphers behind one interface.
 *
 *     plaintext n bytes  ->  ciphertext n bytes | tag 16 bytes
 *
 * Invariants
 * 1. Key 32, nonce 12, tag 16 bytes, always: the shorter tags that GCM and node:crypto allow are never
 *    made and never accepted.
 * 2. One (key, nonce) pair seals one message. This file does not watch over it; `nonce-counter.ts` does.
 * 3. `open` gives the plaintext or undefined. What was decrypted before the tag failed is wiped, not returned.
 *
 * Neither cipher commits to its key: one sealed message can be made to open under two keys (Dodis et al.,
 * 2018; Len et al., 2021). Who needs to know that a key is the right one compares a commitment, see
 * `key-slot.ts`.
 *
 * Cost of 177 bytes, Bun 1.4.5 on 2 busy cores, as CPU time: AES 1.1 us to seal and 0.9-1.0 us to open, most of
 * it in making the cipher object, which node:crypto has no way to use again; ChaCha 8-11 us. What was tried
 * and gains nothing: a key object for the raw key (and it is a copy that cannot be wiped), Buffers for typed
 * arrays, `authTagLength`, leaving out associated data (40 ns). Each view that is made costs 50 ns.
 *
 * Sources: NIST SP 800-38D (GCM), RFC 8439 (ChaCha20-Poly1305), RFC 5116 (the interface).
 */

import { assert } from "../errors.ts";
import type { Cipher } from "./cipher.ts";
import { nobleChaCha, nodeCrypto } from "./packages.ts";
import { wipe, type SecretKey } from "./secret.ts";

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

/** A cipher under one key. The key stays the caller's: whoever wipes it ends the use of this object. */
export interface Aead {
  readonly cipher: Cipher;
  /** Writes ciphertext and tag, `plaintext.length + TAG_BYTES` bytes, into `into` from `at` on. They must not overlap the plaintext. */
  sealInto(
    plaintext: Uint8Array,
    context: AeadContext,
    target: { readonly into: Uint8Array; readonly at: number },
  ): void;
  /**
   * The plaintext in a buffer of the caller's own (it may be a Buffer); undefined when anything at all differs
   * from what was sealed. `span` is where the sealed message stands in `source`; default: all of it.
   */
  open(source: Uint8Array, context: AeadContext, span?: Span): Uint8Array | undefined;
}

/** The cipher under a key; loads its package. */
export function createAead(cipher: Cipher, key: SecretKey): Aead {
  switch (cipher) {
    case "aes-256-gcm":
      return new AesGcm(key);
    case "chacha20-poly1305":
      return new ChaChaPoly(key);
  }
}

class AesGcm implements Aead {
  readonly cipher = "aes-256-gcm";
  readonly #key: SecretKey;
  readonly #tag = new Uint8Array(TAG_BYTES);
  readonly #node = nodeCrypto();
  /** The view that `open` made last: records of one length in one place are many, and a view costs 50 ns. */
  #view: Uint8Array = new Uint8Array(0);
  #viewed: Uint8Array | undefined;
  #viewedAt = -1;

  constructor(key: SecretKey) {
    this.#key = key;
  }

  #viewOf(source: Uint8Array, at: number, bytes: number): Uint8Array {
    if (this.#viewed === source && this.#viewedAt === at && this.#view.length === bytes) return this.#view;
    this.#viewed = source;
    this.#viewedAt = at;
    this.#view = source.subarray(at, at + bytes);
    return this.#view;
  }

  sealInto(
    plaintext: Uint8Array,
    context: AeadContext,
    target: { readonly into: Uint8Array; readonly at: number },
  ): void {
    const { into, at } = target;
    checkSeal(plaintext, context, target);
    const cipher = this.#node.createCipheriv("aes-256-gcm", this.#key.bytes, context.nonce);
    cipher.setAAD(context.associatedData);
    const ciphertext = cipher.update(plaintext);
    // GCM is a stream: everything came out of `update`; `final` only completes the tag.
    cipher.final();
    const tag = cipher.getAuthTag();
    assert(ciphertext.length === plaintext.length && tag.length === TAG_BYTES, "GCM keeps the length");
    into.set(ciphertext, at);
    into.set(tag, at + ciphertext.length);
  }

  open(source: Uint8Array, context: AeadContext, span?: Span): Uint8Array | undefined {
    const at = span === undefined ? 0 : span.at;
    const bytes = (span === undefined ? source.length : span.bytes) - TAG_BYTES;
    if (bytes < 0) return undefined;
    checkOpen(source, context, span);
    for (let index = 0; index < TAG_BYTES; index++) this.#tag[index] = source[at + bytes + index]!;
    const decipher = this.#node.createDecipheriv("aes-256-gcm", this.#key.bytes, context.nonce);
    decipher.setAAD(context.associatedData);
    decipher.setAuthTag(this.#tag);
    const plaintext = decipher.update(this.#viewOf(source, at, bytes));
    assert(plaintext.length === bytes, "GCM keeps the length");
    try {
      decipher.final();
    } catch {
      // The only thing that `final` can refuse here is the tag.
      wipe(plaintext);
      return undefined;
    }
    return plaintext;
  }
}

class ChaChaPoly implements Aead {
  readonly cipher = "chacha20-poly1305";
  readonly #key: SecretKey;
  readonly #noble = nobleChaCha();

  constructor(key: SecretKey) {
    this.#key = key;
  }

  sealInto(
    plaintext: Uint8Array,
    context: AeadContext,
    target: { readonly into: Uint8Array; readonly at: number },
  ): void {
    const { into, at } = target;
    checkSeal(plaintext, context, target);
    const output = into.subarray(at, at + plaintext.length + TAG_BYTES);
    this.#noble.chacha20poly1305(this.#key.bytes, context.nonce, context.associatedData).encrypt(plaintext, output);
  }

  open(source: Uint8Array, context: AeadContext, span?: Span): Uint8Array | undefined {
    const sealed = span === undefined ? source : source.subarray(span.at, span.at + span.bytes);
    if (sealed.length < TAG_BYTES) return undefined;
    checkOpen(source, context, span);
    const opener = this.#noble.chacha20poly1305(this.#key.bytes, context.nonce, context.associatedData);
    try {
      // The tag is compared before anything is decrypted.
      return opener.decrypt(sealed);
    } catch (cause) {
      if (cause instanceof Error && cause.message === "invalid tag") return undefined;
      throw cause;
    }
  }
}

function checkContext(context: AeadContext): void {
  assert(context.nonce.length === NONCE_BYTES, "a nonce has 12 bytes");
}

function checkOpen(source: Uint8Array, context: AeadContext, span: Span | undefined): void {
  checkContext(context);
  if (span === undefined) return;
  assert(span.at >= 0 && span.at + span.bytes <= source.length, "the sealed message lies inside its buffer");
}

function checkSeal(
  plaintext: Uint8Array,
  context: AeadContext,
  target: { readonly into: Uint8Array; readonly at: number },
): void {
  checkContext(context);
  assert(plaintext.length <= PLAINTEXT_BYTES_MAX, "a plaintext is shorter than 2 GiB");
  assert(
    target.at >= 0 && target.at + plaintext.length + TAG_BYTES <= target.into.length,
    "the target holds the sealed message",
  );
}
