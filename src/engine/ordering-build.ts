/**
 * Building the ordered index at open, from the hash index: a part of it at a time, sorted well enough.
 *
 * The slots of the hash index give positions in no order. A chunk of them is sorted by position, so that the log
 * is read forwards; the first bytes of each key are kept, and the chunk is then sorted by 32 bits of them, so
 * that neighbours in the tree are added one after the other and their leaf stays in scratch. The order need not
 * be exact for that: each key is searched for all the same. Memory is that of one chunk.
 */

import { assert } from "../errors.ts";
import { copy, pinned, type Pinned } from "../ffi/memory.ts";
import { HASH_BITS } from "../keydir/hash.ts";
import { PAGE_BYTES } from "../ffi/heap.ts";
import { PAGE_SLOTS } from "../keydir/shard.ts";
import { isTombstone, positionHigh } from "../keydir/keydir.ts";
import { FRAME_HEADER_BYTES, TWO_32, WORD_SHAPE } from "../log/frame.ts";
import type { Core } from "./core.ts";
import { Ordering } from "./ordering.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

const CHUNK_BITS = 18;
const CHUNK = 1 << CHUNK_BITS;
/** A header and the key behind it, if it is no longer than 40 bytes. */
const PEEK_BYTES = 64;
const PEEK_WORDS = PEEK_BYTES / 4;
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
  readonly #units = new Float64Array(CHUNK);
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
    for (let hash = 0; hash < 1 << HASH_BITS;) {
      const shard = keydir.shardOf(root, hash);
      for (const page of shard.pages) {
        if (this.#count + PAGE_SLOTS > CHUNK) this.#addChunk(space);
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
    const peeks = (this.#peeks ??= pinned(CHUNK * PEEK_BYTES));
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
    for (let rank = 0; rank < count; rank++) {
      const index = order[rank]! % CHUNK;
      const bytes = peeks.u32[index * PEEK_WORDS + WORD_SHAPE]! >>> 16;
      if (bytes <= KEY_PEEK_BYTES) key.takeFrom(peeks.address + index * PEEK_BYTES + FRAME_HEADER_BYTES, bytes);
      else {
        this.#core.lookup.loadAt(units[index]! * 8);
        key.takeFrom(this.#core.lookup.frame.address + FRAME_HEADER_BYTES, bytes);
      }
      const isThere = ordered.find(tree, key, 0);
      assert(!isThere, "the hash index names each key once");
      ordered.add(units[index]!, Infinity);
    }
  }

  /** Ranks: for each key its first 32 bits behind what all have in common, then its index in the chunk; sorted. */
  #orderOf(peeks: Pinned, count: number): Float64Array {
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
    return order.sort();
  }
}
