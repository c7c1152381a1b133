/** What a recorded history is made of. */

import type { Keyspace } from "../../src/index.ts";

/** Few enough that the threads meet on every key all the time. */
export const KEYS = 256;
/** Each thread's fillers come and go together, as if they were one more key. */
const FILLERS = 400;
/** The same where a tree is to be small enough that the threads meet on every node of it. */
const FEW_FILLERS = 24;
/** So many threads may have some; the lists of versions are of the keys, then of these, and then of the few. */
const FILLER_KEYS = 8;
const FEW_AT = KEYS + FILLER_KEYS;
const FEW_KEYS = 4;
export const LISTS = FEW_AT + FEW_KEYS;
/** Numbers of one row: kind, key, mark, when it began and ended by the common clock. */
export const COLUMNS = 5;

/** Kinds of rows. Those "together" belong to one moment; an `end` row follows them, its key is the first one's index. */
export const KIND = {
  read: 1,
  write: 2,
  remove: 3,
  swappedFrom: 4,
  readTogether: 5,
  writeTogether: 6,
  end: 7,
  /** A swap that was refused: at some moment the key had another value than this one. */
  refused: 8,
} as const;

export function keyOf(key: number): string {
  return `k${key}`;
}

/** A value that says which write it is. */
export function markOf(mark: number, padding: number): Uint8Array {
  const value = new Uint8Array(8 + padding);
  new DataView(value.buffer).setFloat64(0, mark);
  return value.fill(mark % 251, 8);
}

/** Which write a value is; 0 for none. Throws for a value that is of two writes. */
export function markIn(value: Uint8Array | undefined): number {
  if (value === undefined) return 0;
  const mark = new DataView(value.buffer, value.byteOffset).getFloat64(0);
  for (let at = 8; at < value.length; at += 1) if (value[at] !== mark % 251) throw new Error(`a torn value: ${mark}`);
  return mark;
}

function fillerOf(thread: number, filler: number): string {
  return `filler ${thread} ${filler}`;
}

/** One of the few: they lie, in key order, between other threads' fillers and each behind one of the first keys. */
function fewOf(thread: number, filler: number): string {
  return `${keyOf(filler % 14)} filler ${filler} of ${thread}`;
}

/** How many records a list of versions is of. */
export function recordsIn(list: number): number {
  if (list < KEYS) return 1;
  return list < FEW_AT ? FILLERS : FEW_FILLERS;
}

/** The list of a thread's fillers, and their keys. */
export function fillersOf(
  thread: number,
  areFew: boolean,
): { readonly list: number; readonly keys: readonly string[] } {
  const list = (areFew ? FEW_AT : KEYS) + thread;
  const nameOf = areFew ? fewOf : fillerOf;
  return { list, keys: Array.from({ length: recordsIn(list) }, (_, filler) => nameOf(thread, filler)) };
}

/** The number of a key that `keyOf` made, or of the key that a filler is a part of; undefined for another one. */
export function numberOfKey(key: Uint8Array): number | undefined {
  const text = Buffer.from(key).toString();
  if (/^k\d+$/.test(text)) return Number(text.slice(1));
  const few = /^k\d+ filler \d+ of (\d+)$/.exec(text)?.[1];
  if (few !== undefined) return FEW_AT + Number(few);
  const thread = /^filler (\d+) \d+$/.exec(text)?.[1];
  return thread === undefined ? undefined : KEYS + Number(thread);
}

/** Which write each key has now, the fillers of each thread as one. */
export function liveMarks(db: Pick<Keyspace, "get">): number[] {
  const first = (list: number): string => {
    if (list < KEYS) return keyOf(list);
    return list < FEW_AT ? fillerOf(list - KEYS, 0) : fewOf(list - FEW_AT, 0);
  };
  return Array.from({ length: LISTS }, (_, list) => markIn(db.get(first(list))));
}

/** How many records those marks are. */
export function recordsOf(marks: readonly number[]): number {
  return marks.reduce((count, mark, list) => count + (mark === 0 ? 0 : recordsIn(list)), 0);
}
