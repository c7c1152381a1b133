/**
 * lmdb-js with bytes in and bytes out: no value encoding, no cache, binary keys. Loaded when it is opened: it keeps an
 * array of 16 MiB, which the collector of every other subject would count.
 */

import type { Database, RootDatabaseOptionsWithPath } from "lmdb";

import type { OpenSettings, Peer, Store } from "./peer.ts";

/** `keyEncoding` is in the documentation and missing in the types of some versions. */
type LmdbOptions = RootDatabaseOptionsWithPath & Record<string, unknown>;

/** A sync by hand, which the types lack: with `noSync` the promise `flushed` waits for none. */
interface Syncing {
  sync(callback: (error?: unknown) => void): void;
}

/**
 * Without durability a writable map and pages of 8 KiB were the fastest of the documented settings here (plain 3.0, 8 KiB 2.6,
 * writable map of 8 KiB 2.2 us a record in bulk; a single put 50, 25 and 11 us).
 */
export function lmdbTuning({ durability }: OpenSettings): Record<string, unknown> {
  const common = {
    encoding: "binary",
    keyEncoding: "binary",
    cache: false,
    noMemInit: true,
    pageSize: 8192,
    mapSize: 2 ** 35,
  };
  switch (durability) {
    case "none":
      return { ...common, noSync: true, useWritemap: true };
    case "sync":
      return { ...common, overlappingSync: false };
    case "group":
      return { ...common, overlappingSync: true };
  }
}

/** The calls whose shape depends on durability. */
function writes(lmdb: Database<Buffer, Uint8Array>, durability: OpenSettings["durability"]) {
  if (durability === "none") return {};
  return {
    insertDurable: (key: Uint8Array, value: Uint8Array) => void lmdb.putSync(key, value as Buffer),
    insertAsync: async (key: Uint8Array, value: Uint8Array): Promise<void> => {
      await lmdb.put(key, value as Buffer);
      await lmdb.flushed;
    },
  };
}

async function openLmdb(path: string, settings: OpenSettings): Promise<Store> {
  const { open } = await import("lmdb");
  // A dot in the name makes it a file and not a folder.
  const options = { path: `${path}.mdb`, ...lmdbTuning(settings) } as LmdbOptions;
  const lmdb = open<Buffer, Uint8Array>(options) as unknown as Database<Buffer, Uint8Array>;
  return {
    insertMany: (entries) =>
      lmdb.batch(() => {
        for (const [key, value] of entries) void lmdb.put(key, value as Buffer);
      }),
    insert: (key, value) => void lmdb.putSync(key, value as Buffer),
    insertQueued: (key, value) => void lmdb.put(key, value as Buffer),
    settled: () => lmdb.committed,
    ...writes(lmdb, settings.durability),
    get: (key) => lmdb.getBinary(key),
    getView: (key) => lmdb.getBinaryFast(key),
    getMany: (keys) => lmdb.getMany([...keys]),
    remove: (key) => void lmdb.removeSync(key),
    removeMany: (keys) =>
      lmdb.batch(() => {
        for (const key of keys) void lmdb.remove(key);
      }),
    iterate: () => {
      let bytes = 0;
      for (const { key, value } of lmdb.getRange({})) bytes += key.length + value.length;
      return bytes;
    },
    range: (start, limit) => {
      let count = 0;
      for (const { value } of lmdb.getRange({ start, limit })) count += value.length > 0 ? 1 : 0;
      return count;
    },
    length: () => (lmdb.getStats() as { entryCount: number }).entryCount,
    flush: () =>
      settings.durability === "none"
        ? new Promise((resolve) => (lmdb as unknown as Syncing).sync(resolve))
        : lmdb.flushed,
    share: () => true,
    close: () => lmdb.close(),
  };
}

export const lmdbPeer: Peer = {
  id: "lmdb",
  describe: (settings) =>
    `lmdb-js 3, ${Object.entries(lmdbTuning(settings))
      .map(([name, value]) => `${name}: ${value}`)
      .join(", ")}; get = getBinary, view = getBinaryFast, bulk = batch + put, single = putSync`,
  unavailable: async () => {
    try {
      await import("lmdb");
      return undefined;
    } catch (error) {
      return `its native binding does not load: ${String(error)}`;
    }
  },
  open: openLmdb,
  openShared: openLmdb,
};
