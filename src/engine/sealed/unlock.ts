/**
 * What an open does about encryption: what the header page says against what the caller passed, the data key of a file
 * that is there, and the header page of one that is to be made.
 *
 * Invariant: nothing is written before the secret has been proven; a data key that is returned is the caller's to wipe.
 */

import { stretch, stretchLater } from "../../crypto/argon2.ts";
import { CIPHER_NUMBER_NONE, cipherNumber, cipherOfNumber, type Cipher } from "../../crypto/cipher.ts";
import {
  encodeKeyArea,
  isKeyAreaEmpty,
  KEY_AREA_OFFSET,
  slotKinds,
  unlock,
  unlockLater,
  type SlotIndex,
} from "../../crypto/key-area.ts";
import { newDataKey, newSlot, newSlotLater } from "../../crypto/new-lock.ts";
import { decideOpening, type FileFacts, type Opening } from "../../crypto/open-matrix.ts";
import type { SecretKey } from "../../crypto/secret.ts";
import { EmdbError } from "../../errors.ts";
import type { Pinned } from "../../ffi/memory.ts";
import type { System } from "../../ffi/system.ts";
import { FILE_ID_BYTES, FLAG_ENCRYPTED, encodeHeader, type LogHeader } from "../../log/header.ts";
import type { EngineConfig } from "../life.ts";

/** A sound header and the page that it stands in. */
export interface HeaderPage {
  readonly header: LogHeader;
  readonly page: Uint8Array;
}

/** The keys of an encrypted log. */
export interface LogKeys {
  readonly cipher: Cipher;
  readonly dataKey: SecretKey;
}

type Asked = Pick<EngineConfig, "encryption" | "cipher">;

/** The caller's own copy of a secret, which nobody needs any more. A passphrase is a string, and out of reach. */
export function wipeAsked(asked: Asked): void {
  const { encryption } = asked;
  if (encryption !== undefined && "key" in encryption) encryption.key.fill(0);
}

/** The error with the path that it is about. */
function withPath<T>(path: string | undefined, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw error instanceof EmdbError ? located(error, path) : error;
  }
}

function located(error: EmdbError, path: string | undefined): EmdbError {
  if (error.path !== undefined || path === undefined) return error;
  const message = `${JSON.stringify(path)}: ${error.message}`;
  const { code, offset, syscall, errno, cause } = error;
  return new EmdbError(code, message, { path, offset, syscall, errno, cause });
}

/** The cipher of an encrypted log; undefined for a plain one. @throws {EmdbError} EMDB_VERSION for one to come */
export function cipherOf(header: LogHeader): Cipher | undefined {
  if ((header.flags & FLAG_ENCRYPTED) === 0) return undefined;
  const cipher = cipherOfNumber(header.cipher);
  if (cipher !== undefined) return cipher;
  throw new EmdbError("EMDB_VERSION", `the cipher number ${header.cipher} is not known to this emdb`);
}

/** What to do about a header page that is damaged. */
export const WHAT_HELPS =
  "nothing has been changed. Emdb.salvage copies into a new file what can still be told to be sound";

function factsOf(found: HeaderPage | undefined): FileFacts {
  if (found === undefined) return { kind: "none" };
  const cipher = cipherOf(found.header);
  if (cipher === undefined) return { kind: "plain" };
  return { kind: "encrypted", cipher, slotKinds: slotKinds(found.page.subarray(KEY_AREA_OFFSET)) };
}

function decide(found: HeaderPage | undefined, asked: Asked): Opening {
  const opening = decideOpening(factsOf(found), asked);
  if (opening.kind === "plain" && found !== undefined && !isKeyAreaEmpty(found.page.subarray(KEY_AREA_OFFSET))) {
    const what = "the header page says plain, and its key area is not empty";
    throw new EmdbError("EMDB_CORRUPTED", `${what}; ${WHAT_HELPS}`, { offset: KEY_AREA_OFFSET });
  }
  return opening;
}

/**
 * Refuses what cannot be opened as it was asked, as far as that is to be seen without trying the secret.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG, EMDB_CORRUPTED, EMDB_VERSION
 */
