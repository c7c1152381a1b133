/**
 * Records that replay has read and not yet put into the index: a group at a time, so that the misses of their
 * buckets, and of the versions they replace, overlap.
 *
 * Invariants
 * 1. A group is put into the index in the order of the log, and before anything that is no record is.
 * 2. What the log's words call written covers the whole group: a record may replace one of its own group.
 */

import { copy, pinned } from "../ffi/memory.ts";
import type { Address } from "../ffi/system.ts";
import { isTombstone, positionHigh } from "../keydir/keydir.ts";
import { FRAME_HEADER_BYTES, KIND_PUT, KIND_REMOVE, SHAPE_EXPIRY, TWO_32, kindOf } from "../log/frame.ts";
import { unitHigh, unitLow } from "../log/log-words.ts";
import type { Scanner } from "../log/scanner.ts";
import type { Core } from "./core.ts";
import { noteDeadline } from "./deadlines.ts";
import type { Gates } from "./gates.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

/** Enough to keep the memory busy, few enough for what was touched to be still in the nearest cache. */
const GROUP = 128;
const BUCKET_BYTES = 64;

export class ReplayGroup {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #gates: Gates | undefined;
  /** Finds the namespace of the record at a position, or throws that there is none. */
  readonly #space: (id: number, lsn: number) => SpaceState;
  #count = 0;
  readonly #ids = new Uint32Array(GROUP);
  readonly #hashes = new Int32Array(GROUP);
  readonly #removals = new Uint8Array(GROUP);
  readonly #lsns = new Float64Array(GROUP);
  readonly #prevs = new Float64Array(GROUP);
  readonly #bytes = new Float64Array(GROUP);
  readonly #deadlines = new Float64Array(GROUP);
  /** Tombstones before this position, in units, may go. */
  readonly #keepFroms = new Float64Array(GROUP);
  readonly #places: Address[] = Array.from({ length: GROUP }, () => 0);
  readonly #touched = pinned(BUCKET_BYTES);

  // Counts of the namespace at hand that are not in its entry yet.
  #counted: SpaceState | undefined;
  #records = 0;
  #liveBytes = 0;

  constructor(
    core: Core,
    spaces: Spaces,
    options: { readonly gates: Gates | undefined; readonly space: (id: number, lsn: number) => SpaceState },
  ) {
    this.#core = core;
    this.#spaces = spaces;
    this.#gates = options.gates;
    this.#space = options.space;
  }

  /** Takes the record that the scanner stands at. */
  add(scanner: Scanner, batchStart: number): void {
    const { facts, lsn, head, headAt } = scanner;
    if (this.#gates !== undefined && lsn < this.#gates.of(facts.space)) return;
    const index = this.#count;
    this.#ids[index] = facts.space;
    this.#hashes[index] = this.#core.hash.at(head, headAt + FRAME_HEADER_BYTES, facts.keyBytes);
    this.#removals[index] = facts.kind === KIND_REMOVE ? 1 : 0;
    this.#lsns[index] = lsn;
    this.#prevs[index] = facts.prev;
    this.#bytes[index] = facts.frameBytes;
    this.#deadlines[index] = facts.expiresAtMs;
    this.#keepFroms[index] = batchStart === 0 ? Infinity : batchStart / 8;
    this.#count = index + 1;
    if (this.#count === GROUP) this.flush();
  }

  /** Puts the group into the index. */
  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    this.#count = 0;
    this.#touch(count);
    let space: SpaceState | undefined;
    for (let index = 0; index < count; index++) {
      const id = this.#ids[index]!;
      if (space?.id !== id) space = this.#space(id, this.#lsns[index]!);
      this.#apply(index, space);
    }
    this.#writeCounts();
  }

  /** Brings buckets and replaced versions into the cache. */
  #touch(count: number): void {
    const { keydir, log } = this.#core;
    const places = this.#places;
    const touched = this.#touched.address;
    let id = -1;
    let root = 0;
    for (let index = 0; index < count; index++) {
      if (this.#ids[index] !== id) {
        id = this.#ids[index]!;
        const space = this.#spaces.byId(id);
        root = space === undefined ? 0 : this.#spaces.root(space);
      }
      places[index] = root === 0 ? 0 : keydir.bucketOf(root, this.#hashes[index]!);
    }
    for (let index = 0; index < count; index++) {
      if (places[index] !== 0) copy(touched, places[index]!, BUCKET_BYTES);
      const prev = this.#prevs[index]!;
      if (prev === 0) continue;
      const address = log.at(unitLow(prev), unitHigh(prev));
      if (address !== 0 && log.limit >= FRAME_HEADER_BYTES) copy(touched, address, FRAME_HEADER_BYTES);
    }
  }

  #apply(index: number, space: SpaceState): void {
    const { keydir, key, lookup, isReadOnly } = this.#core;
    const lsn = this.#lsns[index]!;
    const prev = this.#prevs[index]!;
    const isRemoval = this.#removals[index] === 1;
    const keepFrom = this.#keepFroms[index]!;
    key.hash = this.#hashes[index]!;
    const hasSlot = this.#findSlot(space, prev, keepFrom);
    const isHeld = lsn < keydir.standsFor;
    let wasLive = false;
    let hadDeadline = false;
    let oldBytes = 0;
    if (prev !== 0 && (hasSlot || isHeld)) {
      lookup.loadAnyAt(prev);
      wasLive = kindOf(lookup.shape) === KIND_PUT;
      if (wasLive) oldBytes = lookup.frameBytes();
      hadDeadline = wasLive && (lookup.shape & SHAPE_EXPIRY) !== 0;
    }
    if (!isHeld) {
      if (hasSlot) keydir.replace(unitLow(lsn), unitHigh(lsn), isRemoval);
      else if (!isRemoval) keydir.add(space.address, unitLow(lsn), unitHigh(lsn), keepFrom);
    }
    if (this.#counted !== space) this.#writeCounts();
    this.#counted = space;
    this.#records += (isRemoval ? 0 : 1) - (wasLive ? 1 : 0);
    this.#liveBytes += (isRemoval ? 0 : this.#bytes[index]!) - oldBytes;
    const expiresAtMs = this.#deadlines[index]!;
    if ((hadDeadline || expiresAtMs !== 0) && !isReadOnly)
      noteDeadline(this.#core, space, { hadDeadline, expiresAtMs, lsn });
    const { ordering } = this.#core;
    if (ordering === undefined) return;
    lookup.loadAnyAt(lsn);
    key.takeFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
    ordering.replay(this.#spaces, space, { lsn, prev, isRemoval, keepFrom });
  }

  #writeCounts(): void {
    if (this.#counted !== undefined) this.#spaces.count(this.#counted, this.#records, this.#liveBytes);
    this.#counted = undefined;
    this.#records = 0;
    this.#liveBytes = 0;
  }

  /** Finds the slot that points to `prev`; for a new key, one that a removed key no longer needs. */
  #findSlot(space: SpaceState, prev: number, keepFrom: number): boolean {
    const keydir = this.#core.keydir;
    if (!keydir.seek(this.#spaces.root(space), this.#core.key.hash)) return false;
    while (keydir.next()) {
      const units = positionHigh(keydir.high) * TWO_32 + keydir.low;
      if (prev === 0 ? isTombstone(keydir.high) && units < keepFrom : units === prev / 8) return true;
    }
    return false;
  }
}
