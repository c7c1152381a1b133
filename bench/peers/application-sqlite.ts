/**
 * bun:sqlite: a table for each kind of value, immediate transactions, prepared statements; a key space by name is the first
 * column of a key of two.
 */

import { Database } from "bun:sqlite";
import type { Application, Document } from "./application.ts";
import { openTuned } from "./sqlite.ts";

const TABLES = ["first", "second", "numbers", "documents", "texts"] as const;

interface Statements {
  readonly put: ReturnType<Database["prepare"]>;
  readonly get: ReturnType<Database["prepare"]>;
}

function valueOf<Value>(row: unknown): Value | undefined {
  return (row as { readonly v: Value } | null)?.v;
}

export function openSqliteApplication(path: string, isExclusive: boolean): Application {
  const layouts = TABLES.map((name) => `${name} (k TEXT PRIMARY KEY, v NOT NULL) WITHOUT ROWID`);
  layouts.push("spaces (s TEXT, k TEXT, v BLOB NOT NULL, PRIMARY KEY (s, k)) WITHOUT ROWID");
  const database = openTuned(path, { durability: "none", tables: layouts }, isExclusive);
  const tables = Object.fromEntries(
    TABLES.map((name): [string, Statements] => {
      const put = database.prepare(`INSERT OR REPLACE INTO ${name} VALUES (?1, ?2)`);
      return [name, { put, get: database.prepare(`SELECT v FROM ${name} WHERE k = ?1`) }];
    }),
  ) as Record<(typeof TABLES)[number], Statements>;
  const putIn = database.prepare("INSERT OR REPLACE INTO spaces VALUES (?1, ?2, ?3)");
  const getIn = database.prepare("SELECT v FROM spaces WHERE s = ?1 AND k = ?2");
  const increment = database.prepare(
    "INSERT INTO numbers VALUES (?1, 1) ON CONFLICT (k) DO UPDATE SET v = v + 1 RETURNING v",
  );
  const swap = database.prepare("UPDATE first SET v = ?3 WHERE k = ?1 AND v = ?2");
  const { first, second, documents, texts } = tables;
  const transact = database.transaction((keys: readonly string[], value: Uint8Array, spaces: 1 | 2) => {
    for (const key of keys) {
      first.get.get(key);
      first.put.run(key, value);
      if (spaces === 1) continue;
      second.get.get(key);
      second.put.run(key, value);
    }
  });
  return {
    transact: (keys, value, spaces) => void transact.immediate(keys, value, spaces),
    increment: (key) => valueOf<number>(increment.get(key)) ?? 0,
    swap: (key, expected, next) => swap.run(key, expected, next).changes === 1,
    get: (key) => valueOf<Uint8Array>(first.get.get(key)),
    putDocument: (key, document) => void documents.put.run(key, JSON.stringify(document)),
    getDocument: (key) => {
      const text = valueOf<string>(documents.get.get(key));
      return text === undefined ? undefined : (JSON.parse(text) as Document);
    },
    putText: (key, text) => void texts.put.run(key, text),
    getText: (key) => valueOf<string>(texts.get.get(key)),
    putIn: (space, key, value) => void putIn.run(space, key, value),
    getIn: (space, key) => valueOf<Uint8Array>(getIn.get(space, key)),
    close: () => {
      for (const { put, get } of Object.values(tables)) for (const statement of [put, get]) statement.finalize();
      for (const statement of [putIn, getIn, increment, swap]) statement.finalize();
      database.close();
    },
  };
}
