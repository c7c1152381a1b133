/**
 * OpenSSL's libcrypto, where the system has one: authenticated encryption under a key that is set once for many messages, and
 * HMAC-SHA-256.
 *
 * `node:crypto` makes an object for each message, and setting up the key is most of what a short one costs. A context of
 * libcrypto keeps the key: 177 bytes are sealed or opened in 0.28 us, where `node:crypto` takes 0.75 to 0.95.
 *
 * Invariants
 * 1. It is opened by an absolute path in a folder of the system. A bare name would also be looked for where the
 *    environment says, and by the runtime in the current folder, which belongs to anybody.
 * 2. Nothing of its configuration is read, and nothing of it runs when the process ends, as other threads still may.
 * 3. A context belongs to one thread, and goes with it however that ends: no key stays behind of a thread that was terminated.
 * 4. Nothing is checked here: who calls has checked every place for all its bytes.
 *
 * Source: the manual pages of OpenSSL 3, EVP_EncryptInit(3), EVP_CIPHER_fetch(3), EVP_MAC(3), OPENSSL_init_crypto(3).
 */

import { assert } from "../errors.ts";
import { hostPlatform, librariesOf } from "./library-names.ts";
import { openLibrary, symbolAddress, type Signature } from "./library.ts";
import { pinned, type Pinned, type Place } from "./memory.ts";
import { ownedBuffer } from "./owned-buffer.ts";
import type { Address } from "./system.ts";

/** As `EVP_CIPHER_fetch` knows them. */
export type LibcryptoName = "AES-256-GCM" | "ChaCha20-Poly1305";

interface LibcryptoCalls {
  OPENSSL_init_crypto(options: number, settings: Address): number;
  EVP_CIPHER_fetch(library: Address, name: Place, properties: Address): Address | null;
  EVP_CIPHER_CTX_new(): Address | null;
  EVP_CIPHER_CTX_reset(context: Address): number;
  EVP_CIPHER_CTX_free(context: Address): void;
  EVP_CipherInit_ex(
    context: Address,
    cipher: Address,
    engine: Address,
    key: Place,
    nonce: Place,
    direction: number,
  ): number;
  EVP_CipherUpdate(context: Address, into: Place, written: Address, from: Place, bytes: number): number;
  EVP_CipherFinal_ex(context: Address, into: Place, written: Address): number;
  EVP_CIPHER_CTX_ctrl(context: Address, command: number, bytes: number, place: Place): number;
  EVP_Q_mac(
    library: Address,
    name: Place,
    properties: Address,
    digest: Place,
    settings: Address,
    key: Place,
    keyBytes: number,
    message: Place,
    messageBytes: number,
    into: Place,
    intoBytes: number,
    written: Address,
  ): Address | null;
}

export const libcryptoCalls = {
  OPENSSL_init_crypto: { args: ["ptr", "ptr"], returns: "i32" },
  EVP_CIPHER_fetch: { args: ["ptr", "ptr", "ptr"], returns: "ptr" },
  EVP_CIPHER_CTX_new: { args: [], returns: "ptr" },
  EVP_CIPHER_CTX_reset: { args: ["ptr"], returns: "i32" },
  EVP_CIPHER_CTX_free: { args: ["ptr"], returns: "void" },
  EVP_CipherInit_ex: { args: ["ptr", "ptr", "ptr", "ptr", "ptr", "i32"], returns: "i32" },
  EVP_CipherUpdate: { args: ["ptr", "ptr", "ptr", "ptr", "i32"], returns: "i32" },
  EVP_CipherFinal_ex: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  EVP_CIPHER_CTX_ctrl: { args: ["ptr", "i32", "i32", "ptr"], returns: "i32" },
  EVP_Q_mac: {
    args: ["ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr"],
    returns: "ptr",
  },
} as const satisfies Record<keyof LibcryptoCalls, Signature>;

const NULL = 0;
/** OPENSSL_INIT_NO_LOAD_CONFIG, OPENSSL_INIT_NO_ATEXIT. */
const INIT_OPTIONS = 0x80 | 0x80000;
/** EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG. */
const GET_TAG = 0x10;
const SET_TAG = 0x11;

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** What a message is bound to besides the key. */
export interface MessageContext {
  readonly nonce: Uint8Array;
  readonly associatedData: Uint8Array;
}

export type Direction = "seal" | "open";

const NO_NONCE = new Uint8Array(NONCE_BYTES);

/** One cipher in one direction, under the key that was set last. Who made it frees it. */
export class CipherContext {
  readonly #calls: LibcryptoCalls;
  readonly #direction: number;
  readonly #written: Pinned = pinned(TAG_BYTES);
  readonly #context: Address;
  /** Has the context freed when this object is collected, as all of a thread's are when it ends. */
  #owner: ArrayBuffer | undefined;

  constructor(calls: LibcryptoCalls, context: Address, direction: Direction) {
    this.#calls = calls;
    this.#context = context;
    this.#owner = ownedBuffer({ address: context, bytes: 1 }, symbolAddress(calls.EVP_CIPHER_CTX_free));
    this.#direction = direction === "seal" ? 1 : 0;
  }

  /**
   * Every message from now on is under this key of 32 bytes; nothing is left of the one before. False when libcrypto fails.
   * The first time the cipher is given as well.
   */
  setKey(key: Uint8Array, cipher: Address = NULL): boolean {
    return this.#calls.EVP_CipherInit_ex(this.#context, cipher, NULL, key, NO_NONCE, this.#direction) === 1;
  }

