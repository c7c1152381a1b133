/**
 * A session: one open of a database for writing. Its SESSION records, two with one salt side by side, stand in the
 * log before anything that is sealed in it; its key seals and nothing else. Never renumber: the record is on disk.
 *
 *     0          32       64
 *     +----------+--------+
 *     | salt     | MAC    |
 *     +----------+--------+
 *
 *     MAC          HMAC under the data key over file id, generation, the record's lsn, the MAC of the record
 *                  before it (zeros for the first), and the salt
 *     session key  HKDF(data key, salt; file id, generation, cipher)
 *
 * Invariants
 * 1. The salt is fresh from the system's random source for every open that writes, every compaction, backup
 *    and image. So a log that a crash cut back, and that is then written anew at the same positions, is
 *    sealed under another key: counters that begin again at 0 repeat no (key, nonce) pair.
 * 2. The record is in the clear: a salt is no secret, and readers need it. The MAC tells a forged or moved one.
 * 3. The chain of MACs ties each session to the whole line before it: the sessions of two files that share
 *    a data key (a database and its backup, written to separately) cannot be spliced.
 * 4. An image's key (`deriveImageKey`) has its own label, so that its counter is a line of its own.
 *
 * Source: RFC 5869, section 3.1 (a random salt makes separate keys from one); deriving a key per session so
 * that a counter is enough: NIST SP 800-38D, 8.2.1 (deterministic construction).
 */

import { assert } from "../errors.ts";
import { cipherNumber, type Cipher } from "./cipher.ts";
import { authenticate, deriveKey, MAC_BYTES, wholeNumber } from "./derive.ts";
import { equalsInConstantTime, type SecretKey } from "./secret.ts";

export const SESSION_SALT_BYTES = 32;
const SALT_AT = 0;
const MAC_AT = SALT_AT + SESSION_SALT_BYTES;
export const SESSION_RECORD_BYTES = MAC_AT + MAC_BYTES;
assert(SESSION_RECORD_BYTES === 64, "a session record has 64 bytes");

/** Stands for the session before the first. */
export const NO_SESSION_MAC: Uint8Array = new Uint8Array(MAC_BYTES);

/** The file that a session belongs to. */
export interface SessionHome {
  readonly fileId: Uint8Array;
  readonly generation: number;
}

/** Where a session record stands. */
export interface SessionPlace extends SessionHome {
  readonly lsn: number;
  /** `NO_SESSION_MAC`, or the `mac` of the session before it in the log. */
  readonly previousMac: Uint8Array;
}

export interface Session {
  readonly salt: Uint8Array;
  readonly mac: Uint8Array;
}

/** A session record for a place; `salt` is fresh random bytes (invariant 1). */
export function makeSession(dataKey: SecretKey, place: SessionPlace & { readonly salt: Uint8Array }): Session {
  return { salt: place.salt.slice(), mac: sessionMac(dataKey, place) };
}

export function encodeSession(session: Session): Uint8Array {
  const bytes = new Uint8Array(SESSION_RECORD_BYTES);
  bytes.set(session.salt, SALT_AT);
  bytes.set(session.mac, MAC_AT);
  return bytes;
}

/** What a record says, unproven. */
export function parseSession(bytes: Uint8Array): Session {
  assert(bytes.length === SESSION_RECORD_BYTES, "a session record has 64 bytes");
  return { salt: bytes.slice(SALT_AT, MAC_AT), mac: bytes.slice(MAC_AT, SESSION_RECORD_BYTES) };
}

/** The session of a record read at a place; undefined when this data key did not write it there. */
export function decodeSession(bytes: Uint8Array, dataKey: SecretKey, place: SessionPlace): Session | undefined {
  if (bytes.length !== SESSION_RECORD_BYTES) return undefined;
  const { salt, mac } = parseSession(bytes);
  if (!equalsInConstantTime(mac, sessionMac(dataKey, { ...place, salt }))) return undefined;
  return { salt, mac };
}

/** The key that seals a session's frames. The caller wipes it. */
export function deriveSessionKey(
  dataKey: SecretKey,
  session: SessionHome & { readonly cipher: Cipher; readonly salt: Uint8Array },
): SecretKey {
  return deriveSealKey("emdb 1 session seal", dataKey, session);
}

/** The key that seals one checkpoint image; `salt` is fresh random bytes that stand in the image. The caller wipes it. */
export function deriveImageKey(
  dataKey: SecretKey,
  image: SessionHome & { readonly cipher: Cipher; readonly salt: Uint8Array },
): SecretKey {
  return deriveSealKey("emdb 1 image seal", dataKey, image);
}

function deriveSealKey(
  label: "emdb 1 session seal" | "emdb 1 image seal",
  dataKey: SecretKey,
  from: SessionHome & { readonly cipher: Cipher; readonly salt: Uint8Array },
): SecretKey {
  checkSalt(from.salt);
  const parts = [from.fileId, wholeNumber(from.generation), wholeNumber(cipherNumber(from.cipher))];
  return deriveKey(dataKey.bytes, { label, salt: from.salt, parts });
}

function sessionMac(dataKey: SecretKey, place: SessionPlace & { readonly salt: Uint8Array }): Uint8Array {
  checkSalt(place.salt);
  assert(place.previousMac.length === MAC_BYTES, "the MAC before it has 32 bytes");
  const parts = [place.fileId, wholeNumber(place.generation), wholeNumber(place.lsn), place.previousMac, place.salt];
  return authenticate(dataKey, { label: "emdb 1 session record", parts });
}

function checkSalt(salt: Uint8Array): void {
  assert(salt.length === SESSION_SALT_BYTES, "a session salt has 32 bytes");
}
