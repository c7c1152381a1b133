/**
 * Finding the frame of a key: the index offers candidates, the log tells which is the key's.
 *
 * Invariants
 * 1. Nothing is read through a pointer before its length has been checked against what is mapped.
 * 2. A candidate that does not hold the key is believed only if its slot had not changed meanwhile, and, where other
 *    threads write, no frames were taken back since the root was read: a shard that was laid out anew meanwhile goes on
 *    naming what stood in their places (`read-path.ts`).
 * 3. A reader takes one position, `visible`, when it begins and sees no frame at or behind it: a batch
 *    appears to it whole or not at all.
 * 4. A way back through versions goes down at every step, whatever has become of the frames: it ends.
 */

import { utf8Text, utf8TextIn } from "../../codec/text.ts";
import { compare, copy, copyOut, sharedScratch, wideningScratch, type Pinned } from "../../ffi/memory.ts";
import type { Address } from "../../ffi/system.ts";
import { isTombstone, type Keydir } from "../../keydir/keydir.ts";
import {
  EXTENSION_BYTES_MAX,
  FRAME_HEADER_BYTES,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SPACE_CREATE,
  SHAPE_EXPIRY,
  SHAPE_WIDE_PREV,
  TWO_32,
  WIDE_SPACE,
  WORD_PREV,
  WORD_SHAPE,
  WORD_TAIL,
  WORD_VALUE_BYTES,
  extensionBytes,
  frameBytes,
  kindOf,
  liveBytes,
  readWide,
  readWord,
} from "../../log/frame.ts";
import type { LogReader } from "../../log/log-words.ts";
import { HEADER_PAGE_BYTES, KEPT_TEXT_BYTES_MAX, KEY_BYTES_MAX } from "../../limits.ts";
import type { KeyBuffer } from "./key-buffer.ts";
import { decodeName } from "../names.ts";

const WORD_COMPARE_BYTES_MAX = 256;
/** What is copied of a frame at first: four cache lines, a whole small record. */
const PEEK_BYTES = 256;
const FRAME_MEMORY_BYTES = FRAME_HEADER_BYTES + KEY_BYTES_MAX + EXTENSION_BYTES_MAX + 8;
const sharedFrame = sharedScratch(FRAME_MEMORY_BYTES);
const longText = wideningScratch();

export class Lookup {
  readonly keydir: Keydir;
  readonly log: LogReader;
  readonly key: KeyBuffer;
  /** Header, key and extension of the frame that was found. */
  readonly frame: Pinned = sharedFrame();
  readonly #words = this.frame.u32;

  /** What the last search found: where the frame is, and what its header says. */
  lsn = 0;
  shape = 0;
  valueBytes = 0;
  /** Where it is for good, with `limit` bytes to read; 0 while it is in the ring, where it may be overwritten. */
  #address: Address = 0;
  #limit = 0;
  /** How many bytes of it are in `frame`. */
  #peeked = 0;

  constructor(keydir: Keydir, log: LogReader, key: KeyBuffer) {
    this.keydir = keydir;
    this.log = log;
    this.key = key;
  }

