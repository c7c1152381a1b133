/**
 * bun:sqlite: one table, WAL, prepared statements, and what its documentation has for speed. Beside the defaults, in one
 * process in turn, 24 and 150 bytes: pages of 8 KiB and a checkpoint every 16384 pages take a half off a write by itself, and
 * off a durable batch. `locking_mode = exclusive` takes a half off a get, whose locks are system calls, and keeps every other
 * connection out, in this process too: a subject of its own.
 */

import { Database } from "bun:sqlite";

import type { Entry } from "../lib/data.ts";
import type { Durability, OpenSettings, Peer, Store } from "./peer.ts";

type Row = { readonly k: Uint8Array; readonly v: Uint8Array };

function pragmas(durability: Durability): readonly string[] {
  return [
    `page_size = ${pageBytes}`,
    "journal_mode = wal",
    `synchronous = ${durability === "none" ? "off" : "full"}`,
    "cache_size = -262144",
    "mmap_size = 8589934592",
    "temp_store = memory",
    "wal_autocheckpoint = 16384",
  ];
}

const pageBytes = 8192;

/** WITHOUT ROWID is for rows under a twentieth of a page, as its documentation says: with longer ones, of 1 KiB to 256 KiB, reads took two to four times as long. */
function layout({ valueBytes = 150 }: OpenSettings): string {
  return 24 + valueBytes < pageBytes / 20 ? " WITHOUT ROWID" : "";
}

/** A connection with these settings, and what it begins with. */
export function openTuned(
  path: string,
  begin: { readonly durability: Durability; readonly tables: readonly string[] },
  isExclusive: boolean,
): Database {
  const database = new Database(path, { create: true });
  database.run("PRAGMA busy_timeout = 60000");
  for (const pragma of pragmas(begin.durability)) database.run(`PRAGMA ${pragma}`);
  for (const table of begin.tables) database.run(`CREATE TABLE IF NOT EXISTS ${table}`);
  // Behind the first look into the log, so that `share` can take it back; it holds from the first transaction that could write.
  if (isExclusive)
    for (const step of ["PRAGMA locking_mode = exclusive", "BEGIN IMMEDIATE", "COMMIT"]) database.run(step);
  return database;
}

function openSqlite(path: string, settings: OpenSettings, isExclusive: boolean): Store {
  const { durability } = settings;
  const tables = [`kv (k BLOB PRIMARY KEY, v BLOB NOT NULL)${layout(settings)}`];
  const database = openTuned(path, { durability, tables }, isExclusive);
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
    flush: () => {
      if (durability !== "none") return;
      database.run("PRAGMA synchronous = full");
      database.run("PRAGMA wal_checkpoint(TRUNCATE)");
      database.run("PRAGMA synchronous = off");
    },
    compact: () => {
      database.run("VACUUM");
      database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    },
    share: () => {
      if (isExclusive) {
        database.run("PRAGMA locking_mode = normal");
        // The lock goes with the read that follows.
        get.get(new Uint8Array(1));
      }
      return true;
    },
    close: () => {
      // A statement left open would keep the connection, and with it the write-ahead log, alive.
      for (const statement of [put, get, remove, range, all, count]) statement.finalize();
      database.close();
    },
  };
}

function peer(id: string, isExclusive: boolean): Peer {
  const locking = isExclusive ? ", locking_mode = exclusive until Workers share it" : "";
  return {
    id,
    describe: (settings) =>
      `bun:sqlite, prepared statements,${layout(settings)} ${pragmas(settings.durability).join(", ")}${locking}`,
    unavailable: async () => undefined,
    open: (path, settings) => openSqlite(path, settings, isExclusive),
    openShared: (path, settings) => openSqlite(path, settings, false),
  };
}

export const sqlitePeer = peer("sqlite", false);
export const sqliteExclusivePeer = peer("sqlite-exclusive", true);
