/** Peers by name: `emdb`, a variant (`emdb-aes`), a revision (`emdb@/path/to/src/index.ts`), or another database. */

import { emdbPeer } from "./emdb.ts";
import { levelPeer } from "./level.ts";
import { lmdbPeer } from "./lmdb.ts";
import { mapPeer } from "./map.ts";
import type { Peer } from "./peer.ts";
import { sqliteExclusivePeer, sqlitePeer } from "./sqlite.ts";

const others: readonly Peer[] = [lmdbPeer, sqlitePeer, sqliteExclusivePeer, levelPeer, mapPeer];

/** @throws {Error} when no peer has that name. */
export function peerNamed(id: string): Peer {
  const other = others.find((peer) => peer.id === id);
  return other ?? emdbPeer(id);
}
