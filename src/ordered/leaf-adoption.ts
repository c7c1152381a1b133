/**
 * A tree from the leaves of an image: they are laid into blocks as they are, and the nodes above them are made anew
 * from the separators between them, level by level. No key is looked at.
 *
 * Invariants
 * 1. Nothing names the blocks before `finish`.
 * 2. Leaves come in the order of their keys: each separator is behind the one before it, or who goes from leaf to leaf by
 *    them would never come to an end. What a leaf says of itself is held against its bounds before it is believed.
 */

import { assert } from "../errors.ts";
import { copy, type Pinned } from "../ffi/memory.ts";
import { BLOCK_BYTES, BLOCKS_PER_PAGE, type Heap } from "../ffi/heap.ts";
import { KEY_BYTES_MAX } from "../limits.ts";
import { LEAF_HEAD_BYTES, padded } from "./leaf-copy.ts";
import { ENTRY_BYTES, FULL_SHAPE, HEADER_BYTES, Node, areaBytes, type Shape } from "./node.ts";
import { plantTree } from "./path.ts";
import { Separators, makeText } from "./separators.ts";

/** Of an inner node's room, what is left free for the first children to come. */
const FILL = 0.9;

/** Nodes of one level, with the separators before them: `ends[index]` is where that of node `index` ends in `bytes`. */
class Level {
  blocks = new Float64Array(64);
  ends = new Float64Array(64);
  bytes = new Uint8Array(1024);
  count = 0;
  #end = 0;

  startOf(index: number): number {
    return index === 0 ? 0 : this.ends[index - 1]!;
  }

  /** Whether some bytes sort behind the last separator; the first one is empty mostly, and may be anything. */
  isBehind(from: Uint8Array, start: number, end: number): boolean {
    if (this.count === 0) return true;
    const { bytes } = this;
    let at = this.startOf(this.count - 1);
    for (let index = start; index < end && at < this.#end; index++, at++) {
      if (from[index] !== bytes[at]) return from[index]! > bytes[at]!;
    }
    return end - start > this.#end - this.startOf(this.count - 1);
  }

  add(block: number, from: Uint8Array, start: number, end: number): void {
    let to = this.#end;
    const reached = to + end - start;
    if (reached > this.bytes.length) this.bytes = longer(this.bytes, reached);
    if (this.count === this.blocks.length) {
      this.blocks = longer(this.blocks, this.count + 1);
      this.ends = longer(this.ends, this.count + 1);
    }
    const { bytes } = this;
    // Most are of a few bytes.
    for (let index = start; index < end; index++) bytes[to++] = from[index]!;
    this.blocks[this.count] = block;
    this.ends[this.count] = reached;
    this.#end = reached;
    this.count += 1;
  }
}

/** The same numbers in an array with room for `least`, and as much again. */
function longer<T extends Uint8Array | Float64Array>(array: T, least: number): T {
  const room = Math.max(least, array.length * 2);
  const copied = array instanceof Uint8Array ? new Uint8Array(room) : new Float64Array(room);
  copied.set(array);
  return copied as T;
}

export class LeafAdoption {
  readonly #heap: Heap;
  readonly #shape: Shape;
  readonly #separators: Separators;
  readonly #node: Node;
  readonly #text = makeText();
  #leaves = new Level();
  /** Blocks of the page that was taken last. */
  #block = 0;
  #blocksLeft = 0;

  constructor(heap: Heap, shape: Shape = FULL_SHAPE) {
    this.#heap = heap;
    this.#shape = shape;
    this.#separators = new Separators(heap);
    this.#node = new Node(shape, heap.positions);
  }

