/**
 * A node of the ordered index: a block of memory, and how it is searched once it has been copied to scratch.
 *
 *     0        4        8        12       16                                      1024 - area
 *     +--------+--------+--------+--------+---------+---------+-- ... --+--------+-----------+
 *     | count  | prefix | dead   | level  | entry 0 | entry 1 |         | (free) | prefix    |
 *     +--------+--------+--------+--------+---------+---------+-- ... --+--------+-----------+
 *
 *     prefix   how many first bytes all keys of the node have in common; they stand in the area at the end
 *     dead     entries of a leaf that are tombstones
 *     level    0: a leaf
 *     entry    16 bytes: the next 8 bytes of the key as two big-endian numbers, padded with zeros, then
 *              leaf    position as stored (`ffi/positions.ts`), low 32 bits | bits 8-11 class, 4 tombstone, 3-0 its high bits
 *              inner   block of the child | bit 31 clear: class; set: unit of the separator in full
 *     class    bytes of the key behind the prefix, 0 to 8; LONG for more
 *
 * Two keys that differ within the 8 bytes, or of which one ends there, are told apart by the node alone. Only
 * for the rest is a key asked for: a leaf's in the log, a separator's in its own units.
 *
 * Invariants
 * 1. Entries are in strictly ascending order of their keys. An inner node's entry 0 has no separator.
 * 2. A node, once reachable, changes by aligned stores of one position or one child only, unless its writer is
 *    alone with it; any other change is a new node.
 */

import { copy, pinned, type Pinned } from "../ffi/memory.ts";
import { BLOCK_BYTES, type Heap } from "../ffi/heap.ts";
import { withStored, type Positions, type PositionsPart } from "../ffi/positions.ts";

export const HEADER_BYTES = 16;
export const ENTRY_BYTES = 16;
const ENTRY_WORDS = 4;
const FIRST_WORD = HEADER_BYTES / 4;

const WORD_COUNT = 0;
const WORD_PREFIX = 1;
export const WORD_DEAD = 2;
const WORD_LEVEL = 3;

/** Turned over in both, signed numbers sort as the unsigned ones that their bits are. */
const SIGN = 1 << 31;
const TOMBSTONE = 16;
const CLASS_SHIFT = 8;
export const LONG = 15;
const LONG_SEPARATOR = 0x80000000;

/** A key that is searched for: at the start of pinned memory, which may hold anything behind its last byte. */
export interface ProbeKey {
  readonly memory: Pinned;
  readonly bytes: number;
}

/** How nodes are cut. Tests make them tiny, and their comparison weak. */
export interface Shape {
  /** Most entries of a node. */
  readonly capacity: number;
  /** Bytes of a key that an entry holds, 1 to 8. */
  readonly inlineBytes: number;
  /** Longest common prefix that a node leaves out. */
  readonly prefixBytesMax: number;
}

export const FULL_SHAPE: Shape = { capacity: 63, inlineBytes: 8, prefixBytesMax: 240 };

export class Node {
  /** The node as in its block, with room for one entry more than fits. */
  readonly memory: Pinned = pinned(BLOCK_BYTES + ENTRY_BYTES);
  readonly words: Uint32Array = this.memory.u32;
  /** The same words for whoever compares them: numbers that need more than 31 bits would make numbers with fractions of all. */
  readonly #ints: Int32Array = this.memory.i32;
  readonly prefix: Pinned = pinned(BLOCK_BYTES);
  readonly shape: Shape;
  readonly #positions: Positions;
  /** The block that this is a copy of; 0 for none. */
  block = 0;
  count = 0;
  prefixBytes = 0;
  level = 0;
  /** The inline part and class of the key that `probe` was told; its words are signed, as those of `#ints` are. */
  high = 0;
  low = 0;
  class = 0;

  constructor(shape: Shape, positions: Positions) {
    this.shape = shape;
    this.#positions = positions;
  }

  /** Takes a copy of a block. */
  load(heap: Heap, block: number): void {
    this.block = 0;
    copy(this.memory.address, heap.blockAddress(block), BLOCK_BYTES);
    this.count = this.words[WORD_COUNT]!;
    this.prefixBytes = this.words[WORD_PREFIX]!;
    this.level = this.words[WORD_LEVEL]!;
    const bytes = this.prefixBytes;
    if (bytes > 0) copy(this.prefix.address, this.memory.address + BLOCK_BYTES - areaBytes(bytes), bytes);
    this.block = block;
  }

  /** Begins an empty node in scratch. */
  clear(level: number): void {
    this.block = 0;
    this.count = 0;
    this.prefixBytes = 0;
    this.level = level;
    this.words[WORD_DEAD] = 0;
  }

  /** Brings the first words up to date. */
  writeHeader(): void {
    const words = this.words;
    words[WORD_COUNT] = this.count;
    words[WORD_PREFIX] = this.prefixBytes;
    words[WORD_LEVEL] = this.level;
  }

