/**
 * Namespaces: which there are, and where their entries in shared memory lie.
 *
 *     entry (64 bytes)   f64 0 root   f64 1 records   f64 2 live bytes   f64 3 position of its creation
 *                        u32 8 state   u32 9 clears   u32 10 first grave   u32 11 queue of deadlines
 *                        f64 6 tree of the ordered index   f64 7 records as of what is visible
 *     grave (64 bytes)   f64 0 root   f64 1 position of the clear   u32 4 clears before it   u32 5 next grave
 *                        f64 3 records   f64 4 live bytes   f64 5 tree   u32 12 queue of deadlines
 *
 * A grave keeps the index of a cleared key space for the iterators that were taken before.
 *
 * Invariants
 * 1. Id 0 is the default key space; ids are given out in order, and not again while the file is open or as long as its log names them.
 * 2. State, root and counts change under the writer's lock; the root is one store, by `Keydir.setRoot` alone, which
 *    tells every Worker to read it again.
 * 3. An entry is whole before the count of ids says that there is one. One without a creation by then is of a namespace
 *    that was taken back or that the log does not name any more.
 * 4. A clear may be taken back while readers look. What it takes away it takes after the clears were counted, and what it
 *    brought is taken away after that was put back; a reader that looks for what was before a clear looks at both counts,
 *    of clears and of layouts, before and after.
 * 5. The writer counts as it goes; what others are told is the count that goes with `visible`, stored right after it.
 */

import { EmdbError } from "../errors.ts";
import { copy, sharedScratch } from "../ffi/memory.ts";
import type { Address } from "../ffi/system.ts";
import { SPACE_COUNT_MAX } from "../limits.ts";
import type { Space } from "./contract.ts";
import { DRAFT_SPACES, GRAVES, LIVE_BYTES, SPACES_NAMED, SPACE_COUNT } from "./threads/control.ts";
import type { Core } from "./core.ts";

const RECORDS_AT = 8;
const BYTES_AT = 16;
const CREATED_AT = 24;
const STATE_AT = 32;
const CLEARS_AT = 36;
const GRAVE_AT = 40;
const TREE_AT = 48;
const VISIBLE_RECORDS_AT = 56;
const GRAVE_TREE_AT = 40;
const GRAVE_QUEUE_AT = 48;

const SPACE_NONE = 0;
export const SPACE_LIVE = 1;
export const SPACE_DROPPED = 2;

/** A namespace in the hands of the engine. */
export interface SpaceState extends Space {
  readonly address: Address;
  /** The root as it was last read, and the layout at that time; at first none, since every number is one some day. */
  root: number;
  layout: number;
}

function stateOf(space: { readonly id: number; readonly name: string }, address: Address): SpaceState {
  return { id: space.id, name: space.name, address, root: 0, layout: NaN };
}

const sharedCounts = sharedScratch(16);

export class Spaces {
  readonly #core: Core;
  readonly #counts = sharedCounts();
  readonly default: SpaceState;
  /** Every id this Worker has looked at, and the live ones by name. */
  readonly #known: (SpaceState | undefined)[] = [];
  readonly #byName = new Map<string, SpaceState>();
  /** Key spaces whose counts changed and are not published, and the one that changed last. */
  readonly #changed = new Set<SpaceState>();
  #last: SpaceState | undefined;

  constructor(core: Core) {
    this.#core = core;
    core.heap.ensureSpace(0);
    this.default = stateOf({ id: 0, name: "" }, core.heap.spaceAddress(0));
    this.#known[0] = this.default;
  }

  root(space: SpaceState): number {
    const { layout } = this.#core.keydir;
    if (space.layout !== layout) {
      // The layout first: a root that changes meanwhile is read again the next time.
      this.#core.log.barrier();
      space.root = this.#core.heap.readNumber(space.address);
      space.layout = layout;
    }
    return space.root;
  }

  /** The ordered index of a key space; 0 for none. */
  tree(space: Pick<SpaceState, "address">): number {
    return this.#core.heap.readNumber(space.address + TREE_AT);
  }

