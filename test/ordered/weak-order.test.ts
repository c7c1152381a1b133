/**
 * A reader on a core that sees stores in another order than they were made in (arm64): what a writer stores between two
 * barriers reaches a second memory word by word, in orders from a seed, and the reader looks into that one in between.
 */

import { expect, test } from "bun:test";
import { hostSystem } from "../../src/ffi/host.ts";
import { HEAP_NUMBERS, Heap, PAGE_BYTES } from "../../src/ffi/heap.ts";
import { copy, pinned } from "../../src/ffi/memory.ts";
import { RangeReader, remainderOf, type Remainder } from "../../src/ordered/range-reader.ts";
import { Random } from "../sim/random.ts";
import { Grove, TINY } from "./grove.ts";

const PAGES = 128;
/** The index of the shared number that says how many pages have been given out. */
const PAGES_USED = 2;

/** The memory of a grove as another core sees it. */
class FarMemory {
  readonly heap = Heap.create(hostSystem(), new Float64Array(HEAP_NUMBERS));
  readonly #near = pinned(PAGES * PAGE_BYTES);
  readonly #far = pinned(PAGES * PAGE_BYTES);
  readonly #grove: Grove;
  readonly #random: Random;
  /** Called between two words that arrive, now and then. */
  look: () => void = () => undefined;

  constructor(grove: Grove, random: Random) {
    this.#grove = grove;
    this.#random = random;
    this.heap.takePages(PAGES);
    this.arrive();
    const { heap, reclaim } = grove;
    const nextEra = reclaim.nextEra.bind(reclaim);
    heap.keepOrder = () => this.arrive();
    reclaim.nextEra = () => {
      this.arrive();
      return nextEra();
    };
  }

