/** What a recorded history is made of. */

import type { Keyspace } from "../../src/index.ts";

/** Few enough that the threads meet on every key all the time. */
export const KEYS = 256;
/** Each thread's fillers come and go together, as if they were one more key. */
export const FILLERS = 400;
/** So many threads may have some; the lists of versions are of the keys, and then of these. */
export const FILLER_KEYS = 8;
export const LISTS = KEYS + FILLER_KEYS;
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

export function fillerOf(thread: number, filler: number): string {
  return `filler ${thread} ${filler}`;
}

/** The number of a key that `keyOf` made, or of the key that a filler is a part of; undefined for another one. */
export function numberOfKey(key: Uint8Array): number | undefined {
  const text = Buffer.from(key).toString();
  if (/^k\d+$/.test(text)) return Number(text.slice(1));
  const thread = /^filler (\d+) \d+$/.exec(text)?.[1];
  return thread === undefined ? undefined : KEYS + Number(thread);
}

/** Which write each key has now, the fillers of each thread as one. */
export function liveMarks(db: Pick<Keyspace, "get">): number[] {
  return Array.from({ length: LISTS }, (_, key) => markIn(db.get(key < KEYS ? keyOf(key) : fillerOf(key - KEYS, 0))));
}

/** How many records those marks are. */
export function recordsOf(marks: readonly number[]): number {
  return marks.reduce((count, mark, key) => count + (mark === 0 ? 0 : key < KEYS ? 1 : FILLERS), 0);
}
