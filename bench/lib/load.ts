/** Loading records in chunks whose keys are made outside the timing. */

import type { Store } from "../peers/peer.ts";
import type { Data } from "./data.ts";

/**
 * As large as the heap allows: lmdb copies on write, so every further transaction of a bulk load rewrites most pages
 * again (in chunks of 100 000 its file was 4.1 times the payload, and single writes paid for the free list).
 */
const chunkRecords = 1_000_000;

/** Puts records 0 to `records` into the store by batches; returns the nanoseconds inside the store. */
export async function load(store: Store, data: Data, records: number): Promise<number> {
  let elapsed = 0;
  for (let from = 0; from < records; from += chunkRecords) {
    const entries = data.entries(from, Math.min(records, from + chunkRecords));
    const start = Bun.nanoseconds();
    await store.insertMany(entries);
    elapsed += Bun.nanoseconds() - start;
  }
  return elapsed;
}
