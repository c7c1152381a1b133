/**
 * Locks the data key into a slot and takes it out again.
 *
 *     raw key (32 bytes) -------------------+
 *                                           +-> HKDF(slot salt, prefix) -> KEK -+-> check
 *     passphrase -> Argon2id(salt, params) -+                                   +-> wrap key -> wrapped data key
 *                                                                               +-> commitment
 *     data key -> page MAC over (header page's first sector, slot)
 *
 * How a slot is judged against a secret, in this order:
 *
 *     check  commitment   verdict
 *     no     no           "mismatch": another secret. The only way to EMDB_KEY_MISMATCH.
 *     no     yes          "tampered": the commitment proves the secret, so the check was changed
 *     yes    no           "tampered": the check proves the secret, so wrapped key, cipher or commitment was changed
 *     yes    yes          unwrap, then compare the page MAC; a failure of either is "tampered"
 *
 * Invariants
 * 1. Both comparisons are of HMAC/HKDF outputs under the KEK, which commit to it (GCM does not), and take
 *    constant time. So no crafted slot opens under two secrets, nor tells by its error which of several
 *    secrets was tried (the partitioning oracle of Len, Grubbs and Ristenpart, 2021).
 * 2. Each KEK comes from a fresh random salt and wraps one key once: the wrap's nonce may be zero.
 * 3. The page MAC binds the slot to the file: id, generation, flags and cipher stand in the first sector.
 *    It needs only the data key, so that a compaction can carry slots over without asking for the secret.
 *
 * A changed salt, or Argon2 parameters changed within their bounds and with a repaired checksum, is a
 * mismatch: they change the KEK itself, so nothing can tell them from another secret.
 */

import { assert } from "../errors.ts";
import { NONCE_BYTES, TAG_BYTES } from "./aead.ts";
import { createAead } from "./create-aead.ts";
import { cipherNumber, type Cipher } from "./cipher.ts";
import { authenticate, deriveKey, wholeNumber } from "./derive.ts";
import { encodeSlotPrefix, slotBeforePageMac, type KeySlot, type SlotPrefix } from "./key-slot.ts";
import { equalsInConstantTime, secretBuffer, KEY_BYTES, SecretKey } from "./secret.ts";

/** What a slot is bound to: the header page's first sector, as it is on disk, and the cipher it names. */
export interface SlotHome {
  readonly sector: Uint8Array;
  readonly cipher: Cipher;
}

export type LockVerdict =
  | { readonly kind: "open"; readonly dataKey: SecretKey }
  | { readonly kind: "mismatch" }
  | { readonly kind: "tampered"; readonly reason: string };

const ZERO_NONCE = new Uint8Array(NONCE_BYTES);

/** A slot for a secret. `inputKey` is the raw key, or the stretched passphrase. */
export function lockSlot(
  dataKey: SecretKey,
  lock: SlotPrefix & { readonly inputKey: SecretKey; readonly home: SlotHome },
): KeySlot {
  const prefix = { kind: lock.kind, argon2: lock.argon2, salt: lock.salt };
  using kek = slotKek(prefix, lock.inputKey);
  using wrapKey = deriveKey(kek.bytes, { label: "emdb 1 slot wrap" });
  const wrappedKey = new Uint8Array(KEY_BYTES + TAG_BYTES);
  const context = { nonce: ZERO_NONCE, associatedData: wrapContext(prefix, lock.home.cipher) };
  createAead(lock.home.cipher, wrapKey).sealInto(dataKey.bytes, context, { into: wrappedKey, at: 0 });
  const commitment = commitmentOf(kek, { prefix, wrappedKey, cipher: lock.home.cipher });
  return bindSlot({ ...prefix, check: checkOf(kek), wrappedKey, commitment }, { dataKey, sector: lock.home.sector });
}

/** Tries a secret on a slot. The caller wipes the data key. */
export function tryLock(
  slot: KeySlot,
  attempt: { readonly inputKey: SecretKey; readonly home: SlotHome },
): LockVerdict {
  const { home } = attempt;
  using kek = slotKek(slot, attempt.inputKey);
  const isChecked = equalsInConstantTime(checkOf(kek), slot.check);
  const commitment = commitmentOf(kek, { prefix: slot, wrappedKey: slot.wrappedKey, cipher: home.cipher });
  const isCommitted = equalsInConstantTime(commitment, slot.commitment);
  if (!isChecked && !isCommitted) return { kind: "mismatch" };
  if (!isChecked) return { kind: "tampered", reason: "its key check was changed" };
  if (!isCommitted) return { kind: "tampered", reason: "its wrapped key or the cipher was changed" };

  using wrapKey = deriveKey(kek.bytes, { label: "emdb 1 slot wrap" });
  const context = { nonce: ZERO_NONCE, associatedData: wrapContext(slot, home.cipher) };
  const dataKey = new SecretKey(secretBuffer(KEY_BYTES));
  const whole = { at: 0, bytes: slot.wrappedKey.length };
  if (!createAead(home.cipher, wrapKey).openInto(slot.wrappedKey, context, whole, dataKey.bytes)) {
    dataKey.wipe();
    return { kind: "tampered", reason: "its wrapped key does not open" };
  }
  if (!isBound(slot, { dataKey, sector: home.sector })) {
    dataKey.wipe();
    return { kind: "tampered", reason: "it belongs to another file or the header page was changed" };
  }
  return { kind: "open", dataKey };
}

/** Whether a slot's page MAC holds for a header sector. */
export function isBound(slot: KeySlot, page: { readonly dataKey: SecretKey; readonly sector: Uint8Array }): boolean {
  return equalsInConstantTime(pageMacOf(slot, page), slot.pageMac);
}

/** The slot with the page MAC for a header sector. */
export function bindSlot(
  slot: Omit<KeySlot, "pageMac">,
  page: { readonly dataKey: SecretKey; readonly sector: Uint8Array },
): KeySlot {
  return { ...slot, pageMac: pageMacOf(slot, page) };
}

function pageMacOf(
  slot: Omit<KeySlot, "pageMac">,
  page: { readonly dataKey: SecretKey; readonly sector: Uint8Array },
): Uint8Array {
  assert(page.sector.length > 0, "a header sector has bytes");
  return authenticate(page.dataKey, { label: "emdb 1 page", parts: [page.sector, slotBeforePageMac(slot)] });
}

function slotKek(prefix: SlotPrefix, inputKey: SecretKey): SecretKey {
  return deriveKey(inputKey.bytes, { label: "emdb 1 slot", salt: prefix.salt, parts: [encodeSlotPrefix(prefix)] });
}

function checkOf(kek: SecretKey): Uint8Array {
  return deriveKey(kek.bytes, { label: "emdb 1 slot check" }).bytes;
}

function commitmentOf(
  kek: SecretKey,
  covers: { readonly prefix: SlotPrefix; readonly wrappedKey: Uint8Array; readonly cipher: Cipher },
): Uint8Array {
  const parts = [wrapContext(covers.prefix, covers.cipher), covers.wrappedKey];
  return authenticate(kek, { label: "emdb 1 slot commitment", parts });
}

function wrapContext(prefix: SlotPrefix, cipher: Cipher): Uint8Array {
  const encoded = encodeSlotPrefix(prefix);
  const context = new Uint8Array(encoded.length + 8);
  context.set(encoded);
  context.set(wholeNumber(cipherNumber(cipher)), encoded.length);
  return context;
}
