/** Slots in their page: which secret opens what, and what each attack on the page comes to. */

import { describe, expect, test } from "bun:test";
import {
  carryKeyArea,
  encodeKeyArea,
  isKeyAreaEmpty,
  isPageSound,
  KEY_AREA_BYTES,
  KEY_AREA_OFFSET,
  KEY_SLOT_COUNT,
  slotKinds,
  unlock,
  unlockLater,
  type KeyPage,
} from "../../src/crypto/key-area.ts";
import { encodeKeySlot, KEY_SLOT_BYTES, type KeySlot } from "../../src/crypto/key-slot.ts";
import { newSlot, newSlotLater } from "../../src/crypto/new-lock.ts";
import { stretch } from "../../src/crypto/argon2.ts";
import { emulator } from "../support/platform.ts";
import type { CallerSecret } from "../../src/crypto/caller-secret.ts";
import {
  bytesOf,
  cheapStretch,
  CIPHERS,
  flipped,
  keyOf,
  madePage,
  outcome,
  passphrase,
  rawSecret,
  seeded,
} from "./fixtures.ts";

const tried = (page: KeyPage, secret: CallerSecret) => {
  const { value, code, offset } = outcome(() => unlock(page, secret, cheapStretch));
  return { opened: value?.dataKey.bytes.toHex(), code, offset };
};
const withSlot = (page: KeyPage, slot: KeySlot): KeyPage => ({ ...page, keyArea: encodeKeyArea(slot) });
const SECRETS = [
  ["raw key", rawSecret, rawSecret("other")],
  ["passphrase", passphrase, passphrase("other")],
] as const;

test("the areas add up to the header page behind its first sector", () => {
  expect(KEY_AREA_OFFSET + KEY_AREA_BYTES).toBe(4096);
  expect(KEY_SLOT_COUNT * KEY_SLOT_BYTES).toBeLessThan(KEY_AREA_BYTES);
  expect(isKeyAreaEmpty(new Uint8Array(KEY_AREA_BYTES))).toBe(true);
  expect(isKeyAreaEmpty(madePage().keyArea)).toBe(false);
});

describe.each(CIPHERS)("%s,", (cipher) => {
  describe.each(SECRETS)("%s:", (_, secretOf, wrong) => {
    const page = madePage({ secret: secretOf(), cipher });
    const dataKey = page.dataKey.bytes.toHex();

    test("the secret gives the data key, another is EMDB_KEY_MISMATCH", async () => {
      expect(tried(page, secretOf()).opened).toBe(dataKey);
      expect(tried(page, wrong).code).toBe("EMDB_KEY_MISMATCH");
      const later = await unlockLater(page, secretOf(), async (request) => cheapStretch(request));
      expect(later).toMatchObject({ slotIndex: 0 });
      expect(later.dataKey.bytes.toHex()).toBe(dataKey);
    });
    test("neither data key nor secret stands in the page", () => {
      const hex = page.keyArea.toHex();
      expect(hex).not.toContain(dataKey);
      expect(hex).not.toContain(secretOf().bytes.toHex());
    });
    test("with the checksum repaired, a bit of the salt is a mismatch, any bit behind it EMDB_CORRUPTED", () => {
      for (const [field, bytes, code] of [
        ["salt", 32, "EMDB_KEY_MISMATCH"],
        ["check", 32, "EMDB_CORRUPTED"],
        ["wrappedKey", 48, "EMDB_CORRUPTED"],
        ["commitment", 32, "EMDB_CORRUPTED"],
        ["pageMac", 32, "EMDB_CORRUPTED"],
      ] as const) {
        for (let bit = 0; bit < bytes * 8; bit++) {
          const forged = { ...page.slot, [field]: flipped(page.slot[field], bit) };
          expect(tried(withSlot(page, forged), secretOf())).toMatchObject({ opened: undefined, code });
        }
      }
    });
    test("a zeroed key check, wrapped key, commitment or page MAC is EMDB_CORRUPTED, for another secret a mismatch", () => {
      for (const field of ["check", "wrappedKey", "commitment", "pageMac"] as const) {
        const forged = withSlot(page, { ...page.slot, [field]: new Uint8Array(page.slot[field].length) });
        expect(tried(forged, secretOf()).code).toBe("EMDB_CORRUPTED");
        expect(tried(forged, wrong).code).toBe("EMDB_KEY_MISMATCH");
      }
    });
    test("another cipher in the header is EMDB_CORRUPTED", () => {
      const other = cipher === "aes-256-gcm" ? "chacha20-poly1305" : "aes-256-gcm";
      expect(tried({ ...page, cipher: other }, secretOf()).code).toBe("EMDB_CORRUPTED");
    });
    test("a slot of another file under the same secret is EMDB_CORRUPTED, under another secret a mismatch", () => {
      const other = madePage({ name: "other file", secret: secretOf(), cipher });
      expect(tried({ ...page, keyArea: other.keyArea }, secretOf()).code).toBe("EMDB_CORRUPTED");
      const foreign = madePage({ name: "other file", secret: wrong, cipher });
      expect(tried({ ...page, keyArea: foreign.keyArea }, secretOf()).code).toBe("EMDB_KEY_MISMATCH");
    });
    test("parts of two slots of one file do not mix", () => {
      const second = newSlot(page.dataKey, { secret: secretOf(), home: page, random: seeded("second") }, cheapStretch);
      for (const field of ["salt", "check", "wrappedKey", "commitment", "pageMac"] as const) {
        const { code } = tried(withSlot(page, { ...page.slot, [field]: second[field] }), secretOf());
        expect(code).toBe(field === "salt" ? "EMDB_KEY_MISMATCH" : "EMDB_CORRUPTED");
      }
    });
  });
});

