/**
 * The ordered index of a key space, as its one writer changes it: a B+tree from key to the position of the
 * newest frame of the key, in blocks of the shared heap.
 *
 *     tree (unit) -> root -> inner nodes -> leaves -> frames in the log
 *
 * It is used like the hash index: `find` a key, then `replace` what was found or `add` what was not. An overwrite
 * or a removal is one store of 8 bytes in a leaf. A new key makes a new leaf (or writes over the old one when no
 * other Worker is there to see it), and a full leaf two.
 *
 * Invariants
 * 1. One writer at a time, under the writer's lock; readers take none. A node that is replaced is complete
 *    before the one store that names it, and retired after it.
 * 2. A leaf holds each key of its range once, with the position of its newest frame, visible or not; whoever
 *    reads follows it back to the version of his own moment.
 * 3. All keys below a child are at or behind the separator before it, and before the one behind it. Should keys rot in
 *    the log, the separators are in order nevertheless.
 * 4. All leaves are at level 0. No leaf but the last of its tree stays empty when `erase` or `shrink` has met
 *    it; neighbours under one parent that fit 3/4 of a node together are joined when one is looked at.
 * 5. A tombstone stays as long as somebody may ask for what was before it (`keepFrom`).
 *
 * The structure was chosen by measurement: docs/ordered-index.md.
 */

import { copy, sharedScratch } from "../ffi/memory.ts";
import { BLOCK_BYTES, type Heap } from "../ffi/heap.ts";
import type { Translate } from "../ffi/positions.ts";
import type { Reclaim } from "../ffi/reclaim.ts";
import { Inner, longUnits } from "./inner.ts";
import { divideAt, growPrefix, isBetween, join, loadKey, purge, shrinkPrefix, takePart } from "./leaf.ts";
import { FULL_SHAPE, Node, WORD_DEAD, type ProbeKey, type Shape } from "./node.ts";
import { Path, TREE_TOMBSTONES, plantTree, type KeySource } from "./path.ts";
import { compareTexts, copyText, makeText, setText, sharedBytes } from "./separators.ts";

const sharedFormers = sharedScratch(BLOCK_BYTES);
const sharedPresents = sharedScratch(BLOCK_BYTES);

/** A leaf is looked at for shrinking each time it has gathered this many more tombstones. */
const PURGE_STEP = 8;
/** Tombstones in a tree that no tidying is worth. */
const TIDY_MIN = 64;

/** A frame of a key on its way into a tree, in units; `last` is the one that the entry is thought to hold, 0 for none. */
export interface EnteredFrame {
  readonly units: number;
  readonly last: number;
  /** Tombstones before this may make room. */
  readonly keepFrom: number;
}

export class OrderedIndex {
  readonly #heap: Heap;
  readonly #reclaim: Reclaim;
  readonly #path: Path;
  readonly #inner: Inner;
  readonly #sibling: Node;
  readonly #first = makeText();
  readonly #last = makeText();
  /** Where `tidy` goes on, by tree. */
  readonly #cursors = new Map<number, Uint8Array>();

  // What `find` found.
  #key: ProbeKey = this.#first;
  #side = 0;
  #index = 0;

  /** The block of the leaf that `enter` is filling, 0 for none, and what separates it from its neighbours. */
  #filling = 0;
  readonly #low = makeText();
  readonly #high = makeText();
  #hasLow = false;
  #hasHigh = false;

  constructor(heap: Heap, reclaim: Reclaim, keys: KeySource, shape: Shape = FULL_SHAPE) {
    this.#heap = heap;
    this.#reclaim = reclaim;
    this.#path = new Path(heap, keys, shape);
    this.#inner = new Inner(this.#path, reclaim);
    this.#sibling = new Node(shape, heap.positions);
  }

