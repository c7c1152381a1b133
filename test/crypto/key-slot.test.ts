import { expect, test } from "bun:test";
import {
  decodeKeySlot,
  encodeKeySlot,
  KEY_SLOT_BYTES,
  slotBeforePageMac,
  type KeySlot,
} from "../../src/crypto/key-slot.ts";
import { bytesOf, flipped } from "./fixtures.ts";

const rest = {
  salt: bytesOf("salt", 32),
  check: bytesOf("check", 32),
  wrappedKey: bytesOf("wrapped", 48),
  commitment: bytesOf("commitment", 32),
  pageMac: bytesOf("page", 32),
};
const raw: KeySlot = { kind: "raw", argon2: undefined, ...rest };
const passphrase: KeySlot = { kind: "passphrase", argon2: { memoryKiB: 65_536, passes: 3, lanes: 4 }, ...rest };

const repaired = (sector: Uint8Array): Uint8Array => {
  const copy = sector.slice();
  new DataView(copy.buffer).setUint32(508, Bun.hash.crc32(copy.subarray(0, 508)), true);
  return copy;
};

test("the golden slot is byte for byte what the diagram says", () => {
  const golden = [
    "454b534c", // magic
    "01", // layout
    "02", // passphrase
    "0000",
    "00000100", // 65536 KiB
    "03000000", // passes
    "04000000", // lanes
    "13000000", // Argon2 1.3
    rest.salt.toHex(),
    rest.check.toHex(),
    rest.wrappedKey.toHex(),
    rest.commitment.toHex(),
    rest.pageMac.toHex(),
    "00".repeat(308),
  ].join("");
  const sector = encodeKeySlot(passphrase);
  expect(sector.subarray(0, 508).toHex()).toBe(golden);
  expect(sector.subarray(508).toHex()).toBe("ed0a1197");
  expect(encodeKeySlot(raw).subarray(4, 24).toHex()).toBe("0101000000000000000000000000000000000000");
});

test("a slot decodes to what was encoded, and encodes to what was decoded", () => {
  for (const slot of [raw, passphrase]) {
    const sector = encodeKeySlot(slot);
    expect(sector).toHaveLength(KEY_SLOT_BYTES);
    expect(decodeKeySlot(sector)).toEqual({ kind: "slot", slot });
  }
});

test("zeros are an empty slot", () => {
  expect(decodeKeySlot(new Uint8Array(KEY_SLOT_BYTES))).toEqual({ kind: "empty" });
});

test("any single bit turned over is a damaged slot", () => {
  for (const slot of [raw, passphrase]) {
    const sector = encodeKeySlot(slot);
    for (let bit = 0; bit < KEY_SLOT_BYTES * 8; bit++) expect(decodeKeySlot(flipped(sector, bit)).kind).toBe("damaged");
  }
});

test("a slot torn at any byte, before or after, is never taken for a slot", () => {
  const sector = encodeKeySlot(passphrase);
  const old = encodeKeySlot({ ...raw, salt: bytesOf("old salt", 32) });
  for (let bytes = 1; bytes < KEY_SLOT_BYTES; bytes++) {
    const torn = sector.slice();
    torn.fill(0, bytes);
    expect(decodeKeySlot(torn).kind).toBe("damaged");
    torn.set(old.subarray(bytes), bytes);
    // The first bytes are the same in both: a tear there leaves the old slot whole.
    const isOld = torn.toHex() === old.toHex();
    expect(decodeKeySlot(torn).kind).toBe(isOld ? "slot" : "damaged");
  }
});

test("with the checksum repaired, a bit turned over outside salt, check, key, MACs and Argon2 words is still damage", () => {
  for (const slot of [raw, passphrase]) {
    const sector = encodeKeySlot(slot);
    for (let bit = 0; bit < 508 * 8; bit++) {
      const byte = bit >> 3;
      const isKeyed = byte >= 24 && byte < 200;
      const isArgon2 = slot.kind === "passphrase" && byte >= 8 && byte < 20;
      const verdict = decodeKeySlot(repaired(flipped(sector, bit)));
      if (isKeyed) expect(verdict.kind).toBe("slot");
      else if (!isArgon2) expect(verdict.kind).toBe("damaged");
      // What is taken encodes to the same bytes: nothing in it is ignored.
      if (verdict.kind === "slot")
        expect(encodeKeySlot(verdict.slot).toHex()).toBe(repaired(flipped(sector, bit)).toHex());
    }
  }
});

test("forged Argon2 parameters at both absurd ends are damage that names the numbers", () => {
  for (const [at, value] of [
    [8, 0],
    [8, 65_535],
    [8, 2 ** 32 - 1],
    [12, 0],
    [12, 2 ** 32 - 1],
    [16, 0],
    [16, 2 ** 32 - 1],
    [20, 0x10],
  ] as const) {
    const sector = encodeKeySlot(passphrase);
    new DataView(sector.buffer).setUint32(at, value, true);
    const verdict = decodeKeySlot(repaired(sector));
    expect(verdict.kind).toBe("damaged");
    if (verdict.kind === "damaged") expect(verdict.reason).toContain(String(value));
  }
});

test("fields of another length are a bug, not a slot", () => {
  expect(() => encodeKeySlot({ ...raw, salt: new Uint8Array(31) })).toThrow("32 bytes, not 31");
  expect(() => encodeKeySlot({ ...raw, kind: "passphrase" })).toThrow("Argon2");
  expect(() => encodeKeySlot({ ...passphrase, kind: "raw" })).toThrow("Argon2");
});

test("what the page MAC covers is all of the slot before it", () => {
  expect(slotBeforePageMac(raw).toHex()).toBe(encodeKeySlot(raw).subarray(0, 168).toHex());
});