  /** Writes the node to a block, in one call: a writer that dies leaves the old content or the new one. */
  store(heap: Heap, block: number): void {
    this.writeHeader();
    let bytes = HEADER_BYTES + this.count * ENTRY_BYTES;
    if (this.prefixBytes > 0) {
      copy(this.memory.address + BLOCK_BYTES - areaBytes(this.prefixBytes), this.prefix.address, this.prefixBytes);
      bytes = BLOCK_BYTES;
    }
    copy(heap.blockAddress(block), this.memory.address, bytes);
    this.block = block;
  }

  get dead(): number {
    return this.words[WORD_DEAD]!;
  }

  /** Entries that fit beside a common prefix of so many bytes. */
  capacity(prefixBytes: number): number {
    const fit = Math.floor((BLOCK_BYTES - HEADER_BYTES - areaBytes(prefixBytes)) / ENTRY_BYTES);
    return Math.min(this.shape.capacity, fit);
  }

  /** Cuts a key for this node. Below, at or above 0 as the key sorts before, within or behind everything with the prefix. */
  probe(key: ProbeKey): number {
    const u8 = key.memory.u8;
    const prefix = this.prefix.u8;
    const skip = this.prefixBytes;
    for (let index = 0; index < skip; index++) {
      if (index >= key.bytes) return -1;
      const difference = u8[index]! - prefix[index]!;
      if (difference !== 0) return difference;
    }
    this.cut(u8, skip, key.bytes);
    return 0;
  }

  /** Takes the inline part of the key whose bytes end at `end` and whose prefix ends at `from`. */
  cut(u8: Uint8Array, from: number, end: number): void {
    const rest = end - from;
    const inlineBytes = this.shape.inlineBytes;
    this.class = rest > inlineBytes ? LONG : rest;
    if (rest >= 8 && inlineBytes === 8) {
      this.high = (u8[from]! << 24) | (u8[from + 1]! << 16) | (u8[from + 2]! << 8) | u8[from + 3]!;
      this.low = (u8[from + 4]! << 24) | (u8[from + 5]! << 16) | (u8[from + 6]! << 8) | u8[from + 7]!;
      return;
    }
    const count = Math.min(rest, inlineBytes);
    let high = 0;
    let low = 0;
    for (let index = 0; index < count; index++) {
      if (index < 4) high |= u8[from + index]! << (24 - 8 * index);
      else low |= u8[from + index]! << (56 - 8 * index);
    }
    this.high = high;
    this.low = low;
  }

  /**
   * The first entry from `from` on whose inline part is not below the probe's. Halves go by arithmetic on the first 31
   * bits: a branch that nobody can predict costs more than the step it decides (34 against 47 ns for a whole node).
   */
  lowerInline(from: number): number {
    const { high, low, count } = this;
    const words = this.#ints;
    const high31 = high >>> 1;
    let first = from;
    for (let left = count - from; left > 0;) {
      const half = (left + 1) >>> 1;
      const theirs = words[FIRST_WORD + (first + half - 1) * ENTRY_WORDS]!;
      first += half & (((theirs >>> 1) - high31) >> 31);
      left -= half;
    }
    // Few are left that only the other bits tell apart.
    for (; first < count; first++) {
      const at = FIRST_WORD + first * ENTRY_WORDS;
      const theirs = words[at]!;
      if ((theirs ^ SIGN) > (high ^ SIGN)) break;
      if (theirs === high && (words[at + 1]! ^ SIGN) >= (low ^ SIGN)) break;
    }
    return first;
  }

  /** Whether an entry's inline part is the probe's. */
  hasInline(index: number): boolean {
    const at = FIRST_WORD + index * ENTRY_WORDS;
    return this.#ints[at] === this.high && this.#ints[at + 1] === this.low;
  }

  /** Where the run of entries with the probe's inline part that begins at `index` ends. */
  runEnd(index: number): number {
    let end = index;
    while (end < this.count && this.hasInline(end)) end += 1;
    return end;
  }

  classOf(index: number): number {
    const info = this.words[FIRST_WORD + index * ENTRY_WORDS + 3]!;
    if (this.level === 0) return (info >>> CLASS_SHIFT) & 15;
    return info >= LONG_SEPARATOR ? LONG : info;
  }

  // -- leaves ----------------------------------------------------------------

  /** The position that an entry of a leaf holds, in 8-byte units. */
  units(index: number): number {
    const at = FIRST_WORD + index * ENTRY_WORDS + 2;
    return this.#positions.units(this.words[at]!, this.words[at + 1]!);
  }

  /** Takes the positions of some entries, from one on upwards (1) or downwards (-1). */
  giveUnits(index: number, step: 1 | -1, part: PositionsPart): void {
    this.#positions.take(this.#ints, { first: FIRST_WORD + index * ENTRY_WORDS + 2, step: step * ENTRY_WORDS }, part);
  }

  isTombstone(index: number): boolean {
    return (this.words[FIRST_WORD + index * ENTRY_WORDS + 3]! & TOMBSTONE) !== 0;
  }

