/**
 * Reading the log from its beginning, frame by frame, with a fixed buffer and system reads: a bad disk is then
 * an error that can be told, where a mapping would kill the process.
 *
 * `next` says what stands at the position: a sound frame, the end (zeros, a mark, or nothing), or a bad place.
 * `findSound` looks behind a bad place for the frame that decides what it is: a frame that was written when
 * the bad place was already durable means damage; no such frame means a torn tail.
 */

import { must } from "../ffi/io-error.ts";
import { compare, pinned, type Pinned } from "../ffi/memory.ts";
import type { FileHandle, System } from "../ffi/system.ts";
import { SCAN_BYTES } from "../limits.ts";
import { XXH32_BODY_BYTES_MAX, crc32, placeSeed, xxh32, xxh32Of20 } from "./checksum.ts";
import {
  EXTENSION_BYTES_MAX,
  FRAME_HEADER_BYTES,
  KIND_END,
  KIND_MARK,
  KIND_REMOVE,
  KIND_SEALED,
  SHAPE_FLAGS,
  WORD_BODY_CHECK,
  WORD_HEADER_CHECK,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
  bodyBytes,
  decodeInto,
  emptyFacts,
  extensionBytes,
  frameBytes,
  isPlausible,
  kindOf,
  type FrameFacts,
  type Salts,
} from "./frame.ts";
import { unitHigh, unitLow } from "./log-words.ts";

/** What stands at a position of the log. */
export type Finding =
  | { readonly kind: "frame" }
  /** Zeros, or the end of the file. */
  | { readonly kind: "end" }
  /** A mark: the log ends here, and said so. */
  | { readonly kind: "mark" }
  | {
      readonly kind: "bad";
      readonly reason: string;
      /** No crash leaves such a thing: it is damage, whatever stands behind it. */
      readonly isForged?: true;
    };

const FRAME: Finding = { kind: "frame" };
const END: Finding = { kind: "end" };
const MARK: Finding = { kind: "mark" };
const BAD_HEADER: Finding = { kind: "bad", reason: "the header's checksum does not match" };
const BAD_FIELDS: Finding = { kind: "bad", reason: "the header's fields make no sense" };
const BAD_BODY: Finding = { kind: "bad", reason: "the body's checksum does not match" };
const IN_THE_CLEAR: Finding = {
  kind: "bad",
  reason: "a frame that is not sealed stands in an encrypted log",
  isForged: true,
};
const SEALED: Finding = {
  kind: "bad",
  reason: "a sealed frame stands in a log that is not encrypted",
  isForged: true,
};
const CUT_OFF: Finding = { kind: "bad", reason: "the frame reaches beyond the end of the file" };

/** The memory of scanners that were released: opening one database after another costs it once, until the collector has it. */
let spareMemory: readonly WeakRef<Pinned>[] = [];
/** A scanner, and one that looks ahead of it. */
const SPARES_MAX = 2;

function takeMemory(): Pinned {
  const held = spareMemory.map((spare) => spare.deref()).filter((memory) => memory !== undefined);
  const memory = held.pop() ?? pinned(SCAN_BYTES);
  spareMemory = held.map((spare) => new WeakRef(spare));
  return memory;
}

const NO_BYTES: Uint8Array = new Uint8Array(0);
/** A search looks at frames of so many times the file's bytes. */
const SEARCHED_TIMES_MAX = 4;
/** Zeros are skipped so many bytes at a time, which the C library compares 20 times as fast as a loop does. */
const ZERO_BLOCK_BYTES = 4096;

/** A sound frame of an encrypted log, whole in `source` from byte `at` on. */
export interface ClosedFrame {
  readonly source: Uint8Array;
  readonly at: number;
  /** Where its first byte is, if the source is pinned; 0 otherwise. */
  readonly address: number;
  readonly lsn: number;
  /** Of the body, behind the header. */
  readonly bodyBytes: number;
}

/** Opens the frames of an encrypted log; made by who has the keys. */
export interface FrameOpener {
  /** Header and key of the frame that was opened last, as a plain one has them, from byte 0 on. */
  readonly head: Pinned;
  /** The value of that frame; good until the next one is opened. */
  value(): Uint8Array;
  /** Makes the facts those of the record inside; returns why it does not open, if it does not. */
  open(facts: FrameFacts, frame: ClosedFrame): Extract<Finding, { kind: "bad" }> | undefined;
}

