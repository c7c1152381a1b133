/** Uses secrets as an engine does, lets go of them, and prints how often they still stand in memory. */

import { openSync, readSync } from "node:fs";
import { stretch } from "../../src/crypto/argon2.ts";
import { encodeKeyArea, unlock } from "../../src/crypto/key-area.ts";
import { newDataKey, newSlot } from "../../src/crypto/new-lock.ts";
import { callerSecret } from "../../src/crypto/open-matrix.ts";
import { SessionTable } from "../../src/crypto/session-table.ts";
import { makeSession, NO_SESSION_MAC } from "../../src/crypto/session.ts";
import type { Cipher } from "../../src/crypto/cipher.ts";
import { countInMemory, MASK } from "./process-memory.ts";

const [cipher, isKept] = process.argv.slice(2) as [Cipher, string];
// Not `crypto.getRandomValues`: the runtime keeps what it gave out in a cache of its own, where this test found it.
const urandom = openSync("/dev/urandom", "r");
const random = (into: Uint8Array): void => {
  readSync(urandom, into, 0, into.length, 0);
};
const key = new Uint8Array(new ArrayBuffer(32));
random(key);
const rawKey = key.map((byte) => byte ^ MASK);

function useSecrets(): Uint8Array {
  using secret = callerSecret({ key });
  const home = { sector: new Uint8Array(512), cipher };
  using made = newDataKey(random);
  const slot = newSlot(made, { secret, home, random }, stretch);
  using dataKey = unlock({ ...home, keyArea: encodeKeyArea(slot) }, secret, stretch).dataKey;
  const file = { fileId: new Uint8Array(16), generation: 1 };
  using table = new SessionTable({ dataKey, cipher, ...file, clearBytes: 0 });
  const salt = new Uint8Array(32);
  random(salt);
  table.add({ lsn: 4096, ...makeSession(dataKey, { ...file, lsn: 4096, previousMac: NO_SESSION_MAC, salt }) });
  const into = new Uint8Array(300);
  for (let counter = 0; counter < 50; counter++) {
    const place = { lsn: 5000, kind: 1 };
    table.sealerAt(5000)?.sealInto(new Uint8Array(200), { ...place, counter }, { into, at: 0 });
    table.sealerAt(5000)?.open(into, place, { at: 0, bytes: 220 });
  }
  return dataKey.bytes.map((byte) => byte ^ MASK);
}

const dataKey = useSecrets();
if (isKept !== "kept") key.fill(0);
Bun.gc(true);
console.log(JSON.stringify({ rawKey: countInMemory(rawKey), dataKey: countInMemory(dataKey), keyBytes: key.length }));
