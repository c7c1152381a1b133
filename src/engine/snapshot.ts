/**
 * Walks over a key space as of one moment, while writes go on.
 *
 * The walk goes through the index in order of the hash, one shard at a time: it copies the positions of a
 * shard and lets go of it, so shards may grow, split and merge under it. Each record is then followed back
 * through its versions to the one that was the newest at the moment of the snapshot.
 *
 * Invariants
 * 1. While a snapshot is open, no tombstone at or behind its position leaves the index, and the index of a
 *    key space that is cleared stays in a grave: what was there can still be reached.
 * 2. The row of this Worker holds the position of its oldest open snapshot.
 * 3. An iterator that is dropped without being finished lets go of its snapshot when it is collected.
 */

import { copy, pinned } from "../ffi/memory.ts";
import { HASH_BITS } from "../keydir/hash.ts";
import { PAGE_BYTES } from "../ffi/heap.ts";
import { HASH_SHIFT, PAGE_SLOTS } from "../keydir/shard.ts";
import { verifyFound } from "./body-check.ts";
import type { RecordSource, SnapshotRecord } from "./contract.ts";
import { AUDIT, GRAVES, SNAPSHOTS, SNAPSHOT_ROWS } from "./control.ts";
import type { Core } from "./core.ts";
import { leaveForLater } from "../ffi/give-back.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

/** One open snapshot; closing it twice is harmless. */
export interface Hold {
  readonly lsn: number;
  readonly space: SpaceState;
  isOpen: boolean;
}

export class Snapshots {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #open = new Set<Hold>();
  readonly #dropped = new FinalizationRegistry<Hold>((hold) => this.close(hold));

  constructor(core: Core, spaces: Spaces) {
    this.#core = core;
    this.#spaces = spaces;
  }

