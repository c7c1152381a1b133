/**
 * A key slot: one sector of the header page that holds the file's data key, wrapped under one secret.
 * Never renumber: all of it is on disk. Numbers are little endian.
 *
 *     0     4      5    6     8        12      16     20       24    56     88       136         168    200   508  512
 *     +-----+------+----+-----+--------+-------+------+--------+-----+------+--------+-----------+------+-----+-----+
 *     |magic|layout|kind|zero | memory |passes |lanes | argon2 |salt |check |wrapped | commitment| page | zero|crc32|
 *     |     |  1   |    |     |  KiB   |       |      | version|     |      |data key|           | MAC  |     |     |
 *     +-----+------+----+-----+--------+-------+------+--------+-----+------+--------+-----------+------+-----+-----+
 *     |<------------------- prefix: names the secret ------------------>|
 *
 *     kind         1 raw key (the four Argon2 words are zero), 2 passphrase
 *     salt         32 random bytes, fresh for each slot that is written
 *     check        HKDF of the key-encryption key: tells a wrong secret before anything is opened
 *     wrapped      the data key sealed by the file's cipher, 32 + 16 bytes
 *     commitment   HMAC under the key-encryption key over cipher, prefix and wrapped key
 *     page MAC     HMAC under the data key over the header page's first sector and all of the slot before it
 *     crc32        of the 508 bytes before it: tells a slot that was half written; no help against an attacker
 *
 * Invariants
 * 1. A slot is a whole sector at a multiple of 512: a write of one cannot tear into another.
 * 2. All zeros is an empty slot. Otherwise every byte means something: unused ones are zero, and
 *    `encodeKeySlot(decodeKeySlot(bytes))` is `bytes`.
 */

import { assert } from "../errors.ts";
import { compare } from "../ffi/memory.ts";
import { TAG_BYTES } from "./aead.ts";
import { ARGON2_VERSION, argon2Problem, type Argon2Parameters } from "./argon2.ts";
import { MAC_BYTES } from "./derive.ts";
import { KEY_BYTES } from "./secret.ts";

/** What opens a slot. */
export type SecretKind = "raw" | "passphrase";

export const SLOT_SALT_BYTES = 32;

/** "EKSL" */
const MAGIC = 0x4c534b45;
const LAYOUT = 1;
const KIND_RAW = 1;
const KIND_PASSPHRASE = 2;

const MAGIC_AT = 0;
const LAYOUT_AT = MAGIC_AT + 4;
const KIND_AT = LAYOUT_AT + 1;
const ZERO_AT = KIND_AT + 1;
const MEMORY_AT = ZERO_AT + 2;
const PASSES_AT = MEMORY_AT + 4;
const LANES_AT = PASSES_AT + 4;
const VERSION_AT = LANES_AT + 4;
const SALT_AT = VERSION_AT + 4;
const CHECK_AT = SALT_AT + SLOT_SALT_BYTES;
const WRAPPED_AT = CHECK_AT + KEY_BYTES;
const COMMITMENT_AT = WRAPPED_AT + KEY_BYTES + TAG_BYTES;
const PAGE_MAC_AT = COMMITMENT_AT + MAC_BYTES;
const UNUSED_AT = PAGE_MAC_AT + MAC_BYTES;
const UNUSED_BYTES = 308;
const CRC_AT = UNUSED_AT + UNUSED_BYTES;

/** A sector: what disks write whole or not at all. */
export const KEY_SLOT_BYTES = CRC_AT + 4;
assert(KEY_SLOT_BYTES === 512, "a slot is one sector");

/** What a slot says. `argon2` is there exactly when `kind` is "passphrase". */
export interface KeySlot {
  readonly kind: SecretKind;
  readonly argon2: Argon2Parameters | undefined;
  readonly salt: Uint8Array;
  readonly check: Uint8Array;
  readonly wrappedKey: Uint8Array;
  readonly commitment: Uint8Array;
  readonly pageMac: Uint8Array;
}

export type KeySlotVerdict =
  | { readonly kind: "slot"; readonly slot: KeySlot }
  | { readonly kind: "empty" }
  /** Half written, rotten or forged: nothing of it is believed. */
  | { readonly kind: "damaged"; readonly reason: string };

/** What a slot says before any key is known: all that its key-encryption key depends on. */
export type SlotPrefix = Pick<KeySlot, "kind" | "argon2" | "salt">;

/** The bytes of a prefix, as they stand at the start of its slot. */
export function encodeSlotPrefix(prefix: SlotPrefix): Uint8Array {
  assert(
    (prefix.kind === "passphrase") === (prefix.argon2 !== undefined),
    "a passphrase has Argon2 parameters, a key has none",
  );
  const bytes = new Uint8Array(CHECK_AT);
  const view = new DataView(bytes.buffer);
  view.setUint32(MAGIC_AT, MAGIC, true);
  bytes[LAYOUT_AT] = LAYOUT;
  bytes[KIND_AT] = prefix.kind === "raw" ? KIND_RAW : KIND_PASSPHRASE;
  if (prefix.argon2 !== undefined) {
    view.setUint32(MEMORY_AT, prefix.argon2.memoryKiB, true);
    view.setUint32(PASSES_AT, prefix.argon2.passes, true);
    view.setUint32(LANES_AT, prefix.argon2.lanes, true);
    view.setUint32(VERSION_AT, ARGON2_VERSION, true);
  }
  put(bytes, { at: SALT_AT, bytes: SLOT_SALT_BYTES, from: prefix.salt });
  return bytes;
}