  /** Finds the newest frame of the loaded key, a removal or not yet visible maybe. The keydir's candidate is then its slot. */
  findNewest(root: number): boolean {
    const keydir = this.keydir;
    if (!keydir.seek(root, this.key.hash)) return false;
    while (keydir.next()) {
      do {
        if (this.#holdsKey(keydir.units * 8)) return true;
      } while (keydir.reload());
    }
    return false;
  }

  /** Whether the newest frame removes the key. */
  get isRemoved(): boolean {
    return isTombstone(this.keydir.high);
  }

  /** Goes from the frame that was found to the newest version before a position; whether that is a value. */
  walkBack(before: number): boolean {
    while (this.lsn >= before) if (!this.stepBack(before)) return false;
    return kindOf(this.shape) === KIND_PUT;
  }

  /** Goes to the version before, for who sees what is before a position; false when there is none. */
  protected stepBack(before: number): boolean {
    const older = this.log.formerPlace(this.lsn, before) || this.prev();
    if (older === 0) return false;
    // What the log or a table of moves says by now may be rot, and would lead in a circle.
    if (!(older < this.lsn)) throw this.log.corrupted(this.lsn);
    this.loadAt(older);
    return true;
  }

  #holdsKey(lsn: number): boolean {
    const bytes = this.key.bytes;
    if (lsn === 0) return false;
    for (;;) {
      const address = this.log.at(lsn);
      if (address === 0 || this.log.limit < FRAME_HEADER_BYTES + bytes) return false;
      // A short value comes along: the misses of its cache lines run beside the first one's.
      const peek = Math.max(FRAME_HEADER_BYTES + bytes, Math.min(this.log.limit, PEEK_BYTES));
      copy(this.frame.address, address, peek);
      if (this.log.isInRing && !this.log.isStillWhole(lsn)) continue;
      if (!this.#equalsKey(bytes)) return false;
      this.#peeked = peek;
      this.lsn = lsn;
      this.#address = this.log.isInRing ? 0 : address;
      this.#limit = this.log.limit;
      this.shape = this.#words[WORD_SHAPE]!;
      this.valueBytes = this.#words[WORD_VALUE_BYTES]!;
      return true;
    }
  }

  #equalsKey(bytes: number): boolean {
    // Signed words: an unsigned one of random bytes is a floating-point number half of the time.
    const frame = this.frame.i32;
    if (frame[WORD_SHAPE]! >>> 16 !== bytes) return false;
    if (bytes > WORD_COMPARE_BYTES_MAX) {
      return compare(this.frame.address + FRAME_HEADER_BYTES, this.key.memory.address, bytes) === 0;
    }
    const key = this.key.memory.i32;
    const whole = bytes >> 2;
    for (let index = 0; index < whole; index++) {
      if (frame[6 + index] !== key[index]) return false;
    }
    const rest = bytes & 3;
    return rest === 0 || ((frame[6 + whole]! ^ key[whole]!) & ((1 << (8 * rest)) - 1)) === 0;
  }

  /** Loads the header, key and extension of the record at a position that the log itself names. */
  loadAt(lsn: number): void {
    this.#load(lsn);
    const kind = kindOf(this.shape);
    if (kind !== KIND_PUT && kind !== KIND_REMOVE) throw this.log.corrupted(lsn);
  }

  /** Loads a frame of any kind. */
  loadAnyAt(lsn: number): void {
    this.#load(lsn);
  }