export function refuseMismatch(found: HeaderPage | undefined, asked: Asked, path: string): void {
  withPath(path, () => {
    const opening = decide(found, asked);
    if (opening.kind === "encrypted") opening.secret.wipe();
  });
}

/**
 * Takes the data key of a file out; undefined for a plain one. A passphrase is stretched on this thread.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG, EMDB_KEY_MISMATCH, EMDB_CORRUPTED
 */
export function unlockPage(found: HeaderPage, asked: Asked, path: string): LogKeys | undefined {
  return withPath(path, () => {
    const opening = decide(found, asked);
    if (opening.kind === "plain") return undefined;
    using secret = opening.secret;
    const { cipher } = opening;
    return { cipher, dataKey: unlock(keyPageOf(found, cipher), secret, stretch).dataKey };
  });
}

/** The page as `src/crypto` takes it. */
export function keyPageOf(found: HeaderPage, cipher: Cipher) {
  const { page } = found;
  return { sector: page.subarray(0, KEY_AREA_OFFSET), keyArea: page.subarray(KEY_AREA_OFFSET), cipher };
}

/** A header for a new file. */
function freshHeader(system: System, cipher: Cipher | undefined, generation = 1): LogHeader {
  const fileId = new Uint8Array(FILE_ID_BYTES);
  system.random(fileId);
  const flags = cipher === undefined ? 0 : FLAG_ENCRYPTED;
  const number = cipher === undefined ? CIPHER_NUMBER_NONE : cipherNumber(cipher);
  return { flags, fileId, generation, createdAtMs: system.now(), cipher: number, madeEnd: 0 };
}

/** The header page of a new file, and its keys if it is encrypted. */
export function freshPage(system: System, asked: Asked): { readonly page: Pinned; readonly keys: LogKeys | undefined } {
  const opening = decide(undefined, asked);
  if (opening.kind === "plain") return { page: encodeHeader(freshHeader(system, undefined)), keys: undefined };
  using secret = opening.secret;
  const { cipher } = opening;
  const page = encodeHeader(freshHeader(system, cipher));
  const random = (into: Uint8Array): void => system.random(into);
  const dataKey = newDataKey(random);
  const home = { sector: page.u8.slice(0, KEY_AREA_OFFSET), cipher };
  page.u8.set(encodeKeyArea(newSlot(dataKey, { secret, home, random }, stretch)), KEY_AREA_OFFSET);
  return { page, keys: { cipher, dataKey } };
}

/** As `unlockPage`, with a passphrase stretched off this thread; says which slot it was. */
export async function unlockPageLater(
  found: HeaderPage,
  asked: Asked,
  path: string,
): Promise<(LogKeys & { readonly slotIndex: SlotIndex }) | undefined> {
  const opening = withPath(path, () => decide(found, asked));
  if (opening.kind === "plain") return undefined;
  using secret = opening.secret;
  const { cipher } = opening;
  try {
    return { cipher, ...(await unlockLater(keyPageOf(found, cipher), secret, stretchLater)) };
  } catch (error) {
    throw error instanceof EmdbError ? located(error, path) : error;
  }
}

/** As `freshPage`, with a passphrase stretched off this thread. */
export async function freshPageLater(
  system: System,
  asked: Asked,
): Promise<{ readonly page: Pinned; readonly keys: LogKeys | undefined }> {
  const opening = decide(undefined, asked);
  if (opening.kind === "plain") return { page: encodeHeader(freshHeader(system, undefined)), keys: undefined };
  using secret = opening.secret;
  const { cipher } = opening;
  const page = encodeHeader(freshHeader(system, cipher));
  const random = (into: Uint8Array): void => system.random(into);
  const dataKey = newDataKey(random);
  const home = { sector: page.u8.slice(0, KEY_AREA_OFFSET), cipher };
  try {
    page.u8.set(encodeKeyArea(await newSlotLater(dataKey, { secret, home, random }, stretchLater)), KEY_AREA_OFFSET);
  } catch (error) {
    dataKey.wipe();
    throw error;
  }
  return { page, keys: { cipher, dataKey } };
}