/** The sector of a slot. */
export function encodeKeySlot(slot: KeySlot): Uint8Array {
  const sector = new Uint8Array(KEY_SLOT_BYTES);
  sector.set(encodeSlotPrefix(slot));
  put(sector, { at: CHECK_AT, bytes: KEY_BYTES, from: slot.check });
  put(sector, { at: WRAPPED_AT, bytes: KEY_BYTES + TAG_BYTES, from: slot.wrappedKey });
  put(sector, { at: COMMITMENT_AT, bytes: MAC_BYTES, from: slot.commitment });
  put(sector, { at: PAGE_MAC_AT, bytes: MAC_BYTES, from: slot.pageMac });
  new DataView(sector.buffer).setUint32(CRC_AT, crcOf(sector), true);
  return sector;
}

/** The part of a slot that its page MAC covers besides the header page's first sector. */
export function slotBeforePageMac(slot: Omit<KeySlot, "pageMac">): Uint8Array {
  return encodeKeySlot({ ...slot, pageMac: new Uint8Array(MAC_BYTES) }).subarray(0, PAGE_MAC_AT);
}

/** Judges a sector. What it returns holds copies. */
export function decodeKeySlot(sector: Uint8Array): KeySlotVerdict {
  assert(sector.length === KEY_SLOT_BYTES, "a slot is one sector");
  if (isZero(sector)) return { kind: "empty" };
  const view = new DataView(sector.buffer, sector.byteOffset, sector.length);
  if (view.getUint32(CRC_AT, true) !== crcOf(sector)) return damaged("its checksum does not match");
  if (view.getUint32(MAGIC_AT, true) !== MAGIC) return damaged("it does not begin as a slot");
  if (sector[LAYOUT_AT] !== LAYOUT) return damaged(`layout ${sector[LAYOUT_AT]} is not ${LAYOUT}`);
  if (!isZero(sector.subarray(ZERO_AT, MEMORY_AT)) || !isZero(sector.subarray(UNUSED_AT, CRC_AT))) {
    return damaged("unused bytes are not zero");
  }
  const copy = (at: number, bytes: number) => sector.slice(at, at + bytes);
  const rest = {
    salt: copy(SALT_AT, SLOT_SALT_BYTES),
    check: copy(CHECK_AT, KEY_BYTES),
    wrappedKey: copy(WRAPPED_AT, KEY_BYTES + TAG_BYTES),
    commitment: copy(COMMITMENT_AT, MAC_BYTES),
    pageMac: copy(PAGE_MAC_AT, MAC_BYTES),
  };
  switch (sector[KIND_AT]) {
    case KIND_RAW: {
      if (!isZero(sector.subarray(MEMORY_AT, SALT_AT))) return damaged("a raw key has no Argon2 parameters");
      return { kind: "slot", slot: { kind: "raw", argon2: undefined, ...rest } };
    }
    case KIND_PASSPHRASE: {
      const argon2 = {
        memoryKiB: view.getUint32(MEMORY_AT, true),
        passes: view.getUint32(PASSES_AT, true),
        lanes: view.getUint32(LANES_AT, true),
      };
      const version = view.getUint32(VERSION_AT, true);
      const problem =
        version === ARGON2_VERSION ? argon2Problem(argon2) : `Argon2 version ${version} is not ${ARGON2_VERSION}`;
      if (problem !== undefined) return damaged(problem);
      return { kind: "slot", slot: { kind: "passphrase", argon2, ...rest } };
    }
    default:
      return damaged(`kind ${sector[KIND_AT]} is neither a raw key nor a passphrase`);
  }
}

/** Whether every byte is zero. A loop over a page is compiled to machine code by each start of a program that opens a database. */
export function isZero(bytes: Uint8Array): boolean {
  if (bytes.length < 2) return (bytes[0] ?? 0) === 0;
  // The first is, and each equals the one before it.
  return bytes[0] === 0 && compare(bytes, bytes.subarray(1), bytes.length - 1) === 0;
}

function damaged(reason: string): KeySlotVerdict {
  return { kind: "damaged", reason };
}

function crcOf(sector: Uint8Array): number {
  return Bun.hash.crc32(sector.subarray(0, CRC_AT));
}

function put(
  into: Uint8Array,
  field: { readonly at: number; readonly bytes: number; readonly from: Uint8Array },
): void {
  assert(
    field.from.length === field.bytes,
    `the field at ${field.at} has ${field.bytes} bytes, not ${field.from.length}`,
  );
  into.set(field.from, field.at);
}
