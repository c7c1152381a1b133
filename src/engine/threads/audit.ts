/**
 * Setting shared memory right after a Worker died while it held the writer's lock.
 *
 * Its frames behind `visible` are undone like those of any failed write. Besides, it may have left a directory
 * half renamed (both shards hold the same slots, so either will do, but all entries of a shard must name the
 * same one), an ordered tree that has changed under a number that says it has not, and counts that miss its last step.
 * Memory that it had taken and not yet named is lost until close.
 */

import { copy, sharedScratch } from "../../ffi/memory.ts";
import { HASH_BITS } from "../../keydir/hash.ts";
import { PAGE_BYTES } from "../../ffi/heap.ts";
import { PAGE_SLOTS } from "../../keydir/shard.ts";
import { recountShard, repairDirectory } from "../../keydir/repair.ts";
import { isTombstone, type Keydir } from "../../keydir/keydir.ts";
import { renumber } from "../../ordered/path.ts";
import type { Core } from "../core.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

const sharedPage = sharedScratch(PAGE_BYTES);

/** Makes every directory consistent; lookups are right again. Under the writer's lock. */
export function repairDirectories(core: Core, spaces: Spaces): void {
  // The dead writer may have been stopped between a change and the word about it.
  core.keydir.allChanged();
  for (const space of [spaces.default, ...spaces.list()]) {
    const root = spaces.root(space);
    if (root !== 0) repairDirectory(core.keydir, root);
  }
  core.keydir.allChanged();
}

/**
 * Makes every copy of an ordered tree an old one, in this thread too: the dead writer may have been stopped between a
 * change and its number, and what it left is to be undone in the trees as they are. Under the writer's lock.
 */
export function renumberTrees(core: Core, spaces: Spaces): void {
  for (let id = 0; id < spaces.nextId; id++) {
    const tree = spaces.tree({ address: core.heap.spaceAddress(id) });
    if (tree !== 0) renumber(core.heap, tree);
  }
}

/**
 * Gives up the queues of deadlines, which may be half changed; the next sweep makes them anew. Under the writer's lock.
 * Those of dropped namespaces too: a drop that is taken back may have got as far as to let go of the queue.
 */
export function forgetDeadlines(core: Core, spaces: Spaces): void {
  for (let id = 0; id < spaces.nextId; id++) core.expiry.forget(core.heap.spaceAddress(id));
}

/** Counts anew what the dead writer may have miscounted. Under the writer's lock, nothing unpublished left. */
export function recount(core: Core, spaces: Spaces): void {
  for (const space of [spaces.default, ...spaces.list()]) recountSpace(core, spaces, space);
}

function recountSpace(core: Core, spaces: Spaces, space: SpaceState): void {
  const before = spaces.counts(space);
  let records = 0;
  let bytes = 0;
  const root = spaces.root(space);
  for (let hash = 0; root !== 0 && hash < 1 << HASH_BITS;) {
    const shard = core.keydir.shardOf(root, hash);
    records += recountShard(core.keydir, shard.unit);
    for (const page of shard.pages) bytes += liveBytesIn(core, core.keydir, page);
    hash += 1 << (HASH_BITS - shard.depth);
  }
  spaces.count(space, records - before.records, bytes - before.bytes);
  const tree = spaces.tree(space);
  if (tree !== 0) core.ordering?.index.recount(tree);
  spaces.publishCount(space);
}

function liveBytesIn(core: Core, keydir: Keydir, page: number): number {
  const memory = sharedPage();
  copy(memory.address, keydir.heap.pageAddress(page), PAGE_BYTES);
  let bytes = 0;
  for (let word = 0; word < PAGE_SLOTS * 2; word += 2) {
    const high = memory.u32[word + 1]!;
    const units = keydir.heap.positions.units(memory.u32[word]!, high);
    if (units === 0 || isTombstone(high)) continue;
    core.lookup.loadAt(units * 8);
    bytes += core.lookup.liveBytes();
  }
  return bytes;
}
