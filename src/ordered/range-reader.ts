/**
 * Reads the positions of a range in key order, a part at a time, without a lock.
 *
 * Between two parts it relies on no node: it goes on at a key, the separator at the end of the leaf it was in, or
 * the last key that it gave. (Only if the tree has not changed at all meanwhile, it goes on beside that leaf.) So the tree may change in any way meanwhile; and since a position leads to every
 * older version of its key, a reader who leaves out what is newer than his moment sees that moment.
 *
 * Invariants
 * 1. Positions come in strictly ascending order of their keys (descending when reversed), each key once. The exception is
 *    a key that came while a part was taken, where nodes had just been dropped and a neighbour got their stretch: it may
 *    come twice. Nodes are dropped when no moment shows anything in them, so none shows that key.
 * 2. What was in the tree from the first part on to the last is given, if it lies within the bounds.
 * 3. Where a range goes on is further on than where it went on before, whatever has become of the keys in the log: it ends.
 */

import { compare, copy } from "../ffi/memory.ts";
import type { Heap } from "../ffi/heap.ts";
import { FULL_SHAPE, type Node, type Shape } from "./node.ts";
import { Path, type KeySource } from "./path.ts";
import { compareTexts, makeText, setText, type Text } from "./separators.ts";

/** A key at which a range begins, goes on or ends. */
export interface Bound {
  readonly key: Uint8Array;
  readonly isInclusive: boolean;
}

/** What is left of a range: from `near`, in the direction of the walk, to `far`. */
export interface Remainder {
  readonly isReverse: boolean;
  near: Bound | undefined;
  far: Bound | undefined;
  isDone: boolean;
  /** Where the key behind which to go on is, in units; 0: at `near`. */
  behind: number;
  /**
   * The caller will hold the first key against `near` itself: it may then lie before it, instead of being looked up
   * when nothing else can tell. For who reads that frame anyway, one miss that others would wait for less.
   */
  isUnsure: boolean;
  /** Some part has been given: `near` is where one ended, or `behind` says so. */
  isUnderWay: boolean;
  /** The block of the leaf that `near` ends, 0 for none, and the number of changes then: nobody else has the number. */
  leaf: number;
  changes: number;
}

/** A range that has not begun. */
export function remainderOf(bounds: {
  readonly lower?: Bound | undefined;
  readonly upper?: Bound | undefined;
  readonly isReverse?: boolean;
}): Remainder {
  const { lower, upper, isReverse = false } = bounds;
  const near = isReverse ? upper : lower;
  const far = isReverse ? lower : upper;
  const isUnderWay = false;
  return { isReverse, near, far, isDone: false, behind: 0, isUnsure: false, isUnderWay, leaf: 0, changes: 0 };
}

export class RangeReader {
  readonly #path: Path;
  readonly #near = makeText();
  readonly #far = makeText();

  constructor(heap: Heap, keys: KeySource, shape: Shape = FULL_SHAPE) {
    this.#path = new Path(heap, keys, shape);
  }

