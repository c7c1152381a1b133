/**
 * Building the ordered index at open, from the hash index: a part of it at a time, sorted well enough.
 *
 * The slots of the hash index give positions in no order. When there are more than fit a chunk, they are first laid
 * out by the first bits of their keys, so that each chunk is a stretch of the key space. A chunk is sorted by position,
 * so that the log is read forwards; the first bytes of each key are kept, and the chunk is then sorted by 32 bits of
 * them, so that neighbours in the tree are added one after the other and their leaf stays in scratch. The order need
 * not be exact for that: each key is searched for all the same. Memory: one chunk, and 8 bytes a record.
 */

import { copy, pinned, type Pinned } from "../ffi/memory.ts";
import { HASH_BITS } from "../keydir/hash.ts";
import { PAGE_BYTES } from "../ffi/heap.ts";
import { PAGE_SLOTS } from "../keydir/shard.ts";
import { isTombstone } from "../keydir/keydir.ts";
import { FRAME_HEADER_BYTES, WORD_SHAPE } from "../log/frame.ts";
import type { Core } from "./core.ts";
import { Ordering } from "./ordering.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

/** Records of a chunk at most, 80 bytes each. */
const CHUNK = 1 << 20;
/** Beside a position in units, of 36 bits since the log begins at 0 when it is opened, a double holds so many bits of a key. */
const UNITS_SPAN = 2 ** 36;
const KEY_BITS = 17;
/** Keys that are looked at to find what all begin with. */
const SAMPLES = 512;
/** A header and the key behind it, if it is no longer than 40 bytes. */
const PEEK_BYTES = 64;
const PEEK_WORDS = PEEK_BYTES / 4;
/** Peeks that are brought together before their keys are added. */
const GROUP = 64;
const KEY_PEEK_BYTES = PEEK_BYTES - FRAME_HEADER_BYTES;

/** Builds the trees of all key spaces. Nobody else reads or writes yet. */
export function buildOrdering(core: Core, spaces: Spaces, chunkMax = CHUNK): Ordering {
  const ordering = new Ordering(core);
  const builder = new Builder(core, spaces, { ordering, chunkMax });
  for (const space of [spaces.default, ...spaces.list()]) builder.build(space);
  return ordering;
}

class Builder {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #ordering: Ordering;
  readonly #chunkMax: number;
  readonly #page = pinned(PAGE_BYTES);
  #units = new Float64Array(0);
  readonly #near = pinned(GROUP * PEEK_BYTES);
  #peeks: Pinned | undefined;
  #count = 0;

  constructor(core: Core, spaces: Spaces, parts: { readonly ordering: Ordering; readonly chunkMax: number }) {
    this.#core = core;
    this.#spaces = spaces;
    this.#ordering = parts.ordering;
    this.#chunkMax = parts.chunkMax;
  }

  build(space: SpaceState): void {
    const { keydir, heap } = this.#core;
    const root = this.#spaces.root(space);
    if (root === 0) return;
    this.#units = new Float64Array(this.#spaces.records(space));
    this.#count = 0;
    for (let hash = 0; hash < 1 << HASH_BITS;) {
      const shard = keydir.shardOf(root, hash);
      for (const page of shard.pages) {
        copy(this.#page.address, heap.pageAddress(page), PAGE_BYTES);
        this.#takePage();
      }
      hash += 1 << (HASH_BITS - shard.depth);
    }
    const all = this.#units.subarray(0, this.#count);
    const chunkMax = this.#chunkMax;
    // Where each key has to be decrypted, once is enough.
    if (all.length > chunkMax && this.#core.vault === undefined) this.#layOut(all);
    for (let from = 0; from < all.length; from += chunkMax) this.#addChunk(space, all.subarray(from, from + chunkMax));
    this.#units = new Float64Array(0);
  }

  /** Sorts positions by the first bits of their keys. */
  #layOut(all: Float64Array): void {
    const near = this.#near;
    all.sort();
    let shared = KEY_PEEK_BYTES - 4;
    for (let index = 0; index < all.length; index += Math.ceil(all.length / SAMPLES)) {
      this.#peek(all[index]!, near.address + (index === 0 ? 0 : PEEK_BYTES));
      if (index > 0) shared = sharedBytes(near.u8, PEEK_BYTES, shared);
    }
    for (let index = 0; index < all.length; index++) {
      const units = all[index]!;
      this.#peek(units, near.address);
      all[index] = (firstWord(near.u8, shared) >>> (32 - KEY_BITS)) * UNITS_SPAN + units;
    }
    all.sort();
    for (let index = 0; index < all.length; index++) all[index]! -= Math.floor(all[index]! / UNITS_SPAN) * UNITS_SPAN;
  }

  /** Copies a header and the beginning of the key. */
  #peek(units: number, to: number): void {
    const { log } = this.#core;
    const address = log.at(units * 8);
    if (address !== 0) copy(to, address, Math.min(log.limit, PEEK_BYTES));
  }

