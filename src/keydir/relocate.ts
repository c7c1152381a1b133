/** The hash index after its frames have moved: each slot gets the new position of its frame, a shard at a time. */

import { assert } from "../errors.ts";
import { PAGE_BYTES } from "../ffi/heap.ts";
import { copy, sharedScratch } from "../ffi/memory.ts";
import { withStored } from "../ffi/positions.ts";
import { HASH_BITS } from "./hash.ts";
import { isTombstone, type Keydir } from "./keydir.ts";
import { PAGE_SLOTS } from "./shard.ts";

const sharedPage = sharedScratch(PAGE_BYTES);
const sharedSlot = sharedScratch(8);

/**
 * Gives each slot of the shard of a hash the position (in units) that `translate` names for its own; 0, for a removal
 * only, if it is to name nothing. A slot is one store. Under the writer's lock. Returns the first hash behind the shard.
 */
export function relocateShard(
  keydir: Keydir,
  at: { readonly root: number; readonly hash: number },
  translate: (units: number) => number,
): number {
  const shard = keydir.shardOf(at.root, at.hash);
  const page = sharedPage();
  const store = sharedSlot();
  const { positions } = keydir.heap;
  for (const number of shard.pages) {
    const address = keydir.heap.pageAddress(number);
    copy(page.address, address, PAGE_BYTES);
    for (let slot = 0; slot < PAGE_SLOTS; slot++) {
      const high = page.u32[2 * slot + 1]!;
      const units = positions.units(page.u32[2 * slot]!, high);
      if (units === 0) continue;
      const moved = translate(units);
      assert(moved !== 0 || isTombstone(high), "a record that the index names has been copied");
      if (moved === units) continue;
      const stored = positions.stored(moved);
      store.u32[0] = stored >>> 0;
      store.u32[1] = withStored(high, stored);
      copy(address + 8 * slot, store.address, 8);
    }
  }
  const width = 1 << (HASH_BITS - shard.depth);
  return (Math.floor(at.hash / width) + 1) * width;
}
