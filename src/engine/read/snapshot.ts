/**
 * Walks over a key space as of one moment, while writes go on.
 *
 * The walk goes through the index in order of the hash, one shard at a time: it copies the positions of a
 * shard and lets go of it, so shards may grow, split and merge under it. The records are then read some at a time, each
 * followed back through its versions to the one that was the newest at the moment of the snapshot (`record-walk.ts`).
 *
 * Invariants
 * 1. While a snapshot is open, no tombstone at or behind its position leaves the index, and the index of a
 *    key space that is cleared stays in a grave: what was there can still be reached.
 * 2. The row of this Worker holds the position of its oldest open snapshot.
 * 3. An iterator that is dropped without being finished lets go of its snapshot when it is collected.
 */

import { barrier } from "../../ffi/barrier.ts";
import { copy, pinned } from "../../ffi/memory.ts";
import { requireStack } from "../stack-room.ts";
import { HASH_BITS, hashBehind } from "../../keydir/hash.ts";
import { PAGE_BYTES } from "../../ffi/heap.ts";
import { HASH_SHIFT, PAGE_SLOTS } from "../../keydir/shard.ts";
import type { RecordSource, Wanted } from "../contract.ts";
import { AUDIT, GRAVES, SNAPSHOTS, SNAPSHOT_ROWS } from "../threads/control.ts";
import type { Core } from "../core.ts";
import { leaveForLater } from "../../ffi/give-back.ts";
import { BatchedRecords } from "./record-batches.ts";
import { RecordWalk, type Hold } from "./record-walk.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

export class Snapshots {
  readonly #core: Core;
  readonly #spaces: Spaces;
  /** In the order of their positions: what is visible only grows. With many open the end of one must not look at all. */
  readonly #open = new Set<Hold>();
  readonly #dropped = new FinalizationRegistry<Hold>((hold) => this.close(hold));

  constructor(core: Core, spaces: Spaces) {
    this.#core = core;
    this.#spaces = spaces;
  }

  /** A walk over the live records of a key space as of now. */
  walk(space: SpaceState, wanted: Wanted): RecordSource {
    const core = this.#core;
    core.enter();
    this.#spaces.mustBeLive(space);
    const hold = this.hold(space);
    const walk = new SnapshotWalk(core, this.#spaces, this, { hold, wanted });
    this.letGoWith(walk, hold);
    return new BatchedRecords(undefined, walk);
  }

  /** Closes a snapshot when the iterator that it is for is collected. */
  letGoWith(iterator: object, hold: Hold): void {
    this.#dropped.register(iterator, hold, hold);
  }

  /** Opens a snapshot at the present moment. */
  hold(space: SpaceState): Hold {
    // Nobody would close one whose walk finds no room on the stack.
    requireStack();
    const core = this.#core;
    if (this.#open.size === 0) Atomics.add(core.control.flags, SNAPSHOTS, 1);
    // The row first, the position again after it: a writer that looked in between kept what the second one needs.
    core.control.numbers[SNAPSHOT_ROWS + core.row] = Math.min(
      core.control.numbers[SNAPSHOT_ROWS + core.row]!,
      core.visible,
    );
    barrier(core.control.flags, SNAPSHOTS);
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
    const [first] = this.#open;
    const oldest = first?.lsn ?? Infinity;
    numbers[SNAPSHOT_ROWS + core.row] = oldest;
    if (this.#open.size === 0) Atomics.sub(core.control.flags, SNAPSHOTS, 1);
    if (!(oldest > before) || core.control.flags[GRAVES] === 0 || core.isClosed) return;
    // It may have been the last to ask for graves of any key space; beside an older one it was not.
    if (core.keepFrom() * 8 >= before && core.mutex.tryLock()) {
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

class SnapshotWalk extends RecordWalk {
  readonly #spaces: Spaces;
  readonly #clears: number;
  /** Positions of the shard at hand. */
  #count = 0;
  /** Every smaller hash has been visited. */
  #hash = 0;

  constructor(
    core: Core,
    spaces: Spaces,
    snapshots: Snapshots,
    walk: { readonly hold: Hold; readonly wanted: Wanted },
  ) {
    const { hold, wanted } = walk;
    super(core, snapshots, { hold, wanted, limit: Infinity });
    this.#spaces = spaces;
    this.#clears = spaces.clearsAt(hold.space, hold.lsn);
  }

  /** Copies the positions of the next shard. */
  protected override takePart(): number | undefined {
    if (this.#hash >= 1 << HASH_BITS) return undefined;
    // What was not visible at the snapshot is followed back at once: later its place may hold another frame. The shard is
    // found anew each time: one that was laid out anew goes on naming what was taken back.
    const depth = this.core.log.undisturbed(() => this.#takeShard());
    if (depth === undefined) return undefined;
    this.#hash = hashBehind(this.#hash, depth);
    return this.#count;
  }

  /** Copies the positions of the shard of the next hash, and returns how deep it is; undefined: there is no index. */
  #takeShard(): number | undefined {
    const { keydir, heap } = this.core;
    const root = this.#spaces.rootBefore(this.hold.space, this.#clears);
    if (root === 0) return undefined;
    const shard = keydir.shardOf(root, this.#hash);
    const slots = shard.pages.length * PAGE_SLOTS;
    if (this.units.length < slots) this.units = new Float64Array(slots);
    this.#count = 0;
    for (const page of shard.pages) {
      copy(scratch.address, heap.pageAddress(page), PAGE_BYTES);
      this.#takePage();
    }
    return shard.depth;
  }

  #takePage(): void {
    // Signed words: an unsigned one may be a floating-point number.
    const words = scratch.i32;
    const { units, core } = this;
    const { positions } = core.heap;
    const { lsn } = this.hold;
    for (let word = 0; word < PAGE_SLOTS * 2; word += 2) {
      // Most slots of a small key space: one page has 512.
      if ((words[word]! | words[word + 1]!) === 0) continue;
      const high = words[word + 1]! >>> 0;
      const unit = positions.units(words[word]! >>> 0, high);
      if (unit === 0 || high >>> HASH_SHIFT < this.#hash) continue;
      if (unit * 8 < lsn) units[this.#count++] = unit;
      else if (this.#findVersion(unit * 8)) units[this.#count++] = core.lookup.lsn / 8;
    }
  }

  /** Finds the version that was the newest at the snapshot; false when that was none, or a removal. */
  #findVersion(newest: number): boolean {
    const { lookup } = this.core;
    lookup.loadAt(newest);
    return lookup.walkBack(this.hold.lsn);
  }
}

const scratch = pinned(PAGE_BYTES);