  /** A walk over the live records of a key space as of now. */
  walk(space: SpaceState): RecordSource {
    const core = this.#core;
    core.enter();
    this.#spaces.mustBeLive(space);
    const hold = this.hold(space);
    const iterator = new SnapshotWalk(core, this.#spaces, this, hold);
    this.letGoWith(iterator, hold);
    return iterator;
  }

  /** Closes a snapshot when the iterator that it is for is collected. */
  letGoWith(iterator: object, hold: Hold): void {
    this.#dropped.register(iterator, hold, hold);
  }

  /** Opens a snapshot at the present moment. */
  hold(space: SpaceState): Hold {
    const core = this.#core;
    if (this.#open.size === 0) Atomics.add(core.control.flags, SNAPSHOTS, 1);
    // The row first, the position again after it: a writer that looked in between kept what the second one needs.
    core.control.numbers[SNAPSHOT_ROWS + core.row] = Math.min(
      core.control.numbers[SNAPSHOT_ROWS + core.row]!,
      core.visible,
    );
    Atomics.add(core.control.flags, SNAPSHOTS, 0);
    const hold = { lsn: core.present(), space, isOpen: true };
    this.#open.add(hold);
    return hold;
  }

  close(hold: Hold): void {
    if (!hold.isOpen) return;
    hold.isOpen = false;
    this.#open.delete(hold);
    this.#dropped.unregister(hold);
    const core = this.#core;
    const { numbers } = core.control;
    const before = numbers[SNAPSHOT_ROWS + core.row]!;
    let oldest = Infinity;
    for (const other of this.#open) oldest = Math.min(oldest, other.lsn);
    numbers[SNAPSHOT_ROWS + core.row] = oldest;
    if (this.#open.size === 0) Atomics.sub(core.control.flags, SNAPSHOTS, 1);
    // It may have been the last to ask for graves of any key space.
    if (oldest > before && core.control.flags[GRAVES] !== 0 && !core.isClosed && core.mutex.tryLock()) {
      try {
        // What a dead writer has left is looked at by the next one first.
        if (core.control.flags[AUDIT] === 0) this.#spaces.emptyAllGraves(core.keepFrom() * 8);
      } catch (error) {
        leaveForLater(error);
      } finally {
        core.mutex.unlock();
      }
    }
  }

  /** Closes every snapshot of this Worker: its database closes. */
  closeAll(): void {
    for (const hold of [...this.#open]) this.close(hold);
  }
}

class SnapshotWalk implements RecordSource {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #snapshots: Snapshots;
  readonly #hold: Hold;
  readonly #clears: number;
  readonly #now: number;
  /** Positions of the shard at hand, in 8-byte units. */
  #units = new Float64Array(0);
  #count = 0;
  #index = 0;
  /** Every smaller hash has been visited. */
  #hash = 0;

  constructor(core: Core, spaces: Spaces, snapshots: Snapshots, hold: Hold) {
    this.#core = core;
    this.#spaces = spaces;
    this.#snapshots = snapshots;
    this.#hold = hold;
    this.#clears = spaces.clearsAt(hold.space, hold.lsn);
    this.#now = core.now();
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<SnapshotRecord> {
    const record = this.pull();
    return record === undefined ? { done: true, value: undefined } : { done: false, value: record };
  }

  pull(): SnapshotRecord | undefined {
    if (!this.#hold.isOpen) return undefined;
    this.#core.enter();
    for (;;) {
      while (this.#index < this.#count) {
        const record = this.#recordAt(this.#units[this.#index++]! * 8);
        if (record !== undefined) return record;
      }
      if (this.#takeShard()) continue;
      this.return();
      return undefined;
    }
  }

  return(): IteratorResult<SnapshotRecord> {
    this.#snapshots.close(this.#hold);
    this.#count = 0;
    return { done: true, value: undefined };
  }

  /** The record that the snapshot shows, if it shows one. */
  #recordAt(newest: number): SnapshotRecord | undefined {
    if (!this.#findVersion(newest) || this.#isExpired()) return undefined;
    const core = this.#core;
    const { lookup } = core;
    if (core.verifyReads) verifyFound(core);
    const expiresAtMs = lookup.expiresAtMs();
    const key = lookup.keyCopy();
    return { key, value: lookup.value(), expiresAtMs };
  }

  /** Finds the version that was the newest at the snapshot; false when that was none, or a removal. */
  #findVersion(newest: number): boolean {
    const { lookup } = this.#core;
    lookup.loadAt(newest);
    return lookup.walkBack(this.#hold.lsn);
  }

  #isExpired(): boolean {
    const expiresAtMs = this.#core.lookup.expiresAtMs();
    return expiresAtMs !== 0 && expiresAtMs <= this.#now;
  }

  /** Copies the positions of the next shard; false when there is none. */
  #takeShard(): boolean {
    const core = this.#core;
    const { keydir, heap } = core;
    if (this.#hash >= 1 << HASH_BITS) return false;
    const root = this.#spaces.rootBefore(this.#hold.space, this.#clears);
    if (root === 0) return false;
    const shard = keydir.shardOf(root, this.#hash);
    const slots = shard.pages.length * PAGE_SLOTS;
    if (this.#units.length < slots) this.#units = new Float64Array(slots);
    // What was not visible at the snapshot is followed back at once: later its place may hold another frame.
    core.log.undisturbed(() => {
      this.#count = 0;
      this.#index = 0;
      for (const page of shard.pages) {
        copy(scratch.address, heap.pageAddress(page), PAGE_BYTES);
        this.#takePage();
      }
    });
    const width = 1 << (HASH_BITS - shard.depth);
    this.#hash = (Math.floor(this.#hash / width) + 1) * width;
    return true;
  }

  #takePage(): void {
    const words = scratch.u32;
    const { positions } = this.#core.heap;
    for (let word = 0; word < PAGE_SLOTS * 2; word += 2) {
      const low = words[word]!;
      const high = words[word + 1]!;
      const units = positions.units(low, high);
      if (units === 0 || high >>> HASH_SHIFT < this.#hash) continue;
      if (units * 8 < this.#hold.lsn) this.#units[this.#count++] = units;
      else if (this.#findVersion(units * 8)) this.#units[this.#count++] = this.#core.lookup.lsn / 8;
    }
  }
}

const scratch = pinned(PAGE_BYTES);
