/**
 * A passphrase stretched into a key: Argon2id (RFC 9106), version 0x13.
 *
 * The parameters are stored in the key slot, so that a later version can raise them; what is read from a file
 * is bounded on both sides before any work is done:
 *
 *     memory   64 MiB .. 1 GiB     passes   3 .. 64     lanes   1 .. 16     memory x passes   at most 4 GiB
 *
 * The floors are what every version of emdb has written (RFC 9106, section 4, second recommended option), so a
 * slot below them was not written by us. The ceilings keep a forged slot from taking the machine: at the
 * product's bound one try costs about 5 s where the default costs 0.24 s, and never more than 1 GiB.
 *
 * Who computes it: node:crypto where the runtime has it (0.24 s; asynchronously on its thread pool), else
 * hash-wasm for asynchronous work (0.32 s) and @noble/hashes for synchronous work (1.2 s).
 */

import { EmdbError } from "../errors.ts";
import { PASSPHRASE_BYTES_MAX } from "../limits.ts";
import { hashWasm, nobleArgon2, nodeCrypto } from "./packages.ts";
import { KEY_BYTES, secretCopy, SecretKey, wipe } from "./secret.ts";

export interface Argon2Parameters {
  readonly memoryKiB: number;
  readonly passes: number;
  readonly lanes: number;
}

/** RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes. */
export const ARGON2_DEFAULT: Argon2Parameters = { memoryKiB: 65_536, passes: 3, lanes: 4 };

/** The version number of RFC 9106, as it is stored. */
export const ARGON2_VERSION = 0x13;

const MEMORY_KIB_MIN = ARGON2_DEFAULT.memoryKiB;
/** 1 GiB: half of what a small server has. */
const MEMORY_KIB_MAX = 1_048_576;
const PASSES_MIN = ARGON2_DEFAULT.passes;
const PASSES_MAX = 64;
/** Fewer lanes make nothing weaker: the memory is filled all the same. */
const LANES_MIN = 1;
const LANES_MAX = 16;
/** 4 GiB filled in all, about 5 s. */
const WORK_KIB_MAX = 4_194_304;

/** Why parameters are out of bounds, naming the numbers; undefined when they are inside. */
export function argon2Problem(parameters: Argon2Parameters): string | undefined {
  const { memoryKiB, passes, lanes } = parameters;
  if (!isWithin(memoryKiB, MEMORY_KIB_MIN, MEMORY_KIB_MAX)) {
    return `Argon2 memory of ${memoryKiB} KiB is outside ${MEMORY_KIB_MIN}..${MEMORY_KIB_MAX}`;
  }
  if (!isWithin(passes, PASSES_MIN, PASSES_MAX))
    return `${passes} Argon2 passes are outside ${PASSES_MIN}..${PASSES_MAX}`;
  if (!isWithin(lanes, LANES_MIN, LANES_MAX)) return `${lanes} Argon2 lanes are outside ${LANES_MIN}..${LANES_MAX}`;
  if (memoryKiB * passes > WORK_KIB_MAX) {
    return `Argon2 work of ${memoryKiB} KiB x ${passes} passes is more than ${WORK_KIB_MAX} KiB`;
  }
  return undefined;
}

/** What stretches: the passphrase's bytes, the salt of the slot, the slot's parameters. */
export interface StretchRequest {
  readonly passphrase: Uint8Array;
  readonly salt: Uint8Array;
  readonly parameters: Argon2Parameters;
}

export type Stretch = (request: StretchRequest) => SecretKey;
export type StretchLater = (request: StretchRequest) => Promise<SecretKey>;

/** Argon2id on the calling thread: 0.24 s by default. The caller wipes the key. @throws {EmdbError} EMDB_UNSUPPORTED */
export const stretch: Stretch = (request) => {
  const { argon2Sync } = nodeCrypto();
  if (typeof argon2Sync !== "function") return stretchWithNoble(request);
  try {
    return new SecretKey(argon2Sync("argon2id", nodeRequest(request)));
  } catch (cause) {
    if (isByNameOnly(cause)) return stretchWithNoble(request);
    throw cannotStretch(cause);
  }
};

