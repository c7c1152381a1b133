/** What the tests of src/crypto share: hex, seeded bytes, a cheap stand-in for Argon2, a made-up header page. */

import { createHash } from "node:crypto";
import type { StretchRequest } from "../../src/crypto/argon2.ts";
import { TAG_BYTES, type Aead, type AeadContext, type Span } from "../../src/crypto/aead.ts";
import { CallerSecret } from "../../src/crypto/caller-secret.ts";
import type { Cipher } from "../../src/crypto/cipher.ts";
import { FrameSealer, SEAL_BYTES, type SealPlace } from "../../src/crypto/frame-sealer.ts";
import { encodeKeyArea, type KeyPage } from "../../src/crypto/key-area.ts";
import type { KeySlot } from "../../src/crypto/key-slot.ts";
import { newDataKey, newSlot, type Random } from "../../src/crypto/new-lock.ts";
import { SecretKey } from "../../src/crypto/secret.ts";
import { EmdbError } from "../../src/errors.ts";

export const CIPHERS: readonly Cipher[] = ["aes-256-gcm", "chacha20-poly1305"];

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.fromHex(hex.replaceAll(/\s/g, ""));
}

/** Bytes that depend on the name alone. */
export function bytesOf(name: string, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let at = 0, block = 0; at < count; at += 32, block++) {
    const digest = createHash("sha256").update(`${name}/${block}`).digest();
    bytes.set(digest.subarray(0, Math.min(32, count - at)), at);
  }
  return bytes;
}

export function keyOf(name: string): SecretKey {
  return new SecretKey(bytesOf(name, 32));
}

/** A source of chance that replays. */
export function seeded(name: string): Random {
  let call = 0;
  return (into) => into.set(bytesOf(`${name}#${call++}`, into.length));
}

/** Depends on everything that Argon2id depends on, and costs nothing. */
export function cheapStretch(request: StretchRequest): SecretKey {
  const hash = createHash("sha256").update(JSON.stringify(request.parameters));
  return new SecretKey(Uint8Array.from(hash.update(request.salt).update(request.passphrase).digest()));
}

export const rawSecret = (name = "key"): CallerSecret => new CallerSecret("raw", bytesOf(name, 32));
export const passphrase = (text = "correct horse"): CallerSecret =>
  new CallerSecret("passphrase", new TextEncoder().encode(text));

/** A header page of a file that was just made, and what made it. */
export interface MadePage extends KeyPage {
  readonly slot: KeySlot;
  readonly dataKey: SecretKey;
}

export function madePage(
  options: { readonly name?: string; readonly secret?: CallerSecret; readonly cipher?: Cipher } = {},
): MadePage {
  const { name = "file", secret = rawSecret(), cipher = "aes-256-gcm" } = options;
  const random = seeded(name);
  const dataKey = newDataKey(random);
  const home = { sector: bytesOf(`${name} sector`, 512), cipher };
  const slot = newSlot(dataKey, { secret, home, random }, cheapStretch);
  return { ...home, slot, dataKey, keyArea: encodeKeyArea(slot) };
}

/** What happened: the value, or the code and offset of the EmdbError. Anything else thrown is a failure. */
export function outcome<T>(run: () => T): {
  readonly value?: T;
  readonly code?: string;
  readonly offset?: number | undefined;
  readonly message?: string;
} {
  try {
    return { value: run() };
  } catch (cause) {
    if (!(cause instanceof EmdbError)) throw cause;
    return { code: cause.code, offset: cause.offset, message: cause.message };
  }
}

/** A copy with one bit turned over. */
export function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = bytes.slice();
  copy[bit >> 3]! ^= 1 << (bit & 7);
  return copy;
}

/** What a sealed message says, in an array of its own; undefined when it does not open. Nothing behind it may be written. */
export function opened<Opener extends Aead | FrameSealer>(
  opener: Opener,
  source: Uint8Array,
  context: Opener extends FrameSealer ? SealPlace : AeadContext,
  span: Span = { at: 0, bytes: source.length },
): Uint8Array | undefined {
  const isFrame = opener instanceof FrameSealer;
  const bytes = Math.max(0, span.bytes - (isFrame ? SEAL_BYTES : TAG_BYTES));
  const into = new Uint8Array(bytes + 40).fill(0xee);
  const isOpen = isFrame
    ? opener.openInto(source, context as SealPlace, span, into)
    : opener.openInto(source, context as AeadContext, span, into);
  if (into.subarray(bytes).some((byte) => byte !== 0xee)) throw new Error("something was written behind the plaintext");
  return isOpen ? into.slice(0, bytes) : undefined;
}
