/** What a dead writer left half done in the index: directories renamed in part, counts that miss its last step. */

import type { Keydir } from "./keydir.ts";
import { DESCRIPTOR_LIVE, DESCRIPTOR_USED, SlotPile } from "./shard.ts";

/**
 * Lets all entries that a shard covers name it again, after a renaming that stopped half-way. Of two shards that
 * claim an entry the shallower one holds every slot: it is the old one of a split, or the new one of a merge.
 * `Keydir.allChanged` is to be called afterwards.
 */
export function repairDirectory(keydir: Keydir, root: number): void {
  const { heap } = keydir;
  const depth = root % 32;
  const directory = heap.unitAddress((root - depth) / 32);
  const shards = Array.from({ length: 1 << depth }, (_, index) => keydir.describe(heap.read32(directory + index * 4)));
  for (const [index, shard] of shards.entries()) {
    const width = 1 << (depth - shard.depth);
    const first = index - (index % width);
    for (let other = first; other < first + width; other++) {
      if (shards[other]!.unit === shard.unit || shards[other]!.depth < shard.depth) continue;
      shards[other] = shard;
      heap.write32(directory + other * 4, shard.unit);
    }
  }
}

/** Sets a shard's counts anew from its slots; returns how many are live. */
export function recountShard(keydir: Keydir, unit: number): number {
  const { heap } = keydir;
  const pile = new SlotPile();
  for (const page of keydir.describe(unit).pages) pile.addPage(heap, page, 0);
  const address = heap.unitAddress(unit);
  heap.write32(address + DESCRIPTOR_LIVE * 4, pile.live);
  heap.write32(address + DESCRIPTOR_USED * 4, pile.count);
  return pile.live;
}
