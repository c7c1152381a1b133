/** What a Worker remembers of the directories is never older than the layout that it is told of. */

import { expect, test } from "bun:test";
import { RECLAIM_LAYOUT, Reclaim } from "../../src/ffi/reclaim.ts";
import { HASHES } from "../../src/keydir/hash.ts";
import { Keydir, isTombstone } from "../../src/keydir/keydir.ts";
import { relocateShard } from "../../src/keydir/relocate.ts";
import { Random } from "../sim/random.ts";
import { IndexFixture } from "./fixture.ts";

/** Another Worker's eyes on the index. */
function observer(index: IndexFixture): Keydir {
  return new Keydir(index.heap, new Reclaim(index.heap, index.flags, () => true));
}

function sees(keydir: Keydir, root: number, entry: { readonly hash: number; readonly units: number }): boolean {
  if (!keydir.seek(root, entry.hash)) return false;
  while (keydir.next()) {
    if (keydir.units === entry.units) return !isTombstone(keydir.high);
  }
  return false;
}

test.each([61, 62, 63])(
  "another Worker finds every record between any two changes, wherever shards were laid out, split or merged (seed %d)",
  (seed) => {
    const random = new Random(seed);
    using index = new IndexFixture();
    const other = observer(index);
    let next = 0;
    for (const size of [3000, 20_000, 300, 8000]) {
      const layout = index.flags[RECLAIM_LAYOUT]!;
      while (index.model.size !== size) {
        const isGrowing = index.model.size < size;
        if (isGrowing) index.insert(next++, random.below(HASHES));
        else index.remove(index.model.keys().next().value!);
        const one = isGrowing ? index.model.get(next - 1)! : index.model.values().next().value!;
        if (!sees(other, index.root, one)) throw new Error(`a record is not seen at ${index.model.size} records`);
      }
      expect(index.flags[RECLAIM_LAYOUT]).not.toBe(layout);
      for (const entry of index.model.values()) expect(sees(other, index.root, entry)).toBe(true);
    }
  },
  60_000,
);

test("of two namespaces that take turns each finds its own, also when one gets the other's old directory", () => {
  const random = new Random(64);
  using index = new IndexFixture();
  index.heap.ensureSpace(1);
  const second = index.heap.spaceAddress(1);
  const other = observer(index);
  for (let round = 0; round < 20; round += 1) {
    for (let key = 0; key < 200; key += 1) index.insert(round * 1000 + key, random.below(HASHES));
    const { root } = index;
    const entries = [...index.model.values()];
    for (const keydir of [index.keydir, other]) expect(entries.every((entry) => sees(keydir, root, entry))).toBe(true);
    // The index goes to the second namespace, and the first begins anew: what is retired is used again at once.
    const before = index.keydir.root(second);
    index.keydir.setRoot(second, root);
    index.keydir.setRoot(index.space, 0);
    index.keydir.retireTree(before);
    index.model.clear();
    index.insert(round * 1000 + 999, entries[0]!.hash);
    for (const keydir of [index.keydir, other]) {
      expect(entries.every((entry) => sees(keydir, root, entry))).toBe(true);
      expect(sees(keydir, index.root, entries[0]!)).toBe(false);
    }
  }
});

test("what a dead writer changed without a word is seen once everything is said to have changed", () => {
  using index = new IndexFixture();
  const other = observer(index);
  let isSilent = false;
  for (let key = 0; !isSilent; key += 1) {
    const [told, root] = [index.flags[RECLAIM_LAYOUT]!, index.root];
    index.insert(key, (key * 26_843) % HASHES);
    if (index.flags[RECLAIM_LAYOUT] === told) continue;
    // The writer lays a shard out anew in the same directory, and dies before it says so.
    isSilent = key > 5000 && index.root === root;
    if (isSilent) index.flags[RECLAIM_LAYOUT] = told;
    else for (const entry of index.model.values()) expect(sees(other, index.root, entry)).toBe(true);
  }
  index.keydir.allChanged();
  for (const keydir of [other, index.keydir])
    for (const entry of index.model.values()) expect(sees(keydir, index.root, entry)).toBe(true);
});

test("who changes one namespace without a look at the others has not seen what was changed there", () => {
  const random = new Random(66);
  using index = new IndexFixture();
  index.heap.ensureSpace(1);
  const second = index.heap.spaceAddress(1);
  const other = observer(index);
  for (let round = 0; round < 10; round += 1) {
    for (const entry of index.model.values()) expect(sees(other, index.root, entry)).toBe(true);
    for (let key = 0; key < 2000; key += 1) index.insert(round * 2000 + key, random.below(HASHES));
    other.setRoot(second, round % 2 === 0 ? 32 : 0);
    for (const entry of index.model.values()) expect(sees(other, index.root, entry)).toBe(true);
  }
});

test("the index is led over from shard to shard, also where a merge has made one begin before the place to go on at", () => {
  const random = new Random(67);
  using index = new IndexFixture();
  for (let key = 0; key < 10_000; key += 1) index.insert(key, random.below(HASHES));
  const { root } = index;
  let first = 0;
  for (const { depth } of index.shards()) {
    const end = first + HASHES / 2 ** depth;
    for (const hash of [first, (first + end) / 2, end - 1])
      expect(relocateShard(index.keydir, { root, hash }, () => undefined)).toBe(end);
    first = end;
  }
  expect(first).toBe(HASHES);
});

test("two Workers that write by turns leave the counts of each shard exact", () => {
  const random = new Random(65);
  using index = new IndexFixture();
  const other = observer(index);
  const add = (keydir: Keydir, hash: number, units: number): void => {
    if (keydir.seek(index.root, hash)) while (keydir.next());
    keydir.add(index.space, units, Infinity);
  };
  for (let key = 0; key < 4000; key += 1) {
    const [own, theirs, later] = [random.below(HASHES), random.below(HASHES), random.below(HASHES)];
    index.insert(3 * key, own);
    add(other, theirs, 100_000 + key);
    index.model.set(3 * key + 1, { hash: theirs, units: 100_000 + key, isRemoved: false });
    // The same for who is alone with the index for a while.
    if (key % 10 === 9) index.insertNew(3 * key + 2, [later]);
  }
  index.check();
});
