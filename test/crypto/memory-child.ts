/** Uses secrets as an engine does, lets go of them, and prints how often they still stand in memory. */

import { openSync, readSync } from "node:fs";
import { stretch } from "../../src/crypto/argon2.ts";
import { createAead, packageAead } from "../../src/crypto/create-aead.ts";
import { encodeKeyArea, unlock } from "../../src/crypto/key-area.ts";
import { newDataKey, newSlot } from "../../src/crypto/new-lock.ts";
import { callerSecret } from "../../src/crypto/open-matrix.ts";
import { SessionTable } from "../../src/crypto/session-table.ts";
import { makeSession, NO_SESSION_MAC } from "../../src/crypto/session.ts";
import { SecretKey, secretBuffer } from "../../src/crypto/secret.ts";
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
  const opened = new Uint8Array(200);
  for (let counter = 0; counter < 50; counter++) {
    const place = { lsn: 5000, kind: 1 };
    table.sealerAt(5000)?.sealInto(new Uint8Array(200), { ...place, counter }, { into, at: 0 });
    table.sealerAt(5000)?.openInto(into, place, { at: 0, bytes: 220 }, opened);
  }
  return dataKey.bytes.map((byte) => byte ^ MASK);
}

/** A key as a cipher is given it: the first half of what AES makes of one is the key itself. */
function useCipher(): Uint8Array {
  using cipherKey = new SecretKey(secretBuffer(32));
  random(cipherKey.bytes);
  const aead = createAead(cipher, cipherKey);
  const context = { nonce: new Uint8Array(12), associatedData: new Uint8Array(5) };
  const into = new Uint8Array(216);
  aead.sealInto(new Uint8Array(200), context, { into, at: 0 });
  if (!aead.openInto(into, context, { at: 0, bytes: 216 }, new Uint8Array(200))) throw new Error("it does not open");
  const masked = cipherKey.bytes.map((byte) => byte ^ MASK);
  inUse = countInMemory(masked);
  return masked;
}

/** A text that is a secret, as a data key is one: opened as where the system has no cipher, and wiped where it was asked for. */
function openText(): number {
  using textKey = new SecretKey(secretBuffer(32));
  using text = new SecretKey(secretBuffer(32));
  using into = new SecretKey(secretBuffer(32));
  random(textKey.bytes);
  random(text.bytes);
  const masked = text.bytes.map((byte) => byte ^ MASK);
  const aead = packageAead(cipher, textKey);
  const context = { nonce: new Uint8Array(12), associatedData: new Uint8Array(5) };
  const sealed = new Uint8Array(48);
  aead.sealInto(text.bytes, context, { into: sealed, at: 0 });
  text.wipe();
  // Several in a row: what is left is written over by chance.
  for (let round = 0; round < 8; round++) {
    if (!aead.openInto(sealed, context, { at: 0, bytes: 48 }, into.bytes)) throw new Error("it does not open");
  }
  into.wipe();
  return countInMemory(masked);
}

let inUse = 0;
const text = openText();
const dataKey = useSecrets();
// Last, so that no other key comes into its place.
const cipherKey = useCipher();
if (isKept !== "kept") key.fill(0);
Bun.gc(true);
const counts = { rawKey: countInMemory(rawKey), dataKey: countInMemory(dataKey), cipherKey: countInMemory(cipherKey) };
console.log(JSON.stringify({ ...counts, text, inUse, keyBytes: key.length }));