  #takePage(): void {
    const words = this.#page.u32;
    const { positions } = this.#core.heap;
    for (let word = 0; word < PAGE_SLOTS * 2; word += 2) {
      const high = words[word + 1]!;
      const units = positions.units(words[word]!, high);
      if (units !== 0 && !isTombstone(high)) this.#units[this.#count++] = units;
    }
  }

  #addChunk(space: SpaceState, units: Float64Array): void {
    const { key, lookup, vault } = this.#core;
    const count = units.length;
    units.sort();
    if (this.#peeks === undefined || this.#peeks.u8.length < count * PEEK_BYTES)
      this.#peeks = pinned(count * PEEK_BYTES);
    const peeks = this.#peeks;
    for (let index = 0; index < count; index++) {
      const to = peeks.address + index * PEEK_BYTES;
      if (vault === undefined) this.#peek(units[index]!, to);
      else {
        lookup.loadAt(units[index]! * 8);
        copy(to, lookup.frame.address, PEEK_BYTES);
      }
    }
    const order = this.#orderOf(peeks, count);
    const tree = this.#ordering.treeOf(this.#spaces, space);
    const ordered = this.#ordering.index;
    const near = this.#near;
    for (let first = 0; first < count; first += GROUP) {
      const end = Math.min(first + GROUP, count);
      // Nothing but copies in this loop: the peeks are in no order, and their misses overlap.
      for (let rank = first; rank < end; rank++) {
        copy(near.address + (rank - first) * PEEK_BYTES, peeks.address + order[rank]! * PEEK_BYTES, PEEK_BYTES);
      }
      for (let rank = first; rank < end; rank++) {
        const at = units[order[rank]!]!;
        const bytes = near.u32[(rank - first) * PEEK_WORDS + WORD_SHAPE]! >>> 16;
        const head = near.address + (rank - first) * PEEK_BYTES;
        if (bytes <= KEY_PEEK_BYTES) key.takeFrom(head + FRAME_HEADER_BYTES, bytes);
        else {
          lookup.loadAt(at * 8);
          key.takeFrom(lookup.frame.address + FRAME_HEADER_BYTES, bytes);
        }
        ordered.append(tree, key, at);
      }
    }
    ordered.endAppend();
  }

  /** The indexes of the keys in the chunk, by the first 32 bits behind what all have in common. */
  #orderOf(peeks: Pinned, count: number): Uint32Array {
    const u8 = peeks.u8;
    let shared = KEY_PEEK_BYTES - 4;
    for (let index = 1; index < count; index++) {
      shared = sharedBytes(u8, index * PEEK_BYTES, shared);
    }
    const order = new Float64Array(count);
    for (let index = 0; index < count; index++) {
      order[index] = firstWord(u8, index * PEEK_BYTES + shared) * CHUNK + index;
    }
    order.sort();
    const indexes = new Uint32Array(count);
    // Not `%`, which takes longer for doubles than all the rest.
    for (let rank = 0; rank < count; rank++) indexes[rank] = order[rank]! - Math.floor(order[rank]! / CHUNK) * CHUNK;
    return indexes;
  }
}

/** How many of the first `most` bytes of two keys are the same: of the first peek, and of the one at `at`. */
function sharedBytes(u8: Uint8Array, at: number, most: number): number {
  let same = 0;
  while (same < most && u8[at + FRAME_HEADER_BYTES + same] === u8[FRAME_HEADER_BYTES + same]) same += 1;
  return same;
}

/** Four bytes of a key, from a byte of the peeks on, headers not counted. */
function firstWord(u8: Uint8Array, from: number): number {
  const at = FRAME_HEADER_BYTES + from;
  return ((u8[at]! << 24) | (u8[at + 1]! << 16) | (u8[at + 2]! << 8) | u8[at + 3]!) >>> 0;
}
