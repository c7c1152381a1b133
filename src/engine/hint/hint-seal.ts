/**
 * Sealing the hint image of an encrypted database. Never renumber: it is on disk.
 *
 *     0        120            344
 *     +--------+--------------+-------+-------+---
 *     | clear  | piece 0: the | piece | piece | ...
 *     | header | header       | 1     | 2     |
 *     +--------+--------------+-------+-------+---
 *
 *     clear header   0 magic   8 version   12 flags: 1   16 file id   32 generation   40 salt (32)
 *                    72 zeros   112 CRC-32 of the 112 bytes before   116 zero
 *     piece          0 bytes of the sealed body   4 counter | ciphertext | tag   zeros up to a multiple of 8
 *     piece 0        the header of a plain image (`hint-format.ts`), then of the log's newest session
 *                    120 its position   128 that of the one before   136 its record (64)
 *     others         each a chunk of a plain image, its check left zero
 *
 * Why whole, when no key stands in it: a slot has 27 bits of a hash whose seed would stand beside it, which is
 * enough to try names of keys against; counts and names of namespaces are nobody's business either.
 *
 * Invariants
 * 1. The key is derived from the data key and a fresh salt for each image; the number of a piece is its counter and
 *    its position. So no pair of key and nonce repeats, and pieces cannot change places or come from another image.
 * 2. The newest session ties the image to the log: one that went another way since holds another record there.
 */

import { assert } from "../../errors.ts";
import { pinned } from "../../ffi/memory.ts";
import type { System } from "../../ffi/system.ts";
import type { Cipher } from "../../crypto/cipher.ts";
import { FrameSealer, SEAL_BYTES } from "../../crypto/frame-sealer.ts";
import type { SecretKey } from "../../crypto/secret.ts";
import type { PlacedSession } from "../../crypto/session-table.ts";
import {
  deriveImageKey,
  encodeSession,
  parseSession,
  SESSION_RECORD_BYTES,
  SESSION_SALT_BYTES,
} from "../../crypto/session.ts";
import { readWide, writeWide } from "../../log/frame.ts";
import {
  CHUNK_BYTES_MAX,
  HINT_HEADER_BYTES,
  decodeClearHeader,
  decodeHintHeader,
  encodeClearHeader,
  encodeHintHeader,
  type HintHeader,
  type LogIdentity,
} from "./hint-format.ts";

const LENGTH_BYTES = 4;
const SESSION_AT = HINT_HEADER_BYTES;
const PREV_AT = SESSION_AT + 8;
const RECORD_AT = PREV_AT + 8;
const INNER_HEADER_BYTES = RECORD_AT + SESSION_RECORD_BYTES;
/** Where the chunks of a sealed image begin. */
export const SEALED_CHUNKS_AT = HINT_HEADER_BYTES + pieceBytes(INNER_HEADER_BYTES);
assert(SEALED_CHUNKS_AT === 344, "the header of a sealed image has 344 bytes");

/** What a piece has beyond the chunk in it, at most. */
export const PIECE_OVERHEAD_BYTES = LENGTH_BYTES + SEAL_BYTES + 8;

/** In the place of a frame's kind; one that no frame has. */
const KIND_PIECE = 255;

/** Bytes of a piece of so many. */
function pieceBytes(plainBytes: number): number {
  return Math.ceil((LENGTH_BYTES + SEAL_BYTES + plainBytes) / 8) * 8;
}

/** The newest session of the log when an image was made; `prev` is where the one before it stands. */
export interface ImageSession {
  readonly session: PlacedSession;
  readonly prev: number;
}

/** Of a log without any session: position 0, and a record of zeros. */
export const NO_SESSION: ImageSession = {
  session: { lsn: 0, ...parseSession(new Uint8Array(SESSION_RECORD_BYTES)) },
  prev: 0,
};

/** What images are sealed under. */
export interface ImageKeys {
  readonly cipher: Cipher;
  readonly dataKey: SecretKey;
}

export class HintSeal {
  readonly salt: Uint8Array;
  readonly #sealer: FrameSealer;

  constructor(keys: ImageKeys, identity: LogIdentity, salt: Uint8Array) {
    const { fileId, generation } = identity;
    const key = deriveImageKey(keys.dataKey, { cipher: keys.cipher, fileId, generation, salt });
    this.salt = salt;
    this.#sealer = new FrameSealer({ cipher: keys.cipher, key, fileId, generation, clearBytes: 0 });
  }

