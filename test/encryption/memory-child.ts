/** Opens an encrypted database, uses all of it, closes it, and prints how often its keys still stand in memory. */

import { openSync, readFileSync, readSync } from "node:fs";
import { stretch } from "../../src/crypto/argon2.ts";
import { unlock } from "../../src/crypto/key-area.ts";
import { callerSecret } from "../../src/crypto/open-matrix.ts";
import { Emdb } from "../../src/index.ts";
import type { Cipher } from "../../src/api/types.ts";
import { countInMemory, MASK } from "../crypto/process-memory.ts";

const [cipher, path, stage] = process.argv.slice(2) as [Cipher, string, "open" | "closed"];
// Not from the runtime, which keeps what it gave out in a cache of its own.
const urandom = openSync("/dev/urandom", "r");
const key = new Uint8Array(new ArrayBuffer(32));
readSync(urandom, key, 0, 32, 0);
const rawKey = key.map((byte) => byte ^ MASK);

async function use(db: Emdb): Promise<void> {
  for (let index = 0; index < 300; index++) db.insert(`key ${index}`, `value ${index}`);
  for (let index = 0; index < 300; index++) db.get(`key ${index}`);
  await db.flush();
  await db.compact();
  await db.verify();
  await db.checkpoint();
}

/** The data key of the file, masked. */
function maskedDataKey(): Uint8Array {
  const page = new Uint8Array(readFileSync(path));
  using secret = callerSecret({ key });
  const keyPage = { sector: page.subarray(0, 512), keyArea: page.subarray(512, 4096), cipher };
  using dataKey = unlock(keyPage, secret, stretch).dataKey;
  return dataKey.bytes.map((byte) => byte ^ MASK);
}

const db = Emdb.open(path, { encryption: { key }, cipher, rangeScans: true });
await use(db);
const dataKey = maskedDataKey();
if (stage === "closed") {
  await db.close();
  using again = Emdb.open(path, { encryption: { key } });
  again.get("key 1");
}
key.fill(0);
Bun.gc(true);
Bun.gc(true);
console.log(JSON.stringify({ rawKey: countInMemory(rawKey), dataKey: countInMemory(dataKey), records: stage }));
if (stage === "open") db.closeSync();
