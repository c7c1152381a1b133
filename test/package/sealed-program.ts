/** Uses all of encryption that loads something: bundled, compiled and as it is. Its argument is a folder. */

import { Emdb, EmdbError, type EncryptionInput } from "emdb";

const folder = process.argv[2] ?? ".";
const key: EncryptionInput = { key: new Uint8Array(32).fill(7) };
const phrase: EncryptionInput = { passphrase: "correct horse" };

// A bundle as CommonJS awaits nothing outside of a function.
async function main(): Promise<void> {
  for (const cipher of ["aes-256-gcm", "chacha20-poly1305"] as const) {
    for (const encryption of [key, phrase]) {
      const path = `${folder}/${cipher}-${encryption === key ? "key" : "phrase"}.emdb`;
      {
        using db = Emdb.open(path, { encryption, cipher, rangeScans: true });
        db.insertMany([
          ["a", "1"],
          ["b", "2"],
        ]);
        await db.flush();
        await db.compact();
      }
      const other = encryption === key ? phrase : key;
      await Emdb.rotateEncryptionKey(path, encryption, other);
      const wrong = encryption === key ? { passphrase: "wrong" } : { key: new Uint8Array(32) };
      try {
        Emdb.open(path, { encryption: wrong });
      } catch (error) {
        console.log(error instanceof EmdbError ? error.code : error);
      }
      using db = Emdb.open(path, { encryption: other, rangeScans: true });
      console.log([...db.range({})].length, db.getText("b"));
    }
  }
}

void main();