  /** Takes a part of a tree that lies at byte `at` of memory; false when it is none. */
  add(memory: Pinned, part: { readonly at: number; readonly bytes: number }): boolean {
    const words = memory.u32;
    const end = part.at + part.bytes;
    let at = part.at;
    while (at + LEAF_HEAD_BYTES <= end) {
      const separatorBytes = words[at >> 2]!;
      const nodeBytes = words[(at >> 2) + 1]!;
      if (separatorBytes > KEY_BYTES_MAX || nodeBytes > BLOCK_BYTES) return false;
      const separatorAt = at + LEAF_HEAD_BYTES;
      const node = separatorAt + padded(separatorBytes);
      if (node + nodeBytes > end || !this.#isLeaf(words, node >> 2, nodeBytes)) return false;
      if (!this.#leaves.isBehind(memory.u8, separatorAt, separatorAt + separatorBytes)) return false;
      this.#leaves.add(this.#lay(memory, node, nodeBytes), memory.u8, separatorAt, separatorAt + separatorBytes);
      at = node + nodeBytes;
    }
    return at === end;
  }

  #isLeaf(words: Uint32Array, word: number, bytes: number): boolean {
    if (bytes < HEADER_BYTES) return false;
    const [count, prefixBytes, dead, level] = [words[word]!, words[word + 1]!, words[word + 2]!, words[word + 3]!];
    if (count < 1 || prefixBytes > this.#shape.prefixBytesMax || dead !== 0 || level !== 0) return false;
    const isFitting = count <= this.#node.capacity(prefixBytes);
    return isFitting && bytes === HEADER_BYTES + count * ENTRY_BYTES + areaBytes(prefixBytes);
  }

  /** Puts a leaf into a block. */
  #lay(memory: Pinned, at: number, bytes: number): number {
    if (this.#blocksLeft === 0) {
      this.#block = this.#heap.takePages(1) * BLOCKS_PER_PAGE;
      this.#blocksLeft = BLOCKS_PER_PAGE;
    }
    const block = this.#block++;
    this.#blocksLeft -= 1;
    const to = this.#heap.blockAddress(block);
    const area = areaBytes(memory.u32[(at >> 2) + 1]!);
    copy(to, memory.address + at, bytes - area);
    if (area > 0) copy(to + BLOCK_BYTES - area, memory.address + at + bytes - area, area);
    return block;
  }

  /** The tree over all leaves; 0 when there are none. */
  finish(): number {
    let level = this.#leaves;
    this.#endPage();
    this.#leaves = new Level();
    if (level.count === 0) return 0;
    let height = 0;
    while (level.count > 1) {
      height += 1;
      level = this.#above(level, height);
    }
    return plantTree(this.#heap, { block: level.blocks[0]!, height });
  }

  /** Gives everything back that was taken since the last `finish`. */
  abandon(): void {
    this.#endPage();
    for (const block of this.#leaves.blocks.subarray(0, this.#leaves.count)) this.#heap.giveBlock(block);
    this.#leaves = new Level();
  }

  #endPage(): void {
    // Fresh memory may hold anything, the word that says that a block is free as well.
    const left = Array.from({ length: this.#blocksLeft }, (_, index) => this.#block + index);
    for (const block of left) this.#heap.write32(this.#heap.blockAddress(block), 0);
    for (const block of left) this.#heap.giveBlock(block);
    this.#blocksLeft = 0;
  }

  /** The inner nodes over the nodes of a level. */
  #above(below: Level, level: number): Level {
    const above = new Level();
    const node = this.#node;
    const most = Math.max(2, Math.floor(this.#shape.capacity * FILL));
    for (let first = 0; first < below.count;) {
      let count = Math.min(most, below.count - first);
      let prefixBytes = sharedPrefix(below, first, count, this.#shape.prefixBytesMax);
      while (count > node.capacity(prefixBytes)) {
        count = node.capacity(prefixBytes);
        prefixBytes = sharedPrefix(below, first, count, this.#shape.prefixBytesMax);
      }
      assert(count > 1 || below.count - first === 1, "an inner node has room for two children");
      const block = this.#fill(below, { first, count, level, prefixBytes });
      above.add(block, below.bytes, below.startOf(first), below.ends[first]!);
      first += count;
    }
    return above;
  }

  #fill(
    below: Level,
    part: { readonly first: number; readonly count: number; readonly level: number; readonly prefixBytes: number },
  ): number {
    const node = this.#node;
    const { first, count, prefixBytes } = part;
    node.clear(part.level);
    node.prefixBytes = prefixBytes;
    const from = below.ends[first]!;
    if (prefixBytes > 0) node.prefix.u8.set(below.bytes.subarray(from, from + prefixBytes));
    for (let index = first; index < first + count; index++) {
      const start = below.startOf(index);
      const end = below.ends[index]!;
      node.cut(below.bytes, Math.min(start + prefixBytes, end), end);
      const isLong = index > first && end - start - prefixBytes > this.#shape.inlineBytes;
      node.insertChild(index - first, below.blocks[index]!, isLong ? this.#keep(below, start, end) : 0);
    }
    node.openFirst();
    const block = this.#heap.takeBlock();
    node.store(this.#heap, block);
    return block;
  }

  #keep(level: Level, start: number, end: number): number {
    const text = this.#text;
    copy(text.memory.address, level.bytes.subarray(start, end), end - start);
    text.bytes = end - start;
    return this.#separators.keep(text);
  }
}

/** The bytes that the separators between some nodes of a level begin with, all of them. */
function sharedPrefix(level: Level, first: number, count: number, most: number): number {
  if (count < 2) return 0;
  const { bytes } = level;
  const one = level.ends[first]!;
  const other = level.startOf(first + count - 1);
  const end = Math.min(level.ends[first + 1]! - one, level.ends[first + count - 1]! - other, most);
  let shared = 0;
  while (shared < end && bytes[one + shared] === bytes[other + shared]) shared += 1;
  return shared;
}
