/** An ordered index over keys that are held in an array instead of a log, with its memory and its readers. */

import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { HEAP_NUMBERS, Heap } from "../../src/ffi/heap.ts";
import { copy, pinned, type Pinned } from "../../src/ffi/memory.ts";
import { FIRST_ERA, RECLAIM_ATTACHED, RECLAIM_ERA, RECLAIM_FLAGS, Reclaim } from "../../src/ffi/reclaim.ts";
import { TreeCheck, type TreeFacts } from "../../src/ordered/check.ts";
import { FULL_SHAPE, type ProbeKey, type Shape } from "../../src/ordered/node.ts";
import { OrderedIndex } from "../../src/ordered/ordered.ts";
import { TREE_TOMBSTONES, type KeySource } from "../../src/ordered/path.ts";
import { RangeReader, remainderOf, type Bound } from "../../src/ordered/range-reader.ts";

/** Keys by position: what the log is to the engine. */
export class KeyList implements KeySource {
  readonly memory: Pinned = pinned(65_536 + 64);
  readonly keyAt = 24;
  readonly keys: Uint8Array[];
  loads = 0;

  constructor(keys: Uint8Array[] = [new Uint8Array(0)]) {
    this.keys = keys;
  }

  append(key: Uint8Array): number {
    return this.keys.push(key) - 1;
  }

  loadKey(units: number): number {
    const key = this.keys[units];
    if (key === undefined) throw new Error(`no key at ${units}`);
    this.loads += 1;
    if (key.length > 0) copy(this.memory.address + this.keyAt, key, key.length);
    return key.length;
  }

  corrupted(units: number): Error {
    return new EmdbError("EMDB_CORRUPTED", `the key at ${units} does not make sense any more`);
  }
}

/** Nodes of four entries, of which each tells two bytes of a key. */
export const TINY: Shape = { capacity: 4, inlineBytes: 2, prefixBytesMax: 3 };

export class Grove {
  readonly numbers = new Float64Array(HEAP_NUMBERS);
  readonly flags = new Int32Array(RECLAIM_FLAGS);
  readonly heap = Heap.create(hostSystem(), this.numbers);
  readonly keys = new KeyList();
  readonly shape: Shape;
  readonly reclaim: Reclaim;
  readonly index: OrderedIndex;
  readonly reader: RangeReader;
  readonly #key: { readonly memory: Pinned; bytes: number } = { memory: pinned(65_536), bytes: 0 };
  tree: number;

  constructor(options: { readonly shape?: Shape; readonly attached?: number } = {}) {
    this.shape = options.shape ?? FULL_SHAPE;
    this.flags[RECLAIM_ERA] = FIRST_ERA;
    this.flags[RECLAIM_ATTACHED] = options.attached ?? 1;
    this.reclaim = new Reclaim(this.heap, this.flags, () => true);
    this.index = new OrderedIndex(this.heap, this.reclaim, this.keys, this.shape);
    this.reader = new RangeReader(this.heap, this.keys, this.shape);
    this.tree = this.index.plant();
  }

  [Symbol.dispose](): void {
    this.heap.release();
  }

  probe(key: Uint8Array): ProbeKey {
    if (key.length > 0) copy(this.#key.memory.address, key, key.length);
    this.#key.bytes = key.length;
    return this.#key;
  }

  /** Writes a version of a key; `last` is the position that the index is thought to hold. Returns the new one. */
  put(key: Uint8Array, last: number, keepFrom = Infinity): number {
    const units = this.keys.append(key);
    if (this.index.find(this.tree, this.probe(key), last)) this.index.replace(units, false);
    else this.index.add(units, keepFrom);
    return units;
  }

  /** The same as part of a run. */
  enter(key: Uint8Array, last: number, keepFrom = Infinity): number {
    const units = this.keys.append(key);
    this.index.enter(this.tree, this.probe(key), { units, last, keepFrom });
    return units;
  }

  /** Makes a key a tombstone. */
  remove(key: Uint8Array, last: number, keepFrom = Infinity): number {
    const units = this.keys.append(key);
    if (!this.index.find(this.tree, this.probe(key), last)) throw new Error("the key is not there");
    this.index.replace(units, true);
    this.index.shrink(keepFrom);
    return units;
  }

  /** The tombstones that the tree says it has. */
  get countedTombstones(): number {
    return this.heap.readNumber(this.heap.unitAddress(this.tree) + 8 * TREE_TOMBSTONES);
  }

  erase(key: Uint8Array): boolean {
    if (!this.index.find(this.tree, this.probe(key), 0)) return false;
    this.index.erase();
    return true;
  }

  /** All positions of a range, taken in parts of `part`. */
  range(bounds: { lower?: Bound; upper?: Bound; isReverse?: boolean } = {}, part = 3): number[] {
    const rest = remainderOf(bounds);
    const to = new Float64Array(part);
    const all: number[] = [];
    for (
      let count = this.reader.take(this.tree, rest, to, to.length);
      count > 0;
      count = this.reader.take(this.tree, rest, to, to.length)
    )
      all.push(...to.subarray(0, count));
    return all;
  }

  check(visit?: (units: number, isTombstone: boolean) => void): TreeFacts {
    return new TreeCheck({ heap: this.heap, keys: this.keys, shape: this.shape }, visit).walk(this.tree);
  }
}
