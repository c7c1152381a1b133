/**
 * The only place that loads a cryptographic package, each on first use.
 *
 * Invariants
 * 1. Importing any file of this room loads none of them; a database without encryption never pays for one.
 * 2. Names are literal, so that a bundler sees them, and `require` is used because `open` is synchronous.
 */

import type * as NodeCrypto from "node:crypto";
import type * as NobleArgon2 from "@noble/hashes/argon2.js";
import type * as NobleChaCha from "@noble/ciphers/chacha.js";
import type * as NobleHkdf from "@noble/hashes/hkdf.js";
import type * as NobleHmac from "@noble/hashes/hmac.js";
import type * as NobleSha2 from "@noble/hashes/sha2.js";
import type * as HashWasm from "hash-wasm";

let nodeCryptoLoaded: typeof NodeCrypto | undefined;
let chachaLoaded: typeof NobleChaCha | undefined;
let hashesLoaded: Hashes | undefined;

/** HKDF, HMAC and SHA-256 of @noble/hashes. */
export interface Hashes {
  readonly hkdf: typeof NobleHkdf.hkdf;
  readonly hmac: typeof NobleHmac.hmac;
  readonly sha256: typeof NobleSha2.sha256;
}

/** AES-GCM (BoringSSL with AES-NI) and, where the runtime has it, Argon2. */
export function nodeCrypto(): typeof NodeCrypto {
  nodeCryptoLoaded ??= require("node:crypto") as typeof NodeCrypto;
  return nodeCryptoLoaded;
}

/** ChaCha20-Poly1305: Bun's own crypto has none. */
export function nobleChaCha(): typeof NobleChaCha {
  chachaLoaded ??= require("@noble/ciphers/chacha.js") as typeof NobleChaCha;
  return chachaLoaded;
}

/**
 * HKDF and HMAC come from JavaScript although the runtime has them: here the bytes of a secret stay in
 * buffers that are wiped, there they are copied into native key objects that nobody can wipe.
 */
export function nobleHashes(): Hashes {
  hashesLoaded ??= {
    hkdf: (require("@noble/hashes/hkdf.js") as typeof NobleHkdf).hkdf,
    hmac: (require("@noble/hashes/hmac.js") as typeof NobleHmac).hmac,
    sha256: (require("@noble/hashes/sha2.js") as typeof NobleSha2).sha256,
  };
  return hashesLoaded;
}

/** Argon2 in plain JavaScript: slow (1.2 s for the default), for a synchronous open on a runtime that has none. */
export function nobleArgon2(): typeof NobleArgon2 {
  return require("@noble/hashes/argon2.js") as typeof NobleArgon2;
}

/** Argon2 in WebAssembly, for asynchronous work on a runtime that has none. */
export function hashWasm(): Promise<typeof HashWasm> {
  return import("hash-wasm");
}
