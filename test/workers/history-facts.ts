/** What a recorded history is made of. */

/** Few enough that the threads meet on every key all the time. */
export const KEYS = 256;
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

/** The number of a key that `keyOf` made; undefined for another one. */
export function numberOfKey(key: Uint8Array): number | undefined {
  const text = Buffer.from(key).toString();
  return /^k\d+$/.test(text) ? Number(text.slice(1)) : undefined;
}