  /** A tree without keys; the number it goes by. */
  plant(): number {
    const path = this.#path;
    path.forget();
    const leaf = path.leaf;
    leaf.clear(0);
    const block = this.#inner.write(leaf);
    const tree = plantTree(this.#heap, { block, height: 0 });
    path.forget();
    this.#cursors.delete(tree);
    return tree;
  }

  /**
   * Finds the entry of a key, or the place for it. `last` is the position, in units, that the entry is
   * thought to hold, 0 for none: it is then found without a look at the log.
   */
  find(tree: number, key: ProbeKey, last: number): boolean {
    this.#path.open(tree);
    this.#path.descend(key, false);
    return this.#findInLeaf(key, last);
  }

  #findInLeaf(key: ProbeKey, last: number): boolean {
    const path = this.#path;
    const { leaf } = path;
    path.loads = 0;
    this.#key = key;
    this.#side = leaf.probe(key);
    if (this.#side !== 0) {
      this.#index = this.#side < 0 ? 0 : leaf.count;
      return false;
    }
    const lower = leaf.lowerInline(0);
    if (last !== 0) {
      for (let index = lower; index < leaf.count && leaf.hasInline(index); index++) {
        if (leaf.units(index) !== last) continue;
        this.#index = index;
        return true;
      }
    }
    const found = path.resolve(leaf, key, lower);
    this.#index = found.index;
    return found.isExact;
  }

  /** The position, in units, of the entry that was found. */
  get units(): number {
    return this.#path.leaf.units(this.#index);
  }

  /** Points the entry that was found to another frame of its key. */
  replace(units: number, isTombstone: boolean): void {
    const path = this.#path;
    const leaf = path.leaf;
    const index = this.#index;
    const wasTombstone = leaf.isTombstone(index);
    leaf.setUnits(index, units, isTombstone);
    const address = this.#heap.blockAddress(leaf.block);
    const at = Node.slotOffset(index);
    copy(address + at, leaf.memory.address + at, 8);
    if (wasTombstone !== isTombstone) {
      copy(address + WORD_DEAD * 4, leaf.memory.address + WORD_DEAD * 4, 4);
      path.treeMemory.f64[TREE_TOMBSTONES]! += isTombstone ? 1 : -1;
    }
    path.noteChange();
  }

  /**
   * To be called after `replace` made a tombstone: drops old ones, and leaves that hold too little. True when the leaf has
   * no live entry any more: what must stay of it, at least the newest tombstone, is for `dropDead` once it may go.
   */
  shrink(keepFrom: number): boolean {
    const { leaf } = this.#path;
    const { dead, count } = leaf;
    if (dead * 4 >= count && (dead % PURGE_STEP === 0 || dead === count)) this.#purgeLeaf(keepFrom);
    return dead === count;
  }

