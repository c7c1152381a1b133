/**
 * Building the ordered index at open, from the hash index: a part of it at a time, sorted well enough.
 *
 * The slots of the hash index give positions in no order. A chunk of them is sorted by position, so that the log
 * is read forwards; the first bytes of each key are kept, and the chunk is then sorted by 32 bits of them, so
 * that neighbours in the tree are added one after the other and their leaf stays in scratch. The order need not
 * be exact for that: each key is searched for all the same. Memory is that of one chunk.
 */

import { copy, pinned, type Pinned } from "../ffi/memory.ts";
import { HASH_BITS } from "../keydir/hash.ts";
import { PAGE_BYTES } from "../ffi/heap.ts";
import { PAGE_SLOTS } from "../keydir/shard.ts";
import { isTombstone, positionHigh } from "../keydir/keydir.ts";
import { FRAME_HEADER_BYTES, TWO_32, WORD_SHAPE } from "../log/frame.ts";
import type { Core } from "./core.ts";
import { Ordering } from "./ordering.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

/** A million: leaves of a tree that holds some already then get ten or so keys at a time. 80 bytes each. */
const CHUNK_BITS = 20;
const CHUNK = 1 << CHUNK_BITS;
/** A header and the key behind it, if it is no longer than 40 bytes. */
const PEEK_BYTES = 64;
const PEEK_WORDS = PEEK_BYTES / 4;
/** Peeks that are brought together before their keys are added. */
const GROUP = 64;
const KEY_PEEK_BYTES = PEEK_BYTES - FRAME_HEADER_BYTES;

/** Builds the trees of all key spaces. Nobody else reads or writes yet. */
export function buildOrdering(core: Core, spaces: Spaces): Ordering {
  const ordering = new Ordering(core);
  const builder = new Builder(core, spaces, ordering);
  for (const space of [spaces.default, ...spaces.list()]) builder.build(space);
  return ordering;
}

class Builder {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #ordering: Ordering;
  readonly #page = pinned(PAGE_BYTES);
  #units = new Float64Array(0);
  readonly #near = pinned(GROUP * PEEK_BYTES);
  #peeks: Pinned | undefined;
  #count = 0;

  constructor(core: Core, spaces: Spaces, ordering: Ordering) {
    this.#core = core;
    this.#spaces = spaces;
    this.#ordering = ordering;
  }

  build(space: SpaceState): void {
    const { keydir, heap } = this.#core;
    const root = this.#spaces.root(space);
    if (root === 0) return;
    // A page over: slots are taken a page at a time.
    const room = Math.min(CHUNK, this.#spaces.records(space) + PAGE_SLOTS);
    if (this.#units.length < room) {
      this.#units = new Float64Array(room);
      this.#peeks = pinned(room * PEEK_BYTES);
    }
    for (let hash = 0; hash < 1 << HASH_BITS;) {
      const shard = keydir.shardOf(root, hash);
      for (const page of shard.pages) {
        if (this.#count + PAGE_SLOTS > this.#units.length) this.#addChunk(space);
        copy(this.#page.address, heap.pageAddress(page), PAGE_BYTES);
        this.#takePage();
      }
      hash += 1 << (HASH_BITS - shard.depth);
    }
    this.#addChunk(space);
  }

  #takePage(): void {
    const words = this.#page.u32;
    for (let word = 0; word < PAGE_SLOTS * 2; word += 2) {
      const high = words[word + 1]!;
      const units = positionHigh(high) * TWO_32 + words[word]!;
      if (units !== 0 && !isTombstone(high)) this.#units[this.#count++] = units;
    }
  }

  #addChunk(space: SpaceState): void {
    const count = this.#count;
    this.#count = 0;
    if (count === 0) return;
    const { log, key, lookup, vault } = this.#core;
    const units = this.#units.subarray(0, count).sort();
    const peeks = this.#peeks!;
    for (let index = 0; index < count; index++) {
      const at = units[index]!;
      if (vault !== undefined) {
        lookup.loadAt(at * 8);
        copy(peeks.address + index * PEEK_BYTES, lookup.frame.address, PEEK_BYTES);
        continue;
      }
      const address = log.at(at >>> 0, Math.floor(at / TWO_32));
      if (address !== 0) copy(peeks.address + index * PEEK_BYTES, address, Math.min(log.limit, PEEK_BYTES));
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
      const at = index * PEEK_BYTES + FRAME_HEADER_BYTES;
      let same = 0;
      while (same < shared && u8[at + same] === u8[FRAME_HEADER_BYTES + same]) same += 1;
      shared = same;
    }
    const order = new Float64Array(count);
    for (let index = 0; index < count; index++) {
      const at = index * PEEK_BYTES + FRAME_HEADER_BYTES + shared;
      const first = ((u8[at]! << 24) | (u8[at + 1]! << 16) | (u8[at + 2]! << 8) | u8[at + 3]!) >>> 0;
      order[index] = first * CHUNK + index;
    }
    order.sort();
    const indexes = new Uint32Array(count);
    // Not `%`, which takes longer for doubles than all the rest.
    for (let rank = 0; rank < count; rank++) indexes[rank] = order[rank]! - Math.floor(order[rank]! / CHUNK) * CHUNK;
    return indexes;
  }
}
