/**
 * The ordered index in step with the hash index: every write of a record goes to both, under the writer's lock and
 * before the frame becomes visible, and so does taking it back.
 *
 * Invariants
 * 1. A live record has one entry in the tree of its key space, with the position that its slot in the hash index
 *    holds; a key without a live record has a tombstone or nothing.
 * 2. A tree goes where its hash index goes: into the grave at a clear or drop, out of it when that is undone.
 * 3. What the hint image has of it is of different moments, leaf by leaf. Replay points each key to every frame behind
 *    the image's start, in order, whatever its leaf knows already: a key without such a frame is the same in all of those
 *    moments, and any other ends at its last frame. Without such an image it is built from the hash index
 *    (`ordering-build.ts`).
 */

import { TreeCheck } from "../../ordered/check.ts";
import { LeafCopy } from "../../ordered/leaf-copy.ts";
import { OrderedIndex } from "../../ordered/ordered.ts";
import { RangeReader } from "../../ordered/range-reader.ts";
import { FRAME_HEADER_BYTES, KIND_PUT, kindOf } from "../../log/frame.ts";
import type { Core } from "../core.ts";
import { KeyOrder } from "./key-order.ts";
import type { ProbeKey } from "../../ordered/node.ts";
import type { KeySource } from "../../ordered/path.ts";
import { LogKeys } from "../read/log-keys.ts";
import { SealedKeys } from "../sealed/sealed-keys.ts";
import type { SpaceState, Spaces } from "../spaces.ts";
import { VerifiedKeys } from "../read/verified-keys.ts";

/** Leaves that one write looks at for old tombstones: some, more after many removals, never for more than a few ms. */
const TIDY_LEAVES_MIN = 2;
const TIDY_LEAVES_MAX = 2000;
const REMOVALS_PER_LEAF = 8;
/** Key spaces that it does so in: others have their turn with the next writes. */
const TIDY_SPACES_MAX = 4;

/** A batch of fewer writes enters them as they come. */
const GATHERED_MIN = 8;
/** So does one into a key space that has more records than this for each: neighbours would not share a leaf. */
const RECORDS_PER_GATHERED = 32;

/** Most dead leaves that are remembered while a snapshot keeps them. */
const DEAD_LEAVES_MAX = 65_536;

/** A leaf that has nothing but tombstones: where the one of a key would be. */
interface DeadLeaf {
  readonly space: SpaceState;
  readonly key: Uint8Array;
}

/** A frame that removes a key, and the one that the entry is thought to hold, in units. */
interface RemovingFrame {
  readonly tree: number;
  readonly units: number;
  readonly last: number;
  readonly keepFrom: number;
}

/** A frame of a record that an open reads. */
interface ReplayedFrame {
  readonly lsn: number;
  readonly prev: number;
  readonly isRemoval: boolean;
  readonly keepFrom: number;
}

export class Ordering {
  readonly index: OrderedIndex;
  readonly reader: RangeReader;
  readonly #core: Core;
  readonly #keys: KeySource;
  /** Key spaces that may hold old tombstones, in the order of their turns, and the removals since they were last looked at. */
  readonly #thinned = new Map<SpaceState, number>();
  /**
   * Dead leaves of this thread's removals, oldest first. A queue leaves them all at its front, where each range begins:
   * they go as soon as nobody needs their tombstones, however few they are of all records.
   */
  #deadLeaves: DeadLeaf[] = [];
  /** Index of the oldest one that is still to be dropped. */
  #deadFrom = 0;
  /** How many of them came since the last publication. */
  #newDeadLeaves = 0;
  #hasPassedLock = false;
  /** Writes of the batch at hand, 0 for few or none. */
  #batchWrites = 0;
  /** What it has written to one key space and is yet to be entered. */
  #gathered: KeyOrder | undefined;
  #gatheredSpace: SpaceState | undefined;
  /** Whether what is written to that is gathered. */
  #isWorthIt = false;