/** Where frames are read from. */
export interface ScanSource {
  readonly system: Pick<System, "read">;
  readonly file: FileHandle;
  readonly path: string;
  readonly salts: Salts;
  /** Of an encrypted log. */
  readonly opener?: FrameOpener | undefined;
  /** Nothing behind this position is looked at. */
  readonly end: number;
}

export class Scanner {
  readonly memory: Pinned = takeMemory();
  readonly #source: ScanSource;
  /** The part of the file that is in memory. */
  #start = 0;
  #bytes = 0;
  /** How often it has read: as long as that stands still, what has been judged is in memory as it was then. */
  reads = 0;

  /** Bytes of all frames that were looked at in a search. */
  #searched = 0;

  /** Position of the frame that `next` spoke about, and what it says. */
  lsn: number;
  readonly facts: FrameFacts = emptyFacts();
  /** The sealed frame at hand; used again for each, so that none is made. */
  readonly #closed = { source: NO_BYTES, at: 0, address: 0, lsn: 0, bodyBytes: 0 };
  /** Where in `memory` the frame begins, as it stands in the file. */
  at = 0;
  /** Where its header and key are in the clear. */
  readonly head: Pinned;
  headAt = 0;
  #next: number;

  constructor(source: ScanSource, from: number) {
    this.#source = source;
    this.head = source.opener === undefined ? this.memory : source.opener.head;
    this.lsn = from;
    this.#next = from;
  }