  #load(lsn: number): void {
    for (;;) {
      const address = this.log.at(lsn);
      if (address === 0 || this.log.limit < FRAME_HEADER_BYTES) throw this.log.corrupted(lsn);
      const available = this.log.limit;
      copy(this.frame.address, address, FRAME_HEADER_BYTES);
      const shape = this.#words[WORD_SHAPE]!;
      const bytes = FRAME_HEADER_BYTES + (shape >>> 16) + extensionBytes(shape);
      if (bytes <= available) copy(this.frame.address, address, bytes);
      if (this.log.isInRing && !this.log.isStillWhole(lsn)) continue;
      if (bytes > available) throw this.log.corrupted(lsn);
      this.lsn = lsn;
      this.#peeked = bytes;
      this.#address = this.log.isInRing ? 0 : address;
      this.#limit = this.log.limit;
      this.shape = shape;
      this.valueBytes = this.#words[WORD_VALUE_BYTES]!;
      return;
    }
  }

  /**
   * Position of the version before the frame that was found, which is before its own; 0 when it was the first.
   *
   * @throws {EmdbError} EMDB_CORRUPTED when no writer says such a thing
   */
  prev(): number {
    const units = this.#words[WORD_PREV]!;
    if ((this.shape & SHAPE_WIDE_PREV) === 0) return units === 0 ? 0 : this.#before(units);
    this.loadAt(this.lsn);
    const at = FRAME_HEADER_BYTES + (this.shape >>> 16) + extensionBytes(this.shape) - 8;
    const wide = readWide(this.frame, at);
    // Where the bit alone has rotted these are bytes of the value.
    if (units !== 0 || wide === undefined || wide < TWO_32) throw this.log.corrupted(this.lsn);
    return this.#before(wide);
  }

  #before(units: number): number {
    const prev = this.lsn - units * 8;
    if (prev < HEADER_PAGE_BYTES) throw this.log.corrupted(this.lsn);
    return prev;
  }

  /** Deadline of the frame that was found; 0 for never. */
  expiresAtMs(): number {
    if ((this.shape & SHAPE_EXPIRY) === 0) return 0;
    this.loadAt(this.lsn);
    return readWide(this.frame, FRAME_HEADER_BYTES + (this.shape >>> 16)) ?? 0;
  }

  /** Bytes of the whole frame that was found. */
  frameBytes(): number {
    return frameBytes(this.shape, this.valueBytes);
  }

  /** What the record that was found takes in a compacted log. */
  liveBytes(): number {
    return liveBytes(this.shape, this.valueBytes);
  }

  /** A copy of the value of the frame that was found. */
  value(): Uint8Array {
    const at = FRAME_HEADER_BYTES + (this.shape >>> 16) + extensionBytes(this.shape);
    const bytes = this.valueBytes;
    const isPeeked = at + bytes <= this.#peeked;
    if (!isPeeked && (this.#address === 0 || this.#limit < at + bytes)) return this.#valueFromRing();
    return copyOut((isPeeked ? this.frame.address : this.#address) + at, bytes);
  }

  /**
   * The value of the frame that was found as text, whose bytes get no array of their own unless they are in the ring, or many.
   *
   * @throws {EmdbError} EMDB_INVALID_ARGUMENT when it is not UTF-8
   */
  text(): string {
    const at = FRAME_HEADER_BYTES + (this.shape >>> 16) + extensionBytes(this.shape);
    const end = at + this.valueBytes;
    if (end > this.#peeked) {
      const isLong = end > FRAME_MEMORY_BYTES;
      if (this.#address === 0 || this.#limit < end || (isLong && this.valueBytes > KEPT_TEXT_BYTES_MAX))
        return utf8Text(this.value());
      if (isLong) return this.#longText(at);
      copy(this.frame.address + this.#peeked, this.#address + this.#peeked, end - this.#peeked);
      this.#peeked = end;
    }
    return utf8TextIn(this.frame.u8, at, end);
  }

  #longText(at: number): string {
    const bytes = this.valueBytes;
    const memory = longText(bytes);
    copy(memory.address, this.#address + at, bytes);
    return utf8TextIn(memory.u8, 0, bytes);
  }

  #valueFromRing(): Uint8Array {
    const lsn = this.lsn;
    for (;;) {
      const at = FRAME_HEADER_BYTES + (this.shape >>> 16) + extensionBytes(this.shape);
      const bytes = this.valueBytes;
      const address = this.log.at(lsn);
      if (address === 0 || this.log.limit < at + bytes) throw this.log.corrupted(lsn);
      const value = copyOut(address + at, bytes);
      if (!this.log.isInRing || this.log.isStillWhole(lsn)) return value;
      this.loadAt(lsn);
    }
  }

  /** The namespace id of the frame that was found. */
  space(): number {
    const space = this.#words[WORD_TAIL]! >>> 16;
    if (space !== WIDE_SPACE) return space;
    this.#load(this.lsn);
    const at = FRAME_HEADER_BYTES + (this.shape >>> 16) + ((this.shape & SHAPE_EXPIRY) === 0 ? 0 : 8);
    return readWord(this.frame, at);
  }

  /** The name in the frame that created a namespace. */
  nameAt(lsn: number): string {
    this.#load(lsn);
    if (kindOf(this.shape) !== KIND_SPACE_CREATE) throw this.log.corrupted(lsn);
    return decodeName(this.keyCopy());
  }

  /** A copy of the key of the frame that was found. */
  keyCopy(): Uint8Array {
    return copyOut(this.frame.address + FRAME_HEADER_BYTES, this.shape >>> 16);
  }
}