  /** Points an entry of a leaf to another frame of its key. */
  setUnits(index: number, units: number, isTombstone: boolean): void {
    const at = FIRST_WORD + index * ENTRY_WORDS + 2;
    const keyClass = this.words[at + 1]! & (15 << CLASS_SHIFT);
    const wasTombstone = this.isTombstone(index);
    const stored = this.#positions.stored(units);
    this.words[at] = stored >>> 0;
    this.words[at + 1] = withStored(keyClass | (isTombstone ? TOMBSTONE : 0), stored);
    if (wasTombstone !== isTombstone) this.words[WORD_DEAD]! += isTombstone ? 1 : -1;
  }

  /** Makes room for a leaf's entry for the key that was cut, and fills it in. */
  insertUnits(index: number, units: number): void {
    this.openGap(index);
    const at = FIRST_WORD + index * ENTRY_WORDS;
    this.#setInline(at);
    const stored = this.#positions.stored(units);
    this.words[at + 2] = stored >>> 0;
    this.words[at + 3] = withStored(this.class << CLASS_SHIFT, stored);
  }

  /** Cuts an entry of a leaf anew. */
  recut(index: number): void {
    const at = FIRST_WORD + index * ENTRY_WORDS;
    this.#setInline(at);
    this.words[at + 3] = (this.words[at + 3]! & ~(15 << CLASS_SHIFT)) | (this.class << CLASS_SHIFT);
  }

  #setInline(at: number): void {
    this.#ints[at] = this.high;
    this.#ints[at + 1] = this.low;
  }

  // -- inner nodes -----------------------------------------------------------

  child(index: number): number {
    return this.words[FIRST_WORD + index * ENTRY_WORDS + 2]!;
  }

  setChild(index: number, block: number): void {
    this.words[FIRST_WORD + index * ENTRY_WORDS + 2] = block;
  }

  /** The unit that holds a separator in full; 0 when the entry has all of it. */
  longUnit(index: number): number {
    const info = this.words[FIRST_WORD + index * ENTRY_WORDS + 3]!;
    return info >= LONG_SEPARATOR ? info - LONG_SEPARATOR : 0;
  }

  /** Makes room for a child behind the separator that was cut; `unit` holds that in full if it is long. */
  insertChild(index: number, block: number, unit: number): void {
    this.openGap(index);
    const at = FIRST_WORD + index * ENTRY_WORDS;
    this.#setInline(at);
    this.words[at + 2] = block;
    this.words[at + 3] = this.class === LONG ? LONG_SEPARATOR + unit : this.class;
  }

  /** Takes the separator of the first entry away. */
  openFirst(): void {
    this.words[FIRST_WORD] = 0;
    this.words[FIRST_WORD + 1] = 0;
    this.words[FIRST_WORD + 3] = 0;
  }

  // -- both ------------------------------------------------------------------

  openGap(index: number): void {
    const at = FIRST_WORD + index * ENTRY_WORDS;
    this.words.copyWithin(at + ENTRY_WORDS, at, FIRST_WORD + this.count * ENTRY_WORDS);
    this.count += 1;
  }

  closeGap(index: number): void {
    if (this.level === 0 && this.isTombstone(index)) this.words[WORD_DEAD]! -= 1;
    const at = FIRST_WORD + index * ENTRY_WORDS;
    this.words.copyWithin(at, at + ENTRY_WORDS, FIRST_WORD + this.count * ENTRY_WORDS);
    this.count -= 1;
  }

  /** Appends a leaf's entries `from` to `end` (exclusive) of a leaf with the same prefix. */
  append(other: Node, from: number, end: number): void {
    const at = FIRST_WORD + from * ENTRY_WORDS;
    const words = other.words.subarray(at, FIRST_WORD + end * ENTRY_WORDS);
    this.words.set(words, FIRST_WORD + this.count * ENTRY_WORDS);
    for (let index = from; index < end; index++) if (other.isTombstone(index)) this.words[WORD_DEAD]! += 1;
    this.count += end - from;
  }

  /** A byte of an entry's inline part. */
  inlineByte(index: number, byte: number): number {
    const at = FIRST_WORD + index * ENTRY_WORDS;
    return byte < 4 ? (this.words[at]! >>> (24 - 8 * byte)) & 255 : (this.words[at + 1]! >>> (56 - 8 * byte)) & 255;
  }

  /** Where the second half of an entry, the one that is stored by itself, lies in the node. */
  static slotOffset(index: number): number {
    return HEADER_BYTES + index * ENTRY_BYTES + 8;
  }

  /**
   * In the entry of a leaf whose second half begins at a word, puts the place in the file that begins at `base` (units)
   * instead of the position; returns it.
   */
  static toPlace(
    words: Uint32Array,
    word: number,
    from: { readonly positions: Positions; readonly base: number },
  ): number {
    const high = words[word + 1]!;
    const place = from.positions.units(words[word]!, high) - from.base;
    words[word] = place >>> 0;
    words[word + 1] = withStored(high, place);
    return place;
  }
}

/** Bytes at the end of a node that a common prefix takes. */
export function areaBytes(prefixBytes: number): number {
  return (prefixBytes + 15) & ~15;
}