  /** Drops the old tombstones of the leaf where a key would be; false when all of it is dead and nothing may go yet. */
  dropDead(tree: number, key: Uint8Array, keepFrom: number): boolean {
    const path = this.#path;
    path.open(tree);
    setText(this.#first, key);
    const { dead, count } = path.descend(this.#first, false);
    return dead === 0 || this.#purgeLeaf(keepFrom) > 0 || dead < count;
  }

  /** Adds the key that was not found. */
  add(units: number, keepFrom: number): void {
    const { block } = this.#path.leaf;
    if (!this.#addInScratch(block, units, keepFrom)) return;
    this.#storeLeaf(block);
    this.#inner.settle();
  }

  /** Puts the key that was not found into the leaf in scratch, which may then be too full by one. */
  #enter(units: number): void {
    const { leaf } = this.#path;
    leaf.block = 0;
    if (this.#side !== 0) {
      shrinkPrefix(leaf, sharedBytes(this.#key, { memory: leaf.prefix, bytes: leaf.prefixBytes }));
      leaf.probe(this.#key);
    }
    leaf.insertUnits(this.#index, units);
  }

  /**
   * Points the entry of a key to a frame, a new one if it has none. Keys in order, or nearly so, cost a tenth of `find`
   * and `add`: a leaf is filled in scratch and stored when a key comes that is not its. `endRun` stores the last, and
   * until then nothing else may be done with the index; `forgetRun`, also after a throw, leaves it out.
   */
  enter(tree: number, key: ProbeKey, { units, last, keepFrom }: EnteredFrame): void {
    let isThere: boolean;
    if (this.#filling !== 0 && this.#path.tree === tree && this.#isBetweenFences(key))
      isThere = this.#findInLeaf(key, last);
    else {
      this.endRun();
      isThere = this.find(tree, key, last);
      this.#filling = this.#path.leaf.block;
      this.#takeFences();
    }
    if (isThere) this.#replaceInRun(units);
    else if (!this.#addInScratch(this.#filling, units, keepFrom)) this.#filling = 0;
  }

  /** Points the entry that was found to a newer frame, in scratch if the leaf has yet to be stored. */
  #replaceInRun(units: number): void {
    const path = this.#path;
    const { leaf } = path;
    if (leaf.block !== 0) {
      this.replace(units, false);
      return;
    }
    if (leaf.isTombstone(this.#index)) path.treeMemory.f64[TREE_TOMBSTONES]! -= 1;
    leaf.setUnits(this.#index, units, false);
  }

  /** Adds the key that was not found to the copy of a leaf in scratch; false when that was divided, and is stored. */
  #addInScratch(block: number, units: number, keepFrom: number): boolean {
    const path = this.#path;
    const { leaf } = path;
    this.#enter(units);
    if (leaf.count <= leaf.capacity(leaf.prefixBytes)) {
      if (path.loads > 0) growPrefix(leaf, path.keys, { first: this.#first, last: this.#last });
      return true;
    }
    path.treeMemory.f64[TREE_TOMBSTONES]! -= purge(leaf, keepFrom);
    if (leaf.count <= leaf.capacity(leaf.prefixBytes)) return true;
    this.#divide(block);
    return false;
  }

  /** Stores what `enter` has left in scratch. */
  endRun(): void {
    const block = this.#filling;
    this.#filling = 0;
    if (block === 0 || this.#path.leaf.block !== 0) return;
    this.#storeLeaf(block);
    this.#inner.settle();
  }

  /** After a throw: what `enter` has left in scratch is not stored. */
  forgetRun(): void {
    this.#filling = 0;
    this.#path.forget();
  }

  #takeFences(): void {
    const low = this.#path.lowerFence();
    this.#hasLow = low !== undefined;
    if (low !== undefined) copyText(this.#low, low);
    const high = this.#path.upperFence();
    this.#hasHigh = high !== undefined;
    if (high !== undefined) copyText(this.#high, high);
  }

  #isBetweenFences(key: ProbeKey): boolean {
    if (this.#hasHigh && compareTexts(key, this.#high) >= 0) return false;
    return !this.#hasLow || compareTexts(this.#low, key) <= 0;
  }

  /** Takes the entry that was found out at once: its frame is about to go, and nobody was ever shown it. */
  erase(): void {
    const path = this.#path;
    const leaf = path.leaf;
    const block = leaf.block;
    if (leaf.isTombstone(this.#index)) path.treeMemory.f64[TREE_TOMBSTONES]! -= 1;
    leaf.block = 0;
    leaf.closeGap(this.#index);
    this.#storeThinned(block);
  }

  /**
   * Drops old tombstones that no removal came across again, a few leaves at a time, when they are more than a
   * quarter of `records`; false when they are not. Cost: a microsecond a leaf.
   */
  tidy(tree: number, keepFrom: number, work: { readonly records: number; readonly leaves: number }): boolean {
    const path = this.#path;
    path.open(tree);
    const tombstones = path.treeMemory.f64[TREE_TOMBSTONES]!;
    if (tombstones < TIDY_MIN || tombstones * 4 < work.records) return false;
    for (let step = 0; step < work.leaves; step++) {
      path.open(tree);
      setText(this.#first, this.#cursors.get(tree) ?? new Uint8Array(0));
      const leaf = path.descend(this.#first, false);
      const fence = path.upperFence();
      const isPurged = leaf.dead > 0;
      if (fence === undefined) this.#cursors.delete(tree);
      else this.#cursors.set(tree, fence.memory.u8.slice(0, fence.bytes));
      if (isPurged) this.#purgeLeaf(keepFrom);
      if (fence === undefined) break;
    }
    return true;
  }

  /** Counts anew the tombstones of every leaf, which a writer that died may have miscounted by one. */
  recount(tree: number): void {
    const path = this.#path;
    path.open(tree);
    path.treeMemory.f64[TREE_TOMBSTONES] = this.#recountNodes(path.rootBlock);
    path.forget();
    path.noteChange();
  }

  #recountNodes(block: number): number {
    const node = this.#sibling;
    node.load(this.#heap, block);
    let dead = 0;
    if (node.level > 0) {
      const children = Array.from({ length: node.count }, (_, index) => node.child(index));
      for (const child of children) dead += this.#recountNodes(child);
      return dead;
    }
    for (let index = 0; index < node.count; index++) if (node.isTombstone(index)) dead += 1;
    this.#heap.write32(this.#heap.blockAddress(block) + WORD_DEAD * 4, dead);
    return dead;
  }

  /** Retires a whole tree; nothing names it any more. */
  retireTree(tree: number): void {
    const path = this.#path;
    path.open(tree);
    this.#retireNodes(path.rootBlock);
    this.#cursors.delete(tree);
    this.#reclaim.retireUnit(tree);
    path.forget();
    path.tree = 0;
  }

  #retireNodes(block: number): void {
    const node = this.#sibling;
    node.load(this.#heap, block);
    if (node.level > 0) {
      const children = Array.from({ length: node.count }, (_, index) => node.child(index));
      for (const unit of longUnits(node)) this.#path.separators.retire(unit, this.#reclaim);
      for (const child of children) this.#retireNodes(child);
    }
    this.#reclaim.retireBlock(block);
  }

  /**
   * For frames that have moved: gives each entry of up to `leaves` leaves, from the one that the key `from` belongs to,
   * the position that its frame has now (0: the entry goes). Returns the key to go on at, undefined behind the last
   * leaf. Between two calls the tree may change in any way; an entry may be asked for twice, so a new position must
   * translate to itself.
   */
  relocate(
    tree: number,
    from: Uint8Array | undefined,
    work: { readonly leaves: number; readonly translate: Translate },
  ): Uint8Array | undefined {
    const path = this.#path;
    let next = from ?? new Uint8Array(0);
    for (let step = 0; step < work.leaves; step++) {
      path.open(tree);
      setText(this.#first, next);
      const leaf = path.descend(this.#first, false);
      const fence = path.upperFence();
      const rest = fence?.memory.u8.slice(0, fence.bytes);
      this.#relocateLeaf(leaf, work.translate);
      if (rest === undefined) return undefined;
      next = rest;
    }
    return next;
  }

  #relocateLeaf(leaf: Node, translate: Translate): void {
    const path = this.#path;
    const { block } = leaf;
    const address = this.#heap.blockAddress(block);
    const dropped: number[] = [];
    let isChanged = false;
    const formers = sharedFormers().f64;
    const presents = sharedPresents().f64;
    for (let index = 0; index < leaf.count; index++) presents[index] = formers[index] = leaf.units(index);
    translate(presents, leaf.count);
    for (let index = 0; index < leaf.count; index++) {
      const moved = presents[index]!;
      if (moved === formers[index]) continue;
      if (moved === 0) {
        dropped.push(index);
        continue;
      }
      leaf.setUnits(index, moved, leaf.isTombstone(index));
      const at = Node.slotOffset(index);
      copy(address + at, leaf.memory.address + at, 8);
      isChanged = true;
    }
    if (isChanged) path.noteChange();
    if (dropped.length === 0) return;
    leaf.block = 0;
    for (const index of dropped.reverse()) {
      if (leaf.isTombstone(index)) path.treeMemory.f64[TREE_TOMBSTONES]! -= 1;
      leaf.closeGap(index);
    }
    this.#storeThinned(block);
  }

  #storeLeaf(old: number): void {
    const leaf = this.#path.leaf;
    if (this.#reclaim.isAlone) {
      leaf.store(this.#heap, old);
      return;
    }
    this.#inner.rename(0, this.#inner.write(leaf));
    this.#inner.drop(old);
  }

  #divide(old: number): void {
    const path = this.#path;
    const leaf = path.leaf;
    const middle = divideAt(leaf, Math.min(this.#index, leaf.count - 1));
    const texts = { first: this.#first, last: this.#last };
    loadKey(leaf, middle - 1, { keys: path.keys, text: texts.first });
    loadKey(leaf, middle, { keys: path.keys, text: texts.last });
    const separator = this.#last;
    const shared = sharedBytes(this.#first, separator);
    // They may have rotted. With separators out of order, who goes from leaf to leaf by them would go in a circle.
    const areSound = isBetween(leaf, middle, texts) && path.holds({ ...separator, bytes: shared + 1 });
    if (!areSound) throw path.keys.corrupted(leaf.units(middle));
    // growPrefix loads keys into both texts: the separator is put back together behind it.
    const bytes = separator.memory.u8.slice(0, shared + 1);
    const part = this.#sibling;
    takePart(part, leaf, { from: 0, end: middle });
    growPrefix(part, path.keys, texts);
    const left = this.#inner.write(part);
    takePart(part, leaf, { from: middle, end: leaf.count });
    growPrefix(part, path.keys, texts);
    const right = this.#inner.write(part);
    setText(this.#first, bytes);
    this.#inner.divide(1, { left, right }, this.#first);
    this.#inner.drop(old);
    path.forget();
    this.#inner.settle();
  }

  /** Returns how many were dropped. */
  #purgeLeaf(keepFrom: number): number {
    const path = this.#path;
    const leaf = path.leaf;
    const block = leaf.block;
    leaf.block = 0;
    const dropped = purge(leaf, keepFrom);
    if (dropped === 0) return 0;
    path.treeMemory.f64[TREE_TOMBSTONES]! -= dropped;
    this.#storeThinned(block);
    return dropped;
  }

  /** Stores a leaf that has lost entries, joined with a neighbour if both together leave room. */
  #storeThinned(old: number): void {
    const path = this.#path;
    const leaf = path.leaf;
    const parent = path.height === 0 ? undefined : path.node(1);
    if (leaf.count === 0) this.#dropLeaf(old);
    else if (parent === undefined || parent.count === 1 || leaf.count > leaf.capacity(0) / 4) this.#storeLeaf(old);
    else this.#joinSibling(old, parent);
    this.#inner.settle();
  }

  /** Takes an empty leaf away, with the nodes that hold nothing else; the last one of a tree stays. */
  #dropLeaf(old: number): void {
    const path = this.#path;
    let level = 1;
    while (level <= path.height && path.node(level).count === 1) level += 1;
    if (level > path.height) {
      this.#storeLeaf(old);
      return;
    }
    this.#inner.remove(level, path.taken[level]!, undefined);
    for (let below = 1; below < level; below++) this.#inner.drop(path.node(below).block);
    this.#inner.drop(old);
    path.forget();
  }

  #joinSibling(old: number, parent: Node): void {
    const path = this.#path;
    const own = path.taken[1]!;
    const rightIndex = own + 1 < parent.count ? own + 1 : own;
    const leftIndex = rightIndex - 1;
    const sibling = this.#sibling;
    const other = parent.child(own === leftIndex ? rightIndex : leftIndex);
    sibling.load(this.#heap, other);
    const left = own === leftIndex ? path.leaf : sibling;
    const right = own === leftIndex ? sibling : path.leaf;
    if (!join(left, right)) {
      this.#storeLeaf(old);
      return;
    }
    const block = this.#inner.write(left);
    this.#inner.remove(1, rightIndex, { index: leftIndex, block });
    this.#inner.drop(old);
    this.#inner.drop(other);
    path.forget();
  }
}
