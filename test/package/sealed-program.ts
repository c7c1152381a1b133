/**
 * Uses all of encryption that loads something: bundled, compiled and as it is. Its argument is a folder. How a passphrase is
 * stretched does not depend on the cipher, and takes long: one database begins with one, the other ends with one.
 */

import { Emdb, EmdbError, type Cipher, type EncryptionInput } from "emdb";

const folder = process.argv[2] ?? ".";
const key: EncryptionInput = { key: new Uint8Array(32).fill(7) };
const phrase: EncryptionInput = { passphrase: "correct horse" };

// A bundle as CommonJS awaits nothing outside of a function.
async function main(): Promise<void> {
  await liveOnce("aes-256-gcm", key, phrase);
  await liveOnce("chacha20-poly1305", phrase, key);
}

async function liveOnce(cipher: Cipher, first: EncryptionInput, other: EncryptionInput): Promise<void> {
  const path = `${folder}/${cipher}.emdb`;
  {
    using db = Emdb.open(path, { encryption: first, cipher, rangeScans: true });
    db.insertMany([
      ["a", "1"],
      ["b", "2"],
    ]);
    await db.flush();
    await db.compact();
  }
  await Emdb.rotateEncryptionKey(path, first, other);
  const wrong = other === phrase ? { passphrase: "wrong" } : { key: new Uint8Array(32) };
  try {
    Emdb.open(path, { encryption: wrong });
  } catch (error) {
    console.log(error instanceof EmdbError ? error.code : error);
  }
  using db = Emdb.open(path, { encryption: other, rangeScans: true });
  console.log([...db.range({})].length, db.getText("b"));
}

void main();
