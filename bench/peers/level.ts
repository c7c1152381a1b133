/** classic-level: LevelDB's binding. Reads by `getSync`; every write is a promise, as its interface is. */

import type { Entry } from "../lib/data.ts";
import type { OpenSettings, Peer, Store } from "./peer.ts";

const tuning = { cacheSize: 256 << 20, writeBufferSize: 64 << 20, multithreading: true, compression: true } as const;

async function openLevel(path: string, { durability }: OpenSettings): Promise<Store> {
  const { ClassicLevel } = await import("classic-level");
  const level = new ClassicLevel<Uint8Array, Uint8Array>(path, {
    keyEncoding: "view",
    valueEncoding: "view",
    ...tuning,
  });
  await level.open();
  const sync = durability !== "none";
  const queued: Promise<void>[] = [];
  const put = (key: Uint8Array, value: Uint8Array): Promise<void> => level.put(key, value, { sync });
  const visit = async (options: { gte?: Uint8Array; limit?: number }): Promise<{ count: number; bytes: number }> => {
    let count = 0;
    let bytes = 0;
    const iterator = level.iterator(options);
    for (;;) {
      // One call per 1000 records: entry by entry, the promises would be most of the time.
      const chunk = await iterator.nextv(Math.min(1000, options.limit ?? 1000));
      if (chunk.length === 0) break;
      for (const [key, value] of chunk) bytes += key.length + value.length;
      count += chunk.length;
      if (count >= (options.limit ?? Number.POSITIVE_INFINITY)) break;
    }
    await iterator.close();
    return { count, bytes };
  };
  return {
    insertMany: (entries: readonly Entry[]) =>
      level.batch(
        entries.map(([key, value]) => ({ type: "put" as const, key, value })),
        { sync },
      ),
    insert: put,
    insertQueued: (key, value) => void queued.push(put(key, value)),
    settled: () => Promise.all(queued.splice(0)),
    ...(sync ? { insertDurable: put, insertAsync: put } : {}),
    get: (key) => level.getSync(key),
    getMany: (keys) => level.getMany([...keys]),
    remove: (key) => level.del(key, { sync }),
    removeMany: (keys) =>
      level.batch(
        keys.map((key) => ({ type: "del" as const, key })),
        { sync },
      ),
    iterate: async () => (await visit({})).bytes,
    range: async (gte, limit) => (await visit({ gte, limit })).count,
    length: async () => (await visit({})).count,
    compact: () => level.compactRange(new Uint8Array(0), new Uint8Array(25).fill(255)),
    share: () => true,
    close: () => level.close(),
  };
}

export const levelPeer: Peer = {
  id: "level",
  describe: ({ durability }) =>
    `classic-level 3, encoding view, getSync, put { sync: ${durability !== "none"} }, cacheSize 256 MiB, writeBufferSize 64 MiB, compression on`,
  unavailable: async () => {
    try {
      await import("classic-level");
      return undefined;
    } catch (error) {
      return `its native binding does not load: ${String(error)}`;
    }
  },
  open: openLevel,
  openShared: openLevel,
};