  /** Goes on to the next frame, or stays at what is not one. */
  next(): Finding {
    return this.judge(this.#next);
  }

  /** Judges a place by what the file holds now, not when it was read last. */
  judgeAnew(lsn: number): Finding {
    this.#bytes = 0;
    return this.judge(lsn);
  }

  /** Judges the place at `lsn`; after a sound frame, `next` goes on behind it. */
  judge(lsn: number): Finding {
    const finding = this.judgeClosed(lsn);
    if (finding !== FRAME) return finding;
    const { opener } = this.#source;
    if (opener !== undefined || this.facts.kind > KIND_END) return this.#open(opener);
    this.headAt = this.at;
    this.#next = lsn + this.facts.frameBytes;
    return this.facts.kind === KIND_MARK ? MARK : FRAME;
  }

  /** Takes up a frame that was found sound when `reads` stood at a number: without its checks if it still does. */
  judgeAgain(lsn: number, reads: number): Finding {
    if (reads !== this.reads || this.#source.opener !== undefined) return this.judge(lsn);
    this.lsn = lsn;
    this.at = this.headAt = lsn - this.#start;
    decodeInto(this.facts, this.memory, { at: this.at, lsn });
    this.#next = lsn + this.facts.frameBytes;
    return FRAME;
  }

  /** Opens the frame at hand, whose checks are right. */
  #open(opener: FrameOpener | undefined): Finding {
    const { facts, lsn } = this;
    if (opener === undefined) return SEALED;
    if (facts.kind <= KIND_END) return IN_THE_CLEAR;
    const bodyBytes = extensionBytes(this.shape) + facts.valueBytes;
    const whole = FRAME_HEADER_BYTES + bodyBytes;
    const isLong = whole > SCAN_BYTES;
    const source = isLong ? new Uint8Array(whole) : this.memory.u8;
    if (isLong && this.#read(source, { position: lsn, bytes: whole }) < whole) return CUT_OFF;
    const closed = this.#closed;
    closed.source = source;
    closed.at = isLong ? 0 : this.at;
    closed.address = isLong ? 0 : this.memory.address + this.at;
    closed.lsn = lsn;
    closed.bodyBytes = bodyBytes;
    const problem = opener.open(facts, closed);
    if (problem !== undefined) return problem;
    this.#next = lsn + facts.frameBytes;
    return facts.kind === KIND_MARK ? MARK : FRAME;
  }

  /** Whether the frame at a position says, as far as its checks tell, that the database was closed in good order right behind it. */
  isCleanEnd(lsn: number): boolean {
    return this.judgeClosed(lsn) === FRAME && this.facts.isClean;
  }

  /** Judges the place as far as its checks tell. What a sealed frame holds stays closed: the facts are those of its header. */
  judgeClosed(lsn: number): Finding {
    this.lsn = lsn;
    if (this.#isShortFrame(lsn)) return FRAME;
    const have = this.#load(lsn, FRAME_HEADER_BYTES);
    const at = (this.at = lsn - this.#start);
    if (have < FRAME_HEADER_BYTES) return this.#isZero(at, have) ? END : CUT_OFF;
    const words = this.memory.u32;
    const word = at >> 2;
    if (words[word] === 0 && words[word + 1] === 0) return END;
    const seed = placeSeed(this.#source.salts.header, unitLow(lsn), unitHigh(lsn));
    const check = xxh32Of20(this.memory.i32, word + 1, seed);
    if (check !== this.memory.i32[word + WORD_HEADER_CHECK]) return BAD_HEADER;
    if (!isPlausible(this.memory, at, lsn)) return BAD_FIELDS;
    return this.#judgeBody(lsn);
  }

  /**
   * Whether a sound record without an extension stands there, sealed or not, short and all in memory already: nearly every
   * frame is one, and is judged here in one go. Of anything else, bad or not, `judge` finds out what it is.
   */
  #isShortFrame(lsn: number): boolean {
    const { memory } = this;
    const { salts, end } = this.#source;
    const at = lsn - this.#start;
    if (at < 0 || at + FRAME_HEADER_BYTES > this.#bytes) return false;
    const words = memory.i32;
    const word = at >> 2;
    const shape = words[word + WORD_SHAPE]!;
    const valueBytes = words[word + WORD_VALUE_BYTES]!;
    const body = (shape >>> 16) + valueBytes;
    const kind = kindOf(shape);
    if ((shape & SHAPE_FLAGS) !== 0 || (kind > KIND_REMOVE && kind !== KIND_SEALED)) return false;
    if (valueBytes < 0 || body > XXH32_BODY_BYTES_MAX) return false;
    const bytes = (FRAME_HEADER_BYTES + body + 7) & ~7;
    if (at + bytes > this.#bytes || lsn + bytes > end) return false;
    const low = unitLow(lsn);
    const high = unitHigh(lsn);
    if (xxh32Of20(words, word + 1, placeSeed(salts.header, low, high)) !== words[word + WORD_HEADER_CHECK])
      return false;
    const check = xxh32(memory, at + FRAME_HEADER_BYTES, body, placeSeed(salts.body, low, high));
    if (check !== words[word + WORD_BODY_CHECK] || !isPlausible(memory, at, lsn)) return false;
    for (let byte = at + FRAME_HEADER_BYTES + body; byte < at + bytes; byte++) if (memory.u8[byte] !== 0) return false;
    this.at = at;
    return decodeInto(this.facts, memory, { at, lsn });
  }

  #judgeBody(lsn: number): Finding {
    const source = this.#source;
    let at = this.at;
    const keyBytes = this.memory.u32[(at >> 2) + WORD_SHAPE]! >>> 16;
    this.#load(lsn, FRAME_HEADER_BYTES + keyBytes + EXTENSION_BYTES_MAX);
    at = this.at = lsn - this.#start;
    const shape = this.memory.u32[(at >> 2) + WORD_SHAPE]!;
    const valueBytes = this.memory.u32[(at >> 2) + WORD_VALUE_BYTES]!;
    const body = bodyBytes(shape, valueBytes);
    if (lsn + frameBytes(shape, valueBytes) > source.end) return CUT_OFF;
    const expected = this.memory.i32[(at >> 2) + WORD_BODY_CHECK]!;
    const seed = placeSeed(source.salts.body, unitLow(lsn), unitHigh(lsn));
    if (this.#bodyCheck(lsn, body, seed) !== expected) return BAD_BODY;
    at = this.at = lsn - this.#start;
    if (!decodeInto(this.facts, this.memory, { at, lsn })) return BAD_FIELDS;
    if (!this.#isPaddingZero(lsn, FRAME_HEADER_BYTES + body)) return BAD_FIELDS;
    return FRAME;
  }

  /** The check of a body as it stands in the file; leaves the header, key and extension in memory. */
  #bodyCheck(lsn: number, body: number, seed: number): number {
    const whole = FRAME_HEADER_BYTES + body;
    if (this.#load(lsn, Math.min(whole, SCAN_BYTES)) < Math.min(whole, SCAN_BYTES)) return ~seed;
    const at = (this.at = lsn - this.#start) + FRAME_HEADER_BYTES;
    if (body <= XXH32_BODY_BYTES_MAX) return xxh32(this.memory, at, body, seed);
    const inMemory = Math.min(body, SCAN_BYTES - FRAME_HEADER_BYTES);
    let check = crc32(this.memory.u8.subarray(at, at + inMemory), seed);
    let done = inMemory;
    const piece = new Uint8Array(done < body ? SCAN_BYTES : 0);
    while (done < body) {
      const bytes = Math.min(piece.length, body - done);
      const position = lsn + FRAME_HEADER_BYTES + done;
      const read = this.#read(piece, { position, bytes });
      if (read < bytes) return ~check;
      check = crc32(piece.subarray(0, bytes), check);
      done += bytes;
    }
    return check;
  }

  /** The value of the sound frame at hand: in the scanner's memory until it reads on, or, where it does not fit, read by itself. */
  value(): Uint8Array {
    const { opener } = this.#source;
    if (opener !== undefined) return opener.value();
    const head = FRAME_HEADER_BYTES + bodyBytes(this.shape, 0);
    const bytes = this.facts.valueBytes;
    if (head + bytes <= SCAN_BYTES) return this.memory.u8.subarray(this.at + head, this.at + head + bytes);
    const value = new Uint8Array(bytes);
    this.#read(value, { position: this.lsn + head, bytes });
    return value;
  }

  /** Where the value of the sound frame at hand begins in the scanner's memory; 0 where `value` alone gives it. */
  get valueAddress(): number {
    const head = FRAME_HEADER_BYTES + bodyBytes(this.shape, 0);
    const isThere = this.#source.opener === undefined && head + this.facts.valueBytes <= SCAN_BYTES;
    return isThere ? this.memory.address + this.at + head : 0;
  }

  #isPaddingZero(lsn: number, from: number): boolean {
    const bytes = this.facts.frameBytes - from;
    if (bytes === 0) return true;
    const inMemory = lsn + this.facts.frameBytes <= this.#start + this.#bytes;
    if (inMemory) return this.#isZero(this.at + from, bytes);
    const padding = new Uint8Array(bytes);
    this.#read(padding, { position: lsn + from, bytes });
    return padding.every((byte) => byte === 0);
  }

  #isZero(at: number, bytes: number): boolean {
    if (bytes <= 0) return true;
    if (this.memory.u8[at] !== 0) return false;
    // All bytes are zero when the first is and each equals the one before it.
    const address = this.memory.address + at;
    return compare(address, address + 1, bytes - 1) === 0;
  }

  /** The first multiple of 8 from `at` on, up to `end`, at which eight bytes are not all zero; `end` or behind it when all are. */
  #firstNonZero(at: number, end: number): number {
    const words = this.memory.u32;
    while (at < end) {
      const block = Math.min(at + ZERO_BLOCK_BYTES, end);
      if (!this.#isZero(at, block - at)) {
        while (words[at >> 2] === 0 && words[(at >> 2) + 1] === 0) at += 8;
        return at;
      }
      at = block;
    }
    return at;
  }

  /** Lets the next scanner of this thread have the memory; this one is not used any more. To be called once. */
  release(): void {
    const others = spareMemory.filter((spare) => spare.deref() !== this.memory);
    spareMemory = [...others, new WeakRef(this.memory)].slice(-SPARES_MAX);
  }

  /** Sees to it that `bytes` from `lsn` on are in memory; returns how many there are (fewer at the end). */
  #load(lsn: number, bytes: number): number {
    const end = this.#start + this.#bytes;
    const there = Math.min(bytes, Math.max(0, this.#source.end - lsn));
    if (lsn < this.#start || lsn + there > end) {
      const want = Math.min(SCAN_BYTES, Math.max(0, this.#source.end - lsn));
      if (lsn !== this.#start || want > this.#bytes) {
        this.#start = lsn;
        this.#bytes = want === 0 ? 0 : this.#read(this.memory.u8, { position: lsn, bytes: want });
      }
    }
    return Math.min(bytes, this.#start + this.#bytes - lsn);
  }

  #read(into: Uint8Array, span: { readonly position: number; readonly bytes: number }): number {
    const { system, file, path } = this.#source;
    this.reads += 1;
    return must(system.read(file, into, span), { syscall: "pread", path });
  }

  /** The position behind the last byte that is not zero, from `from` to `end`; `from` when all are zero. */
  lastNonZero(from: number, end: number): number {
    let last = from;
    for (let lsn = from; lsn < end;) {
      const bytes = this.#load(lsn, SCAN_BYTES);
      if (bytes <= 0) break;
      const at = lsn - this.#start;
      let until = at + bytes;
      while (
        until > at &&
        this.#isZero(Math.max(at, until - ZERO_BLOCK_BYTES), Math.min(ZERO_BLOCK_BYTES, until - at))
      ) {
        until -= ZERO_BLOCK_BYTES;
      }
      while (until > at && this.memory.u8[until - 1] === 0) until -= 1;
      if (until > at) last = lsn + (until - at);
      lsn += bytes;
    }
    return last;
  }

  /** Where the frame ends that `judge` found bad, if its header at least is sound; 0 when that says nothing. */
  get soundReach(): number {
    const { at, lsn, memory } = this;
    if (this.#start + this.#bytes < lsn + FRAME_HEADER_BYTES) return 0;
    const seed = placeSeed(this.#source.salts.header, unitLow(lsn), unitHigh(lsn));
    if (xxh32Of20(memory.i32, (at >> 2) + 1, seed) !== memory.i32[(at >> 2) + WORD_HEADER_CHECK]) return 0;
    if (!isPlausible(memory, at, lsn)) return 0;
    const end = lsn + frameBytes(this.shape, memory.u32[(at >> 2) + WORD_VALUE_BYTES]!);
    return end <= this.#source.end ? end : 0;
  }

  /** The shape word of the frame that `judge` spoke about, as it stands in the file. */
  get shape(): number {
    return this.memory.u32[(this.at >> 2) + WORD_SHAPE]!;
  }

  /**
   * The position of the first sound frame at or behind `from` that was written when `durableBeyond` was durable
   * already (-1: of any); undefined when none begins before `until`.
   *
   * Frames that a writer wrote do not overlap, so their bodies are no longer than the file together. In a forged file each of
   * a million headers may claim all that is behind it: from some times the file's length on, a sound header is believed.
   */
  findSound(from: number, durableBeyond: number, until = this.#source.end): number | undefined {
    let lsn = this.findHeader(from, until);
    while (lsn !== undefined) {
      // Not opened: the sessions in between may be what is bad.
      if (this.judgeClosed(lsn) === FRAME && this.facts.durable > durableBeyond) return lsn;
      const reach = this.soundReach;
      if (reach > 0) this.#searched += reach - lsn;
      if (this.#searched > SEARCHED_TIMES_MAX * this.#source.end) return lsn;
      lsn = this.findHeader(lsn + 8, until);
    }
    return undefined;
  }

  /** The position of the first sound header at or behind `from`, whatever is behind it; undefined when none begins before `until`. */
  findHeader(from: number, until: number): number | undefined {
    const last = Math.min(until - 8, this.#source.end - FRAME_HEADER_BYTES);
    for (let lsn = from; lsn <= last; lsn += 8) {
      if (this.#load(lsn, FRAME_HEADER_BYTES) < FRAME_HEADER_BYTES) return undefined;
      const at = lsn - this.#start;
      const shape = this.memory.u32[(at >> 2) + WORD_SHAPE]!;
      if (shape === 0) {
        // The next frame's shape is eight bytes behind its beginning.
        const nonZero = this.#firstNonZero(at + 8, (this.#bytes - 8) & ~7);
        lsn += Math.max(0, nonZero - 16 - at);
        continue;
      }
      if (!isPlausible(this.memory, at, lsn)) continue;
      const seed = placeSeed(this.#source.salts.header, unitLow(lsn), unitHigh(lsn));
      if (xxh32Of20(this.memory.i32, (at >> 2) + 1, seed) === this.memory.i32[at >> 2]) return lsn;
    }
    return undefined;
  }
}
