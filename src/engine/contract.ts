/**
 * What the engine offers to the room above it (`src/api`): plain bytes, plain numbers, no codecs, no checks
 * of a caller's arguments. One object implements it: `Engine` in `engine.ts`.
 *
 * Invariants
 * 1. Arguments were checked at the door. A string is its UTF-8 bytes.
 * 2. `expiresAtMs` is absolute; 0 means never. A deadline at or before the clock's now is expired.
 * 3. Every method throws `EmdbError` only: EMDB_CLOSED, EMDB_READ_ONLY, EMDB_NAMESPACE_DROPPED,
 *    EMDB_POISONED, EMDB_LOCKED (robbed), EMDB_FULL, EMDB_IO, EMDB_TOO_LARGE, EMDB_CORRUPTED.
 * 4. A returned Uint8Array is the caller's own.
 */

export type Bytes = Uint8Array | string;

/** One key space as the engine knows it. The same object for the same name as long as it is not dropped. */
export interface Space {
  readonly id: number;
  /** "" for the default one. */
  readonly name: string;
}

/** A namespace that does not exist yet; the batch that writes to it creates it. */
export interface NewSpace {
  readonly newName: string;
}

/** One write of a batch; `value` undefined removes. */
export interface BatchWrite {
  readonly space: Space | NewSpace;
  readonly key: Bytes;
  readonly value: Bytes | undefined;
  readonly expiresAtMs: number;
}

/** What the lengths of a batch's bytes were when they were checked. */
export interface CheckedLengths {
  /** Of all of them (`batch-lengths.ts`). */
  readonly sum: number;
  /** Called when they are others now, and before anything is visible; throws unless that is as well. */
  readonly onChanged: () => void;
}

/** What a point-in-time walk yields; both arrays are the caller's own. */
export interface SnapshotRecord {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly expiresAtMs: number;
}

/** Key and value of a record; the pair is the caller's own as well. */
export type KeyValue = [key: Uint8Array, value: Uint8Array];

/** What of its records a walk reads; the other half of each pair is an empty array that all share. */
export type Wanted = "pairs" | "keys" | "values";

/** What a range reads of them: it goes by their keys. */
export type WantedInOrder = Exclude<Wanted, "values">;

/** A walk over records, which gives them one by one or some at a time; not both. */
export interface RecordSource extends IterableIterator<SnapshotRecord> {
  /** `next` without an object around each record: undefined at the end, when the walk has let go of its moment. */
  pull(): SnapshotRecord | undefined;
  /** The next records, one at least; undefined at the end, as `pull`. */
  batch(): readonly KeyValue[] | undefined;
  return(): IteratorResult<SnapshotRecord>;
}

/** Where a range begins and ends. Nobody changes the keys. */
export interface RangeBounds {
  readonly lower?: { readonly key: Uint8Array; readonly isInclusive: boolean } | undefined;
  readonly upper?: { readonly key: Uint8Array; readonly isInclusive: boolean } | undefined;
  readonly isReverse: boolean;
  /** Records that are given at most. */
  readonly limit?: number;
}

export interface Store {
  readonly defaultSpace: Space;
  readonly isOpen: boolean;
  readonly isReadOnly: boolean;
  /** Whether the ordered index is kept. */
  readonly hasRangeScans: boolean;
  /** The moment by which records are expired, in Unix milliseconds: the clock's, but where that stands still. */
  now(): number;
  /** The clock, which stands still for nobody: what a duration is counted from. */
  clockMs(): number;

  /** Opens or creates. */
  spaceNamed(name: string): Space;
  /** In order of creation. */
  spaceNames(): string[];
  dropSpace(name: string): boolean;

  // Reads: expired is absent.
  get(space: Space, key: Bytes): Uint8Array | undefined;
  /** The same as text; EMDB_INVALID_ARGUMENT when the value is not UTF-8. */
  getText(space: Space, key: Bytes): string | undefined;
  getMany(space: Space, keys: readonly Bytes[]): (Uint8Array | undefined)[];
  getZeroCopy(space: Space, key: Bytes): Uint8Array | undefined;
  has(space: Space, key: Bytes): boolean;
  /** 0 for never; undefined when absent or expired. */
  expiresAt(space: Space, key: Bytes): number | undefined;
  /** Records held, expired but unswept ones included. */
  count(space: Space): number;

  // Writes: each is one step for every reader and on a crash.
  insert(space: Space, key: Bytes, value: Bytes, expiresAtMs: number): void;
  /** Returns the value that was visible. */
  remove(space: Space, key: Bytes): Uint8Array | undefined;
  /**
   * One batch of inserts with one deadline; `keys` and `values` are equally long. On a repeated key the last wins. With
   * `lengths` the bytes that are written are as long as those that were checked, or nothing is.
   */
  insertMany(
    space: Space,
    keys: readonly Bytes[],
    values: readonly Bytes[],
    expiresAtMs: number,
    lengths?: CheckedLengths,
  ): void;
  /** One batch; how many were present and visible (a key given twice counts once). */
  removeMany(space: Space, keys: readonly Bytes[]): number;
  /** One batch over any spaces, in order. */
  writeBatch(writes: readonly BatchWrite[]): void;
  clear(space: Space): void;
  sweepExpired(space: Space): number;

  /**
   * Runs `body` holding the writer's lock and with the clock standing still; nests. Writes inside are independent
   * unless collected into one batch.
   */
  exclusively<T>(body: () => T): T;
  /** Runs `body` with the clock standing still, and without the lock. */
  atOneMoment<T>(body: () => T): T;

  /** Live records as of the call, in no promised order; closing the iterator early lets go of the snapshot. */
  snapshot(space: Space, wanted?: Wanted): RecordSource;
  /** The same in key order, within bounds. EMDB_INVALID_CONFIG without the ordered index. */
  range(space: Space, bounds: RangeBounds, wanted?: WantedInOrder): RecordSource;
}
