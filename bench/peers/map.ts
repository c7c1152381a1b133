/** A plain Map: no bytes copied, nothing on disk. The ceiling of what JavaScript can do with these keys. */

import type { Peer, Store } from "./peer.ts";

/** Maps compare Uint8Arrays by identity, so a key is its bytes as a Latin-1 string; making it is part of the cost. */
function text(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function openMap(): Store {
  const map = new Map<string, Uint8Array>();
  return {
    insertMany: (entries) => {
      for (const [key, value] of entries) map.set(text(key), value);
    },
    insert: (key, value) => void map.set(text(key), value),
    get: (key) => map.get(text(key)),
    getMany: (keys) => keys.map((key) => map.get(text(key))),
    remove: (key) => map.delete(text(key)),
    removeMany: (keys) => {
      for (const key of keys) map.delete(text(key));
    },
    iterate: () => {
      let bytes = 0;
      for (const [key, value] of map) bytes += key.length + value.length;
      return bytes;
    },
    length: () => map.size,
    close: () => map.clear(),
  };
}

export const mapPeer: Peer = {
  id: "map",
  isInMemory: true,
  describe: () => "Map<Latin-1 string, Uint8Array>; nothing copied, nothing durable",
  unavailable: async () => undefined,
  open: openMap,
};