  setTree(space: SpaceState, tree: number): void {
    this.#core.heap.writeNumber(space.address + TREE_AT, tree);
  }

  /** The root for a reader that sees the log up to `visible`: of the index before a clear that it does not see. */
  rootAt(space: SpaceState, visible: number): number {
    const root = this.root(space);
    return root === 0 ? this.rootOf(space, visible) : root;
  }

  /** The same, whatever the root is now: a clear behind `visible` may have been followed by writes. */
  rootOf(space: SpaceState, visible: number): number {
    return this.#steadily(space, () => this.#buriedRoot(space, visible) || this.root(space));
  }

  /** What `read` returns when no clear of the key space is made or taken back meanwhile; it is given their count. */
  #steadily<T>(space: SpaceState, read: (clears: number) => T): T {
    const { keydir, log } = this.#core;
    for (;;) {
      const { layout } = keydir;
      log.barrier();
      const clears = this.clears(space);
      log.barrier();
      const result = read(clears);
      log.barrier();
      if (this.clears(space) === clears && keydir.layout === layout) return result;
    }
  }

  #buriedRoot(space: SpaceState, visible: number): number {
    const { heap } = this.#core;
    let root = 0;
    let grave = heap.read32(space.address + GRAVE_AT);
    while (grave !== 0) {
      const address = heap.unitAddress(grave);
      if (heap.readNumber(address + 8) < visible) break;
      root = heap.readNumber(address);
      grave = heap.read32(address + 20);
    }
    return root;
  }

  /** Records of a key space as of what is visible. */
  visibleRecords(space: SpaceState): number {
    return this.#core.heap.readNumber(space.address + VISIBLE_RECORDS_AT);
  }

  /** Shows everybody the counts as they are now. Under the writer's lock. */
  publishCounts(): void {
    const changed = this.#changed;
    if (changed.size === 1) this.publishCount(this.#last!);
    else {
      for (const space of changed) this.publishCount(space);
      changed.clear();
      this.#last = undefined;
    }
  }

  publishCount(space: SpaceState): void {
    copy(space.address + VISIBLE_RECORDS_AT, space.address + RECORDS_AT, 8);
  }

  /** The same as the writer has counted them so far. */
  records(space: SpaceState): number {
    return this.#core.heap.readNumber(space.address + RECORDS_AT);
  }

  createdAt(space: SpaceState): number {
    return this.#core.heap.readNumber(space.address + CREATED_AT);
  }

  clears(space: SpaceState): number {
    return this.#core.heap.read32(space.address + CLEARS_AT);
  }

  /** The same for a walk of what is visible up to a position: without the clears that it does not see. */
  clearsAt(space: SpaceState, visible: number): number {
    const { heap } = this.#core;
    return this.#steadily(space, (now) => {
      let clears = now;
      let grave = heap.read32(space.address + GRAVE_AT);
      while (grave !== 0) {
        const address = heap.unitAddress(grave);
        if (heap.readNumber(address + 8) < visible) break;
        clears = heap.read32(address + 16);
        grave = heap.read32(address + 20);
      }
      return clears;
    });
  }

  /** After a compaction: where the creations of namespaces stand now; 0 for those that are not in the log any more. */
  relocateCreations(translate: (lsn: number) => number): void {
    const { heap, control } = this.#core;
    const count = this.nextId;
    let named = 1;
    for (let id = 1; id < count; id++) {
      const address = heap.spaceAddress(id);
      const lsn = heap.readNumber(address + CREATED_AT);
      if (lsn === 0) continue;
      const copied = translate(lsn);
      heap.writeNumber(address + CREATED_AT, copied);
      if (copied !== 0) named = id + 1;
    }
    // What a batch that was taken back has created since the copy began may stand in the new log as well.
    control.numbers[SPACES_NAMED] = count > control.numbers[DRAFT_SPACES]! ? count : named;
  }

  isLive(space: SpaceState): boolean {
    return space.id === 0 || this.#core.heap.read32(space.address + STATE_AT) === SPACE_LIVE;
  }

  mustBeLive(space: SpaceState): void {
    if (this.isLive(space)) return;
    throw new EmdbError(
      "EMDB_NAMESPACE_DROPPED",
      `the namespace ${JSON.stringify(space.name)} was dropped; open it anew to get an empty one`,
    );
  }

  /** Adds to the counts of records and of their frames' bytes. */
  count(space: SpaceState, records: number, bytes: number): void {
    const memory = this.#counts;
    if (space !== this.#last) {
      this.#last = space;
      this.#changed.add(space);
    }
    copy(memory.address, space.address + RECORDS_AT, 16);
    memory.f64[0]! += records;
    memory.f64[1]! += bytes;
    this.#core.control.numbers[LIVE_BYTES]! += bytes;
    copy(space.address + RECORDS_AT, memory.address, 16);
  }

  /** Records and bytes of a key space. */
  counts(space: SpaceState): { readonly records: number; readonly bytes: number } {
    copy(this.#counts.address, space.address + RECORDS_AT, 16);
    return { records: this.#counts.f64[0]!, bytes: this.#counts.f64[1]! };
  }

  /** The id that the next namespace gets. */
  get nextId(): number {
    return this.#core.control.numbers[SPACE_COUNT]!;
  }

  /**
   * Every id from here on is in no frame of the log and may be given out again, by who opens it anew: here, handles of
   * dropped namespaces still go by theirs.
   */
  get namedEnd(): number {
    return this.#core.control.numbers[SPACES_NAMED]!;
  }

  /** A copy of the log begins: what is created from now on may be in it, whatever becomes of it. Under the writer's lock. */
  noteCopy(): void {
    this.#core.control.numbers[DRAFT_SPACES] = this.nextId;
  }

  refuseBeyondMax(): void {
    if (this.nextId < SPACE_COUNT_MAX) return;
    throw new EmdbError(
      "EMDB_FULL",
      `${this.nextId} namespaces have been created in this file; its limit is ${SPACE_COUNT_MAX}, dropped ones included. Compact the database and reopen it to go on behind the newest live one; where that is among the last, copy the compacted file with Emdb.salvage`,
    );
  }

  /** Enters a namespace whose creation stands at `lsn`. Under the writer's lock. */
  create(space: { readonly id: number; readonly name: string }, lsn: number): SpaceState {
    const { heap } = this.#core;
    // Those of others before it: behind an id that is known no other one is looked for.
    this.#learn();
    heap.ensureSpace(space.id);
    const state = stateOf(space, heap.spaceAddress(space.id));
    this.#core.keydir.setRoot(state.address, 0);
    heap.writeNumber(state.address + RECORDS_AT, 0);
    heap.writeNumber(state.address + BYTES_AT, 0);
    heap.writeNumber(state.address + VISIBLE_RECORDS_AT, 0);
    heap.writeNumber(state.address + CREATED_AT, lsn);
    heap.writeNumber(state.address + TREE_AT, 0);
    heap.write32(state.address + STATE_AT, SPACE_LIVE);
    this.#countTo(space.id);
    this.#remember(state);
    return state;
  }

  /** The entry of an id is whole, and the log names it: the next namespace gets another one. */
  #countTo(id: number): void {
    const { numbers } = this.#core.control;
    numbers[SPACES_NAMED] = Math.max(numbers[SPACES_NAMED]!, id + 1);
    this.#core.orderStores();
    numbers[SPACE_COUNT] = Math.max(numbers[SPACE_COUNT]!, id + 1);
  }

  #remember(state: SpaceState): void {
    this.#known[state.id] = state;
    this.#byName.set(state.name, state);
  }

  /** Takes back a creation, and what the same batch wrote to it. The number is not given out again in this process. */
  forget(id: number): void {
    const { heap, keydir, ordering, expiry, control } = this.#core;
    const address = heap.spaceAddress(id);
    heap.write32(address + STATE_AT, SPACE_NONE);
    heap.writeNumber(address + CREATED_AT, 0);
    control.numbers[LIVE_BYTES]! -= heap.readNumber(address + BYTES_AT);
    heap.writeNumber(address + BYTES_AT, 0);
    heap.writeNumber(address + RECORDS_AT, 0);
    const [root, tree] = [heap.readNumber(address), heap.readNumber(address + TREE_AT)];
    if (root !== 0) keydir.setRoot(address, 0);
    heap.writeNumber(address + TREE_AT, 0);
    ordering?.retire(tree);
    // The last of it, which also gives idle memory back.
    keydir.retireTree(root);
    expiry.free(expiry.detach(address, false));
    // Who wrote the creation may have died before it entered it.
    this.#countTo(id);
    const known = this.#known[id];
    if (known === undefined) return;
    this.#known[id] = undefined;
    this.#byName.delete(known.name);
  }

  setState(space: SpaceState, state: number): void {
    this.#core.heap.write32(space.address + STATE_AT, state);
  }

  /** The live namespace of that name. */
  named(name: string): SpaceState | undefined {
    this.#learn();
    const state = this.#byName.get(name);
    // One that is dropped keeps its name: a drop that another Worker did not finish is taken back.
    return state !== undefined && this.isLive(state) ? state : undefined;
  }

  /** The key space with an id, dropped ones included; undefined when there never was one. */
  byId(id: number): SpaceState | undefined {
    this.#learn();
    return this.#known[id];
  }

  /** Live named ones, in order of creation. */
  list(): SpaceState[] {
    this.#learn();
    return this.#known.filter(
      (space): space is SpaceState => space !== undefined && space.id !== 0 && this.isLive(space),
    );
  }

  /** The live key spaces among so many ids, the default one included. */
  live(from: number, count: number): SpaceState[] {
    this.#learn();
    const some = this.#known.slice(from, from + count);
    return some.filter((space): space is SpaceState => space !== undefined && this.isLive(space));
  }

  /** Takes up what other Workers have created. */
  #learn(): void {
    const count = this.nextId;
    if (count <= this.#known.length) return;
    // The count vouches for the entries: one that says of no creation then is none, for good.
    this.#core.log.barrier();
    for (let id = this.#known.length; id < count; id++) {
      this.#known[id] = undefined;
      const address = this.#core.heap.spaceAddress(id);
      const lsn = this.#core.heap.readNumber(address + CREATED_AT);
      if (lsn === 0) continue;
      if (lsn >= this.#core.visible) {
        // It is being created, and may be taken back.
        this.#known.length = id;
        return;
      }
      const name = this.#core.lookup.nameAt(lsn);
      const state = stateOf({ id, name }, address);
      this.#known[id] = state;
      this.#byName.set(name, state);
    }
  }

  /** Buries the index of a key space: it is empty then, and its old index stays for older iterators. */
  bury(space: SpaceState, lsn: number): void {
    const { heap } = this.#core;
    const root = this.root(space);
    const clears = this.clears(space);
    const { records, bytes } = this.counts(space);
    if (root !== 0) {
      const grave = heap.takeUnit();
      const address = heap.unitAddress(grave);
      this.#core.control.flags[GRAVES]! += 1;
      heap.writeNumber(address, root);
      heap.writeNumber(address + 8, lsn);
      heap.write32(address + 16, clears);
      heap.write32(address + 20, heap.read32(space.address + GRAVE_AT));
      heap.writeNumber(address + 24, records);
      heap.writeNumber(address + 32, bytes);
      heap.write32(address + GRAVE_QUEUE_AT, this.#core.expiry.detach(space.address, false));
      heap.writeNumber(address + GRAVE_TREE_AT, this.tree(space));
      this.#core.reclaim.fence();
      heap.write32(space.address + GRAVE_AT, grave);
    }
    this.count(space, -records, -bytes);
    heap.write32(space.address + CLEARS_AT, clears + 1);
    this.#core.reclaim.fence();
    if (root !== 0) this.#core.keydir.setRoot(space.address, 0);
    this.setTree(space, 0);
  }

  /** The root that iterators from before the given number of clears walk. */
  rootBefore(space: SpaceState, clears: number): number {
    return this.#before(space, clears, { now: 0, buried: 0 });
  }

  /** The tree that ranges from before the given number of clears read. */
  treeBefore(space: SpaceState, clears: number): number {
    return this.#before(space, clears, { now: TREE_AT, buried: GRAVE_TREE_AT });
  }

  #before(space: SpaceState, clears: number, at: { readonly now: number; readonly buried: number }): number {
    const { heap } = this.#core;
    return this.#steadily(space, (now) => {
      if (now === clears) return heap.readNumber(space.address + at.now);
      let grave = heap.read32(space.address + GRAVE_AT);
      while (grave !== 0) {
        const address = heap.unitAddress(grave);
        if (heap.read32(address + 16) === clears) return heap.readNumber(address + at.buried);
        grave = heap.read32(address + 20);
      }
      return 0;
    });
  }

  /** Digs up what a clear at or behind `lsn` buried: that clear did not happen. */
  exhume(space: SpaceState, lsn: number): void {
    const { heap, keydir, reclaim } = this.#core;
    const grave = heap.read32(space.address + GRAVE_AT);
    if (grave === 0 || heap.readNumber(heap.unitAddress(grave) + 8) < lsn) return;
    const address = heap.unitAddress(grave);
    this.count(space, heap.readNumber(address + 24), heap.readNumber(address + 32));
    this.setTree(space, heap.readNumber(address + GRAVE_TREE_AT));
    keydir.setRoot(space.address, heap.readNumber(address));
    reclaim.fence();
    heap.write32(space.address + CLEARS_AT, heap.read32(address + 16));
    reclaim.fence();
    heap.write32(space.address + GRAVE_AT, heap.read32(address + 20));
    this.#core.expiry.attach(space.address, heap.read32(address + GRAVE_QUEUE_AT));
    // Readers may be looking at it.
    reclaim.retireUnit(grave);
    this.#core.control.flags[GRAVES]! -= 1;
  }

  /** Frees the graves that no iterator from before `keepFrom` (a position) can ask for. */
  emptyAllGraves(keepFrom: number): void {
    const { heap, control } = this.#core;
    if (control.flags[GRAVES] === 0) return;
    let left = 0;
    for (let id = 0; id < this.nextId; id++) left += this.#emptyGravesAt(heap.spaceAddress(id), keepFrom);
    control.flags[GRAVES] = left;
  }

  /** The same of one key space. */
  emptyGraves(space: SpaceState, keepFrom: number): void {
    this.#emptyGravesAt(space.address, keepFrom);
  }

  /** Returns how many are left. */
  #emptyGravesAt(space: Address, keepFrom: number): number {
    const { heap, keydir, reclaim, ordering, visible, control } = this.#core;
    let left = 0;
    let link = space + GRAVE_AT;
    for (let grave = heap.read32(link); grave !== 0; grave = heap.read32(link)) {
      const address = heap.unitAddress(grave);
      const clearedAt = heap.readNumber(address + 8);
      // Nobody walks by deadlines: a queue goes as soon as its clear cannot be undone any more.
      if (clearedAt < Math.max(visible, keepFrom)) this.#freeQueue(address + GRAVE_QUEUE_AT);
      if (clearedAt >= keepFrom) {
        left += 1;
        link = address + 20;
        continue;
      }
      heap.write32(link, heap.read32(address + 20));
      ordering?.retire(heap.readNumber(address + GRAVE_TREE_AT));
      // Behind it, since this also gives idle memory back.
      keydir.retireTree(heap.readNumber(address));
      reclaim.retireUnit(grave);
      control.flags[GRAVES]! -= 1;
    }
    return left;
  }

  #freeQueue(link: Address): void {
    const { heap, expiry } = this.#core;
    const queue = heap.read32(link);
    heap.write32(link, 0);
    expiry.free(queue);
  }
}
