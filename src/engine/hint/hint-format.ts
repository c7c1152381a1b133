/**
 * The hint image: the hash index as it stood, in `<path>.hint`. Never renumber: all of it is on disk.
 *
 *     0        120
 *     +--------+-------+-------+-------+---
 *     | header | chunk | chunk | chunk | ...
 *     +--------+-------+-------+-------+---
 *
 *     header   0 magic   8 version   12 flags   16 file id   32 generation   40 seed of the key hash
 *              56 start   64 end   72 bytes of the image   80 pages   84 namespace ids   88 chunks   92 salt
 *              96 witness   104 its CRC-32   108 its XXH32   112 check   116 zero
 *     chunk    0 check   4 kind   8 namespace   12 bytes of the body   16 position it stands for
 *              24 facts (32 bytes)   56 body, padded with zeros to a multiple of 8
 *     flags    bit 0: sealed (`hint-seal.ts`); 1: the leaves of the ordered index are in it
 *     facts    namespace: 24 position of its creation   32 records   40 live bytes
 *                         48 records with a deadline                                     body: its name
 *              shard:     24 first hash   28 depth   32 pages   36 live   40 used   44 zero   body: the pages
 *              deadlines: 24 0, or 1: unknown   28 zeros               body: entries (`keydir/expiry-queue.ts`)
 *              leaves:    zeros                                       body: some leaves (`ordered/leaf-copy.ts`)
 *              cleared:   zeros                                                          body: none
 *
 * Each piece says for itself which position of the log it stands for: everything before that is in it. Replay
 * begins at `start` and passes over what a piece holds already. The shards of a namespace follow its chunk in
 * the order of their hashes; a shard whose range covers earlier ones of its namespace replaces them (shards were
 * merged meanwhile). Then come its deadlines, in any order, if it has any, and its leaves, in the order of their keys.
 * "Cleared" takes back a namespace whose index was thrown away while it was being copied: the clear stands in the log
 * behind the position of its chunk.
 *
 * Invariants
 * 1. start <= every position <= end, and the log was durable up to `end` before the image got its name.
 * 2. A check is a CRC-32 of all that follows it in its header or chunk, begun from a seed: the place of the chunk
 *    in the file under the image's salt, so that chunks cannot change places or come from another image.
 * 3. The witness is the last stretch of the log before `end`, from the position that is named. A log that holds the same
 *    bytes there is the log that the image was made from, and did not go another way.
 * 4. A namespace below `namespace ids` without a chunk was not there at `end`.
 * 5. Deadlines are those of records that stand before the position of their namespace's chunk: each that is still
 *    there is among them, unless they are unknown; some may be there twice, or be of records that are gone. Replay
 *    enters all others, since it passes over no frame behind that position.
 */

import { compare, copy, pinned, type Pinned } from "../../ffi/memory.ts";
import { PAGE_BYTES } from "../../ffi/heap.ts";
import { DEADLINES_PART_BYTES_MAX } from "../../keydir/expiry-copy.ts";
import { SEED_BYTES } from "../../keydir/hash.ts";
import { DEPTH_MAX, PAGE_SLOTS, SHARD_PAGES_MAX } from "../../keydir/shard.ts";
import { HEADER_PAGE_BYTES, LOG_BYTES_MAX, NAMESPACE_NAME_BYTES_MAX, SPACE_COUNT_MAX } from "../../limits.ts";
import { crc32, placeSeed } from "../../log/checksum.ts";
import { readWide, writeWide } from "../../log/frame.ts";
import { FILE_ID_BYTES } from "../../log/header.ts";
import { LEAF_PART_BYTES_MAX } from "../../ordered/leaf-copy.ts";
import { isPosition, unitHigh, unitLow } from "../../log/log-words.ts";

/** "emdbhint". */
const MAGIC = [0x65, 0x6d, 0x64, 0x62, 0x68, 0x69, 0x6e, 0x74] as const;
const HINT_VERSION = 5;
/** Never renumber. */
const FLAG_ORDERED = 2;

const VERSION_AT = 8;
const FLAGS_AT = VERSION_AT + 4;
const FILE_ID_AT = FLAGS_AT + 4;
const GENERATION_AT = FILE_ID_AT + FILE_ID_BYTES;
const SEED_AT = GENERATION_AT + 8;
const START_AT = SEED_AT + SEED_BYTES;
const END_AT = START_AT + 8;
const BYTES_AT = END_AT + 8;
const PAGES_AT = BYTES_AT + 8;
const SPACES_AT = PAGES_AT + 4;
const CHUNKS_AT = SPACES_AT + 4;
const SALT_AT = CHUNKS_AT + 4;
const WITNESS_AT = SALT_AT + 4;
const WITNESS_CHECKS_AT = WITNESS_AT + 8;
const CHECK_AT = WITNESS_CHECKS_AT + 8;
export const HINT_HEADER_BYTES = CHECK_AT + 8;