  /** Takes the next positions (units) of a range, `room` at most; 0 only at its end. */
  take(tree: number, rest: Remainder, to: Float64Array, room: number): number {
    const path = this.#path;
    if (rest.far !== undefined) setText(this.#far, rest.far.key);
    for (;;) {
      if (rest.isDone) return 0;
      // Only now: most ranges are left within their first part.
      if (rest.behind !== 0) this.goOnAtKey(rest);
      path.open(tree);
      const count = rest.isReverse ? this.#takeDown(rest, to, room) : this.#takeUp(rest, to, room);
      if (count > 0) return count;
    }
  }

  /**
   * Remembers where to go on by key, whatever becomes of the frame that has it.
   *
   * @throws {EmdbError} EMDB_CORRUPTED when the key has rotted to one that would lead back
   */
  goOnAtKey(rest: Remainder): void {
    const key = this.#keyAt(rest.behind);
    // The first part alone may end before the bound at which it began, if that was unsure.
    if (rest.isUnderWay && rest.near !== undefined && isBefore(key, rest.near, rest.isReverse))
      throw this.#path.keys.corrupted(rest.behind);
    rest.near = { key, isInclusive: false };
    rest.isUnderWay = true;
    rest.behind = 0;
    rest.leaf = 0;
  }

  #takeUp(rest: Remainder, to: Float64Array, room: number): number {
    const path = this.#path;
    const { near, far } = rest;
    const beside = this.#beside(rest);
    let leaf: Node;
    let from = 0;
    if (beside !== undefined) leaf = beside;
    else if (near === undefined) leaf = path.descendEdge(false);
    else {
      setText(this.#near, near.key);
      leaf = path.descend(this.#near, false);
      from = this.#border(leaf, this.#near, { isBehind: !near.isInclusive, unsure: rest.isUnsure ? 0 : undefined });
    }
    let end = leaf.count;
    // Whoever has no room for the leaf need not know where it ends.
    if (far === undefined && end - from > room) {
      this.#give(leaf, { first: from, step: 1, count: room }, to);
      rest.behind = to[room - 1]!;
      return room;
    }
    const fence = path.upperFence();
    let isLast = fence === undefined;
    // A far bound behind the fence is behind the whole leaf.
    if (far !== undefined && (fence === undefined || compareTexts(fence, this.#far) > 0)) {
      end = this.#border(leaf, this.#far, { isBehind: far.isInclusive, unsure: undefined });
      isLast = true;
    }
    const count = Math.min(room, Math.max(end - from, 0));
    this.#give(leaf, { first: from, step: 1, count }, to);
    if (from + count < end) rest.behind = to[count - 1]!;
    else if (isLast) rest.isDone = true;
    else this.#endLeaf(rest, leaf.block, fence!);
    return count;
  }

  #takeDown(rest: Remainder, to: Float64Array, room: number): number {
    const path = this.#path;
    const { near, far } = rest;
    const beside = this.#beside(rest);
    let leaf: Node;
    let end: number;
    if (beside !== undefined || near === undefined) {
      leaf = beside ?? path.descendEdge(true);
      end = leaf.count;
    } else {
      setText(this.#near, near.key);
      leaf = path.descend(this.#near, !near.isInclusive);
      end = this.#border(leaf, this.#near, { isBehind: near.isInclusive, unsure: rest.isUnsure ? 1 : undefined });
    }
    if (far === undefined && end > room) {
      this.#give(leaf, { first: end - 1, step: -1, count: room }, to);
      rest.behind = to[room - 1]!;
      return room;
    }
    const fence = path.lowerFence();
    let from = 0;
    let isLast = fence === undefined;
    if (far !== undefined && (fence === undefined || compareTexts(fence, this.#far) <= 0)) {
      from = this.#border(leaf, this.#far, { isBehind: !far.isInclusive, unsure: undefined });
      isLast = true;
    }
    const count = Math.min(room, Math.max(end - from, 0));
    this.#give(leaf, { first: end - 1, step: -1, count }, to);
    if (end - count > from) rest.behind = to[count - 1]!;
    else if (isLast) rest.isDone = true;
    else this.#endLeaf(rest, leaf.block, fence!);
    return count;
  }

  /** The leaf to go on with, if it can be told without a search. */
  #beside(rest: Remainder): Node | undefined {
    const path = this.#path;
    const isThere = rest.leaf !== 0 && rest.changes === path.changes && path.leaf.block === rest.leaf;
    return isThere ? path.step(rest.isReverse) : undefined;
  }

  #endLeaf(rest: Remainder, block: number, fence: Text): void {
    rest.near = { key: fence.memory.u8.slice(0, fence.bytes), isInclusive: !rest.isReverse };
    rest.isUnderWay = true;
    rest.leaf = block;
    rest.changes = this.#path.changes;
  }

  #give(
    leaf: Node,
    entries: { readonly first: number; readonly step: number; readonly count: number },
    to: Float64Array,
  ): void {
    const { step, count } = entries;
    let entry = entries.first;
    for (let index = 0; index < count; index++, entry += step) to[index] = leaf.units(entry);
  }

  /** How many entries of a leaf sort before a key, or before or with it; `unsure` more than that of one which cannot be told. */
  #border(leaf: Node, key: Text, side: { readonly isBehind: boolean; readonly unsure: number | undefined }): number {
    const order = leaf.probe(key);
    if (order !== 0) return order < 0 ? 0 : leaf.count;
    const path = this.#path;
    const lower = leaf.lowerInline(0);
    if (side.unsure !== undefined && path.isCloseCall(leaf, lower)) return lower + side.unsure;
    const found = path.resolve(leaf, key, lower);
    return found.isExact && side.isBehind ? found.index + 1 : found.index;
  }

  #keyAt(units: number): Uint8Array {
    const { keys } = this.#path;
    const bytes = keys.loadKey(units);
    const key = new Uint8Array(bytes);
    if (bytes > 0) copy(key, keys.memory.address + keys.keyAt, bytes);
    return key;
  }
}

/** Whether a key lies before the bound at which a range begins, or goes on. */
export function isBefore(key: Uint8Array, near: Bound, isReverse: boolean): boolean {
  const shared = Math.min(key.length, near.key.length);
  const order = (shared === 0 ? 0 : compare(key, near.key, shared)) || key.length - near.key.length;
  return order === 0 ? !near.isInclusive : order < 0 !== isReverse;
}
