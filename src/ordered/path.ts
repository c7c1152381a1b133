/**
 * The way from the root of a tree to a leaf: one scratch node for each level, and the child taken in each.
 *
 *     tree (unit)   f64 0 root (block * 32 + level; never 0)   f64 1 changes   f64 2 tombstones, about
 *
 * What was copied is used again as long as `changes` stands still: the upper nodes of a tree that is only read
 * are copied once. A leaf that is written over and over stays in scratch as well.
 *
 * Invariants
 * 1. `changes` grows with every change, behind the store that publishes it (and a barrier, as that one is behind what it
 *    names), before anything that it replaced is retired and before the frame that it is for becomes visible. A reader
 *    that sees a new number passes a barrier before it copies anything under it (arm64 may show either of two stores, or
 *    make either of two loads, first). No tree ever has a number twice, nor two trees the same. A writer that dies in
 *    between leaves that to the next one (`engine/threads/audit.ts`).
 * 2. Within one operation all nodes are of one moment at or after its begin: what was replaced meanwhile
 *    stays as it was until the operation ends.
 */

import { compare, copy, pinned, type Pinned } from "../ffi/memory.ts";
import type { Heap } from "../ffi/heap.ts";
import { LONG, Node, type ProbeKey, type Shape } from "./node.ts";
import { Separators, compareTexts, type Text } from "./separators.ts";

export const TREE_ROOT = 0;
const TREE_CHANGES = 1;
export const TREE_TOMBSTONES = 2;
const TREE_BYTES = 24;
export const LEVEL_FACTOR = 32;

/** A tree with a root that is written already; the number it goes by. */
export function plantTree(heap: Heap, root: { readonly block: number; readonly height: number }): number {
  const tree = heap.takeUnit();
  heap.writeNumber(heap.unitAddress(tree), root.block * LEVEL_FACTOR + root.height);
  renumber(heap, tree);
  heap.keepOrder();
  return tree;
}

/**
 * Makes every copy of a tree, whoever holds it, an old one: after the death of a writer, which may have come between a
 * change and its number.
 */
export function renumber(heap: Heap, tree: number): void {
  heap.writeNumber(heap.unitAddress(tree) + 8, heap.nextChange());
}

/** Where the index finds the key of a frame whose position it holds. */
export interface KeySource {
  /** Holds the key that was loaded, from `keyAt` on. */
  readonly memory: Pinned;
  readonly keyAt: number;
  /** Loads the key of the frame at a position, in 8-byte units; returns its length. */
  loadKey(units: number): number;
  /** What says that the key at a position is not the one that it was. */
  corrupted(units: number): Error;
}

export class Path {
  readonly heap: Heap;
  readonly keys: KeySource;
  readonly separators: Separators;
  readonly shape: Shape;
  readonly #nodes: Node[];
  /** Which child was taken, by level. */
  readonly taken: number[] = [0];
  readonly treeMemory: Pinned = pinned(TREE_BYTES);
  tree = 0;
  height = 0;
  /** The block of the leaf that was reached last, and how high the tree was; 0 on the way, which an error (of the stack) may end. */
  #reached = 0;
  #heightThen = 0;
  /** The number of changes that the copies are of. */
  changes = -1;
  /** Keys that were loaded to decide a comparison. */
  loads = 0;

  constructor(heap: Heap, keys: KeySource, shape: Shape) {
    this.heap = heap;
    this.keys = keys;
    this.shape = shape;
    this.separators = new Separators(heap);
    this.#nodes = [new Node(shape, heap.positions)];
  }

  get leaf(): Node {
    return this.#nodes[0]!;
  }

  node(level: number): Node {
    const known = this.#nodes[level];
    if (known !== undefined) return known;
    while (this.#nodes.length <= level) {
      this.#nodes.push(new Node(this.shape, this.heap.positions));
      this.taken.push(0);
    }
    return this.#nodes[level]!;
  }

  /** Begins an operation on a tree. */
  open(tree: number): void {
    const numbers = this.treeMemory.f64;
    const address = this.heap.unitAddress(tree);
    copy(this.treeMemory.address, address, TREE_BYTES);
    if (tree !== this.tree || numbers[TREE_CHANGES] !== this.changes) {
      this.forget();
      this.tree = tree;
      this.changes = numbers[TREE_CHANGES]!;
      // Behind a barrier the root, and every copy that is made under the number, is at least as new as that.
      this.heap.keepOrder();
      copy(this.treeMemory.address, address, 8);
    }
    const root = numbers[TREE_ROOT]!;
    // Not `%`, which for numbers that may have fractions is a call.
    this.height = root - Math.floor(root / LEVEL_FACTOR) * LEVEL_FACTOR;
  }

  get rootBlock(): number {
    return Math.floor(this.treeMemory.f64[TREE_ROOT]! / LEVEL_FACTOR);
  }

  /** Says that the scratch nodes that name a block are what is there now, after a change of one's own. */
  noteChange(): void {
    const numbers = this.treeMemory.f64;
    this.heap.keepOrder();
    this.changes = this.heap.nextChange();
    numbers[TREE_CHANGES] = this.changes;
    copy(this.heap.unitAddress(this.tree) + 8, this.treeMemory.address + 8, TREE_BYTES - 8);
  }

