/**
 * The header page: the first 4 KiB of the log. Never renumber: all of it is on disk.
 *
 *     0     8         12      16        32           40          48      52         60   508     512        4096
 *     +-----+---------+-------+---------+------------+-----------+-------+----------+----+-------+----------+
 *     |magic| version | flags | file id | generation | createdAt | cipher| made end |zero| check | key area |
 *     +-----+---------+-------+---------+------------+-----------+-------+----------+----+-------+----------+
 *     |<------------------------ the first sector, covered by its check ----------------->|
 *
 * Invariants
 * 1. The first sector does not change once the file has its name; a change of it makes a new file and renames.
 * 2. The check is XXH32 of the 508 bytes before it.
 * 3. The salts of the frames derive from the file id and the generation: no two files, and no two
 *    generations of one, accept each other's frames.
 * 4. The key area belongs to `src/crypto`; it is all zeros unless the encrypted flag is set.
 * 5. The made end is 0, or where the log ended, durable, when the file got its name: it never ends before that again.
 */

import { copy, pinned, sharedScratch, type Pinned } from "../ffi/memory.ts";
import { HEADER_PAGE_BYTES, LOG_BYTES_MAX } from "../limits.ts";
import { xxh32 } from "./checksum.ts";
import { readWide, writeWide, type Salts } from "./frame.ts";

/** "emdb", then the bytes that a text-mode transfer would change, then a zero. */
const MAGIC = [0x65, 0x6d, 0x64, 0x62, 0x1a, 0x0d, 0x0a, 0x00] as const;
export const FORMAT_VERSION = 1;
export const FLAG_ENCRYPTED = 1;

const VERSION_AT = 8;
const FLAGS_AT = VERSION_AT + 4;
const FILE_ID_AT = FLAGS_AT + 4;
export const FILE_ID_BYTES = 16;
const GENERATION_AT = FILE_ID_AT + FILE_ID_BYTES;
const CREATED_AT = GENERATION_AT + 8;
const CIPHER_AT = CREATED_AT + 8;
const MADE_END_AT = CIPHER_AT + 4;
const CHECK_AT = 508;
/** Where the key area begins. */
export const KEY_AREA_AT = CHECK_AT + 4;

export interface LogHeader {
  readonly flags: number;
  readonly fileId: Uint8Array;
  /** Counts the rewrites of the file, from 1. */
  readonly generation: number;
  readonly createdAtMs: number;
  /** 0: not encrypted; the numbers are `src/crypto`'s. */
  readonly cipher: number;
  /** Where the log ended when the file got its name, as a copy of another; 0: it was made empty. */
  readonly madeEnd: number;
}

export type HeaderVerdict =
  | { readonly kind: "sound"; readonly header: LogHeader }
  | { readonly kind: "foreign" }
  | { readonly kind: "future"; readonly version: number }
  | { readonly kind: "damaged"; readonly offset: number };

const sharedPage = sharedScratch(HEADER_PAGE_BYTES);
const sharedSalt = sharedScratch(64);

/** The page for a header, its key area zero. */
export function encodeHeader(header: LogHeader): Pinned {
  const page = pinned(HEADER_PAGE_BYTES);
  page.u8.set(MAGIC, 0);
  page.u32[VERSION_AT >> 2] = FORMAT_VERSION;
  page.u32[FLAGS_AT >> 2] = header.flags;
  page.u8.set(header.fileId, FILE_ID_AT);
  writeWide(page, GENERATION_AT, header.generation);
  writeWide(page, CREATED_AT, header.createdAtMs);
  page.u32[CIPHER_AT >> 2] = header.cipher;
  writeWide(page, MADE_END_AT, header.madeEnd);
  page.i32[CHECK_AT >> 2] = xxh32(page, 0, CHECK_AT, 0);
  return page;
}

/** Judges the first bytes of a file; `bytes` may be shorter than a page when the file is. */
export function decodeHeader(bytes: Uint8Array): HeaderVerdict {
  for (let index = 0; index < MAGIC.length; index++) {
    if (bytes[index] !== MAGIC[index]) return { kind: "foreign" };
  }
  if (bytes.length < FILE_ID_AT) return { kind: "damaged", offset: bytes.length };
  const page = sharedPage();
  copy(page.address, bytes, Math.min(bytes.length, HEADER_PAGE_BYTES));
  const version = page.u32[VERSION_AT >> 2]!;
  if (version > FORMAT_VERSION) return { kind: "future", version };
  if (bytes.length < HEADER_PAGE_BYTES) return { kind: "damaged", offset: bytes.length };
  const generation = readWide(page, GENERATION_AT);
  const createdAtMs = readWide(page, CREATED_AT);
  const madeEnd = readWide(page, MADE_END_AT);
  const isWhole = page.i32[CHECK_AT >> 2] === xxh32(page, 0, CHECK_AT, 0);
  if (!isWhole || version === 0 || generation === undefined || createdAtMs === undefined || madeEnd === undefined) {
    return { kind: "damaged", offset: 0 };
  }
  const flags = page.u32[FLAGS_AT >> 2]!;
  const cipher = page.u32[CIPHER_AT >> 2]!;
  // A flag that this version does not know says something about the file that it would get wrong.
  if ((flags & ~FLAG_ENCRYPTED) !== 0) return { kind: "future", version };
  const isEncrypted = (flags & FLAG_ENCRYPTED) !== 0;
  const isEnd = madeEnd === 0 || (madeEnd >= HEADER_PAGE_BYTES && madeEnd % 8 === 0 && madeEnd <= LOG_BYTES_MAX);
  if (generation === 0 || isEncrypted !== (cipher !== 0) || !isEnd) return { kind: "damaged", offset: 0 };
  const fileId = fileIdOf(page.u8);
  return { kind: "sound", header: { flags, fileId, generation, createdAtMs, cipher, madeEnd } };
}

/** The file id in a header page. */
export function fileIdOf(page: Uint8Array): Uint8Array {
  return page.slice(FILE_ID_AT, GENERATION_AT);
}

/** The salts that every frame's checks in this file and generation begin from (invariant 3). */
export function saltsOf(header: Pick<LogHeader, "fileId" | "generation">): Salts {
  const memory = sharedSalt();
  memory.u8.set(header.fileId, 0);
  writeWide(memory, FILE_ID_BYTES, header.generation);
  const bytes = FILE_ID_BYTES + 8;
  return { header: xxh32(memory, 0, bytes, 1), body: xxh32(memory, 0, bytes, 2) };
}

/** The salts that a damaged header page would give; only frames that they fit prove them right. */
export function unprovenSalts(page: Uint8Array): Salts {
  const memory = pinned(HEADER_PAGE_BYTES);
  copy(memory.address, page, Math.min(page.length, HEADER_PAGE_BYTES));
  const generation = readWide(memory, GENERATION_AT) ?? 0;
  return saltsOf({ fileId: memory.u8.slice(FILE_ID_AT, GENERATION_AT), generation });
}
