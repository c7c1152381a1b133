/**
 * The records of a batch in the order of their keys, in which they are written where there is an ordered index and no
 * encryption: who sees the file would learn how long the record of each rank is.
 *
 * A range then finds neighbours side by side in the file, and a scan goes through it: in the log of a batch in no order each
 * record of a range is a miss by itself, and a read by itself where the file is not in memory. Other stores keep records
 * in the order of their keys always; a log keeps what comes together in it, and so does each compaction after.
 *
 * The caller's keys and values lie on the heap in the order of coming: in any other each is some misses, one after the
 * other. So they are brought together by the group, which is touched before it is written (`touch.ts`).
 *
 * Invariants
 * 1. Records of one key keep their order: the last one counts.
 * 2. The order is of the keys as they were when it was made. Should somebody write to one meanwhile, the order is worse, no
 *    more.
 */

import type { BatchPart } from "./batch-lengths.ts";
import type { Bytes } from "../contract.ts";
import { FirstBytes } from "./first-bytes.ts";
import { GROUP_KEYS } from "../read/prefetch.ts";

/** Fewer records are in a few pages anyway, and sorting ten costs a quarter of writing them. */
export const ORDERED_MIN = 256;
/** Bytes at the beginning of keys that are compared to find what all begin with. */
const SHARED_MAX = 64;

const encoder = new TextEncoder();
/** A character that has no room for its last byte is not written at all. */
const text = new Uint8Array(SHARED_MAX + 8 + 3);

export class BatchOrder {
  /** What was gathered last. */
  readonly #group: BatchPart & { readonly keys: Bytes[]; readonly values: Bytes[]; readonly numbers: number[] } = {
    keys: [],
    values: [],
    numbers: [],
    first: 0,
  };
  readonly #keys: readonly Bytes[];
  readonly #values: readonly Bytes[];
  readonly #order: Uint32Array;

  private constructor(keys: readonly Bytes[], values: readonly Bytes[], order: Uint32Array) {
    this.#keys = keys;
    this.#values = values;
    this.#order = order;
  }

  /** Of one record at least; undefined when they are in the order of their keys. */
  static of(keys: readonly Bytes[], values: readonly Bytes[]): BatchOrder | undefined {
    const order = orderOf(keys);
    return order && new BatchOrder(keys, values, order);
  }

  /** Brings the records from some rank on together, as many as make a group. They are good until the next call. */
  gather(from: number): BatchPart {
    const { keys, values, numbers } = this.#group;
    const order = this.#order;
    const count = Math.min(GROUP_KEYS, order.length - from);
    keys.length = values.length = numbers.length = count;
    for (let index = 0; index < count; index++) {
      const number = order[from + index]!;
      numbers[index] = number;
      keys[index] = this.#keys[number]!;
      values[index] = this.#values[number]!;
    }
    return this.#group;
  }
}

/** The numbers of keys in the order of the eight bytes behind what all of them begin with; undefined when they are in it. */
function orderOf(keys: readonly Bytes[]): Uint32Array | undefined {
  const firstBytes = new FirstBytes(keys.length);
  const begin = sharedBeginning(keys);
  const isAscii = begin.every((byte) => byte < 0x80);
  const at = begin.length;
  for (let number = 0; number < keys.length; number++) {
    const key = keys[number]!;
    if (typeof key !== "string") firstBytes.note(number, wordOf(key, at), wordOf(key, at + 4));
    else if (isAscii && isAsciiWithin(key, at, at + 8))
      firstBytes.note(number, wordOfAscii(key, at), wordOfAscii(key, at + 4));
    else {
      const bytes = encoded(key);
      firstBytes.note(number, wordOf(bytes, at), wordOf(bytes, at + 4));
    }
  }
  return firstBytes.order();
}

/** What all keys begin with, of so many bytes at most as are compared. */
function sharedBeginning(keys: readonly Bytes[]): Uint8Array {
  const one = keys[0]!;
  const begin = (typeof one === "string" ? encoded(one) : one).slice(0, SHARED_MAX);
  let shared = begin.length;
  for (const key of keys)
    shared = typeof key === "string" ? sharedText(begin, key, shared) : sharedBytes(begin, key, shared);
  return begin.subarray(0, shared);
}

/** How many of the first `most` bytes of a beginning a key has as well. */
function sharedBytes(begin: Uint8Array, key: Uint8Array, most: number): number {
  const end = Math.min(most, key.length);
  let same = 0;
  while (same < end && begin[same] === key[same]) same += 1;
  return same;
}

function sharedText(begin: Uint8Array, key: string, most: number): number {
  let same = 0;
  while (same < most && begin[same]! < 0x80 && key.charCodeAt(same) === begin[same]) same += 1;
  return same === most || begin[same]! < 0x80 ? same : sharedBytes(begin, encoded(key), most);
}

/** The first bytes of a text, until the next call. */
function encoded(key: string): Uint8Array {
  return text.subarray(0, encoder.encodeInto(key, text).written);
}

/** Four bytes of a key; behind its end there are zeros. */
function wordOf(key: Uint8Array, at: number): number {
  if (at + 4 <= key.length) return (key[at]! << 24) | (key[at + 1]! << 16) | (key[at + 2]! << 8) | key[at + 3]!;
  let word = 0;
  for (let index = at; index < at + 4; index++) word = (word << 8) | (index < key.length ? key[index]! : 0);
  return word;
}

function isAsciiWithin(key: string, from: number, to: number): boolean {
  const end = Math.min(to, key.length);
  let bits = 0;
  for (let at = from; at < end; at++) bits |= key.charCodeAt(at);
  return bits < 0x80;
}

function wordOfAscii(key: string, at: number): number {
  let word = 0;
  for (let index = at; index < at + 4; index++) word = (word << 8) | (index < key.length ? key.charCodeAt(index) : 0);
  return word;
}
