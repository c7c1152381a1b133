/** Loading records in chunks whose keys are made outside the timing, and a look whether the store gives back what it was given. */

import type { Store } from "../peers/peer.ts";
import type { Data } from "./data.ts";

/**
 * As large as the heap allows: lmdb copies on write, so every further transaction of a bulk load rewrites most pages
 * again (in chunks of 100 000 its file was 4.1 times the payload, and single writes paid for the free list).
 */
const chunkRecords = 1_000_000;

/** Puts records 0 to `records` into the store by batches of `perBatch`; returns the nanoseconds inside the store. */
export async function load(
  store: Store,
  data: Data,
  records: number,
  perBatch: number = chunkRecords,
): Promise<number> {
  let elapsed = 0;
  for (let from = 0; from < records; from += perBatch) {
    const entries = data.entries(from, Math.min(records, from + perBatch));
    const start = Bun.nanoseconds();
    await store.insertMany(entries);
    elapsed += Bun.nanoseconds() - start;
  }
  await checkLoaded(store, data, records);
  return elapsed;
}

/** Records that are looked at, from all over the store. */
const LOOKS = 100;

/** A store that answers at once and wrongly would win: each way to read gives the bytes that were written. @throws {Error} where one does not. */
export async function checkLoaded(store: Store, data: Data, records: number): Promise<void> {
  const numbers = Array.from({ length: Math.min(LOOKS, records) }, (_, at) => Math.floor((at * records) / LOOKS));
  const keys = numbers.map((number) => data.key(number));
  const { get, getView, getMany, range } = store;
  const expect = (way: string, at: number, value: Uint8Array | null | undefined): void => {
    const wanted = data.value(numbers[at]!);
    // By place, not by what the array says of itself: a view may be a longer array that is used again.
    if (value?.length !== wanted.length || wanted.some((byte, index) => value[index] !== byte))
      throw new Error(`${way} of record ${numbers[at]} gives other bytes than were written`);
  };
  for (const [at, key] of keys.entries()) {
    expect("get", at, await get(key));
    if (getView !== undefined) expect("a view", at, getView(key));
  }
  const many = (await getMany?.(keys)) as readonly (Uint8Array | undefined)[] | undefined;
  for (const at of many === undefined ? [] : keys.keys()) expect("getMany", at, many?.[at]);
  if ((await get(data.missingKeys(records, 1)[0]!)) !== undefined) throw new Error("a missing key was found");
  const limit = Math.min(10, records);
  let seen = 0;
  for (const key of range === undefined ? [] : keys) seen += (await range?.(key, limit)) ?? 0;
  // Ranges from the last keys are short.
  if (range !== undefined && seen < (keys.length - 10) * limit)
    throw new Error(`${keys.length} ranges of ${limit} had ${seen} records`);
}
