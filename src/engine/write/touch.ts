/**
 * Bringing a caller's keys and values into the cache, some at a time, before they are gone through.
 *
 * An array lies on the heap where it was made. Where a batch has them in another order, sorted or from a map that has
 * changed a lot, each is three misses, one behind the other: what it is, where its bytes are, and these. Loops that do
 * nothing else have those of many under way: a load of 150 bytes a value took 1500 ns a record, and takes 800. Where
 * they lie in the order of the batch the processor is ahead by itself, and these loops are 20 to 30 of 430 ns more.
 */

import { addressOf } from "../../ffi/memory.ts";
import type { BatchPart } from "./batch-lengths.ts";
import type { Bytes } from "../contract.ts";
import { GROUP_KEYS } from "../read/prefetch.ts";

/** Of short ones all lines are touched. */
const TOUCH_BYTES_MAX = 512;
const LINE_BYTES = 64;
/** Neighbours that are looked at, and how far apart they may be. */
const SAMPLES = 64;
const NEAR_BYTES = 4096;

/** What was read, so that it is. */
const touched = new Int32Array(1);

/** Touches as many records as the next group may have. */
export function touchRecords({ keys, values, first }: BatchPart): void {
  const count = Math.min(GROUP_KEYS, keys.length - first);
  touched[0] = touchBytes(keys, first, count) + touchBytes(values, first, count);
}

function touchBytes(all: readonly Bytes[], first: number, count: number): number {
  let sum = 0;
  for (let index = first; index < first + count; index++) {
    const bytes = all[index]!;
    const length = Math.min(bytes.length, TOUCH_BYTES_MAX);
    if (typeof bytes !== "string") for (let at = 0; at < length; at += LINE_BYTES) sum = (sum + bytes[at]!) | 0;
    else if (length > 0) sum = (sum + bytes.charCodeAt(0)) | 0;
  }
  return sum;
}

/** Whether most neighbours of a batch lie apart. */
export function liesScattered(all: readonly Bytes[]): boolean {
  if (all.length < SAMPLES * 4) return false;
  let apart = 0;
  for (let sample = 0; sample < SAMPLES; sample++) {
    const index = Math.floor((sample * (all.length - 1)) / SAMPLES);
    const [one, next] = [all[index]!, all[index + 1]!];
    if (isFilled(one) && isFilled(next) && Math.abs(addressOf(one) - addressOf(next)) > NEAR_BYTES) apart += 1;
  }
  return apart > SAMPLES / 2;
}

/** What is empty has no place. */
function isFilled(bytes: Bytes): bytes is Uint8Array {
  return typeof bytes !== "string" && bytes.length > 0;
}
