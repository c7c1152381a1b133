/**
 * Walks a tree and holds it against its invariants (`ordered.ts`, `node.ts`), whole or a few leaves at a time, between
 * which it may change. Under the writer's lock, or while nobody writes. Cost: one look at the log for each record.
 */

import { compare, copy } from "../ffi/memory.ts";
import type { Heap } from "../ffi/heap.ts";
import { isCutFrom } from "./leaf.ts";
import { FULL_SHAPE, Node, type Shape } from "./node.ts";
import { LEVEL_FACTOR, type KeySource } from "./path.ts";
import { Separators, compareTexts, makeText, setText } from "./separators.ts";

/** What a walk has seen. */
export interface TreeFacts {
  readonly faults: string[];
  records: number;
  tombstones: number;
  leaves: number;
  inner: number;
  /** Blocks in use. */
  bytes: number;
}

interface Fences {
  readonly low: Uint8Array | undefined;
  readonly high: Uint8Array | undefined;
}

/** Faults beyond this many are not collected. */
const FAULTS_MAX = 100;

interface Slice {
  readonly from: Uint8Array | undefined;
  /** Where to go on: known once no leaf is left. */
  next: Uint8Array | undefined;
  leavesLeft: number;
}

export class TreeCheck {
  readonly #heap: Heap;
  readonly #keys: KeySource;
  readonly #shape: Shape;
  readonly #separators: Separators;
  readonly #visit: (units: number, isTombstone: boolean) => void;
  readonly #last = makeText();
  readonly #text = makeText();
  readonly #other = makeText();
  /** One for each level. */
  readonly #nodes: Node[] = [];
  /** What has been seen since the walk began. */
  facts: TreeFacts = emptyFacts();

  /** `visit` is called for each entry in order, with its key loaded in the key source. */
  constructor(
    parts: { readonly heap: Heap; readonly keys: KeySource; readonly shape?: Shape },
    visit: (units: number, isTombstone: boolean) => void = () => undefined,
  ) {
    this.#heap = parts.heap;
    this.#keys = parts.keys;
    this.#shape = parts.shape ?? FULL_SHAPE;
    this.#separators = new Separators(parts.heap);
    this.#visit = visit;
  }

  /** Walks a tree; the facts say what is wrong with it. */
  walk(tree: number): TreeFacts {
    this.slice(tree, undefined, Infinity);
    return this.facts;
  }

  /**
   * Walks so many leaves from the key `from` on, with the nodes above them; undefined begins a walk. Returns where to go
   * on, undefined behind the last leaf.
   */
  slice(tree: number, from: Uint8Array | undefined, leaves: number): Uint8Array | undefined {
    if (from === undefined) {
      this.facts = emptyFacts();
      this.#last.bytes = -1;
    }
    const slice: Slice = { from, next: undefined, leavesLeft: leaves };
    const root = this.#heap.readNumber(this.#heap.unitAddress(tree));
    const top = { block: Math.floor(root / LEVEL_FACTOR), level: root % LEVEL_FACTOR };
    this.#walk(top, { low: undefined, high: undefined }, slice);
    return slice.next;
  }