/** What is judged is bytes in memory: an emulator takes a share, at another place of each byte. */
const STRIDE = emulator === undefined ? 1 : 13;

describe.each(CIPHERS)("%s, all bits:", (cipher) => {
  const page = madePage({ cipher });
  const dataKey = page.dataKey.bytes.toHex();

  test("any single bit of the key area turned over is EMDB_CORRUPTED, or lies in the slot that is not used", () => {
    for (let bit = 0; bit < KEY_AREA_BYTES * 8; bit += STRIDE) {
      const { opened, code, offset } = tried({ ...page, keyArea: flipped(page.keyArea, bit) }, rawSecret());
      const slot = Math.floor(bit / 8 / KEY_SLOT_BYTES);
      if (slot === 1) expect(opened).toBe(dataKey);
      else
        expect({ opened, code, offset }).toEqual({
          opened: undefined,
          code: "EMDB_CORRUPTED",
          offset: slot === 0 ? 512 : 1536,
        });
    }
  }, 60_000);
  test("any single bit of the first sector turned over is EMDB_CORRUPTED", () => {
    for (let bit = 0; bit < page.sector.length * 8; bit += STRIDE) {
      expect(tried({ ...page, sector: flipped(page.sector, bit) }, rawSecret())).toEqual({
        opened: undefined,
        code: "EMDB_CORRUPTED",
        offset: KEY_AREA_OFFSET,
      });
    }
  });
});

test("Argon2 parameters changed within their bounds are a mismatch: they make another key", () => {
  const page = madePage({ secret: passphrase() });
  for (const change of [{ memoryKiB: 65_537 }, { passes: 4 }, { lanes: 1 }]) {
    const argon2 = { memoryKiB: 65_536, passes: 3, lanes: 4, ...change };
    expect(tried(withSlot(page, { ...page.slot, argon2 }), passphrase()).code).toBe("EMDB_KEY_MISMATCH");
  }
});

test("a raw key and a passphrase of the same bytes do not open each other's slot", () => {
  const page = madePage({ secret: rawSecret() });
  const asPassphrase = {
    ...page.slot,
    kind: "passphrase",
    argon2: { memoryKiB: 65_536, passes: 3, lanes: 4 },
  } as const;
  const sameBytes = (): ReturnType<typeof cheapStretch> => keyOf("key");
  expect(outcome(() => unlock(withSlot(page, asPassphrase), passphrase(), sameBytes)).code).toBe("EMDB_KEY_MISMATCH");
});

test("no slot of the secret's kind is EMDB_INVALID_CONFIG, and nothing is stretched for it", () => {
  const page = madePage({ secret: passphrase() });
  const noStretch = (): never => expect.unreachable();
  expect(outcome(() => unlock(page, rawSecret(), noStretch)).code).toBe("EMDB_INVALID_CONFIG");
  expect(slotKinds(page.keyArea)).toEqual(["passphrase"]);
});

