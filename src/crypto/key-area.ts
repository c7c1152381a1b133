/**
 * The key area: what the header page holds behind its first sector. Never renumber: it is on disk.
 *
 *     512        1024       1536                4096
 *     +----------+----------+-------------------+
 *     | slot 0   | slot 1   | zero              |
 *     +----------+----------+-------------------+
 *
 * One slot is in use; the other is empty, except while the secret is being changed:
 *
 *     step                              slot in use   the other   opens with
 *     before                            old           empty       old
 *     1  write the new slot             old           torn        old
 *        sync                           old           new         old, new
 *     2  zero the old slot              torn          new         new (old, until its sector is on the disk)
 *        sync                           empty         new         new
 *
 * Invariants
 * 1. A step writes one slot, never the one that the next open would depend on; each is synced before the
 *    next begins. So whatever a crash leaves, also a sector torn at any byte, one whole slot stands.
 * 2. A damaged slot counts for nothing beside a sound one (a crash may have left it) and is
 *    EMDB_CORRUPTED when there is no sound one.
 * 3. Slots are not bound to each other, else writing one would break the other. An old slot that somebody
 *    kept a copy of can therefore be put back: see docs/security.md on changing a secret.
 */

import { assert, EmdbError } from "../errors.ts";
import type { StretchRequest } from "./argon2.ts";
import type { CallerSecret } from "./caller-secret.ts";
import {
  decodeKeySlot,
  encodeKeySlot,
  isZero,
  KEY_SLOT_BYTES,
  type KeySlot,
  type KeySlotVerdict,
  type SecretKind,
} from "./key-slot.ts";
import { bindSlot, isBound, tryLock, type SlotHome } from "./slot-lock.ts";
import { secretCopy, SecretKey } from "./secret.ts";

/** Where the key area begins in the file: behind the header page's first sector. */
export const KEY_AREA_OFFSET = 512;
export const KEY_SLOT_COUNT = 2;
const UNUSED_AT = KEY_SLOT_COUNT * KEY_SLOT_BYTES;
const UNUSED_BYTES = 2560;
/** The key area fills the header page to its end. */
export const KEY_AREA_BYTES = UNUSED_AT + UNUSED_BYTES;
assert(KEY_AREA_OFFSET + KEY_AREA_BYTES === 4096, "first sector and key area make the header page");

export type SlotIndex = 0 | 1;

/** The header page of an encrypted file, as it is on disk. */
export interface KeyPage extends SlotHome {
  readonly keyArea: Uint8Array;
}

export interface Unlocked {
  readonly dataKey: SecretKey;
  /** The slot that the secret opened. */
  readonly slotIndex: SlotIndex;
}

/** One write to the file, to be synced before the next. */
export interface SlotWrite {
  readonly fileOffset: number;
  readonly bytes: Uint8Array;
}

/** The key area of a new file. */
export function encodeKeyArea(slot: KeySlot): Uint8Array {
  const area = new Uint8Array(KEY_AREA_BYTES);
  area.set(encodeKeySlot(slot));
  return area;
}

/**
 * What kinds of secret the sound slots take, each once: for the table of `open-matrix.ts`.
 *
 * @throws {EmdbError} EMDB_CORRUPTED when there is no sound slot, or when bytes behind the slots are not zero.
 */
export function slotKinds(keyArea: Uint8Array): readonly SecretKind[] {
  const kinds = new Set<SecretKind>();
  for (const { slot } of soundSlots(keyArea)) kinds.add(slot.kind);
  return [...kinds];
}

/**
 * Takes the data key out, stretching a passphrase on this thread; the caller wipes it.
 *
 * @throws {EmdbError} EMDB_KEY_MISMATCH when the secret is another one; EMDB_CORRUPTED with the slot's offset
 * when it is the right one and the page was changed; EMDB_INVALID_CONFIG when no slot takes this kind.
 */
export function unlock(page: KeyPage, secret: CallerSecret, stretch: (request: StretchRequest) => SecretKey): Unlocked {
  const steps = unlocking(page, secret);
  let step = steps.next();
  while (step.done !== true) step = steps.next(stretch(step.value));
  return step.value;
}

/** As `unlock`, for work that is asynchronous anyway. */
export async function unlockLater(
  page: KeyPage,
  secret: CallerSecret,
  stretch: (request: StretchRequest) => Promise<SecretKey>,
): Promise<Unlocked> {
  const steps = unlocking(page, secret);
  let step = steps.next();
  while (step.done !== true) step = steps.next(await stretch(step.value));
  return step.value;
}

/**
 * The writes that put a new slot in the place of the opened one. After each the file is to be synced; a
 * crash between them leaves both secrets valid, and doing it again, with either, ends well.
 */
export function replaceSlot(opened: SlotIndex, slot: KeySlot): readonly SlotWrite[] {
  const other = opened === 0 ? 1 : 0;
  return [
    { fileOffset: slotOffset(other), bytes: encodeKeySlot(slot) },
    { fileOffset: slotOffset(opened), bytes: new Uint8Array(KEY_SLOT_BYTES) },
  ];
}

/**
 * The key area for another first sector of the same database: a compaction or a backup changes the
 * generation. Takes over the slots whose page MAC holds; one that does not is left behind, never blessed.
 *
 * @throws {EmdbError} EMDB_CORRUPTED when no slot is left.
 */