/** Longest stretch of the log that is compared before an image is believed. */
export const WITNESS_BYTES_MAX = 64 * 1024;

/** Where that stretch begins. */
export function witnessBefore(end: number): number {
  return Math.max(HEADER_PAGE_BYTES, end - WITNESS_BYTES_MAX);
}

/** Whether bytes begin as an image does, as far as they go. */
export function beginsAsImage(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, index) => index >= bytes.length || bytes[index] === byte);
}

/** Which generation of which log an image belongs to. */
export interface LogIdentity {
  readonly fileId: Uint8Array;
  readonly generation: number;
}

export interface HintHeader {
  readonly identity: LogIdentity;
  readonly seed: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly bytes: number;
  readonly pages: number;
  readonly spaces: number;
  readonly chunks: number;
  readonly salt: number;
  /** It holds the leaves of the ordered index. */
  readonly isOrdered: boolean;
  /** Where the stretch of the log begins that ends at `end` and has these checks. */
  readonly witness: number;
  readonly witnessChecks: readonly [number, number];
}

/** Of an image whose contents are sealed (`hint-seal.ts`). */
const FLAG_SEALED = 1;
const SEAL_SALT_BYTES = 32;

/** The header of a sealed image as it stands in the clear. */
export function encodeClearHeader(identity: LogIdentity, salt: Uint8Array): Uint8Array {
  const memory = pinned(HINT_HEADER_BYTES);
  memory.u8.set(MAGIC, 0);
  memory.u32[VERSION_AT >> 2] = HINT_VERSION;
  memory.u32[FLAGS_AT >> 2] = FLAG_SEALED;
  memory.u8.set(identity.fileId, FILE_ID_AT);
  writeWide(memory, GENERATION_AT, identity.generation);
  memory.u8.set(salt, SEED_AT);
  memory.i32[CHECK_AT >> 2] = crc32(memory.u8.subarray(0, CHECK_AT), 0);
  return memory.u8.subarray(0, HINT_HEADER_BYTES);
}

/** What such a header says; undefined when the bytes begin with no sound one. */
export function decodeClearHeader(
  bytes: Uint8Array,
): { readonly identity: LogIdentity; readonly salt: Uint8Array } | undefined {
  if (bytes.length < HINT_HEADER_BYTES) return undefined;
  const memory = pinned(HINT_HEADER_BYTES);
  copy(memory.address, bytes, HINT_HEADER_BYTES);
  const generation = readWide(memory, GENERATION_AT);
  if (generation === undefined) return undefined;
  const identity = { fileId: memory.u8.slice(FILE_ID_AT, GENERATION_AT), generation };
  const salt = memory.u8.slice(SEED_AT, SEED_AT + SEAL_SALT_BYTES);
  // There is one way to say it.
  return compare(memory.address, encodeClearHeader(identity, salt), HINT_HEADER_BYTES) === 0
    ? { identity, salt }
    : undefined;
}

/** The bytes of a header. */
export function encodeHintHeader(header: HintHeader): Uint8Array {
  const memory = pinned(HINT_HEADER_BYTES);
  const words = memory.u32;
  memory.u8.set(MAGIC, 0);
  words[VERSION_AT >> 2] = HINT_VERSION;
  words[FLAGS_AT >> 2] = header.isOrdered ? FLAG_ORDERED : 0;
  memory.u8.set(header.identity.fileId, FILE_ID_AT);
  writeWide(memory, GENERATION_AT, header.identity.generation);
  memory.u8.set(header.seed, SEED_AT);
  writeWide(memory, START_AT, header.start);
  writeWide(memory, END_AT, header.end);
  writeWide(memory, BYTES_AT, header.bytes);
  words[PAGES_AT >> 2] = header.pages;
  words[SPACES_AT >> 2] = header.spaces;
  words[CHUNKS_AT >> 2] = header.chunks;
  words[SALT_AT >> 2] = header.salt;
  writeWide(memory, WITNESS_AT, header.witness);
  words[WITNESS_CHECKS_AT >> 2] = header.witnessChecks[0];
  words[(WITNESS_CHECKS_AT >> 2) + 1] = header.witnessChecks[1];
  memory.i32[CHECK_AT >> 2] = crc32(memory.u8.subarray(0, CHECK_AT), 0);
  return memory.u8.subarray(0, HINT_HEADER_BYTES);
}