test("absurd Argon2 parameters are EMDB_CORRUPTED before anything is stretched", () => {
  const page = madePage({ secret: passphrase() });
  const sector = encodeKeySlot(page.slot);
  for (const [at, value] of [
    [8, 2 ** 32 - 1],
    [8, 8],
    [12, 2 ** 32 - 1],
    [16, 2 ** 32 - 1],
  ] as const) {
    const forged = sector.slice();
    new DataView(forged.buffer).setUint32(at, value, true);
    new DataView(forged.buffer).setUint32(508, Bun.hash.crc32(forged.subarray(0, 508)), true);
    const keyArea = new Uint8Array(KEY_AREA_BYTES);
    keyArea.set(forged);
    const noStretch = (): never => expect.unreachable();
    const { code, message } = outcome(() => unlock({ ...page, keyArea }, passphrase(), noStretch));
    expect(code).toBe("EMDB_CORRUPTED");
    expect(message).toContain(String(value));
  }
});

test("an encrypted header without any slot is EMDB_CORRUPTED", () => {
  const page = { ...madePage(), keyArea: new Uint8Array(KEY_AREA_BYTES) };
  expect(tried(page, rawSecret())).toEqual({ opened: undefined, code: "EMDB_CORRUPTED", offset: 512 });
});

test("an attacker's own slot beside the true one, or in its place, opens for nobody else", () => {
  const page = madePage();
  const theirs = newSlot(
    keyOf("attacker's data key"),
    { secret: rawSecret("attacker"), home: page, random: seeded("a") },
    cheapStretch,
  );
  const beside = page.keyArea.slice();
  beside.set(encodeKeySlot(theirs), KEY_SLOT_BYTES);
  expect(tried({ ...page, keyArea: beside }, rawSecret()).opened).toBe(page.dataKey.bytes.toHex());
  expect(tried(withSlot(page, theirs), rawSecret()).code).toBe("EMDB_KEY_MISMATCH");
});

test("carried to another first sector, a slot opens there with the same secret, and no longer with the old sector", () => {
  for (const secretOf of [rawSecret, passphrase]) {
    const page = madePage({ secret: secretOf() });
    const sector = bytesOf("next generation", 512);
    const keyArea = carryKeyArea(page, { dataKey: page.dataKey, sector });
    expect(tried({ ...page, sector, keyArea }, secretOf()).opened).toBe(page.dataKey.bytes.toHex());
    expect(tried({ ...page, keyArea }, secretOf()).code).toBe("EMDB_CORRUPTED");
    expect(isPageSound({ ...page, sector, keyArea }, page.dataKey)).toBe(true);
    expect(isPageSound({ ...page, keyArea }, page.dataKey)).toBe(false);
  }
});

test("carrying leaves a foreign slot behind, and fails when only foreign ones are there", () => {
  const page = madePage();
  const theirs = newSlot(
    keyOf("attacker's data key"),
    { secret: rawSecret("attacker"), home: page, random: seeded("a") },
    cheapStretch,
  );
  const beside = page.keyArea.slice();
  beside.set(encodeKeySlot(theirs), KEY_SLOT_BYTES);
  const next = { dataKey: page.dataKey, sector: page.sector };
  expect(carryKeyArea({ ...page, keyArea: beside }, next).toHex()).toBe(page.keyArea.toHex());
  expect(outcome(() => carryKeyArea(withSlot(page, theirs), next)).code).toBe("EMDB_CORRUPTED");
});

test("a slot made with the real Argon2id opens, synchronously made and not", async () => {
  const page = madePage();
  const options = { secret: passphrase(), home: page, random: seeded("real") };
  const slot = newSlot(page.dataKey, options, stretch);
  expect(unlock(withSlot(page, slot), passphrase(), stretch).dataKey.bytes.toHex()).toBe(page.dataKey.bytes.toHex());
  const later = await newSlotLater(page.dataKey, { ...options, random: seeded("real") }, async (request) =>
    stretch(request),
  );
  expect(later).toEqual(slot);
});

test("two slots for one secret share no bytes of salt, check, wrapped key or MAC", () => {
  const page = madePage();
  const random = seeded("two");
  const [first, second] = [0, 1].map(() =>
    newSlot(page.dataKey, { secret: rawSecret(), home: page, random }, cheapStretch),
  );
  for (const field of ["salt", "check", "wrappedKey", "commitment", "pageMac"] as const) {
    expect(first![field].toHex()).not.toBe(second![field].toHex());
  }
});
