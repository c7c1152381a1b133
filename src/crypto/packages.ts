/**
 * The only place that loads a cryptographic package, each on first use.
 *
 * Invariants
 * 1. Importing any file of this room loads none of them; a database without encryption never pays for one.
 * 2. Names are literal, so that a bundler sees them, and `require` is used because `open` is synchronous.
 * 3. No package is looked up while descriptors are short, and none again that was found. For Bun 1.4 a folder that it could not open is not there as
 *    long as the process lives, and neither another name of the module nor a path that it resolves finds it again.
 */

import type * as NodeCrypto from "node:crypto";
import type * as NobleArgon2 from "@noble/hashes/argon2.js";
import type * as NobleChaCha from "@noble/ciphers/chacha.js";
import type * as NobleHmac from "@noble/hashes/hmac.js";
import type * as NobleSha2 from "@noble/hashes/sha2.js";
import type * as HashWasm from "hash-wasm";
import { EmdbError } from "../errors.ts";
import { shortage } from "../ffi/descriptors.ts";
import { hostSystem } from "../ffi/host.ts";

/** Bun opens the folders on the way to a package that it has not seen yet all at once: three were seen, a deep tree has more. */
const SPARE_DESCRIPTORS = 16;

let nodeCryptoLoaded: typeof NodeCrypto | undefined;
let chachaLoaded: typeof NobleChaCha | undefined;
let hashesLoaded: Hashes | undefined;
let argon2Loaded: typeof NobleArgon2 | undefined;
let hashWasmLoaded: typeof HashWasm | undefined;

/** HMAC and SHA-256 of @noble/hashes. */
export interface Hashes {
  readonly hmac: typeof NobleHmac.hmac;
  readonly sha256: typeof NobleSha2.sha256;
}

/** AES-GCM (BoringSSL with AES-NI) and, where the runtime has it, Argon2. */
export function nodeCrypto(): typeof NodeCrypto {
  nodeCryptoLoaded ??= require("node:crypto") as typeof NodeCrypto;
  return nodeCryptoLoaded;
}

/** ChaCha20-Poly1305: Bun's own crypto has none. @throws {EmdbError} EMDB_IO, EMDB_UNSUPPORTED */
export function nobleChaCha(): typeof NobleChaCha {
  chachaLoaded ??= load("@noble/ciphers", () => require("@noble/ciphers/chacha.js") as typeof NobleChaCha);
  return chachaLoaded;
}

/**
 * Where the system has none, HMAC comes from JavaScript although the runtime has it: here the bytes of a secret stay in
 * buffers that are wiped, there they are copied into native key objects that nobody can wipe.
 *
 * @throws {EmdbError} EMDB_IO, EMDB_UNSUPPORTED
 */
export function nobleHashes(): Hashes {
  hashesLoaded ??= load("@noble/hashes", () => ({
    hmac: (require("@noble/hashes/hmac.js") as typeof NobleHmac).hmac,
    sha256: (require("@noble/hashes/sha2.js") as typeof NobleSha2).sha256,
  }));
  return hashesLoaded;
}

/**
 * Argon2 in plain JavaScript: slow (1.2 s for the default), for a synchronous open on a runtime that has none.
 * @throws {EmdbError} EMDB_IO, EMDB_UNSUPPORTED
 */
export function nobleArgon2(): typeof NobleArgon2 {
  argon2Loaded ??= load("@noble/hashes", () => require("@noble/hashes/argon2.js") as typeof NobleArgon2);
  return argon2Loaded;
}

/** Argon2 in WebAssembly, for asynchronous work on a runtime that has none. @throws {EmdbError} EMDB_IO, EMDB_UNSUPPORTED */
export async function hashWasm(): Promise<typeof HashWasm> {
  if (hashWasmLoaded !== undefined) return hashWasmLoaded;
  mustHaveSpare("hash-wasm");
  hashWasmLoaded = await import("hash-wasm").catch((cause: unknown) => {
    throw notLoaded("hash-wasm", cause);
  });
  return hashWasmLoaded;
}

function load<T>(name: string, body: () => T): T {
  mustHaveSpare(name);
  try {
    return body();
  } catch (cause) {
    throw notLoaded(name, cause);
  }
}

/** Where the package is part of a bundle none would be needed, but neither would an open get far without. */
function mustHaveSpare(name: string): void {
  const errno = shortage(hostSystem(), SPARE_DESCRIPTORS);
  if (errno === undefined) return;
  const message = `the package ${name} is not loaded while fewer than ${SPARE_DESCRIPTORS} descriptors are free: ${errno}`;
  throw new EmdbError("EMDB_IO", message, { syscall: "open", errno });
}

/** It is not installed; or else another thread took the last descriptors right then. */
function notLoaded(name: string, cause: unknown): EmdbError {
  const message = `the package ${name} cannot be loaded; if it is installed, descriptors were short, and this process has to be started anew`;
  return new EmdbError("EMDB_UNSUPPORTED", message, { cause });
}