  /** Aligned words that differ here and there. */
  onItsWay(): number[] {
    const bytes = this.#grove.numbers[PAGES_USED]! * PAGE_BYTES;
    const [near, far] = [this.#near, this.#far];
    copy(near.address, this.#grove.heap.pagesAt, bytes);
    const words: number[] = [];
    for (let at = 0; at < bytes / 4; at += 2)
      if (near.u32[at] !== far.u32[at] || near.u32[at + 1] !== far.u32[at + 1]) words.push(at * 4);
    return words;
  }

  /** Lets all that was stored arrive. */
  arrive(): void {
    const words = this.onItsWay();
    for (let left = words.length; left > 0; left--) {
      const at = this.#random.below(left);
      const word = words[at]!;
      words[at] = words[left - 1]!;
      copy(this.#far.address + word, this.#near.address + word, 8);
      copy(this.heap.pagesAt + word, this.#near.address + word, 8);
      if (left === words.length || this.#random.chance(0.2)) this.look();
    }
  }
}

function positionsOf(reader: RangeReader, tree: number, isReverse: boolean): number[] {
  const rest = remainderOf({ isReverse });
  const to = new Float64Array(8);
  const all: number[] = [];
  for (let count = 1; count > 0;) {
    count = reader.take(tree, rest, to, to.length);
    all.push(...to.subarray(0, count));
    if (all.length > 1000) throw new Error("the walk does not end");
  }
  return isReverse ? all.reverse() : all;
}

function run(seed: number): void {
  const random = new Random(seed);
  using grove = new Grove({ shape: TINY, attached: 2 });
  const far = new FarMemory(grove, random);
  using _ = { [Symbol.dispose]: () => far.heap.release() };
  const reader = new RangeReader(far.heap, grove.keys, TINY);
  const textOf = (units: number): string => Buffer.from(grove.keys.keys[units]!).toString();
  const seen = (isReverse: boolean): string[] => positionsOf(reader, grove.tree, isReverse).map(textOf);
  const held = new Map<string, number>();
  for (let step = 0; step < 300; step++) {
    const isGrowing = step % 150 < 90;
    const number = isGrowing && random.chance(0.5) ? step : random.below(60);
    const key = `${"stem".repeat(1 + (number % 3))}${String(number).padStart(4, "0")}`;
    const others = [...held.keys()].filter((one) => one !== key).sort();
    // While the change is on its way, its key may be there or not, and nothing else changes.
    far.look = () => {
      const found = seen(random.chance(0.5));
      expect(found).toEqual(found.includes(key) ? [...others, key].sort() : others);
    };
    if (isGrowing || !held.has(key)) held.set(key, grove.put(Buffer.from(key), held.get(key) ?? 0));
    else {
      grove.erase(Buffer.from(key));
      held.delete(key);
    }
    // A write is published behind a barrier. The reader sees that by then, of whatever it had made copies.
    far.arrive();
    const expected = [...held].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, units]) => units);
    expect(positionsOf(reader, grove.tree, false)).toEqual(expected);
    expect(positionsOf(reader, grove.tree, true)).toEqual(expected);
  }
}

test("a reader sees each change whole or not at all, in whatever order the stores between two barriers reach it", () => {
  for (let seed = 1; seed <= 8; seed++) {
    try {
      run(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
    }
  }
});

test("a tree is there for everybody when its number is known", () => {
  using grove = new Grove({ attached: 2 });
  const far = new FarMemory(grove, new Random(1));
  using _ = { [Symbol.dispose]: () => far.heap.release() };
  grove.index.plant();
  expect(far.onItsWay()).toEqual([]);
});

test("a reader that loads the number of changes before an older root loads that again", () => {
  using grove = new Grove({ shape: TINY, attached: 2 });
  const { heap, tree } = grove;
  const positions = ["a", "b", "c", "d"].map((key) => grove.put(Buffer.from(key), 0));
  const reader = new RangeReader(heap, grove.keys, TINY);
  const early = pinned(64);
  copy(early.address, heap.unitAddress(tree), 24);
  positions.push(grove.put(Buffer.from("e"), 0));
  // Until the reader's next barrier its loads of the root are early ones; those of the number are not.
  copy(early.address + 8, heap.unitAddress(tree) + 8, 8);
  const { unitAddress } = heap;
  const address = heap.unitAddress(tree);
  heap.unitAddress = (unit) => (unit === tree ? early.address : unitAddress.call(heap, unit));
  heap.keepOrder = () => copy(early.address, address, 24);
  expect(positionsOf(reader, tree, false)).toEqual(positions);
});

/** Takes what is left of a range, in parts of as many as there is room for. */
function takeRest(walk: { readonly reader: RangeReader; readonly rest: Remainder }, tree: number): number[] {
  const to = new Float64Array(8);
  const all: number[] = [];
  for (let count = 1; count > 0;) {
    count = walk.reader.take(tree, walk.rest, to, to.length);
    all.push(...to.subarray(0, count));
  }
  return all;
}

/**
 * Makes a change beside walks that have come to each of the entries: they go on once the root is another, before its number
 * of changes is. Returns whether it ever was.
 */
function changeRoot(
  grove: Grove,
  beside: { readonly readers: readonly RangeReader[]; readonly heap: Heap; readonly isReverse: boolean },
  change: () => void,
): boolean {
  const { tree, keys } = grove;
  const { heap, isReverse, readers } = beside;
  const textOf = (units: number): string => Buffer.from(keys.keys[units]!).toString();
  const all = grove.range({ isReverse }).map(textOf);
  const walks = readers.slice(0, all.length).map((reader, index) => {
    const rest = remainderOf({ isReverse });
    const to = new Float64Array(TINY.capacity);
    for (let left = index + 1; left > 0;) left -= reader.take(tree, rest, to, Math.min(left, to.length));
    return { reader, rest, begun: all.slice(0, index + 1) };
  });
  const root = heap.readNumber(heap.unitAddress(tree));
  const { keepOrder } = grove.heap;
  const found: string[][] = [];
  grove.heap.keepOrder = () => {
    keepOrder.call(grove.heap);
    if (found.length > 0 || heap.readNumber(heap.unitAddress(tree)) === root) return;
    for (const walk of walks) found.push([...walk.begun, ...takeRest(walk, tree).map(textOf)]);
  };
  change();
  grove.heap.keepOrder = keepOrder;
  const now = new Set(grove.range().map(textOf));
  const stayed = all.filter((key) => now.has(key));
  const was = new Set(all);
  for (const keysSeen of found) expect(keysSeen.filter((key) => was.has(key) && now.has(key))).toEqual(stayed);
  return found.length > 0;
}

test("a walk that goes on where the root is another, and the number of changes is not yet, passes nothing over", () => {
  for (const isReverse of [false, true]) {
    using grove = new Grove({ shape: TINY, attached: 2 });
    const heap = new Heap(hostSystem(), grove.numbers);
    const readers = Array.from({ length: 40 }, () => new RangeReader(heap, grove.keys, TINY));
    const beside = { readers, heap, isReverse };
    const keyOf = (index: number): Uint8Array => Buffer.from(String(isReverse ? 99 - index : index).padStart(3, "0"));
    let roots = 0;
    for (let index = 0; index < readers.length; index++)
      if (changeRoot(grove, beside, () => grove.put(keyOf(index), 0))) roots += 1;
    expect(roots).toBeGreaterThan(2);
    for (let index = 0; index < readers.length; index++)
      if (changeRoot(grove, beside, () => grove.erase(keyOf(index)))) roots += 1;
    expect(roots).toBeGreaterThan(5);
  }
});
