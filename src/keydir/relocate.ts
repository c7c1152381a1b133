/** The hash index after its frames have moved: each slot gets the new position of its frame, a shard at a time. */

import { assert } from "../errors.ts";
import { PAGE_BYTES } from "../ffi/heap.ts";
import { copy, sharedScratch } from "../ffi/memory.ts";
import { withStored, type Translate } from "../ffi/positions.ts";
import { hashBehind } from "./hash.ts";
import { isTombstone, type Keydir } from "./keydir.ts";
import { PAGE_SLOTS } from "./shard.ts";

const sharedPage = sharedScratch(PAGE_BYTES);
const sharedSlot = sharedScratch(8);
const sharedSlots = sharedScratch(4 * PAGE_SLOTS);
const sharedFormers = sharedScratch(8 * PAGE_SLOTS);
const sharedPresents = sharedScratch(8 * PAGE_SLOTS);

/**
 * Gives each slot of the shard of a hash the position that its frame has now; none, for a removal only, lets it name
 * nothing. A slot is one store. Under the writer's lock. Returns the first hash behind the shard.
 */
export function relocateShard(
  keydir: Keydir,
  at: { readonly root: number; readonly hash: number },
  translate: Translate,
): number {
  const shard = keydir.shardOf(at.root, at.hash);
  const page = sharedPage();
  const store = sharedSlot();
  const slots = sharedSlots().u32;
  const formers = sharedFormers().f64;
  const presents = sharedPresents().f64;
  const { positions } = keydir.heap;
  for (const number of shard.pages) {
    const address = keydir.heap.pageAddress(number);
    copy(page.address, address, PAGE_BYTES);
    let count = 0;
    for (let slot = 0; slot < PAGE_SLOTS; slot++) {
      const units = positions.units(page.u32[2 * slot]!, page.u32[2 * slot + 1]!);
      if (units === 0) continue;
      slots[count] = slot;
      formers[count] = units;
      presents[count++] = units;
    }
    translate(presents, count);
    for (let index = 0; index < count; index++) {
      const slot = slots[index]!;
      const high = page.u32[2 * slot + 1]!;
      const present = presents[index]!;
      assert(present !== 0 || isTombstone(high), "a record that the index names has been copied");
      if (present === formers[index]) continue;
      const stored = positions.stored(present);
      store.u32[0] = stored >>> 0;
      store.u32[1] = withStored(high, stored);
      copy(address + 8 * slot, store.address, 8);
    }
  }
  return hashBehind(at.hash, shard.depth);
}
