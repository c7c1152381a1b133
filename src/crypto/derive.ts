/**
 * Keys from keys: HKDF-SHA-256 (RFC 5869) and HMAC-SHA-256 (RFC 2104), with one way to write what they cover.
 *
 *     info, message  =  label | 0x00 | for each part: u32 length (little endian), bytes
 *
 * Invariants
 * 1. A label is used for one purpose; a key is used under one label. Labels are never renamed: they are on
 *    disk through everything that was derived with them.
 * 2. Parts carry their lengths, so that no two lists of parts give the same bytes.
 */

import { assert } from "../errors.ts";
import { nobleHashes } from "./packages.ts";
import { KEY_BYTES, secretBuffer, SecretKey, wipe } from "./secret.ts";
import { systemHmac, type Hmac } from "./system-hmac.ts";

/** What a derived key or a MAC is for. Never rename. */
export type Label =
  | "emdb 1 slot"
  | "emdb 1 slot check"
  | "emdb 1 slot wrap"
  | "emdb 1 slot commitment"
  | "emdb 1 page"
  | "emdb 1 session record"
  | "emdb 1 session seal"
  | "emdb 1 image seal";

/** Bytes of an HMAC-SHA-256. */
export const MAC_BYTES = 32;

const EMPTY = new Uint8Array(0);

/** What a key is derived for. */
export interface Derivation {
  readonly label: Label;
  /** RFC 5869, 3.1: random, not secret. Without one the input key must already be uniformly random. */
  readonly salt?: Uint8Array;
  readonly parts?: readonly Uint8Array[];
}

/** A key of 32 bytes for one purpose, by HKDF-SHA-256. The caller wipes it. */
export function deriveKey(inputKey: Uint8Array, derivation: Derivation): SecretKey {
  const info = covered(derivation.label, derivation.parts ?? []);
  return new SecretKey(hkdfSha256(inputKey, { salt: derivation.salt ?? EMPTY, info, bytes: KEY_BYTES }));
}

/** HMAC-SHA-256 as a package has it. */
export const packageHmac: Hmac = (key, message) => {
  const { hmac, sha256 } = nobleHashes();
  return hmac(sha256, key, message);
};

function hmacSha256(): Hmac {
  return systemHmac() ?? packageHmac;
}

/** HKDF-SHA-256 as RFC 5869 has it: extract, then expand, each by HMAC. */
export function hkdfSha256(
  inputKey: Uint8Array,
  options: { readonly salt: Uint8Array; readonly info: Uint8Array; readonly bytes: number },
  hmac = hmacSha256(),
): Uint8Array {
  const { salt, info, bytes } = options;
  assert(bytes > 0 && bytes <= 255 * MAC_BYTES, "HKDF gives up to 255 blocks");
  const extracted = hmac(salt, inputKey);
  const output = secretBuffer(bytes);
  let block: Uint8Array = EMPTY;
  for (let at = 0; at < bytes; at += MAC_BYTES) {
    const message = secretBuffer(block.length + info.length + 1);
    message.set(block);
    message.set(info, block.length);
    message[message.length - 1] = at / MAC_BYTES + 1;
    wipe(block);
    block = hmac(extracted, message);
    output.set(block.subarray(0, bytes - at), at);
    wipe(message);
  }
  wipe(block);
  wipe(extracted);
  return output;
}

/** HMAC-SHA-256 over a label and parts, under a key that is derived from `key` for that label alone. */
export function authenticate(
  key: SecretKey,
  covers: { readonly label: Label; readonly parts: readonly Uint8Array[] },
): Uint8Array {
  using macKey = deriveKey(key.bytes, { label: covers.label });
  const mac = hmacSha256()(macKey.bytes, covered(covers.label, covers.parts));
  assert(mac.length === MAC_BYTES, "HMAC-SHA-256 gives 32 bytes");
  return mac;
}

/** A whole number as 8 bytes, little endian, for a part. */
export function wholeNumber(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  writeWholeNumber(bytes, { at: 0, value });
  return bytes;
}

/** Writes a whole number as 8 bytes, little endian. */
export function writeWholeNumber(into: Uint8Array, number: { readonly at: number; readonly value: number }): void {
  const { at, value } = number;
  assert(Number.isSafeInteger(value) && value >= 0, "a whole number is exact and not negative");
  writeWord(into, at, value % 4294967296);
  writeWord(into, at + 4, Math.floor(value / 4294967296));
}

function writeWord(into: Uint8Array, at: number, value: number): void {
  into[at] = value & 255;
  into[at + 1] = (value >>> 8) & 255;
  into[at + 2] = (value >>> 16) & 255;
  into[at + 3] = (value >>> 24) & 255;
}

/** The bytes that a label and parts stand for (see the top). Holds no secret: parts are public. */
function covered(label: Label, parts: readonly Uint8Array[]): Uint8Array {
  let bytes = label.length + 1;
  for (const part of parts) bytes += 4 + part.length;
  const joined = new Uint8Array(bytes);
  for (let index = 0; index < label.length; index++) joined[index] = label.charCodeAt(index);
  let at = label.length + 1;
  for (const part of parts) {
    writeWord(joined, at, part.length);
    joined.set(part, at + 4);
    at += 4 + part.length;
  }
  assert(at === bytes, "the parts fill what was counted");
  return joined;
}
