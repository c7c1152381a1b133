/**
 * What a writer does to the inner nodes on its path: put a child beside another, take one away.
 *
 * Each change makes a new node, or two, up to the first ancestor that has room, and becomes visible by the
 * one store that names the topmost new node.
 *
 * Invariants
 * 1. Everything new is written before that store, with a barrier between. Everything old is retired by `settle`, when
 *    the change has been noted: a reader that goes by copies of its own finds out before an old block can be used again.
 * 2. An inner node has at least one child; a root has two.
 * 3. Between that store and `settle` nothing fails.
 * 4. A node that was made anew leaves out all that its separators have in common. One that has lost children since, and
 *    with them those that were different, may leave out less, and so hold more children than it would if made anew.
 */

import { assert } from "../errors.ts";
import { leaveForLater } from "../ffi/give-back.ts";
import { copy, pinned } from "../ffi/memory.ts";
import type { Reclaim } from "../ffi/reclaim.ts";
import { Node } from "./node.ts";
import { LEVEL_FACTOR, TREE_ROOT, type Path } from "./path.ts";
import { makeText, setText, sharedBytes, type Text } from "./separators.ts";

/** An inner node taken apart: `separators[0]` is empty. */
interface Parts {
  readonly separators: Uint8Array[];
  readonly children: number[];
}

export class Inner {
  readonly #path: Path;
  readonly #reclaim: Reclaim;
  /** Replaced by the change at hand. */
  readonly #oldBlocks: number[] = [];
  readonly #oldUnits: number[] = [];
  readonly #word = pinned(8);
  readonly #other: Node;
  readonly #first = makeText();
  readonly #last = makeText();

  constructor(path: Path, reclaim: Reclaim) {
    this.#path = path;
    this.#reclaim = reclaim;
    this.#other = new Node(path.shape, path.heap.positions);
  }

  /** Lets the parent of the path's node at `level`, or the tree, name another block in its place. */
  rename(level: number, block: number): void {
    const path = this.#path;
    path.heap.keepOrder();
    if (level === path.height) {
      path.treeMemory.f64[TREE_ROOT] = block * LEVEL_FACTOR + level;
      copy(path.heap.unitAddress(path.tree), path.treeMemory.address, 8);
      return;
    }
    const parent = path.node(level + 1);
    const index = path.taken[level + 1]!;
    parent.setChild(index, block);
    this.#word.u32[0] = block;
    copy(path.heap.blockAddress(parent.block) + Node.slotOffset(index), this.#word.address, 4);
  }

  /** Writes a node to a fresh block. */
  write(node: Node): number {
    const block = this.#path.heap.takeBlock();
    node.store(this.#path.heap, block);
    return block;
  }

  /** Puts two blocks, and the separator between them, in the place of the path's node at `level - 1`. */
  divide(level: number, blocks: { readonly left: number; readonly right: number }, separator: Text): void {
    const path = this.#path;
    if (level > path.height) {
      this.#newRoot(level, blocks, separator);
      return;
    }
    const node = path.node(level);
    const index = path.taken[level]!;
    const old = node.block;
    node.block = 0;
    if (node.count < node.capacity(node.prefixBytes) && node.count > 1 && node.probe(separator) === 0) {
      node.setChild(index, blocks.left);
      const unit = separator.bytes > node.prefixBytes + path.shape.inlineBytes ? path.separators.keep(separator) : 0;
      node.insertChild(index + 1, blocks.right, unit);
      this.rename(level, this.write(node));
      this.drop(old);
      return;
    }
    const parts = this.#takeApart(node);
    const units = longUnits(node);
    parts.children[index] = blocks.left;
    parts.children.splice(index + 1, 0, blocks.right);
    parts.separators.splice(index + 1, 0, separator.memory.u8.slice(0, separator.bytes));
    this.#rebuild(level, parts, index + 1);
    this.#retire(old, units);
  }

  #newRoot(level: number, blocks: { readonly left: number; readonly right: number }, separator: Text): void {
    const path = this.#path;
    const root = path.node(level);
    const bytes = separator.memory.u8.slice(0, separator.bytes);
    this.#assemble(root, level, { separators: [new Uint8Array(0), bytes], children: [blocks.left, blocks.right] });
    path.height = level;
    this.rename(level, this.write(root));
  }

  /** Writes parts as one node or two in the place of the path's node at `level`. `newest` is the child that came. */
  #rebuild(level: number, parts: Parts, newest: number): void {
    const node = this.#path.node(level);
    const { children, separators } = parts;
    const count = children.length;
    if (count <= node.capacity(this.#commonPrefix(separators))) {
      this.#assemble(node, level, parts);
      this.rename(level, this.write(node));
      return;
    }
    const middle = newest === count - 1 ? this.#mostOf(node, separators) : count >>> 1;
    this.#assemble(node, level, { separators: separators.slice(0, middle), children: children.slice(0, middle) });
    const left = this.write(node);
    const rest = [new Uint8Array(0), ...separators.slice(middle + 1)];
    this.#assemble(node, level, { separators: rest, children: children.slice(middle) });
    const right = this.write(node);
    node.block = 0;
    const promoted = makeText();
    setText(promoted, separators[middle]!);
    this.divide(level + 1, { left, right }, promoted);
  }

  /** How many of the first children one node takes, the last left out; it can be fewer than have lain in one (invariant 4). */
  #mostOf(node: Node, separators: readonly Uint8Array[]): number {
    let most = separators.length - 1;
    for (;;) {
      const room = node.capacity(this.#commonPrefix(separators.slice(0, most)));
      if (room >= most) return most;
      most = room;
    }
  }

  #takeApart(node: Node): Parts {
    const separators: Uint8Array[] = [new Uint8Array(0)];
    const children: number[] = [node.child(0)];
    for (let index = 1; index < node.count; index++) {
      const text = this.#path.separators.load(node, index);
      separators.push(text.memory.u8.slice(0, text.bytes));
      children.push(node.child(index));
    }
    return { separators, children };
  }

