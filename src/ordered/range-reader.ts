/**
 * Reads the positions of a range in key order, a part at a time, without a lock.
 *
 * Between two parts it relies on no node: it goes on at a key, the separator at the end of the leaf it was in, or behind the
 * last key that it gave. (Only if the tree has not changed at all meanwhile, and nothing else was looked for, it goes on from
 * the leaf that it has at hand.) So the tree may change in any way meanwhile; and since a position leads to every older
 * version of its key, a reader who leaves out what is newer than his moment sees that moment.
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

/** Positions that walks take at a time: more than a leaf holds, so that each part ends with its leaf. */
export const PART_MAX = FULL_SHAPE.capacity + 1;

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
  /** The block of the leaf that the last part ended in, 0 for none, and the number of changes then: nobody else has the number. */
  leaf: number;
  changes: number;
  /** How many entries of that leaf lie before the place to go on at. */
  border: number;
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
  return {
    isReverse,
    near,
    far,
    isDone: false,
    behind: 0,
    isUnsure: false,
    isUnderWay,
    leaf: 0,
    changes: 0,
    border: 0,
  };
}

export class RangeReader {
  readonly #path: Path;
  readonly #near = makeText();
  readonly #far = makeText();

  constructor(heap: Heap, keys: KeySource, shape: Shape = FULL_SHAPE) {
    this.#path = new Path(heap, keys, shape);
  }

  /**
   * Takes the next positions (units) of a range, `room` at most; 0 only at its end. A part with less room than a leaf has goes
   * from leaf to leaf. Any other ends with its leaf: it goes on at a separator, which stands in memory, and not behind a key,
   * which may have rotted in the log.
   */
  take(tree: number, rest: Remainder, to: Float64Array, room: number): number {
    if (rest.isDone || room === 0) return 0;
    const path = this.#path;
    const { far, isReverse } = rest;
    path.open(tree);
    let leaf = this.#begin(rest);
    let { border } = rest;
    if (far !== undefined) setText(this.#far, far.key);
    let count = 0;
    for (;;) {
      const edge: number = isReverse ? 0 : leaf.count;
      const end: number = far === undefined ? edge : this.#border(leaf, this.#far, far.isInclusive !== isReverse);
      const left = isReverse ? border - end : end - border;
      const here = Math.max(Math.min(left, room - count), 0);
      leaf.giveUnits(isReverse ? border - 1 : border, isReverse ? -1 : 1, { to, at: count, count: here });
      count += here;
      border += isReverse ? -here : here;
      if (count === room) {
        rest.behind = to[room - 1]!;
        break;
      }
      const fence = end === edge ? this.#fence(rest) : undefined;
      if (fence === undefined) {
        rest.isDone = true;
        return count;
      }
      if (count > 0 && room > path.shape.capacity) {
        rest.near = { key: fence.memory.u8.slice(0, fence.bytes), isInclusive: !isReverse };
        rest.isUnderWay = true;
        rest.behind = 0;
        break;
      }
      leaf = path.step(isReverse)!;
      // Where nodes had just been dropped it may have got a stretch on this side, and keys in it that came meanwhile.
      border = this.#border(leaf, fence, false);
    }
    rest.leaf = leaf.block;
    rest.changes = path.changes;
    rest.border = border;
    return count;
  }

  /** The separator at the end of the leaf at hand; undefined where the range ends before it. */
  #fence(rest: Remainder): Text | undefined {
    const { isReverse, far } = rest;
    const fence = isReverse ? this.#path.lowerFence() : this.#path.upperFence();
    if (fence === undefined || far === undefined) return fence;
    const order = compareTexts(fence, this.#far);
    return (isReverse ? order <= 0 : order > 0) ? undefined : fence;
  }

  /** The leaf in which a range begins or goes on; `border` then says where in it. */
  #begin(rest: Remainder): Node {
    const path = this.#path;
    const { isReverse } = rest;
    if (rest.changes === path.changes && path.isAt(rest.leaf)) return path.leaf;
    rest.leaf = 0;
    // Only now: most ranges end with their first part.
    if (rest.behind !== 0) this.goOnAtKey(rest);
    const { near } = rest;
    if (near === undefined) {
      const leaf = path.descendEdge(isReverse);
      rest.border = isReverse ? leaf.count : 0;
      return leaf;
    }
    const key = this.#near;
    setText(key, near.key);
    const leaf = path.descend(key, isReverse && !near.isInclusive);
    rest.border = this.#border(leaf, key, near.isInclusive === isReverse, rest.isUnsure ? Number(isReverse) : -1);
    return leaf;
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

  /** How many entries of a leaf sort before a key, or before or with it; `unsure` more than that of one which cannot be told. */
  #border(leaf: Node, key: Text, isBehind: boolean, unsure = -1): number {
    const order = leaf.probe(key);
    if (order !== 0) return order < 0 ? 0 : leaf.count;
    const path = this.#path;
    const lower = leaf.lowerInline(0);
    if (unsure >= 0 && path.isCloseCall(leaf, lower)) return lower + unsure;
    const found = path.resolve(leaf, key, lower);
    return found.isExact && isBehind ? found.index + 1 : found.index;
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
