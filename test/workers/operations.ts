/** The operations that a thread dies in: what is there before, what the operation does, and what may be there after it. */

import type { Emdb, Namespace } from "../../src/index.ts";

/** What a key space holds, as texts; a long value is its length and first letter. */
export type Content = Record<string, string>;

export interface Operation {
  /** In the thread that will die, before the steps are counted. */
  readonly prepare: (db: Emdb) => never;
  readonly run: (db: Emdb, ready: never) => void;
  /** Changes what is there as the whole operation does. */
  readonly expect: (content: Content) => void;
}

const LONG = 1_500_000;

export function shown(value: string): string {
  return value.length > 100 ? `${value.length} x ${value[0]}` : value;
}

const many = Array.from({ length: 600 }, (_, index) => `many ${index}`);

function operation<T>(parts: {
  prepare?: (db: Emdb) => T;
  run: (db: Emdb, ready: T) => void;
  expect: (content: Content) => void;
}): Operation {
  const { run, expect, prepare = (): T => undefined as T } = parts;
  return { prepare: prepare as Operation["prepare"], run: run, expect };
}

export const operations = {
  insert: operation({
    run: (db) => db.insert("new", "value"),
    expect: (content) => (content["new"] = "value"),
  }),
  overwrite: operation({
    run: (db) => db.insert("base 3", "over"),
    expect: (content) => (content["base 3"] = "over"),
  }),
  remove: operation({
    run: (db) => db.remove("base 3"),
    expect: (content) => delete content["base 3"],
  }),
  "a value too long for the ring": operation({
    prepare: () => "L".repeat(LONG),
    run: (db, value) => db.insert("base 3", value),
    expect: (content) => (content["base 3"] = shown("L".repeat(LONG))),
  }),
  "a batch that grows the index": operation({
    run: (db) => db.insertMany(many.map((key) => [key, "one of many"])),
    expect: (content) => {
      for (const key of many) content[key] = "one of many";
    },
  }),
  "a mass removal that shrinks the index": operation({
    run: (db) => db.removeMany(Array.from({ length: 1190 }, (_, index) => `base ${index + 10}`)),
    expect: (content) => {
      for (const key of Object.keys(content)) if (!/^base \d$/.test(key)) delete content[key];
    },
  }),
  "a transaction with a long value": operation({
    run: (db) =>
      db.transaction((tx) => {
        tx.insert("base 1", "T".repeat(LONG));
        tx.remove("base 2");
        tx.insert("base 3", "in the transaction");
      }),
    expect: (content) => {
      content["base 1"] = shown("T".repeat(LONG));
      delete content["base 2"];
      content["base 3"] = "in the transaction";
    },
  }),
  "a batch that ends with a long value": operation({
    run: (db) =>
      db.insertMany([
        ["base 1", "before it"],
        ["base 3", "E".repeat(LONG)],
      ]),
    expect: (content) => {
      content["base 1"] = "before it";
      content["base 3"] = shown("E".repeat(LONG));
    },
  }),
  clear: operation({
    run: (db) => db.clear(),
    expect: (content) => {
      for (const key of Object.keys(content)) delete content[key];
    },
  }),
  "creating a namespace": operation({ run: (db) => db.namespace("made"), expect: () => undefined }),
  "filling a namespace": operation({
    prepare: (db) => db.namespace("filled"),
    run: (_db, space: Namespace) => space.insert("first", "in it"),
    expect: () => undefined,
  }),
  "a transaction that creates a namespace": operation({
    run: (db) =>
      db.transaction((tx) => {
        tx.insert("base 1", "with a namespace");
        tx.namespace("born").insert("first", "in it");
        tx.namespace("born").insert("second", "in it", { ttlMs: 1e12 });
      }),
    expect: (content) => {
      content["base 1"] = "with a namespace";
    },
  }),
  "dropping a namespace": operation({ run: (db) => db.dropNamespace("there"), expect: () => undefined }),
  flushSync: operation({ run: (db) => db.flushSync(), expect: () => undefined }),
  close: operation({ run: (db) => db.closeSync(), expect: () => undefined }),
} as const;

export type OperationName = keyof typeof operations;