  #commonPrefix(separators: readonly Uint8Array[]): number {
    if (separators.length < 2) return 0;
    setText(this.#first, separators[1]!);
    setText(this.#last, separators.at(-1)!);
    return Math.min(sharedBytes(this.#first, this.#last), this.#path.shape.prefixBytesMax);
  }

  #assemble(node: Node, level: number, parts: Parts): void {
    const { separators, children } = parts;
    const path = this.#path;
    node.clear(level);
    const prefixBytes = this.#commonPrefix(separators);
    assert(children.length <= node.capacity(prefixBytes), "the parts of an inner node fit it");
    if (prefixBytes > 0) copy(node.prefix.address, this.#first.memory.address, prefixBytes);
    node.prefixBytes = prefixBytes;
    for (let index = 0; index < children.length; index++) {
      const separator = separators[index]!;
      node.cut(separator, Math.min(prefixBytes, separator.length), separator.length);
      const isLong = index > 0 && separator.length - prefixBytes > path.shape.inlineBytes;
      if (isLong) setText(this.#last, separator);
      node.insertChild(index, children[index]!, isLong ? path.separators.keep(this.#last) : 0);
    }
    node.openFirst();
  }

  /**
   * Takes a child of the path's node at `level` away; `kept` is what another child has become, at its index
   * before. The path is good no more.
   */
  remove(level: number, index: number, kept: { readonly index: number; readonly block: number } | undefined): void {
    const path = this.#path;
    const node = path.node(level);
    assert(node.count > 1, "an inner node keeps a child");
    const old = node.block;
    const unit = node.longUnit(Math.max(index, 1));
    node.block = 0;
    if (kept !== undefined) node.setChild(kept.index, kept.block);
    node.closeGap(index);
    if (index === 0) node.openFirst();
    if (node.count === 1 && level === path.height) {
      path.height = level - 1;
      this.rename(level - 1, node.child(0));
    } else {
      this.rename(level, this.write(node));
      if (node.count < node.capacity(0) / 4 && level < path.height) this.#joinIfRoom(level);
    }
    this.#retire(old, unit === 0 ? [] : [unit]);
  }

  /** The child is gone by now: a join that finds no memory is left out, or nobody would be told of that. */
  #joinIfRoom(level: number): void {
    try {
      this.#joinSibling(level);
    } catch (error) {
      leaveForLater(error);
    }
  }

  /** Joins the path's node at `level` with a neighbour when both together leave room. */
  #joinSibling(level: number): void {
    const path = this.#path;
    const parent = path.node(level + 1);
    if (parent.count < 2) return;
    const own = path.taken[level + 1]!;
    const rightIndex = own + 1 < parent.count ? own + 1 : own;
    const leftIndex = rightIndex - 1;
    const other = this.#other;
    other.load(path.heap, parent.child(own === leftIndex ? rightIndex : leftIndex));
    const node = path.node(level);
    if (node.count + other.count > (node.capacity(path.shape.prefixBytesMax) * 3) / 4) return;
    const between = path.separators.load(parent, rightIndex);
    const separator = between.memory.u8.slice(0, between.bytes);
    const leftNode = own === leftIndex ? node : other;
    const rightNode = own === leftIndex ? other : node;
    const left = this.#takeApart(leftNode);
    const right = this.#takeApart(rightNode);
    const retired = [leftNode, rightNode].map((one) => ({ block: one.block, units: longUnits(one) }));
    this.#assemble(node, level, {
      separators: [...left.separators, separator, ...right.separators.slice(1)],
      children: [...left.children, ...right.children],
    });
    const block = this.write(node);
    this.remove(level + 1, rightIndex, { index: leftIndex, block });
    for (const one of retired) this.#retire(one.block, one.units);
  }

  #retire(block: number, units: readonly number[]): void {
    this.drop(block);
    this.#oldUnits.push(...units);
  }

  /** A block that nothing reachable names any more. */
  drop(block: number): void {
    this.#oldBlocks.push(block);
  }

  /** Ends a change. */
  settle(): void {
    this.#path.noteChange();
    // Off the lists first: what was once retired is never retired again, whatever a failure leaves undone.
    while (this.#oldBlocks.length > 0) this.#reclaim.retireBlock(this.#oldBlocks.pop()!);
    while (this.#oldUnits.length > 0) this.#path.separators.retire(this.#oldUnits.pop()!, this.#reclaim);
  }
}

/** The units of the separators that a node keeps in full. */
export function longUnits(node: Node): number[] {
  const units: number[] = [];
  for (let index = 1; index < node.count; index++) {
    const unit = node.longUnit(index);
    if (unit !== 0) units.push(unit);
  }
  return units;
}