  /** Forgets every copy. */
  forget(): void {
    this.#reached = 0;
    for (const node of this.#nodes) node.block = 0;
  }

  load(level: number, block: number): Node {
    const node = this.#nodes[level] ?? this.node(level);
    if (node.block !== block) node.load(this.heap, block);
    return node;
  }

  /** Whether the way at hand leads to the leaf in a block: a new root is there before the number of changes that tells of it. */
  isAt(block: number): boolean {
    return block !== 0 && this.#reached === block && this.#heightThen === this.height;
  }

  /** Goes down to the leaf that a key belongs to; before a separator that is equal to it when `isBefore`. */
  descend(key: ProbeKey, isBefore: boolean): Node {
    let block = this.rootBlock;
    this.#reached = 0;
    this.#heightThen = this.height;
    for (let level = this.height; level > 0; level--) {
      const node = this.load(level, block);
      const index = this.#childFor(node, key, isBefore);
      this.taken[level] = index;
      block = node.child(index);
    }
    return this.#reach(block);
  }

  /** Goes down to the first leaf, or the last. */
  descendEdge(isLast: boolean): Node {
    let block = this.rootBlock;
    this.#reached = 0;
    this.#heightThen = this.height;
    for (let level = this.height; level > 0; level--) {
      const node = this.load(level, block);
      const index = isLast ? node.count - 1 : 0;
      this.taken[level] = index;
      block = node.child(index);
    }
    return this.#reach(block);
  }

  /**
   * Goes on to the leaf beside the one that was reached, without a search; undefined when there is none. By the nodes above it
   * as they were: where the tree has changed since, that leaf may have got keys from this side of the separator between them.
   */
  step(isBack: boolean): Node | undefined {
    this.#reached = 0;
    let level = 1;
    for (; level <= this.height; level++) {
      const index = this.taken[level]! + (isBack ? -1 : 1);
      if (index < 0 || index >= this.node(level).count) continue;
      this.taken[level] = index;
      break;
    }
    if (level > this.height) return undefined;
    let block = this.node(level).child(this.taken[level]!);
    for (let below = level - 1; below > 0; below--) {
      const node = this.load(below, block);
      const index = isBack ? node.count - 1 : 0;
      this.taken[below] = index;
      block = node.child(index);
    }
    return this.#reach(block);
  }

  #reach(block: number): Node {
    const leaf = this.load(0, block);
    this.#reached = block;
    return leaf;
  }

  #childFor(node: Node, key: ProbeKey, isBefore: boolean): number {
    const side = node.probe(key);
    if (side !== 0) return side < 0 ? 0 : node.count - 1;
    const first = node.lowerInline(1);
    if (first >= node.count || !node.hasInline(first)) return first - 1;
    const found = this.resolve(node, key, first);
    return found.isExact && !isBefore ? found.index : found.index - 1;
  }

  /** Whether only a look at a key can tell how the probe sorts beside the entry at `lower`, and no other needs one. */
  isCloseCall(leaf: Node, lower: number): boolean {
    if (lower >= leaf.count || leaf.class !== LONG || !leaf.hasInline(lower)) return false;
    return leaf.classOf(lower) === LONG && leaf.runEnd(lower) === lower + 1;
  }

  /** Where the key that was probed is or belongs, given the first entry whose inline part is not below it. */
  resolve(node: Node, key: ProbeKey, lower: number): Found {
    const found = this.#found;
    found.isExact = false;
    found.index = lower;
    if (lower >= node.count || !node.hasInline(lower)) return found;
    let first = lower;
    let end = node.runEnd(lower);
    while (first < end) {
      const middle = (first + end) >>> 1;
      const order = this.#compareRest(node, middle, key);
      if (order === 0) {
        found.isExact = true;
        found.index = middle;
        return found;
      }
      if (order < 0) first = middle + 1;
      else end = middle;
    }
    found.index = first;
    return found;
  }
  readonly #found: Found = { index: 0, isExact: false };

  /** Below, at or above 0 as an entry with the inline part of the key sorts before, with or after it. */
  #compareRest(node: Node, index: number, key: ProbeKey): number {
    const theirs = node.classOf(index);
    if (theirs !== LONG || node.class !== LONG) return theirs - node.class;
    if (node.level > 0) return compareTexts(this.separators.load(node, index), key);
    this.loads += 1;
    const { keys } = this;
    const bytes = keys.loadKey(node.units(index));
    const shared = Math.min(bytes, key.bytes);
    const order = compare(keys.memory.address + keys.keyAt, key.memory.address, shared);
    return order === 0 ? bytes - key.bytes : order;
  }

  /** The separator behind the leaf that was reached; undefined when that is the last. */
  upperFence(): Text | undefined {
    for (let level = 1; level <= this.height; level++) {
      const node = this.node(level);
      const index = this.taken[level]! + 1;
      if (index < node.count) return this.separators.load(node, index);
    }
    return undefined;
  }

  /** The separator before the leaf that was reached; undefined when that is the first. */
  lowerFence(): Text | undefined {
    for (let level = 1; level <= this.height; level++) {
      if (this.taken[level]! > 0) return this.separators.load(this.node(level), this.taken[level]!);
    }
    return undefined;
  }

  /** Whether a text lies between the separators on both sides of the leaf that was reached. */
  holds(text: ProbeKey): boolean {
    const low = this.lowerFence();
    if (low !== undefined && compareTexts(low, text) >= 0) return false;
    const high = this.upperFence();
    return high === undefined || compareTexts(text, high) < 0;
  }
}

interface Found {
  index: number;
  isExact: boolean;
}
