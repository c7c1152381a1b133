/**
 * The leaves of a tree as bytes: how the ordered index goes into the hint image. `leaf-adoption.ts` makes a tree of them.
 *
 *     leaf    0 u32 bytes of the separator before it; 0 for the first of the tree   4 u32 bytes of the node   8 zero
 *             16 separator, padded with zeros to a multiple of 16
 *                node (`node.ts`): header, entries, and right behind them the area of the prefix
 *
 * A copy is made in parts, between which the tree may change in any way: each part goes on at the separator where the
 * one before ended, so the parts are of different moments and no key falls between two of them, or into both.
 *
 * Invariants
 * 1. Entries of a part are at or behind the separator before their leaf, and before the next one.
 * 2. No tombstone is copied, and no leaf without an entry.
 */

import { copy, fill, type Pinned } from "../ffi/memory.ts";
import { BLOCK_BYTES, type Heap } from "../ffi/heap.ts";
import type { Positions } from "../ffi/positions.ts";
import { KEY_BYTES_MAX } from "../limits.ts";
import { purge, takePart } from "./leaf.ts";
import { FULL_SHAPE, HEADER_BYTES, ENTRY_BYTES, Node, areaBytes, type Shape } from "./node.ts";
import { Path, type KeySource } from "./path.ts";
import { makeText, setText } from "./separators.ts";

export const LEAF_HEAD_BYTES = 16;
/** Bytes of a part, if it is of more than one leaf. */
const PART_BYTES = 24 * 1024;
const ONE_LEAF_BYTES_MAX = LEAF_HEAD_BYTES + padded(KEY_BYTES_MAX) + BLOCK_BYTES;
export const LEAF_PART_BYTES_MAX = Math.max(PART_BYTES, ONE_LEAF_BYTES_MAX);

/** Rounds up to a multiple of 16. */
export function padded(bytes: number): number {
  return (bytes + 15) & ~15;
}

export class LeafCopy {
  readonly #path: Path;
  readonly #part: Node;
  readonly #from = makeText();
  /** Bytes of the part that was copied last, and the leaves in it. */
  bytes = 0;
  leaves = 0;

  constructor(heap: Heap, keys: KeySource, shape: Shape = FULL_SHAPE) {
    this.#path = new Path(heap, keys, shape);
    this.#part = new Node(shape, heap.positions);
  }

  /**
   * Copies the next leaves, from the separator `from` on (undefined: the first), to byte `at` of memory. Returns where
   * to go on, undefined at the end. Under the writer's lock.
   */
  next(
    tree: number,
    from: Uint8Array | undefined,
    to: { readonly memory: Pinned; readonly at: number },
  ): Uint8Array | undefined {
    const path = this.#path;
    this.bytes = 0;
    this.leaves = 0;
    let separator = from ?? new Uint8Array(0);
    setText(this.#from, separator);
    path.open(tree);
    let leaf = path.descend(this.#from, false);
    // What was beside it then may have been joined with it since, and is in the part before.
    let first = from === undefined ? 0 : this.#before(leaf);
    for (;;) {
      const part = this.#part;
      takePart(part, leaf, { from: first, end: leaf.count });
      purge(part, Infinity);
      if (part.count > 0 && !this.#add(part, separator, to)) return separator;
      const fence = path.upperFence();
      if (fence === undefined) return undefined;
      separator = fence.memory.u8.slice(0, fence.bytes);
      const beside = path.step(false);
      if (beside === undefined) return separator;
      leaf = beside;
      first = 0;
    }
  }

  /** How many entries of a leaf sort before the key to go on at. */
  #before(leaf: Node): number {
    const side = leaf.probe(this.#from);
    if (side !== 0) return side < 0 ? 0 : leaf.count;
    return this.#path.resolve(leaf, this.#from, leaf.lowerInline(0)).index;
  }

  /** False when there is no room left. */
  #add(part: Node, separator: Uint8Array, to: { readonly memory: Pinned; readonly at: number }): boolean {
    const area = areaBytes(part.prefixBytes);
    const nodeBytes = HEADER_BYTES + part.count * ENTRY_BYTES + area;
    const separatorBytes = padded(separator.length);
    const bytes = LEAF_HEAD_BYTES + separatorBytes + nodeBytes;
    if (this.bytes > 0 && this.bytes + bytes > PART_BYTES) return false;
    const at = to.at + this.bytes;
    const address = to.memory.address + at;
    fill(address, 0, LEAF_HEAD_BYTES + separatorBytes);
    to.memory.u32[at >> 2] = separator.length;
    to.memory.u32[(at >> 2) + 1] = nodeBytes;
    if (separator.length > 0) copy(address + LEAF_HEAD_BYTES, separator, separator.length);
    part.writeHeader();
    const body = address + LEAF_HEAD_BYTES + separatorBytes;
    copy(body, part.memory.address, nodeBytes - area);
    if (area > 0) fill(body + nodeBytes - area, 0, area);
    if (area > 0) copy(body + nodeBytes - area, part.prefix.address, part.prefixBytes);
    this.bytes += bytes;
    this.leaves += 1;
    return true;
  }
}

/** Puts places in the file that begins at `base` (units) for all positions in a part that was copied; returns the least. */
export function rebaseLeaves(
  memory: Pinned,
  part: { readonly at: number; readonly bytes: number },
  from: { readonly positions: Positions; readonly base: number },
): number {
  let least = Infinity;
  const words = memory.u32;
  for (let at = part.at; at < part.at + part.bytes;) {
    const node = at + LEAF_HEAD_BYTES + padded(words[at >> 2]!);
    const count = words[node >> 2]!;
    for (let index = 0; index < count; index++) {
      const word = (node + Node.slotOffset(index)) >> 2;
      least = Math.min(least, Node.toPlace(words, word, from));
    }
    at = node + words[(at >> 2) + 1]!;
  }
  return least;
}
