/**
 * The caller's key or passphrase, checked and copied once. Messages say what kind of thing was given, never what
 * it was; the copy's properties are not enumerable, so that no inspection, JSON or spread shows them.
 */

import { isByteArray } from "../codec/byte-array.ts";
import { EmdbError } from "../errors.ts";
import { ENCRYPTION_KEY_BYTES, PASSPHRASE_BYTES_MAX } from "../limits.ts";
import { wipeAsked } from "../engine/sealed/unlock.ts";
import { viewBytes } from "./bytes.ts";
import { describe, refuseUnknownNames, isOptions } from "./describe.ts";
import type { Cipher, EncryptionInput } from "./types.ts";

const CIPHERS: readonly Cipher[] = ["aes-256-gcm", "chacha20-poly1305"];

/**
 * A private copy of the secret, which shows as "[redacted]".
 *
 * @param extra names of properties beside the secret that belong to the caller's type
 * @throws {EmdbError} EMDB_INVALID_CONFIG unless it is exactly one of a 32-byte key and a non-empty passphrase
 */
export function checkedSecret(input: unknown, extra: readonly string[] = []): EncryptionInput {
  if (!isOptions(input)) {
    throw wrong(`encryption must be { key } or { passphrase }, got ${kindOf(input)}`);
  }
  refuseUnknownNames(input, {
    what: "EncryptionInput",
    known: ["key", "passphrase", ...extra],
    code: "EMDB_INVALID_CONFIG",
  });
  const { key, passphrase } = input as { readonly key?: unknown; readonly passphrase?: unknown };
  if (key !== undefined && passphrase !== undefined) throw wrong("key and passphrase exclude each other; give one");
  if (key !== undefined) return redacted({ key: checkedRawKey(key) });
  if (passphrase !== undefined) return redacted({ passphrase: checkedPassphrase(passphrase) });
  throw wrong("encryption needs a key or a passphrase");
}

/** As `checkedSecret`, where a call takes two: a message says which. @throws {EmdbError} as that does */
export function checkedSecrets(
  current: unknown,
  next: unknown,
): { readonly current: EncryptionInput; readonly next: EncryptionInput } {
  const first = checkedSecretAs("current", current);
  try {
    return { current: first, next: checkedSecretAs("next", next) };
  } catch (error) {
    // Nobody else will.
    wipeAsked({ encryption: first, cipher: undefined });
    throw error;
  }
}

function checkedSecretAs(which: "current" | "next", input: unknown): EncryptionInput {
  try {
    return checkedSecret(input);
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    throw new EmdbError(error.code, `of the ${which} secret: ${error.message}`);
  }
}

/** @throws {EmdbError} EMDB_INVALID_CONFIG */
export function checkedCipher(cipher: unknown): Cipher | undefined {
  if (cipher === undefined) return undefined;
  const known = CIPHERS.find((name) => name === cipher);
  if (known !== undefined) return known;
  throw wrong(`cipher must be ${CIPHERS.map((name) => `"${name}"`).join(" or ")}, got ${describe(cipher)}`);
}

function checkedRawKey(key: unknown): Uint8Array {
  if (!isByteArray(key)) {
    throw wrong(`an encryption key must be a Uint8Array of ${ENCRYPTION_KEY_BYTES} bytes, got ${kindOf(key)}`);
  }
  // Not what the key says of itself: a shorter one would be filled up with zeros.
  const bytes = viewBytes(key);
  if (bytes !== ENCRYPTION_KEY_BYTES) {
    throw wrong(`an encryption key has ${ENCRYPTION_KEY_BYTES} bytes, got ${bytes}`);
  }
  // Over a buffer of its own, which stays in its place: what is overwritten later is then all there was.
  const copy = new Uint8Array(new ArrayBuffer(bytes));
  copy.set(key);
  return copy;
}

function checkedPassphrase(passphrase: unknown): string {
  if (typeof passphrase !== "string") throw wrong(`a passphrase must be a string, got ${kindOf(passphrase)}`);
  if (passphrase === "") throw wrong("a passphrase must not be empty");
  if (!passphrase.isWellFormed()) throw wrong("a passphrase must not hold a lone surrogate, which has no UTF-8 bytes");
  const byteCount = Buffer.byteLength(passphrase, "utf8");
  if (byteCount > PASSPHRASE_BYTES_MAX) {
    throw new EmdbError(
      "EMDB_TOO_LARGE",
      `the passphrase has ${byteCount} bytes; the limit is ${PASSPHRASE_BYTES_MAX}`,
    );
  }
  return passphrase;
}

function redacted(secret: EncryptionInput): EncryptionInput {
  const hidden: object = {};
  for (const [name, value] of Object.entries(secret)) Object.defineProperty(hidden, name, { value });
  const show = { value: () => "[redacted]" };
  Object.defineProperty(hidden, "toJSON", show);
  Object.defineProperty(hidden, Symbol.for("nodejs.util.inspect.custom"), show);
  return hidden as EncryptionInput;
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_CONFIG", message);
}

/** What was given in the place of a secret; a number may be the secret itself. */
function kindOf(given: unknown): string {
  return typeof given === "number" ? "a number" : describe(given);
}
