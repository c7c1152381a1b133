/**
 * Which frames of a log are live, found in the index: a bit for each place of a window of the log. So a copy goes from
 * one live frame to the next, and what is dead costs it nothing but the bytes that it skips.
 *
 * Invariants
 * 1. The log is settled up to `end` and the index names no other file when this begins. Whatever is written behind it
 *    stands further on, and a batch that is taken back names again what was named before. So a piece of the index tells
 *    of the frames before `end` the same at any later moment, but for those that have been replaced or removed meanwhile.
 * 2. Each slot is seen: shards go by the hashes of their keys, so one that is split or joined between two pieces is met
 *    again or as a whole.
 * 3. Memory is the bits of one window, however long the log is; of a longer log the index is gone through once for each.
 */

import { PAGE_BYTES } from "../../ffi/heap.ts";
import { copy, sharedScratch } from "../../ffi/memory.ts";
import { HASH_BITS, hashBehind } from "../../keydir/hash.ts";
import { isTombstone } from "../../keydir/keydir.ts";
import { PAGE_SLOTS } from "../../keydir/shard.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import type { Core } from "../core.ts";
import type { Spaces } from "../spaces.ts";

/** Bytes of log that a window covers, with 32 MiB of bits. */
const WINDOW_BYTES = 2 ** 31;
/** Pages of the index that are looked at under one lock: for one or two milliseconds. */
const PAGES_PER_PIECE = 64;
const sharedPage = sharedScratch(PAGE_BYTES);

export interface LivePlacesParts {
  readonly core: Core;
  readonly spaces: Spaces;
  /** Removals behind this position (in units) are live: a snapshot needs them. */
  readonly keepFrom: () => number;
}

export class LivePlaces {
  readonly #parts: LivePlacesParts;
  readonly #logBase: number;
  readonly #logEnd: number;
  readonly #windowBytes: number;
  /** Where the namespaces that are there were created, in units. */
  readonly #creations: readonly number[];
  /** Key spaces that have been created so far; the records of later ones stand further on. */
  readonly #spaceCount: number;
  readonly #bits: Uint32Array;
  #from = HEADER_PAGE_BYTES;
  #end = HEADER_PAGE_BYTES;
  /** The same in the units of the index: the least that it may hold, where the log ends, the window's first, and how many that has. */
  readonly #leastUnits: number;
  #endUnits: number;
  #fromUnits = 0;
  #places = 0;
  /** The piece of the index that comes next: a key space, and the least hash in it that has not been seen. */
  #space = 0;
  #hash = 0;

  /** For a log up to a place in its file. Under the writer's lock. */
  constructor(parts: LivePlacesParts, end: number, windowBytes: number = WINDOW_BYTES) {
    const { core, spaces } = parts;
    this.#parts = parts;
    this.#logBase = core.base;
    this.#leastUnits = (core.base + HEADER_PAGE_BYTES) / 8;
    this.#endUnits = core.tail.end / 8;
    this.#logEnd = end;
    this.#windowBytes = windowBytes;
    this.#creations = spaces.list().map((space) => spaces.createdAt(space) / 8);
    this.#spaceCount = spaces.nextId;
    this.#bits = new Uint32Array(Math.ceil(Math.min(end, windowBytes) / 256));
    this.#seek(HEADER_PAGE_BYTES);
  }

  /** Where the window ends. */
  get end(): number {
    return this.#end;
  }

  #seek(from: number): void {
    this.#from = from;
    this.#end = Math.min(this.#logEnd, from + this.#windowBytes);
    this.#fromUnits = (this.#logBase + from) / 8;
    this.#places = (this.#end - from) / 8;
    this.#space = 0;
    this.#hash = 0;
    for (const units of this.#creations) this.#note(units);
  }

  /** Whether `next` may be asked about a place; otherwise a piece of the index is to be gathered. */
  isKnown(place: number): boolean {
    return place < this.#end && this.#space === this.#spaceCount;
  }

  /**
   * Takes up a piece of the index for the window that a place is in, or begins with. Places only grow. Under the writer's
   * lock, with nothing half-written.
   */
  gather(place: number): void {
    this.#endUnits = this.#parts.core.tail.end / 8;
    if (place >= this.#end) {
      this.#bits.fill(0);
      this.#seek(place);
    }
    for (let pages = 0; pages < PAGES_PER_PIECE && this.#space < this.#spaceCount;) pages += this.#takeShard();
  }

  /** Returns how many pages that were. */
  #takeShard(): number {
    const { core, spaces, keepFrom } = this.#parts;
    const { keydir } = core;
    const space = spaces.byId(this.#space);
    const root = space === undefined ? 0 : spaces.root(space);
    if (root === 0 || this.#hash >= 1 << HASH_BITS) {
      this.#space += 1;
      this.#hash = 0;
      return 1;
    }
    const shard = keydir.shardOf(root, this.#hash);
    const keptFrom = keepFrom();
    const page = sharedPage();
    const { positions } = keydir.heap;
    for (const number of shard.pages) {
      copy(page.address, keydir.heap.pageAddress(number), PAGE_BYTES);
      for (let word = 0; word < 2 * PAGE_SLOTS; word += 2) {
        const high = page.u32[word + 1]!;
        const units = positions.units(page.u32[word]!, high);
        if (units !== 0 && (!isTombstone(high) || units >= keptFrom)) this.#note(units);
      }
    }
    this.#hash = hashBehind(this.#hash, shard.depth);
    return shard.pages.length;
  }

  /** @throws {EmdbError} EMDB_CORRUPTED for what is not in the log at all, as a slot of a forged image may say */
  #note(units: number): void {
    if (units < this.#leastUnits || units >= this.#endUnits) throw this.#parts.core.log.corrupted(units * 8);
    const bit = units - this.#fromUnits;
    // A window has less than 2^31 places.
    if (bit >= 0 && bit < this.#places) this.#bits[bit >>> 5]! |= 1 << (bit & 31);
  }

  /** The first place at or behind one where a live frame begins; `end` when there is none in the window. */
  next(place: number): number {
    const bits = this.#bits;
    const first = (place - this.#from) / 8;
    const words = Math.ceil((this.#end - this.#from) / 256);
    let word = Math.floor(first / 32);
    if (word >= words) return this.#end;
    let rest = bits[word]! & (-1 << (first & 31));
    while (rest === 0) {
      word += 1;
      if (word >= words) return this.#end;
      rest = bits[word]!;
    }
    return this.#from + (word * 32 + 31 - Math.clz32(rest & -rest)) * 8;
  }
}