  constructor(core: Core) {
    this.#core = core;
    this.#keys = core.vault === undefined ? new LogKeys(core.log) : new SealedKeys(core.log, core.vault);
    this.index = new OrderedIndex(core.heap, core.reclaim, this.#keys);
    this.reader = new RangeReader(core.heap, core.verifyReads ? new VerifiedKeys(core) : this.#keys);
  }

  /** The tree of a key space, a new one if it has none. Under the writer's lock. */
  treeOf(spaces: Spaces, space: SpaceState): number {
    let tree = spaces.tree(space);
    if (tree === 0) {
      tree = this.index.plant();
      spaces.setTree(space, tree);
    }
    return tree;
  }

  /** Enters a new frame of the loaded key; `prev` is where the one before it is, 0 for none. */
  put(spaces: Spaces, space: SpaceState, frame: { readonly lsn: number; readonly prev: number }): void {
    const core = this.#core;
    const gathered = this.#gathering(spaces, space);
    if (gathered !== undefined) {
      gathered.addLoaded(core.key, frame.lsn / 8, frame.prev / 8);
      return;
    }
    const tree = this.treeOf(spaces, space);
    if (this.index.find(tree, core.key, frame.prev / 8)) this.index.replace(frame.lsn / 8, false);
    else this.index.add(frame.lsn / 8, core.keepFrom());
  }

  /**
   * Begins a batch of so many writes: where these are many beside the records of a key space, what is written is entered in
   * the order of the keys, with `enterGathered` at the latest. `endBatch` ends it, whatever has come of it.
   */
  beginBatch(writes: number): void {
    if (writes >= GATHERED_MIN) this.#batchWrites = writes;
  }

  /** Whether a batch of so many writes is many beside the records of a key space: neighbours in it are neighbours there. */
  isWorthIt(writes: number, records: number): boolean {
    return writes >= GATHERED_MIN && writes * RECORDS_PER_GATHERED >= records;
  }

  /** What gathers what the batch writes to a key space, with room for one more; undefined where it goes in at once. */
  #gathering(spaces: Spaces, space: SpaceState): KeyOrder | undefined {
    if (this.#batchWrites === 0) return undefined;
    if (space !== this.#gatheredSpace) {
      this.enterGathered(spaces);
      this.#gatheredSpace = space;
      this.#isWorthIt = this.isWorthIt(this.#batchWrites, spaces.records(space));
    }
    if (!this.#isWorthIt) return undefined;
    // One for the whole batch, which may go to and fro between key spaces.
    this.#gathered ??= this.keyOrder(this.#batchWrites);
    if (this.#gathered.isFull) this.enterGathered(spaces);
    return this.#gathered;
  }

  /** Enters what the batch has gathered so far. */
  enterGathered(spaces: Spaces): void {
    const [gathered, space] = [this.#gathered, this.#gatheredSpace];
    if (gathered === undefined || space === undefined || gathered.count === 0) return;
    const { index } = this;
    const tree = this.treeOf(spaces, space);
    const keepFrom = this.#core.keepFrom();
    gathered.take((key, units, last) => {
      if (units > 0) {
        index.enter(tree, key, { units, last, keepFrom });
        return;
      }
      index.endRun();
      this.#bury(space, key, { tree, units: -units, last, keepFrom });
    });
    index.endRun();
  }

  /** Ends a batch. What has not been entered then is for `undo`. */
  endBatch(): void {
    if (this.#batchWrites === 0) return;
    this.#batchWrites = 0;
    this.#gathered = undefined;
    this.#gatheredSpace = undefined;
    this.index.forgetRun();
  }

  /** What enters up to so many keys in their order. */
  keyOrder(countMax: number): KeyOrder {
    return new KeyOrder(this.#keys, countMax);
  }

  /** Enters the frame that removes the loaded key. */
  remove(spaces: Spaces, space: SpaceState, frame: { readonly lsn: number; readonly prev: number }): void {
    const core = this.#core;
    const gathered = this.#gathering(spaces, space);
    if (gathered !== undefined) {
      gathered.addLoaded(core.key, -frame.lsn / 8, frame.prev / 8);
      return;
    }
    this.#bury(space, core.key, {
      tree: spaces.tree(space),
      units: frame.lsn / 8,
      last: frame.prev / 8,
      keepFrom: core.keepFrom(),
    });
  }

  /** Makes the entry of a key a tombstone. */
  #bury(space: SpaceState, key: ProbeKey, frame: RemovingFrame): void {
    const isThere = this.index.find(frame.tree, key, frame.last);
    // An image whose leaves lack what its shards have.
    if (!isThere) throw this.#core.log.corrupted(frame.last * 8);
    this.index.replace(frame.units, true);
    const isDead = this.index.shrink(frame.keepFrom);
    this.#thinned.set(space, (this.#thinned.get(space) ?? 0) + 1);
    if (!isDead || this.#deadLeaves.length - this.#deadFrom >= DEAD_LEAVES_MAX) return;
    this.#deadLeaves.push({ space, key: key.memory.u8.slice(0, key.bytes) });
    this.#newDeadLeaves += 1;
  }

  /** Enters the frame of the loaded key that replay has come to. Tombstones before `keepFrom` (units) may go. */
  replay(spaces: Spaces, space: SpaceState, frame: ReplayedFrame): void {
    const tree = this.treeOf(spaces, space);
    const { index } = this;
    const units = frame.lsn / 8;
    if (!index.find(tree, this.#core.key, frame.prev / 8)) {
      if (!frame.isRemoval) index.add(units, frame.keepFrom);
    } else {
      index.replace(units, frame.isRemoval);
      if (frame.isRemoval) index.shrink(frame.keepFrom);
    }
  }

  /** What copies the leaves for an image. */
  leafCopy(): LeafCopy {
    return new LeafCopy(this.#core.heap, this.#keys);
  }

  /** After a publication: drops a few tombstones that nobody needs any more. */
  tidy(spaces: Spaces): void {
    if (this.#thinned.size === 0 && this.#deadLeaves.length === 0) return;
    // What was published is out before the snapshots are looked at: a new one then is behind it.
    this.#core.orderStores();
    const keepFrom = this.#core.keepFrom();
    this.#dropDeadLeaves(spaces, keepFrom);
    let left = Math.min(this.#thinned.size, TIDY_SPACES_MAX);
    for (const [space, removals] of this.#thinned) {
      if (left-- === 0) break;
      const tree = spaces.tree(space);
      const leaves = Math.min(TIDY_LEAVES_MIN + Math.floor(removals / REMOVALS_PER_LEAF), TIDY_LEAVES_MAX);
      const work = { records: spaces.records(space), leaves };
      this.#thinned.delete(space);
      // Behind the others: as long as a walk keeps the tombstones this one is looked at in vain.
      if (tree !== 0 && this.index.tidy(tree, keepFrom, work)) this.#thinned.set(space, 0);
    }
  }

  /** As many as have come, and some of those that had to wait, in the order in which their tombstones came. */
  #dropDeadLeaves(spaces: Spaces, keepFrom: number): void {
    const leaves = this.#deadLeaves;
    const end = Math.min(this.#deadFrom + this.#newDeadLeaves + TIDY_LEAVES_MIN, leaves.length);
    this.#newDeadLeaves = 0;
    for (; this.#deadFrom < end; this.#deadFrom++) {
      const { space, key } = leaves[this.#deadFrom]!;
      const tree = spaces.tree(space);
      if (tree !== 0 && !this.index.dropDead(tree, key, keepFrom)) break;
    }
    if (this.#deadFrom === 0 || this.#deadFrom < leaves.length / 2) return;
    this.#deadLeaves = leaves.slice(this.#deadFrom);
    this.#deadFrom = 0;
  }

  /** Puts the entry of the key of the record frame at `lsn` back to where it pointed before `start`. */
  undo(spaces: Spaces, space: SpaceState, frame: { readonly lsn: number; readonly start: number }): void {
    const tree = spaces.tree(space);
    if (tree === 0) return;
    const { lookup, key } = this.#core;
    lookup.loadAnyAt(frame.lsn);
    key.loadFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
    let prev = frame.lsn;
    while (prev >= frame.start) {
      lookup.loadAt(prev);
      prev = lookup.prev();
    }
    let isLive = false;
    if (prev !== 0) {
      lookup.loadAt(prev);
      isLive = kindOf(lookup.shape) === KIND_PUT;
    }
    if (!this.index.find(tree, key, 0) || this.index.units < frame.start / 8) return;
    if (prev === 0) this.index.erase();
    else this.index.replace(prev / 8, !isLive);
  }

  /** Retires a tree that nobody can ask for any more. */
  retire(tree: number): void {
    if (tree !== 0) this.index.retireTree(tree);
  }

  /**
   * To be called before reading. A writer that was alone until this Worker came may be writing over a node in
   * place; once the lock has gone through this Worker's hands, no writer takes itself for alone.
   */
  mayRead(): void {
    if (this.#hasPassedLock) return;
    const { mutex, isReadOnly } = this.#core;
    if (!isReadOnly) {
      mutex.lock();
      mutex.unlock();
    }
    this.#hasPassedLock = true;
  }

  /** What holds a tree against its invariants; `visit` sees the position (lsn) of each entry. */
  checkOf(visit: (lsn: number, isTombstone: boolean) => void): TreeCheck {
    return new TreeCheck({ heap: this.#core.heap, keys: this.#keys }, (units, isTombstone) =>
      visit(units * 8, isTombstone),
    );
  }
}
