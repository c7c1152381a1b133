/**
 * Building the ordered index at open, from the hash index: a part of it at a time, sorted well enough.
 *
 * The slots of the hash index give positions in no order. When there are more than fit a chunk, they are first laid
 * out by the first bits of their keys, so that each chunk is a stretch of the key space. A chunk is sorted by position,
 * so that the log is read forwards, and then its keys are entered in their order (`key-order.ts`). Memory: one chunk, and
 * 8 bytes a record.
 */

import { copy, pinned } from "../../ffi/memory.ts";
import { HASH_BITS } from "../../keydir/hash.ts";
import { PAGE_BYTES } from "../../ffi/heap.ts";
import { PAGE_SLOTS } from "../../keydir/shard.ts";
import { isTombstone } from "../../keydir/keydir.ts";
import type { Core } from "../core.ts";
import { KEY_ORDER_MAX, KEY_PEEK_BYTES, PEEK_BYTES, firstWord, sharedBytes, type KeyOrder } from "./key-order.ts";
import { Ordering } from "./ordering.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

/** Beside a position in units, of 36 bits since the log begins at 0 when it is opened, a double holds so many bits of a key. */
const UNITS_SPAN = 2 ** 36;
const KEY_BITS = 17;
/** Keys that are looked at to find what all begin with. */
const SAMPLES = 512;

/** Builds the trees of all key spaces. Nobody else reads or writes yet. */
export function buildOrdering(core: Core, spaces: Spaces, chunkMax = KEY_ORDER_MAX): Ordering {
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
  readonly #near = pinned(2 * PEEK_BYTES);
  #order: KeyOrder | undefined;
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
    this.#units = new Float64Array(this.#roomFor(space, root));
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

  /** As many records as a key space counts, and no more than its index has slots: an image may count anything. */
  #roomFor(space: SpaceState, root: number): number {
    let slots = 0;
    for (let hash = 0; hash < 1 << HASH_BITS;) {
      const shard = this.#core.keydir.shardOf(root, hash);
      slots += shard.pages.length * PAGE_SLOTS;
      hash += 1 << (HASH_BITS - shard.depth);
    }
    return Math.max(0, Math.min(slots, this.#spaces.records(space)));
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
      if (units === 0 || isTombstone(high)) continue;
      if (this.#count === this.#units.length) this.#grow();
      this.#units[this.#count++] = units;
    }
  }

  /** The slots tell how many records there are, and the count is only where it begins. */
  #grow(): void {
    const grown = new Float64Array(Math.max(PAGE_SLOTS, 2 * this.#units.length));
    grown.set(this.#units);
    this.#units = grown;
  }

  #addChunk(space: SpaceState, units: Float64Array): void {
    const { lookup, vault } = this.#core;
    units.sort();
    if (this.#order === undefined || this.#order.countMax < units.length)
      this.#order = this.#ordering.keyOrder(units.length);
    const order = this.#order;
    for (let index = 0; index < units.length; index++) {
      const at = units[index]!;
      if (vault === undefined) this.#peek(at, order.next);
      else {
        lookup.loadAt(at * 8);
        copy(order.next, lookup.frame.address, PEEK_BYTES);
      }
      order.add(at, 0);
    }
    const tree = this.#ordering.treeOf(this.#spaces, space);
    const { index } = this.#ordering;
    order.take((key, at, last) => index.enter(tree, key, { units: at, last, keepFrom: 0 }));
    index.endRun();
  }
}
