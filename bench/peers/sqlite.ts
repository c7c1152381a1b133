/** bun:sqlite: one WITHOUT ROWID table, WAL, prepared statements. */

import { Database } from "bun:sqlite";

import type { Entry } from "../lib/data.ts";
import type { Durability, OpenSettings, Peer, Store } from "./peer.ts";

type Row = { readonly k: Uint8Array; readonly v: Uint8Array };

function pragmas(durability: Durability): readonly string[] {
  return [
    "journal_mode = wal",
    `synchronous = ${durability === "none" ? "off" : "full"}`,
    "cache_size = -262144",
    "mmap_size = 8589934592",
    "temp_store = memory",
  ];
}

function openSqlite(path: string, { durability }: OpenSettings): Store {
  const database = new Database(path, { create: true });
  database.run("PRAGMA busy_timeout = 60000");
  for (const pragma of pragmas(durability)) database.run(`PRAGMA ${pragma}`);
  database.run("CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID");
  const put = database.prepare<unknown, [Uint8Array, Uint8Array]>("INSERT OR REPLACE INTO kv VALUES (?1, ?2)");
  const get = database.prepare<Row, [Uint8Array]>("SELECT v FROM kv WHERE k = ?1");
  const remove = database.prepare<unknown, [Uint8Array]>("DELETE FROM kv WHERE k = ?1");
  const range = database.prepare<Row, [Uint8Array, number]>("SELECT k, v FROM kv WHERE k >= ?1 ORDER BY k LIMIT ?2");
  const all = database.prepare<Row, []>("SELECT k, v FROM kv");
  const count = database.prepare<{ readonly n: number }, []>("SELECT count(*) AS n FROM kv");
  const insertMany = database.transaction((entries: readonly Entry[]) => {
    for (const [key, value] of entries) put.run(key, value);
  });
  const removeMany = database.transaction((keys: readonly Uint8Array[]) => {
    for (const key of keys) remove.run(key);
  });
  return {
    insertMany: (entries) => void insertMany(entries),
    insert: (key, value) => void put.run(key, value),
    ...(durability === "none"
      ? {}
      : {
          insertDurable: (key: Uint8Array, value: Uint8Array) => void put.run(key, value),
          insertAsync: async (key: Uint8Array, value: Uint8Array) => void put.run(key, value),
        }),
    get: (key) => get.get(key)?.v,
    remove: (key) => void remove.run(key),
    removeMany: (keys) => void removeMany(keys),
    iterate: () => {
      let bytes = 0;
      for (const { k, v } of all.iterate()) bytes += k.length + v.length;
      return bytes;
    },
    range: (from, limit) => range.all(from, limit).length,
    length: () => count.get()?.n ?? 0,
    flush: () => {},
    compact: () => {
      database.run("VACUUM");
      database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    },
    share: () => true,
    close: () => {
      // A statement left open would keep the connection, and with it the write-ahead log, alive.
      for (const statement of [put, get, remove, range, all, count]) statement.finalize();
      database.close();
    },
  };
}

export const sqlitePeer: Peer = {
  id: "sqlite",
  describe: ({ durability }) => `bun:sqlite, WITHOUT ROWID, prepared statements, ${pragmas(durability).join(", ")}`,
  unavailable: async () => undefined,
  open: openSqlite,
  openShared: openSqlite,
};
