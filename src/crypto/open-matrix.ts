/**
 * What a file is against what a caller passed: one table, decided before anything is derived or written.
 *
 *     file \ caller      nothing           cipher alone      one secret               two, or none in it
 *     none (creating)    plain             INVALID_CONFIG    encrypted                INVALID_CONFIG
 *     plain              plain             INVALID_CONFIG    INVALID_CONFIG           INVALID_CONFIG
 *     encrypted          INVALID_CONFIG    INVALID_CONFIG    of a kind that a slot    INVALID_CONFIG
 *                                                            takes, and the cipher
 *                                                            agrees: encrypted;
 *                                                            else INVALID_CONFIG
 *
 * EMDB_KEY_MISMATCH is not in the table: only the key check says it (`key-area.ts`).
 *
 * A cipher without a secret is refused on a new file too: its writer believes that the data is encrypted.
 */

import { EmdbError } from "../errors.ts";
import { ENCRYPTION_KEY_BYTES } from "../limits.ts";
import { passphraseBytes } from "./argon2.ts";
import { CallerSecret } from "./caller-secret.ts";
import { CIPHER_DEFAULT, isCipher, type Cipher } from "./cipher.ts";
import type { SecretKind } from "./key-slot.ts";
import { secretCopy } from "./secret.ts";

/** What the header page says. */
export type FileFacts =
  | { readonly kind: "none" }
  | { readonly kind: "plain" }
  | { readonly kind: "encrypted"; readonly cipher: Cipher; readonly slotKinds: readonly SecretKind[] };

/** What the caller passed; not believed yet. */
export interface CallerFacts {
  readonly encryption?: unknown;
  readonly cipher?: unknown;
}

export type Opening =
  | { readonly kind: "plain" }
  /** The caller of the table wipes the secret. */
  | { readonly kind: "encrypted"; readonly cipher: Cipher; readonly secret: CallerSecret };

/**
 * How to open, or why not.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG; the message never holds a byte of a secret.
 */
export function decideOpening(file: FileFacts, caller: CallerFacts): Opening {
  const cipher = callerCipher(caller.cipher);
  const secret = caller.encryption === undefined ? undefined : callerSecret(caller.encryption);
  const problem = refusal(file, { cipher, secretKind: secret?.kind });
  if (problem !== undefined) {
    secret?.wipe();
    throw invalid(problem);
  }
  if (secret === undefined) return { kind: "plain" };
  const fileCipher = file.kind === "encrypted" ? file.cipher : undefined;
  return { kind: "encrypted", cipher: fileCipher ?? cipher ?? CIPHER_DEFAULT, secret };
}

/**
 * Checks an `EncryptionInput` and copies the secret out of it; the caller wipes it.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG
 */
export function callerSecret(input: unknown): CallerSecret {
  if (typeof input !== "object" || input === null) throw invalid("encryption is { key } or { passphrase }");
  const { key, passphrase } = input as { readonly key?: unknown; readonly passphrase?: unknown };
  if (key !== undefined && passphrase !== undefined)
    throw invalid("encryption has both a key and a passphrase; give one");
  if (key !== undefined) {
    if (!(key instanceof Uint8Array)) throw invalid("an encryption key is a Uint8Array");
    if (key.length !== ENCRYPTION_KEY_BYTES) {
      throw invalid(`an encryption key has ${ENCRYPTION_KEY_BYTES} bytes, not ${key.length}`);
    }
    return new CallerSecret("raw", secretCopy(key));
  }
  if (passphrase === undefined) throw invalid("encryption has neither a key nor a passphrase");
  if (typeof passphrase !== "string") throw invalid("a passphrase is a string");
  return new CallerSecret("passphrase", passphraseBytes(passphrase));
}

function callerCipher(cipher: unknown): Cipher | undefined {
  if (cipher === undefined) return undefined;
  if (!isCipher(cipher)) throw invalid('the cipher is "aes-256-gcm" or "chacha20-poly1305"');
  return cipher;
}

/** The table at the top. */
function refusal(
  file: FileFacts,
  caller: { readonly cipher: Cipher | undefined; readonly secretKind: SecretKind | undefined },
): string | undefined {
  const { cipher, secretKind } = caller;
  switch (file.kind) {
    case "none":
      if (secretKind === undefined && cipher !== undefined)
        return "a cipher without a key or passphrase encrypts nothing";
      return undefined;
    case "plain":
      if (secretKind !== undefined)
        return "the database is not encrypted, and a key or passphrase was given; leave out encryption, or have Emdb.enableEncryption change the file";
      if (cipher !== undefined) return "the database is not encrypted, and a cipher was given; leave it out";
      return undefined;
    case "encrypted":
      if (secretKind === undefined)
        return "the database is encrypted, and neither a key nor a passphrase was given; pass encryption: { key } or { passphrase }";
      if (!file.slotKinds.includes(secretKind)) return wrongKind(secretKind);
      if (cipher !== undefined && cipher !== file.cipher)
        return `the database is encrypted with ${file.cipher}, not ${cipher}; leave out cipher, which the file knows`;
      return undefined;
  }
}

function wrongKind(given: SecretKind): string {
  return given === "raw"
    ? "the database opens with a passphrase, and a raw key was given"
    : "the database opens with a raw key, and a passphrase was given";
}

function invalid(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_CONFIG", message);
}
