/**
 * What the rings need of a store: the seam by which the engine, or a toy, plugs in.
 *
 * An adapter opens a store on a simulated system; everything is synchronous and runs on the calling thread.
 * Text is ASCII; the adapter encodes it as it likes.
 */

import { EmdbError } from "../../src/errors.ts";
import type { System } from "../../src/ffi/system.ts";

export interface StoreKey {
  /** "" for the default one. */
  readonly space: string;
  readonly key: string;
}

export interface StoreRecord extends StoreKey {
  readonly value: string;
  /** 0 for never. */
  readonly expiresAtMs: number;
}

/** One write of a batch; `value` undefined removes. */
export interface StoreWrite extends StoreKey {
  readonly value: string | undefined;
  readonly expiresAtMs: number;
}

export interface OpenStore {
  insert(record: StoreRecord): void;
  remove(key: StoreKey): void;
  /** All or nothing, after a crash too. */
  batch(writes: readonly StoreWrite[]): void;
  clear(space: string): void;
  /** Every record written before is durable when it returns. */
  flush(): void;
  /** Everything visible now, each key once, in any order. */
  records(): Iterable<StoreRecord>;
  /** Flushes and lets go of everything; throws when not all of it is durable, and is closed all the same. */
  close(): void;
  drop?(space: string): void;
  /** Removes what has expired. */
  sweep?(space: string): void;
  compact?(): void;
  checkpoint?(): void;
  /** The event loop turns: what is buffered is handed to the system. */
  turn?(): void;
  /** Begins a backup to `BACKUP_PATH`, or goes on with the one under way. */
  backup?(): void;
  readonly isBackingUp?: boolean;
  /** Backups that ended well. */
  readonly backupCount?: number;
  /** Bytes that the open said are missing from the log's end. */
  readonly missingBytes?: number;
  /** Throws when gets, counts and ranges disagree with `records`. */
  check?(records: readonly StoreRecord[]): void;
  /** The process died: forget the store without calling the system. */
  abandon?(): void;
}

export interface StoreAdapter {
  readonly name: string;
  /** A change is durable when its call returns. */
  readonly isWriteThrough?: boolean;
  /** @throws a typed error, with everything closed again. */
  open(system: System, path: string): OpenStore;
  /** What a backup holds, opened beside the store; undefined when there is none. */
  recordsAt?(system: System, path: string): readonly StoreRecord[] | undefined;
  /** Files that may lie beside the store when nothing runs; the rest are leftovers. */
  isExpectedFile(name: string): boolean;
}

/** The code of a typed error; undefined for what no caller should ever see. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof EmdbError ? error.code : undefined;
}

/** Errors that say that nothing at all was done. */
const REFUSALS: ReadonlySet<string> = new Set([
  "EMDB_POISONED",
  "EMDB_CLOSED",
  "EMDB_READ_ONLY",
  "EMDB_TOO_LARGE",
  "EMDB_LOCKED",
  "EMDB_NAMESPACE_DROPPED",
]);

export function isRefusal(error: unknown): boolean {
  return REFUSALS.has(codeOf(error) ?? "");
}

/** What is said about an error in a finding. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = codeOf(error);
  return code === undefined ? `${error.name}: ${error.message}` : `${code}: ${error.message}`;
}
