/**
 * The ciphers as the system's libcrypto has them, where there is one (`ffi/libcrypto.ts`).
 *
 * Invariants
 * 1. A cipher is used once it has given the published answers, in both directions, and has refused a wrong tag.
 * 2. Each thread has at most one context for each cipher and direction, under the key that was used last. It is freed when that
 *    key is wiped.
 */

import { assert } from "../errors.ts";
import {
  libcryptoCipher,
  type CipherContext,
  type Direction,
  type LibcryptoCipher,
  type LibcryptoName,
} from "../ffi/libcrypto.ts";
import { addressOf, pinned } from "../ffi/memory.ts";
import { checkOpen, checkSeal, TAG_BYTES, type Aead, type AeadContext, type SealTarget, type Span } from "./aead.ts";
import type { Cipher } from "./cipher.ts";
import { whenWiped, type SecretBytes, type SecretKey } from "./secret.ts";

/** A cipher in one direction, under the key that was used last. */
class KeyedContext {
  readonly #cipher: LibcryptoCipher;
  readonly #direction: Direction;
  #context: CipherContext | undefined;
  #key: SecretBytes | undefined;

  constructor(cipher: LibcryptoCipher, direction: Direction) {
    this.#cipher = cipher;
    this.#direction = direction;
    whenWiped((secret) => {
      if (secret === this.#key) this.#free();
    });
  }

  under(key: SecretKey): CipherContext {
    if (this.#context !== undefined && this.#key === key) return this.#context;
    const { bytes } = key;
    const isSet = this.#context?.setKey(bytes) ?? true;
    if (!isSet) this.#free();
    this.#context ??= this.#cipher.context(this.#direction, bytes);
    assert(this.#context !== undefined, "libcrypto takes a key");
    this.#key = key;
    return this.#context;
  }

  #free(): void {
    this.#context?.free();
    this.#context = undefined;
    this.#key = undefined;
  }
}

interface Contexts extends Readonly<Record<Direction, KeyedContext>> {
  readonly cipher: LibcryptoCipher;
}

const NAMES: Readonly<Record<Cipher, LibcryptoName>> = {
  "aes-256-gcm": "AES-256-GCM",
  "chacha20-poly1305": "ChaCha20-Poly1305",
};

interface KnownAnswer {
  readonly key: string;
  readonly nonce: string;
  readonly associatedData: string;
  readonly plaintext: string;
  readonly sealed: string;
}

/** Test case 16 of GCM's submission to NIST; RFC 8439, 2.8.2. */
const ANSWERS: Readonly<Record<Cipher, KnownAnswer>> = {
  "aes-256-gcm": {
    key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
    nonce: "cafebabefacedbaddecaf888",
    associatedData: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    plaintext:
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
      "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    sealed:
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
      "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
  },
  "chacha20-poly1305": {
    key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
    nonce: "070000004041424344454647",
    associatedData: "50515253c0c1c2c3c4c5c6c7",
    plaintext:
      "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f756c64206f6666" +
      "657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f756c642062652069742e",
    sealed:
      "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b29" +
      "05d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b" +
      "61161ae10b594f09e26a7e902ecbd0600691",
  },
};

/** What was found for a cipher, once for each thread; null: it was looked for. */
const found = new Map<Cipher, Contexts | null>();

function contextsOf(cipher: Cipher): Contexts | undefined {
  let contexts = found.get(cipher);
  if (contexts === undefined) found.set(cipher, (contexts = tried(cipher) ?? null));
  return contexts ?? undefined;
}

function tried(name: Cipher): Contexts | undefined {
  const cipher = libcryptoCipher(NAMES[name]);
  if (cipher === undefined || !answersRight(cipher, ANSWERS[name])) return undefined;
  return { cipher, seal: new KeyedContext(cipher, "seal"), open: new KeyedContext(cipher, "open") };
}

function answersRight(cipher: LibcryptoCipher, answer: KnownAnswer): boolean {
  const key = Uint8Array.fromHex(answer.key);
  const seal = cipher.context("seal", key);
  const open = cipher.context("open", key);
  const isRight = seal !== undefined && open !== undefined && givesAnswer({ seal, open }, answer);
  seal?.free();
  open?.free();
  return isRight;
}

function givesAnswer(
  { seal, open }: Readonly<Record<Direction, CipherContext>>,
  { nonce, associatedData, plaintext, sealed }: KnownAnswer,
): boolean {
  const message = { nonce: Uint8Array.fromHex(nonce), associatedData: Uint8Array.fromHex(associatedData) };
  const plain = Uint8Array.fromHex(plaintext);
  const { u8, address } = pinned(2 * sealed.length);
  const back = u8.subarray(sealed.length, sealed.length + plain.length);
  if (!seal.seal(message, plain, plain.length, address)) return false;
  if (u8.subarray(0, plain.length + TAG_BYTES).toHex() !== sealed) return false;
  if (!open.open(message, address, plain.length, back) || back.toHex() !== plaintext) return false;
  u8[plain.length]! ^= 1;
  return !open.open(message, address, plain.length, back);
}

class SystemAead implements Aead {
  readonly cipher: Cipher;
  readonly #key: SecretKey;
  readonly #contexts: Contexts;

  constructor(cipher: Cipher, key: SecretKey, contexts: Contexts) {
    this.cipher = cipher;
    this.#key = key;
    this.#contexts = contexts;
  }

  sealInto(plaintext: Uint8Array, context: AeadContext, target: SealTarget): void {
    const { into, at } = target;
    checkSeal(plaintext, context, target);
    const sealing = this.#contexts.seal.under(this.#key);
    const isSealed = sealing.seal(context, plaintext, plaintext.length, addressOf(into) + at);
    assert(isSealed, "libcrypto seals");
  }

  openInto(source: Uint8Array, context: AeadContext, span: Span, into: Uint8Array): boolean {
    if (!checkOpen(source, context, span, into)) return false;
    const bytes = span.bytes - TAG_BYTES;
    const opening = this.#contexts.open.under(this.#key);
    if (opening.open(context, addressOf(source) + span.at, bytes, into)) return true;
    into.fill(0, 0, bytes);
    return false;
  }
}

/** A cipher under a key; undefined where the system has none that answers right. */
export function systemAead(cipher: Cipher, key: SecretKey): Aead | undefined {
  const contexts = contextsOf(cipher);
  return contexts === undefined ? undefined : new SystemAead(cipher, key, contexts);
}

/** The system's cipher, for a thread that has none of this code; undefined where the system has none that answers right. */
export function systemCipher(cipher: Cipher): Pick<LibcryptoCipher, "path" | "name"> | undefined {
  return contextsOf(cipher)?.cipher;
}
