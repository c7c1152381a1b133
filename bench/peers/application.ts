/**
 * What an application does besides plain calls: transactions that read, counters, documents, texts, key spaces by name. Keys are
 * text, as they are there. Everything is visible to every reader on return and durable at some time.
 */

import type { MaybePromise } from "../lib/time.ts";
import { openEmdbApplication } from "./application-emdb.ts";
import { openLmdbApplication } from "./application-lmdb.ts";
import { openSqliteApplication } from "./application-sqlite.ts";
import { emdbSubject } from "./emdb.ts";

/** A record as applications have them. */
export interface Document {
  readonly id: number;
  readonly name: string;
  readonly mail: string;
  readonly tags: readonly string[];
  readonly changedAtMs: number;
}

export interface Application {
  /** As one step: reads each key and then writes it, in the first key space, and in a second one too where two are asked for. */
  transact(keys: readonly string[], value: Uint8Array, spaces: 1 | 2): void;
  /** Adds one to the number of a key, which may not be there, as one step; returns the new number. */
  increment(key: string): number;
  /** Replaces the value of a key in the first key space if it is what is expected, as one step; returns whether it was. */
  swap(key: string, expected: Uint8Array, next: Uint8Array): boolean;
  get(key: string): Uint8Array | undefined;
  putDocument(key: string, document: Document): void;
  getDocument(key: string): Document | undefined;
  putText(key: string, text: string): void;
  getText(key: string): string | undefined;
  /** In a key space that is asked for by its name. */
  putIn(space: string, key: string, value: Uint8Array): void;
  getIn(space: string, key: string): Uint8Array | undefined;
  close(): MaybePromise<unknown>;
}

/** Opens the application of a subject of `registry.ts`. @throws {Error} where there is none */
export function openApplication(subject: string, path: string): MaybePromise<Application> {
  if (subject === "lmdb") return openLmdbApplication(path);
  if (subject === "sqlite" || subject === "sqlite-exclusive")
    return openSqliteApplication(path, subject === "sqlite-exclusive");
  return openEmdbApplication(path, emdbSubject(subject));
}