  #fault(text: string): void {
    if (this.facts.faults.length < FAULTS_MAX) this.facts.faults.push(text);
  }

  #walk(place: { readonly block: number; readonly level: number }, fences: Fences, slice: Slice): void {
    const { block, level } = place;
    const node = (this.#nodes[level] ??= new Node(this.#shape, this.#heap.positions));
    node.load(this.#heap, block);
    this.facts.bytes += 1024;
    if (node.level !== level) this.#fault(`block ${block} is at level ${node.level}, not ${level}`);
    if (node.count > node.capacity(node.prefixBytes))
      this.#fault(`block ${block} holds ${node.count} entries, which do not fit`);
    // Leaves are only below inner nodes: a wrong level must not lead in a circle.
    if (level === 0) this.#leaf(node, fences, slice);
    else if (node.level === level) this.#inner(node, fences, slice);
  }

  #inner(node: Node, fences: Fences, slice: Slice): void {
    this.facts.inner += 1;
    if (node.count === 0) this.#fault(`inner block ${node.block} has no child`);
    const separators: (Uint8Array | undefined)[] = [fences.low];
    for (let index = 1; index < node.count; index++) {
      const text = this.#separators.load(node, index);
      setText(this.#text, text.memory.u8.slice(0, text.bytes));
      separators.push(this.#text.memory.u8.slice(0, this.#text.bytes));
      if (node.probe(this.#text) !== 0 || !node.hasInline(index) || node.classOf(index) !== node.class)
        this.#fault(`separator ${index} of block ${node.block} is not what its entry says`);
      const before = separators[index - 1];
      if (before !== undefined && this.#order(before, separators[index]!) >= 0)
        this.#fault(`separator ${index} of block ${node.block} is not behind the one before`);
    }
    const last = separators.at(-1);
    if (last !== undefined && fences.high !== undefined && this.#order(last, fences.high) >= 0)
      this.#fault(`the last separator of block ${node.block} is not before the fence`);
    const { from } = slice;
    for (let index = 0; index < node.count; index++) {
      const high = index + 1 < node.count ? separators[index + 1] : fences.high;
      if (from !== undefined && high !== undefined && this.#order(high, from) <= 0) continue;
      if (slice.leavesLeft <= 0) {
        slice.next ??= separators[index];
        return;
      }
      this.#walk({ block: node.child(index), level: node.level - 1 }, { low: separators[index], high }, slice);
    }
  }

  #leaf(node: Node, fences: Fences, slice: Slice): void {
    const { facts } = this;
    facts.leaves += 1;
    slice.leavesLeft -= 1;
    let dead = 0;
    let deadBefore = 0;
    let before = 0;
    for (let index = 0; index < node.count; index++) {
      const units = node.units(index);
      const bytes = this.#keys.loadKey(units);
      const text = this.#text;
      if (bytes > 0) copy(text.memory.address, this.#keys.memory.address + this.#keys.keyAt, bytes);
      text.bytes = bytes;
      if (node.isTombstone(index)) dead += 1;
      // What was beside the leaf when the walk came by may have been joined with it since.
      if (slice.from !== undefined && this.#orderOfText(slice.from) > 0) {
        before += 1;
        deadBefore = dead;
        continue;
      }
      const where = `entry ${index} of block ${node.block} (byte ${units * 8})`;
      if (!isCutFrom(node, index, text)) this.#fault(`${where} is not cut from its key`);
      if (this.#last.bytes >= 0 && compareTexts(this.#last, text) >= 0) this.#fault(`${where} is out of order`);
      if (fences.low !== undefined && this.#orderOfText(fences.low) > 0) this.#fault(`${where} is before its fence`);
      if (fences.high !== undefined && this.#orderOfText(fences.high) <= 0) this.#fault(`${where} is behind its fence`);
      if (bytes > 0) copy(this.#last.memory.address, text.memory.address, bytes);
      this.#last.bytes = bytes;
      this.#visit(units, node.isTombstone(index));
    }
    if (dead !== node.dead) this.#fault(`block ${node.block} counts ${node.dead} tombstones and holds ${dead}`);
    facts.tombstones += dead - deadBefore;
    facts.records += node.count - before - (dead - deadBefore);
  }

  #order(a: Uint8Array, b: Uint8Array): number {
    const shared = Math.min(a.length, b.length);
    const order = shared === 0 ? 0 : compare(a, b, shared);
    return order === 0 ? a.length - b.length : order;
  }

  /** Orders a fence against the key at hand. */
  #orderOfText(fence: Uint8Array): number {
    setText(this.#other, fence);
    return compareTexts(this.#other, this.#text);
  }
}

function emptyFacts(): TreeFacts {
  return { faults: [], records: 0, tombstones: 0, leaves: 0, inner: 0, bytes: 0 };
}
