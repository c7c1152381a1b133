/** Shards that are taken from an image, and directories that a dead writer left half renamed. */

import { expect, test } from "bun:test";
import { RECLAIM_ATTACHED } from "../../src/ffi/reclaim.ts";
import { Adoption, type AdoptedShard } from "../../src/keydir/adopt.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { repairDirectory } from "../../src/keydir/repair.ts";
import { Random } from "../sim/random.ts";
import { HeapFixture, IndexFixture } from "./fixture.ts";

const HASHES = 2 ** HASH_BITS;

/** The units that the entries of a directory name. */
function namesOf(index: IndexFixture): number[] {
  const depth = index.root % 32;
  const directory = index.heap.unitAddress((index.root - depth) / 32);
  return Array.from({ length: 1 << depth }, (_, entry) => index.heap.read32(directory + entry * 4));
}

function nameAll(index: IndexFixture, names: readonly number[]): void {
  const directory = index.heap.unitAddress((index.root - (index.root % 32)) / 32);
  for (const [entry, unit] of names.entries()) index.heap.write32(directory + entry * 4, unit);
  index.keydir.allChanged();
}

/**
 * After a change of directory entries that may have stopped behind each of them: the shallower shards are named again. Returns
 * whether there were several.
 */
function checkRenaming(index: IndexFixture, before: readonly number[], after: readonly number[]): boolean {
  const changed = after.flatMap((unit, entry) => (unit === before[entry] ? [] : [entry]));
  const [half, depthOf] = [changed.length / 2, (unit: number): number => index.keydir.describe(unit).depth];
  const isSplit = depthOf(before[changed[0]!]!) < depthOf(after[changed[0]!]!);
  // A split names the upper half first.
  const order = isSplit ? [...changed.slice(half), ...changed.slice(0, half)] : changed;
  for (let done = 0; done <= order.length; done += 1) {
    const mixed = [...before];
    for (const entry of order.slice(0, done)) mixed[entry] = after[entry]!;
    nameAll(index, mixed);
    repairDirectory(index.keydir, index.root);
    const isAfter = isSplit ? done === order.length : done > 0;
    expect(namesOf(index)).toEqual([...(isAfter ? after : before)]);
  }
  nameAll(index, after);
  return changed.length > 1;
}

test("wherever a split or a merge stopped in naming its shards, the directory is put back in one piece", () => {
  const random = new Random(71);
  using index = new IndexFixture();
  // What is replaced stays as it was, as long as another Worker may read it.
  index.flags[RECLAIM_ATTACHED] = 2;
  const renamed = [0, 0];
  for (const [turn, size] of [30_000, 500].entries()) {
    for (let key = turn === 0 ? 0 : 29_999; turn === 0 ? key < size : key >= size; key += turn === 0 ? 1 : -1) {
      const [root, before] = [index.root, index.root === 0 ? [] : namesOf(index)];
      if (turn === 0) index.insert(key, random.below(HASHES));
      else index.remove(key);
      if (root === 0 || index.root !== root) continue;
      const after = namesOf(index);
      const isRenamed = after.some(
        (unit, entry) => index.keydir.describe(unit).depth !== index.keydir.describe(before[entry]!).depth,
      );
      if (isRenamed && checkRenaming(index, before, after)) renamed[turn]! += 1;
    }
    index.check();
  }
  expect(Math.min(...renamed)).toBeGreaterThan(0);
});

/** Shards of an image by the eighths of the hashes that they cover, in a heap that counts what comes back. */
class Image extends HeapFixture {
  readonly adoption = new Adoption(this.heap);
  readonly given: number[] = [];

  constructor() {
    super();
    const give = this.heap.givePage.bind(this.heap);
    this.heap.givePage = (page): void => {
      this.given.push(page);
      give(page);
    };
  }

  shard(first: number, depth: number): AdoptedShard {
    const [firstHash, firstPage] = [(first * HASHES) / 8, this.heap.takePages(1)];
    return { firstHash, depth, firstPage, pages: 1, live: 0, used: 0, standsFor: 4096 };
  }

  add(first: number, depth: number): boolean {
    return this.adoption.add(this.shard(first, depth));
  }
}

test("shards of an image are taken in the order of their hashes, whole ones in the place of those that they cover", () => {
  using image = new Image();
  const { adoption, heap } = image;
  expect(image.add(1, 3)).toBe(false);
  for (const [first, depth] of [
    [0, 3],
    [1, 3],
    [2, 3],
  ] as const)
    expect(image.add(first, depth)).toBe(true);
  // One that leaves a gap, one that lies askew, one that adds nothing, one that covers a part of what came before.
  for (const [first, depth] of [
    [4, 2],
    [3, 2],
    [2, 3],
    [0, 2],
  ] as const)
    expect([first, depth, image.add(first, depth)]).toEqual([first, depth, false]);
  expect([adoption.finish(), image.given]).toEqual([undefined, []]);
  // The first half as a whole: what it covers goes.
  const half = image.shard(0, 1);
  expect([adoption.add(half), image.given.length]).toEqual([true, 3]);
  expect([adoption.finish(), image.add(4, 1)]).toEqual([undefined, true]);
  const root = adoption.finish()!;
  expect(root % 32).toBe(1);
  const directory = heap.unitAddress((root - 1) / 32);
  expect(heap.read32(heap.unitAddress(heap.read32(directory)) + 8)).toBe(half.firstPage);
});

test("an image that is given up gives back all that was taken of it, and the next begins anew", () => {
  using image = new Image();
  const { adoption } = image;
  const shards = [image.shard(0, 1), image.shard(4, 1)];
  for (const shard of shards) expect(adoption.add(shard)).toBe(true);
  adoption.abandon();
  expect(image.given.toSorted((a, b) => a - b)).toEqual(
    shards.map(({ firstPage }) => firstPage).toSorted((a, b) => a - b),
  );
  expect(adoption.finish()).toBe(0);
  expect(image.add(0, 0)).toBe(true);
  expect(adoption.finish()! % 32).toBe(0);
});
