/**
 * The least that a get of this kind can cost here: hash the key, copy one bucket, copy one frame, compare the key, copy the
 * value out. No locks, no versions, no checks, no growth; nobody could use it. The shape is emdb's: buckets of eight
 * 8-byte slots at two thirds full in memory of huge pages, frames of 24 bytes of header, key and value in a mapped file.
 */

import { ptr } from "bun:ffi";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";

import type { Data } from "./data.ts";
import type { Libc } from "./libc.ts";

const HEADER_BYTES = 24;
const SLOT_BYTES = 8;
const BUCKET_SLOTS = 8;
/** Where the key and the frame are in a reader's memory. */
const KEY_AT = 1024;
const FRAME_AT = 2048;
/** The file is written in pieces of a huge page at multiples of one, so that it can be mapped as such. */
const PIECE_BYTES = 2 << 20;

/** Where everything is, for any Worker of the process. */
export interface BarePlaces {
  readonly tableAt: number;
  readonly buckets: number;
  readonly log: number;
  readonly keyBytes: number;
  readonly frameBytes: number;
}

export interface BareStore extends Disposable {
  readonly places: BarePlaces;
}

/** Words of a multiplicative hash over 32-bit words; the keys are random, so that is enough. */
function hashOf(words: Int32Array, count: number): number {
  let hash = 0;
  for (let index = 0; index < count; index++) hash = Math.imul(hash ^ words[index]!, 0x9e3779b1) ^ (hash >>> 15);
  return (Math.imul(hash, 0x85ebca6b) ^ (hash >>> 13)) >>> 0;
}

/** Loads the records into a file at `path`, which is removed again, and a table of buckets. */
export function bareStore(
  libc: Libc,
  data: Data,
  place: { readonly records: number; readonly path: string },
): BareStore {
  const { records, path } = place;
  const frameBytes = Math.ceil((HEADER_BYTES + data.keyBytes + data.valueBytes) / 8) * 8;
  const buckets = 2 ** Math.ceil(Math.log2((records / BUCKET_SLOTS) * 1.25));
  const tableBytes = Math.ceil((buckets * BUCKET_SLOTS * SLOT_BYTES) / PIECE_BYTES) * PIECE_BYTES;
  const table = mapped(libc.mmap(null, tableBytes + PIECE_BYTES, 3, 0x22, -1, 0));
  const tableAt = Math.ceil(table / PIECE_BYTES) * PIECE_BYTES;
  libc.madvise(tableAt, tableBytes, 14);
  const scratch = new Int32Array(new ArrayBuffer(4096));
  const at = ptr(scratch);
  const keyAt = at + KEY_AT;
  const keyWords = scratch.subarray(KEY_AT / 4);
  const wordsOfKey = data.keyBytes >> 2;
  const slots = new Int32Array(buckets);

  const file = openSync(path, "w+", 0o600);
  const piece = new Uint8Array(PIECE_BYTES + frameBytes);
  const words = new DataView(piece.buffer);
  let filled = 0;
  let written = 0;
  for (let index = 0; index < records; index++) {
    const key = data.key(index);
    const unit = (written + filled) / 8;
    words.setUint32(filled + 8, data.keyBytes, true);
    words.setUint32(filled + 12, data.valueBytes, true);
    piece.set(key, filled + HEADER_BYTES);
    piece.set(data.value(index), filled + HEADER_BYTES + data.keyBytes);
    filled += frameBytes;
    libc.memcpy(keyAt, ptr(key), data.keyBytes);
    const hash = hashOf(keyWords, wordsOfKey);
    let bucket = hash & (buckets - 1);
    while (slots[bucket] === BUCKET_SLOTS) bucket = (bucket + 1) & (buckets - 1);
    scratch[0] = unit;
    scratch[1] = hash;
    libc.memcpy(tableAt + bucket * BUCKET_SLOTS * SLOT_BYTES + slots[bucket]! * SLOT_BYTES, at, SLOT_BYTES);
    slots[bucket]! += 1;
    if (filled < PIECE_BYTES) continue;
    writeSync(file, piece, 0, PIECE_BYTES, written);
    written += PIECE_BYTES;
    piece.copyWithin(0, PIECE_BYTES, filled);
    filled -= PIECE_BYTES;
  }
  writeSync(file, piece, 0, filled, written);
  const logBytes = written + filled;
  const log = mapped(libc.mmap(null, logBytes, 1, 1, file, 0));
  closeSync(file);
  rmSync(path);
  return {
    places: { tableAt, buckets, log, keyBytes: data.keyBytes, frameBytes },
    [Symbol.dispose]: () => {
      libc.munmap(table, tableBytes + PIECE_BYTES);
      libc.munmap(log, logBytes);
    },
  };
}

/** The get of one Worker. */
export function bareGet({ memcpy }: Libc, places: BarePlaces): (key: Uint8Array) => Uint8Array | undefined {
  const { tableAt, buckets, log, keyBytes, frameBytes } = places;
  const scratch = new Int32Array(new ArrayBuffer(4096));
  const at = ptr(scratch);
  const keyAt = at + KEY_AT;
  const keyWords = scratch.subarray(KEY_AT / 4);
  const frameAt = at + FRAME_AT;
  const frame = scratch.subarray(FRAME_AT / 4);
  const wordsOfKey = keyBytes >> 2;
  return (key) => {
    memcpy(keyAt, key as unknown as number, key.length);
    const hash = hashOf(keyWords, wordsOfKey);
    for (let bucket = hash & (buckets - 1); ; bucket = (bucket + 1) & (buckets - 1)) {
      memcpy(at, tableAt + bucket * BUCKET_SLOTS * SLOT_BYTES, BUCKET_SLOTS * SLOT_BYTES);
      for (let slot = 0; slot < 2 * BUCKET_SLOTS; slot += 2) {
        const unit = scratch[slot]!;
        if (unit === 0 && scratch[slot + 1] === 0) return undefined;
        if (scratch[slot + 1] !== (hash | 0)) continue;
        memcpy(frameAt, log + unit * 8, frameBytes);
        let word = 0;
        while (word < wordsOfKey && frame[6 + word] === keyWords[word]) word++;
        if (word < wordsOfKey) continue;
        const value = new Uint8Array(frame[3]!);
        memcpy(value as unknown as number, frameAt + HEADER_BYTES + keyBytes, value.length);
        return value;
      }
    }
  };
}

/** A failed mmap comes back as a BigInt of all ones, which is no usable number. */
function mapped(address: number | bigint | null): number {
  if (typeof address !== "number") throw new Error("mmap failed");
  return address;
}
