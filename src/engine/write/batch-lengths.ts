/**
 * The lengths of a batch's keys and values, as one sum in which each place has a weight of its own.
 *
 * Whoever reads a caller's array may run code of the caller's (an element that is a getter), which can detach, shrink or
 * grow a buffer that was checked before: other bytes would be written than were checked. So the lengths are summed once
 * when they are checked, and again as the engine reads them to write them, where each array is in the cache anyway. A
 * pass of its own over a million arrays, between the two, took 9 % of a bulk load.
 */

import type { Bytes } from "../contract.ts";

/** What a key of a batch adds to the sum. A string has the bytes that it had. */
export function keyTerm(key: Bytes, index: number): number {
  return typeof key === "string" ? 0 : Math.imul(key.length, 2 * index + 2);
}

/** What a value of a batch adds to the sum. */
export function valueTerm(value: Bytes, index: number): number {
  return typeof value === "string" ? 0 : Math.imul(value.length, 2 * index + 3);
}

/** Some records of a batch as they are written, from `first` on. */
export interface BatchPart {
  readonly keys: readonly Bytes[];
  readonly values: readonly Bytes[];
  readonly first: number;
  /** Where in the batch each of them stands, if not where it does here. */
  readonly numbers?: readonly number[];
}

/** What the first records of a part add to the sum. */
export function lengthSum(part: BatchPart, count: number): number {
  const { keys, values, first, numbers } = part;
  let sum = 0;
  for (let index = first; index < first + count; index++) {
    const number = numbers === undefined ? index : numbers[index]!;
    sum = (sum + keyTerm(keys[index]!, number) + valueTerm(values[index]!, number)) | 0;
  }
  return sum;
}