export function carryKeyArea(
  page: KeyPage,
  next: { readonly dataKey: SecretKey; readonly sector: Uint8Array },
): Uint8Array {
  const area = new Uint8Array(KEY_AREA_BYTES);
  let carried = 0;
  for (const { slot, index } of soundSlots(page.keyArea)) {
    if (!isBound(slot, { dataKey: next.dataKey, sector: page.sector })) continue;
    area.set(encodeKeySlot(bindSlot(slot, next)), index * KEY_SLOT_BYTES);
    carried += 1;
  }
  if (carried === 0) throw corrupted("no key slot belongs to the header page", slotOffset(0));
  return area;
}

/**
 * Tells whether the page is still what the data key signed: once more after opening, by verify, or before a
 * change of the secret.
 */
export function isPageSound(page: KeyPage, dataKey: SecretKey): boolean {
  return soundSlots(page.keyArea).some(({ slot }) => isBound(slot, { dataKey, sector: page.sector }));
}

/** Whether the key area is what a database without encryption has there. */
export function isKeyAreaEmpty(keyArea: Uint8Array): boolean {
  return isZero(keyArea);
}

/** Asks for each stretching it needs, at most one for each slot, and is given the key, which it wipes. */
function* unlocking(page: KeyPage, secret: CallerSecret): Generator<StretchRequest, Unlocked, SecretKey> {
  let candidates = 0;
  let tampered: EmdbError | undefined;
  for (const { slot, index } of soundSlots(page.keyArea)) {
    if (slot.kind !== secret.kind) continue;
    candidates += 1;
    const request = slot.argon2 && { passphrase: secret.bytes, salt: slot.salt, parameters: slot.argon2 };
    using inputKey = request === undefined ? new SecretKey(secretCopy(secret.bytes)) : yield request;
    const verdict = tryLock(slot, { inputKey, home: page });
    switch (verdict.kind) {
      case "open":
        return { dataKey: verdict.dataKey, slotIndex: index };
      case "tampered":
        tampered ??= corrupted(
          `the secret is right, but key slot ${index} is not as it was written: ${verdict.reason}`,
          slotOffset(index),
        );
        break;
      case "mismatch":
        break;
    }
  }
  if (tampered !== undefined) throw tampered;
  if (candidates === 0) throw new EmdbError("EMDB_INVALID_CONFIG", `no key slot takes a ${secret.kind} secret`);
  throw new EmdbError(
    "EMDB_KEY_MISMATCH",
    `the ${secret.kind === "raw" ? "key" : "passphrase"} is not this database's; nothing but the right one opens it`,
  );
}

/**
 * For salvage: takes back what rot has done to a key area, as far as checks tell, one flipped bit in each slot and anything
 * behind them. Nothing is believed for it: a secret still opens only what was sealed.
 */
export function mendKeyArea(keyArea: Uint8Array): void {
  keyArea.fill(0, UNUSED_AT);
  for (let at = 0; at < UNUSED_AT; at += KEY_SLOT_BYTES) {
    const sector = keyArea.subarray(at, at + KEY_SLOT_BYTES);
    if (decodeKeySlot(sector).kind === "damaged") mendSlot(sector);
  }
}

function mendSlot(sector: Uint8Array): void {
  for (let bit = 0; bit < KEY_SLOT_BYTES * 8; bit++) {
    sector[bit >> 3]! ^= 1 << (bit & 7);
    // Also the empty slot of which one bit was set.
    if (decodeKeySlot(sector).kind !== "damaged") return;
    sector[bit >> 3]! ^= 1 << (bit & 7);
  }
}

interface SoundSlot {
  readonly index: SlotIndex;
  readonly slot: KeySlot;
}

function soundSlots(keyArea: Uint8Array): readonly SoundSlot[] {
  assert(keyArea.length === KEY_AREA_BYTES, `the key area has ${KEY_AREA_BYTES} bytes`);
  if (!isZero(keyArea.subarray(UNUSED_AT))) {
    throw corrupted("bytes behind the key slots are not zero", KEY_AREA_OFFSET + UNUSED_AT);
  }
  const sound: SoundSlot[] = [];
  let first: { readonly index: SlotIndex; readonly reason: string } | undefined;
  for (const index of [0, 1] as const) {
    const verdict: KeySlotVerdict = decodeKeySlot(
      keyArea.subarray(index * KEY_SLOT_BYTES, (index + 1) * KEY_SLOT_BYTES),
    );
    if (verdict.kind === "slot") sound.push({ index, slot: verdict.slot });
    if (verdict.kind === "damaged") first ??= { index, reason: verdict.reason };
  }
  if (sound.length > 0) return sound;
  if (first === undefined) throw corrupted("the header page says encrypted and has no key slot", slotOffset(0));
  throw corrupted(`key slot ${first.index} is damaged and there is no other: ${first.reason}`, slotOffset(first.index));
}

function slotOffset(index: SlotIndex): number {
  return KEY_AREA_OFFSET + index * KEY_SLOT_BYTES;
}

function corrupted(message: string, offset: number): EmdbError {
  return new EmdbError("EMDB_CORRUPTED", `${message} (offset ${offset})`, { offset });
}