  /** Zeroes what is left of the key, and lets go of the memory. No message may follow. */
  free(): void {
    this.#calls.EVP_CIPHER_CTX_reset(this.#context);
    this.#owner = undefined;
  }

  /** Writes the ciphertext of `bytes` at `from` and the tag, `bytes + 16` in all, to `into`. False when libcrypto fails. */
  seal(message: MessageContext, from: Place, bytes: number, into: Address): boolean {
    const isDone = this.#begin(message) && this.#text(into, from, bytes) && this.#end();
    return isDone && this.#calls.EVP_CIPHER_CTX_ctrl(this.#context, GET_TAG, TAG_BYTES, into + bytes) === 1;
  }

  /**
   * Writes the plaintext of the `bytes` of ciphertext at `from`, with the tag behind them, to `into`. False when the tag is
   * not that of the message; what stands at `into` then must not be looked at.
   */
  open(message: MessageContext, from: Address, bytes: number, into: Place): boolean {
    if (!this.#begin(message)) return false;
    if (this.#calls.EVP_CIPHER_CTX_ctrl(this.#context, SET_TAG, TAG_BYTES, from + bytes) !== 1) return false;
    return this.#text(into, from, bytes) && this.#end();
  }

  #begin({ nonce, associatedData }: MessageContext): boolean {
    const calls = this.#calls;
    const context = this.#context;
    assert(this.#owner !== undefined, "no message follows once a context is freed");
    if (calls.EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, this.#direction) !== 1) return false;
    const bytes = associatedData.length;
    return bytes === 0 || calls.EVP_CipherUpdate(context, NULL, this.#written.address, associatedData, bytes) === 1;
  }

  #text(into: Place, from: Place, bytes: number): boolean {
    if (bytes === 0) return true;
    const written = this.#written;
    const isDone = this.#calls.EVP_CipherUpdate(this.#context, into, written.address, from, bytes) === 1;
    return isDone && written.i32[0] === bytes;
  }

  /** Completes the tag, or compares it. Both ciphers are streams: no text is left to be written. */
  #end(): boolean {
    const { address } = this.#written;
    return this.#calls.EVP_CipherFinal_ex(this.#context, address + 8, address) === 1;
  }
}

interface Loaded {
  readonly path: string;
  readonly calls: LibcryptoCalls;
}

/** What was found, once for each thread; null: it was looked for. */
let loaded: Loaded | null | undefined;

/** The first libcrypto that is there and can be used. */
function load(): Loaded | undefined {
  for (const path of librariesOf[hostPlatform()].crypto) {
    try {
      const calls = openLibrary<LibcryptoCalls>([path], libcryptoCalls);
      if (calls.OPENSSL_init_crypto(INIT_OPTIONS, NULL) === 1) return { path, calls };
    } catch {
      // It is not there (0.03 ms), or one of another processor or C library; or descriptors are short.
    }
  }
  return undefined;
}

/** A cipher of the system's libcrypto. */
export class LibcryptoCipher {
  /** The library's path, for a thread that opens it by itself. */
  readonly path: string;
  readonly name: LibcryptoName;
  readonly #calls: LibcryptoCalls;
  readonly #cipher: Address;

  constructor({ path, calls }: Loaded, name: LibcryptoName, cipher: Address) {
    this.path = path;
    this.name = name;
    this.#calls = calls;
    this.#cipher = cipher;
  }

  /** A context under a key of 32 bytes; undefined when libcrypto fails. */
  context(direction: Direction, key: Uint8Array): CipherContext | undefined {
    const address = this.#calls.EVP_CIPHER_CTX_new();
    if (address === null) return undefined;
    const context = new CipherContext(this.#calls, address, direction);
    if (context.setKey(key, this.#cipher)) return context;
    context.free();
    return undefined;
  }
}

const encoder = new TextEncoder();
const HMAC = encoder.encode("HMAC\0");
const SHA256 = encoder.encode("SHA256\0");
const HMAC_BYTES = 32;

/** HMAC-SHA-256 of the system's libcrypto, which zeroes what it makes of a key before it returns. */
export class LibcryptoHmac {
  readonly #calls: LibcryptoCalls;

  constructor(calls: LibcryptoCalls) {
    this.#calls = calls;
  }

  /** Writes 32 bytes to the beginning of `into`. Neither key nor message is empty. False when libcrypto fails. */
  sum(key: Uint8Array, message: Uint8Array, into: Uint8Array): boolean {
    const [keyBytes, bytes] = [key.length, message.length];
    assert(keyBytes > 0 && bytes > 0 && into.length >= HMAC_BYTES, "a MAC has a key, a message, and room");
    const calls = this.#calls;
    return (
      calls.EVP_Q_mac(NULL, HMAC, NULL, SHA256, NULL, key, keyBytes, message, bytes, into, HMAC_BYTES, NULL) !== null
    );
  }
}

/** Undefined when the system has no libcrypto. */
export function libcryptoHmac(): LibcryptoHmac | undefined {
  loaded ??= load() ?? null;
  return loaded === null ? undefined : new LibcryptoHmac(loaded.calls);
}

/** Undefined when the system has no libcrypto, or that one has no such cipher. */
export function libcryptoCipher(name: LibcryptoName): LibcryptoCipher | undefined {
  loaded ??= load() ?? null;
  const cipher = loaded?.calls.EVP_CIPHER_fetch(NULL, encoder.encode(`${name}\0`), NULL) ?? null;
  return loaded === null || cipher === null ? undefined : new LibcryptoCipher(loaded, name, cipher);
}