/** What the first bytes of an image say; undefined when they are not a sound header of this version. */
export function decodeHintHeader(bytes: Uint8Array): HintHeader | undefined {
  if (bytes.length < HINT_HEADER_BYTES || MAGIC.some((byte, index) => bytes[index] !== byte)) return undefined;
  const memory = pinned(HINT_HEADER_BYTES);
  copy(memory.address, bytes, HINT_HEADER_BYTES);
  const words = memory.u32;
  if (crc32(memory.u8.subarray(0, CHECK_AT), 0) !== memory.i32[CHECK_AT >> 2]) return undefined;
  const flags = words[FLAGS_AT >> 2]!;
  // Any other flag is a feature that this version does not know, or says that the image is sealed.
  if (words[VERSION_AT >> 2] !== HINT_VERSION || (flags & ~FLAG_ORDERED) !== 0 || words[(CHECK_AT >> 2) + 1] !== 0)
    return undefined;
  const wide = [GENERATION_AT, START_AT, END_AT, BYTES_AT, WITNESS_AT].map((at) => readWide(memory, at));
  const [generation, start, end, imageBytes, witness] = wide;
  if (generation === undefined || start === undefined || end === undefined) return undefined;
  if (imageBytes === undefined || witness === undefined) return undefined;
  const header: HintHeader = {
    identity: { fileId: memory.u8.slice(FILE_ID_AT, GENERATION_AT), generation },
    seed: memory.u8.slice(SEED_AT, START_AT),
    start,
    end,
    bytes: imageBytes,
    pages: words[PAGES_AT >> 2]!,
    spaces: words[SPACES_AT >> 2]!,
    chunks: words[CHUNKS_AT >> 2]!,
    salt: words[SALT_AT >> 2]!,
    isOrdered: flags === FLAG_ORDERED,
    witness,
    witnessChecks: [words[WITNESS_CHECKS_AT >> 2]!, words[(WITNESS_CHECKS_AT >> 2) + 1]!],
  };
  return isCoherent(header) ? header : undefined;
}

function isCoherent(header: HintHeader): boolean {
  const { start, end, witness, pages, bytes, spaces } = header;
  if (!isPosition(start) || !isPosition(end) || !isPosition(witness)) return false;
  if (start > end || end > LOG_BYTES_MAX || witness !== witnessBefore(end)) return false;
  return pages * PAGE_BYTES <= bytes && spaces > 0 && spaces <= SPACE_COUNT_MAX;
}

// Kinds of chunks. Never renumber.
export const CHUNK_SPACE = 1;
export const CHUNK_SHARD = 2;
export const CHUNK_CLEARED = 3;
export const CHUNK_LEAVES = 4;
export const CHUNK_DEADLINES = 5;

// Offsets in a chunk.
export const CHUNK_KIND_AT = 4;
export const CHUNK_SPACE_AT = 8;
export const CHUNK_BODY_BYTES_AT = 12;
export const CHUNK_POSITION_AT = 16;
export const CHUNK_FACTS_AT = 24;
export const CHUNK_HEAD_BYTES = CHUNK_FACTS_AT + 32;
export const CHUNK_BYTES_MAX =
  CHUNK_HEAD_BYTES +
  Math.max(SHARD_PAGES_MAX * PAGE_BYTES, NAMESPACE_NAME_BYTES_MAX, LEAF_PART_BYTES_MAX, DEADLINES_PART_BYTES_MAX);

/** Bytes of a chunk with a body of so many, padding included. */
export function chunkBytes(bodyBytes: number): number {
  return CHUNK_HEAD_BYTES + Math.ceil(bodyBytes / 8) * 8;
}

/** The check of a chunk that lies at byte `at` of memory, for its place in the image. */
export function chunkCheck(
  memory: Pinned,
  chunk: { readonly at: number; readonly bytes: number; readonly salt: number; readonly place: number },
): number {
  const { at, place } = chunk;
  const seed = placeSeed(chunk.salt | 0, unitLow(place), unitHigh(place));
  return crc32(memory.u8.subarray(at + CHUNK_KIND_AT, at + chunk.bytes), seed);
}

/** What a shard's chunk says of it. */
export interface ShardChunk {
  readonly firstHash: number;
  readonly depth: number;
  readonly pages: number;
  readonly live: number;
  readonly used: number;
}

/** Writes the facts of a shard into the chunk at byte `at`. */
export function encodeShard(memory: Pinned, at: number, shard: ShardChunk): void {
  const word = (at + CHUNK_FACTS_AT) >> 2;
  memory.u32[word] = shard.firstHash;
  memory.u32[word + 1] = shard.depth;
  memory.u32[word + 2] = shard.pages;
  memory.u32[word + 3] = shard.live;
  memory.u32[word + 4] = shard.used;
  memory.u32[word + 5] = 0;
}

/** Reads what `encodeShard` writes; undefined when that is no shard. */
export function decodeShard(memory: Pinned, at: number): ShardChunk | undefined {
  const word = (at + CHUNK_FACTS_AT) >> 2;
  const [firstHash, depth, pages, live, used, zero] = memory.u32.subarray(word, word + 6);
  const bodyBytes = memory.u32[(at + CHUNK_BODY_BYTES_AT) >> 2];
  if (depth! > DEPTH_MAX || pages! < 1 || pages! > SHARD_PAGES_MAX || zero !== 0) return undefined;
  if (bodyBytes !== pages! * PAGE_BYTES || live! > used! || used! > pages! * PAGE_SLOTS) return undefined;
  return { firstHash: firstHash!, depth: depth!, pages: pages!, live: live!, used: used! };
}
