/** The system's libcrypto is used where it answers right, holds a key no longer than that is there, and keeps no memory. */

import { expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import { createAead } from "../../src/crypto/create-aead.ts";
import { systemAead } from "../../src/crypto/system-aead.ts";
import { CipherContext, LibcryptoCipher } from "../../src/ffi/libcrypto.ts";
import { Emdb } from "../../src/index.ts";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { CIPHERS, bytesOf, keyOf, opened } from "./fixtures.ts";

const hasSystem = CIPHERS.every((cipher) => systemAead(cipher, keyOf("probe")) !== undefined);
const message = { nonce: bytesOf("nonce", 12), associatedData: bytesOf("data", 40) };

/** The implementation of each cipher, and whether libcrypto's HMAC, that a process uses in which something was done to libcrypto. */
function usedAfter(change: string): readonly [...ciphers: string[], hasHmac: boolean] {
  const child = Bun.spawnSync([...childCommand(), join(import.meta.dir, "system-aead-child.ts"), change]);
  const { used, hasHmac } = JSON.parse(child.stdout.toString()) as {
    used: { name: string; isRight: boolean }[];
    hasHmac: boolean;
  };
  expect(used.every(({ isRight }) => isRight)).toBe(true);
  return [...used.map(({ name }) => name), hasHmac];
}

test.skipIf(!hasSystem)("a libcrypto that answers right is used", () => {
  expect(usedAfter("none")).toEqual(["SystemAead", "SystemAead", true]);
});

test
  .skipIf(!hasSystem)
  .each([
    "seals otherwise",
    "does not look at associated data",
    "opens nothing",
    "opens everything",
    "has no memory",
    "has memory once",
  ])("one that %s is not", (change) => {
  expect(usedAfter(change)).toEqual(["AesGcm", "ChaChaPoly", true]);
});

test.skipIf(!hasSystem).each(["sums otherwise", "sums nothing"])("the HMAC of one that %s is not", (change) => {
  expect(usedAfter(change)).toEqual(["SystemAead", "SystemAead", false]);
});

/** How many contexts were made, and how many of them freed. */
function contextsOf(work: () => void): { readonly made: number; readonly freed: number } {
  const made = spyOn(LibcryptoCipher.prototype, "context");
  const freed = spyOn(CipherContext.prototype, "free");
  try {
    work();
    return { made: made.mock.calls.length, freed: freed.mock.calls.length };
  } finally {
    made.mockRestore();
    freed.mockRestore();
  }
}

test.skipIf(!hasSystem)("a thread has one context for each cipher and direction, however many keys take turns", () => {
  const keys = Array.from({ length: 20 }, (_, index) => keyOf(`key ${index}`));
  const { made, freed } = contextsOf(() => {
    for (const cipher of CIPHERS) {
      for (const key of [...keys, ...keys]) {
        const into = new Uint8Array(66);
        createAead(cipher, key).sealInto(bytesOf("text", 50), message, { into, at: 0 });
        expect(opened(createAead(cipher, key), into, message)).toEqual(bytesOf("text", 50));
      }
    }
  });
  expect({ made, freed }).toEqual({ made: 4, freed: 0 });
  const wiped = contextsOf(() => {
    for (const key of keys) key.wipe();
  });
  expect(wiped).toEqual({ made: 0, freed: 4 });
});

test.skipIf(!hasSystem)("a database that is closed leaves no context", () => {
  using folder = temporaryFolder();
  for (const cipher of CIPHERS) {
    const { made, freed } = contextsOf(() => {
      const options = { encryption: { key: bytesOf("key", 32) }, cipher, rangeScans: true };
      for (let round = 0; round < 2; round++) {
        const db = Emdb.open(folder.file(cipher), options);
        for (let index = 0; index < 50; index++) db.insert(`key ${index}`, "value");
        expect(db.getText("key 7")).toBe("value");
        db.closeSync();
      }
    });
    expect(made).toBeGreaterThan(1);
    expect(freed).toBe(made);
  }
});
