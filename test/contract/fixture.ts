/** What the contract suite is run over, and the small words its cases are written in. */

import { expect } from "bun:test";
import type { Emdb } from "../../src/api/emdb.ts";
import type { BytesLike, EngineOptions, Keyspace } from "../../src/api/types.ts";
import { EmdbError, type EmdbErrorCode } from "../../src/errors.ts";
import type { TestClock } from "../support/memory-store.ts";

/** One open database of a test's own. */
export interface Opened {
  readonly db: Emdb;
  /** The clock that the database reads; the test moves it. */
  readonly clock: TestClock;
  /**
   * Goes on to the next state that must be the same, as "closed and opened again"; returns the database to go on
   * with, which may be the same one.
   */
  settle?(db: Emdb): Emdb | Promise<Emdb>;
  /** Ends everything. The database may be closed already. */
  end?(): void | Promise<void>;
}

/** A fresh, empty database for each test. */
export type OpenFresh = (options: EngineOptions) => Opened | Promise<Opened>;

/** What an engine may still lack; its cases are left out. */
export type Operation = "checkpoint" | "compact" | "range" | "verify";

export interface Features {
  /** Whether every database of this run keeps the ordered index; else only those that ask. */
  readonly isAlwaysOrdered?: boolean;
  readonly lacks?: readonly Operation[];
}

/** A database in a test, which may be another object after each `settle`. */
export class Bench {
  db: Emdb;
  readonly clock: TestClock;
  readonly #opened: Opened;
  readonly #features: Features;

  constructor(opened: Opened, features: Features) {
    this.#opened = opened;
    this.#features = features;
    this.db = opened.db;
    this.clock = opened.clock;
  }

  has(operation: Operation): boolean {
    return this.#features.lacks?.includes(operation) !== true;
  }

  /** Compacts where there is compaction. */
  async compact(): Promise<void> {
    if (this.has("compact")) await this.db.compact();
  }

  async settle(): Promise<Emdb> {
    if (this.#opened.settle !== undefined) this.db = await this.#opened.settle(this.db);
    return this.db;
  }

  async end(): Promise<void> {
    this.db.closeSync();
    await this.#opened.end?.();
  }
}

/** Runs `body` over a fresh database and ends it in any case. */
export type OnFresh = (body: (bench: Bench) => void | Promise<void>, options?: EngineOptions) => () => Promise<void>;

export function onFresh(openFresh: OpenFresh, features: Features): OnFresh {
  return (body, options = {}) =>
    async () => {
      const bench = new Bench(await openFresh(options), features);
      try {
        await body(bench);
      } finally {
        await bench.end();
      }
    };
}

/** The three ways to a key space, all of which take and give plain bytes. */
export const places: readonly { readonly name: string; readonly of: (db: Emdb) => Keyspace }[] = [
  { name: "the default key space", of: (db) => db },
  { name: "a namespace", of: (db) => db.namespace("a namespace") },
  { name: "a typed view", of: (db) => db.typed({ key: PASSING, value: PASSING }) as Keyspace },
];

/** A codec that changes nothing, so that a typed view can stand in for the raw key space. */
const PASSING = {
  encode: (bytes: BytesLike): BytesLike => bytes,
  decode: (bytes: Uint8Array): BytesLike => bytes,
};

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function textOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** Byte strings as texts, sorted. */
export function sortedTexts(walk: Iterable<Uint8Array>): string[] {
  return [...walk].map((bytes) => textOf(bytes) ?? "").sort();
}

/** Every record of a walk as "key=value", sorted. */
export function sortedPairs(records: Iterable<readonly [Uint8Array, Uint8Array]>): string[] {
  return pairs(records).sort();
}

/** Every record of a walk as "key=value", in its order. */
export function pairs(records: Iterable<readonly [Uint8Array, Uint8Array]>): string[] {
  return [...records].map(([key, value]) => `${textOf(key)}=${textOf(value)}`);
}

/** Expects `call` to throw an `EmdbError` with `code`, and gives it back. */
export function expectCode(code: EmdbErrorCode, call: () => unknown): EmdbError {
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  return expectIsCode(code, thrown);
}

/** The same of a promise that must be rejected. */
export async function expectRejects(code: EmdbErrorCode, promise: Promise<unknown>): Promise<EmdbError> {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  return expectIsCode(code, thrown);
}

function expectIsCode(code: EmdbErrorCode, thrown: unknown): EmdbError {
  expect(thrown).toBeInstanceOf(EmdbError);
  if (!(thrown instanceof EmdbError)) throw new Error("unreachable");
  expect(thrown.code).toBe(code);
  return thrown;
}
