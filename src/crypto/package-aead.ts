/**
 * The ciphers as packages have them: AES-256-GCM of `node:crypto` (BoringSSL with AES-NI), ChaCha20-Poly1305 of
 * @noble/ciphers, since Bun's own crypto has none. They work everywhere; where the system has libcrypto, `system-aead.ts` is
 * several times as fast.
 *
 * Cost of 177 bytes, Bun 1.4.5 on 2 busy cores, as CPU time: AES 1.1 us to seal and 0.9-1.0 us to open, most of
 * it in making the cipher object, which node:crypto has no way to use again; ChaCha 8-11 us. What was tried
 * and gains nothing: a key object for the raw key (and it is a copy that cannot be wiped), Buffers for typed
 * arrays, `authTagLength`, leaving out associated data (40 ns). Each view that is made costs 50 ns.
 */

import { assert } from "../errors.ts";
import { checkOpen, checkSeal, TAG_BYTES, type Aead, type AeadContext, type SealTarget, type Span } from "./aead.ts";
import { nobleChaCha, nodeCrypto } from "./packages.ts";
import { wipe, type SecretKey } from "./secret.ts";

export class AesGcm implements Aead {
  readonly cipher = "aes-256-gcm";
  readonly #key: SecretKey;
  readonly #tag = new Uint8Array(TAG_BYTES);
  readonly #node = nodeCrypto();
  /** The view that `openInto` made last: records of one length in one place are many, and a view costs 50 ns. */
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

  sealInto(plaintext: Uint8Array, context: AeadContext, target: SealTarget): void {
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

  openInto(source: Uint8Array, context: AeadContext, span: Span, into: Uint8Array): boolean {
    if (!checkOpen(source, context, span, into)) return false;
    const { at } = span;
    const bytes = span.bytes - TAG_BYTES;
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
      return false;
    }
    into.set(plaintext);
    // It may be a key.
    wipe(plaintext);
    return true;
  }
}

export class ChaChaPoly implements Aead {
  readonly cipher = "chacha20-poly1305";
  readonly #key: SecretKey;
  readonly #noble = nobleChaCha();

  constructor(key: SecretKey) {
    this.#key = key;
  }

  sealInto(plaintext: Uint8Array, context: AeadContext, target: SealTarget): void {
    const { into, at } = target;
    checkSeal(plaintext, context, target);
    const output = into.subarray(at, at + plaintext.length + TAG_BYTES);
    this.#noble.chacha20poly1305(this.#key.bytes, context.nonce, context.associatedData).encrypt(plaintext, output);
  }

  openInto(source: Uint8Array, context: AeadContext, span: Span, into: Uint8Array): boolean {
    if (!checkOpen(source, context, span, into)) return false;
    const sealed = source.subarray(span.at, span.at + span.bytes);
    const opener = this.#noble.chacha20poly1305(this.#key.bytes, context.nonce, context.associatedData);
    try {
      // The tag is compared before anything is decrypted.
      opener.decrypt(sealed, into.subarray(0, span.bytes - TAG_BYTES));
      return true;
    } catch (cause) {
      if (cause instanceof Error && cause.message === "invalid tag") return false;
      throw cause;
    }
  }
}