  /** For an image that is to be made. */
  static fresh(keys: ImageKeys, identity: LogIdentity, system: System): HintSeal {
    const salt = new Uint8Array(SESSION_SALT_BYTES);
    system.random(salt);
    return new HintSeal(keys, identity, salt);
  }

  /** A piece for a number, which is used once. */
  seal(plain: Uint8Array, number: number): Uint8Array {
    const piece = new Uint8Array(pieceBytes(plain.length));
    const view = new DataView(piece.buffer);
    view.setUint32(0, plain.length + SEAL_BYTES, true);
    const place = { lsn: number, kind: KIND_PIECE, counter: number };
    this.#sealer.sealInto(plain, place, { into: piece, at: LENGTH_BYTES });
    return piece;
  }

  /**
   * Writes what is in the piece with a number, which begins at byte `at`, to the beginning of `into`. Returns how many bytes; -1 when it is not
   * that piece, or too long for `into`.
   */
  openInto(source: Uint8Array, number: number, at: number, into: Uint8Array): number {
    const bytes = sealedBytes(source, at);
    const plainBytes = bytes - SEAL_BYTES;
    if (plainBytes < 0 || plainBytes > into.length || at + LENGTH_BYTES + bytes > source.length) return -1;
    const span = { at: at + LENGTH_BYTES, bytes };
    return this.#sealer.openInto(source, { lsn: number, kind: KIND_PIECE }, span, into) ? plainBytes : -1;
  }

  wipe(): void {
    this.#sealer.wipe();
  }
}

function sealedBytes(source: Uint8Array, at: number): number {
  return (source[at]! | (source[at + 1]! << 8) | (source[at + 2]! << 16) | (source[at + 3]! << 24)) >>> 0;
}

/** Bytes of the piece that begins at `at`; 0 when nothing says so, or what is said is too much. */
export function pieceBytesAt(source: Uint8Array, at: number): number {
  const bytes = sealedBytes(source, at);
  const plainBytes = bytes - SEAL_BYTES;
  return plainBytes < 0 || plainBytes > CHUNK_BYTES_MAX ? 0 : pieceBytes(plainBytes);
}

/** The first `SEALED_CHUNKS_AT` bytes of a sealed image. */
export function encodeSealedHeader(seal: HintSeal, header: HintHeader, newest: ImageSession): Uint8Array {
  const memory = pinned(INNER_HEADER_BYTES);
  memory.u8.set(encodeHintHeader(header), 0);
  writeWide(memory, SESSION_AT, newest.session.lsn);
  writeWide(memory, PREV_AT, newest.prev);
  memory.u8.set(encodeSession(newest.session), RECORD_AT);
  const bytes = new Uint8Array(SEALED_CHUNKS_AT);
  bytes.set(encodeClearHeader(header.identity, seal.salt), 0);
  bytes.set(seal.seal(memory.u8.subarray(0, INNER_HEADER_BYTES), 0), HINT_HEADER_BYTES);
  return bytes;
}

/** What a sealed image begins with. */
export interface SealedImage {
  readonly seal: HintSeal;
  readonly header: HintHeader;
  readonly newest: ImageSession;
}

/** The beginning of a sealed image, for whoever has the keys; undefined when they do not open it. */
export function decodeSealedHeader(bytes: Uint8Array, keys: ImageKeys): SealedImage | undefined {
  const clear = decodeClearHeader(bytes);
  if (clear === undefined || bytes.length < SEALED_CHUNKS_AT) return undefined;
  const seal = new HintSeal(keys, clear.identity, clear.salt);
  const memory = pinned(INNER_HEADER_BYTES);
  const inner = memory.u8.subarray(0, INNER_HEADER_BYTES);
  const isWhole = seal.openInto(bytes, 0, HINT_HEADER_BYTES, inner) === INNER_HEADER_BYTES;
  const header = isWhole ? decodeHintHeader(inner) : undefined;
  if (header === undefined) {
    seal.wipe();
    return undefined;
  }
  const record = parseSession(inner.subarray(RECORD_AT, RECORD_AT + SESSION_RECORD_BYTES));
  const lsn = readWide(memory, SESSION_AT) ?? 0;
  return { seal, header, newest: { session: { lsn, ...record }, prev: readWide(memory, PREV_AT) ?? 0 } };
}