/** Argon2id off the calling thread where the runtime can. The caller wipes the key. @throws {EmdbError} EMDB_UNSUPPORTED */
export const stretchLater: StretchLater = (request) => {
  const { argon2 } = nodeCrypto();
  if (typeof argon2 !== "function") return stretchWithWasm(request);
  const { promise, resolve, reject } = Promise.withResolvers<SecretKey>();
  try {
    argon2("argon2id", nodeRequest(request), (cause, key) => {
      if (cause === null || cause === undefined) resolve(new SecretKey(key));
      else reject(cannotStretch(cause));
    });
  } catch (cause) {
    if (isByNameOnly(cause)) return stretchWithWasm(request);
    reject(cannotStretch(cause));
  }
  return promise;
};

/** Bun 1.4.0 has the calls, and refuses whatever they are asked for. */
function isByNameOnly(cause: unknown): boolean {
  return cause instanceof Error && (cause as NodeJS.ErrnoException).code === "ERR_CRYPTO_ARGON2_NOT_SUPPORTED";
}

/** The fallback of `stretch`. */
export function stretchWithNoble(request: StretchRequest): SecretKey {
  const { memoryKiB, passes, lanes } = request.parameters;
  const { argon2id } = nobleArgon2();
  const options = { m: memoryKiB, t: passes, p: lanes, dkLen: KEY_BYTES };
  try {
    return new SecretKey(argon2id(request.passphrase, request.salt, options));
  } catch (cause) {
    throw cannotStretch(cause);
  }
}

/** The fallback of `stretchLater`. */
export async function stretchWithWasm(request: StretchRequest): Promise<SecretKey> {
  const { memoryKiB, passes, lanes } = request.parameters;
  const { argon2id } = await hashWasm();
  const key = await argon2id({
    password: request.passphrase,
    salt: request.salt,
    memorySize: memoryKiB,
    iterations: passes,
    parallelism: lanes,
    hashLength: KEY_BYTES,
    outputType: "binary",
  }).catch((cause: unknown) => {
    throw cannotStretch(cause);
  });
  return new SecretKey(key);
}

/** The parameters have been judged before, so what is left is the memory that they ask for. */
function cannotStretch(cause: unknown): EmdbError {
  return new EmdbError("EMDB_UNSUPPORTED", "Argon2 failed, most likely for want of memory", { cause });
}

/**
 * A passphrase as the bytes that are stretched: its UTF-8, not normalised. The caller wipes them.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG when it is empty, too long, or not well-formed Unicode (a lone
 * surrogate has no UTF-8, and all of them would become one and the same character).
 */
export function passphraseBytes(passphrase: string): Uint8Array {
  if (!passphrase.isWellFormed())
    throw new EmdbError("EMDB_INVALID_CONFIG", "the passphrase is not well-formed Unicode");
  const bytes = new TextEncoder().encode(passphrase);
  if (bytes.length === 0) throw new EmdbError("EMDB_INVALID_CONFIG", "the passphrase is empty");
  if (bytes.length > PASSPHRASE_BYTES_MAX) {
    const message = `a passphrase of ${bytes.length} bytes is longer than ${PASSPHRASE_BYTES_MAX}`;
    throw new EmdbError("EMDB_INVALID_CONFIG", message);
  }
  const kept = secretCopy(bytes);
  wipe(bytes);
  return kept;
}

function nodeRequest(request: StretchRequest) {
  const { memoryKiB, passes, lanes } = request.parameters;
  return {
    message: request.passphrase,
    nonce: request.salt,
    memory: memoryKiB,
    passes,
    parallelism: lanes,
    tagLength: KEY_BYTES,
  };
}

function isWithin(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}
