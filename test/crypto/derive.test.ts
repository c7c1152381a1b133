import { describe, expect, test } from "bun:test";
import { createHmac, hkdfSync } from "node:crypto";
import { authenticate, deriveKey, hkdfSha256, packageHmac, wholeNumber, type Label } from "../../src/crypto/derive.ts";
import { systemHmac, type Hmac } from "../../src/crypto/system-hmac.ts";
import { bytesOf, fromHex, keyOf } from "./fixtures.ts";

const counting = (from: number, to: number) => Uint8Array.from({ length: to - from }, (_, index) => from + index);

const system = systemHmac();
if (system === undefined) console.log("SKIPPED the system's HMAC: it has no libcrypto");
const HMACS: readonly (readonly [string, Hmac])[] = [
  ["package", packageHmac],
  ...(system === undefined ? [] : [["system", system] as const]),
];

describe.each(HMACS)("with the HMAC of the %s HKDF-SHA-256 gives what RFC 5869 prints in", (_, hmac) => {
  const vectors = [
    {
      name: "A.1",
      inputKey: new Uint8Array(22).fill(0x0b),
      salt: counting(0x00, 0x0d),
      info: counting(0xf0, 0xfa),
      output: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    },
    {
      name: "A.2",
      inputKey: counting(0x00, 0x50),
      salt: counting(0x60, 0xb0),
      info: counting(0xb0, 0x100),
      output:
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09" +
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    },
    {
      name: "A.3",
      inputKey: new Uint8Array(22).fill(0x0b),
      salt: new Uint8Array(0),
      info: new Uint8Array(0),
      output: "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    },
  ];
  for (const { name, inputKey, salt, info, output } of vectors) {
    test(name, () => {
      expect(hkdfSha256(inputKey, { salt, info, bytes: output.length / 2 }, hmac).toHex()).toBe(output);
    });
  }
});

test.each(HMACS)(
  "with the HMAC of the %s HKDF-SHA-256 gives what the runtime's own gives, over all lengths",
  (_, hmac) => {
    for (let round = 0; round < 64; round++) {
      const inputKey = bytesOf(`key ${round}`, 1 + round);
      const salt = bytesOf(`salt ${round}`, (round * 7) % 100);
      const info = bytesOf(`info ${round}`, (round * 13) % 150);
      const twin = new Uint8Array(hkdfSync("sha256", inputKey, salt, info, 1 + round * 3));
      expect(hkdfSha256(inputKey, { salt, info, bytes: 1 + round * 3 }, hmac).toHex()).toBe(twin.toHex());
    }
  },
);

test.each(HMACS)(
  "the HMAC of the %s gives what the runtime's own gives, over lengths of key and message",
  (_, hmac) => {
    for (let bytes = 0; bytes <= 200; bytes++) {
      const [key, message] = [bytesOf("key", bytes), bytesOf("message", 1 + ((bytes * 3) % 250))];
      expect(hmac(key, message).toHex()).toBe(createHmac("sha256", key).update(message).digest("hex"));
    }
  },
);

test("a MAC is HMAC-SHA-256 under a key of the label over label and length-prefixed parts", () => {
  const key = keyOf("mac");
  const parts = [fromHex("aabb"), new Uint8Array(0), fromHex("cc")];
  const covered = Buffer.concat([Buffer.from("emdb 1 page\0"), fromHex("02000000aabb 00000000 01000000cc")]);
  const macKey = Buffer.from(hkdfSync("sha256", key.bytes, new Uint8Array(0), "emdb 1 page\0", 32));
  const twin = createHmac("sha256", macKey).update(covered).digest("hex");
  expect(authenticate(key, { label: "emdb 1 page", parts }).toHex()).toBe(twin);
});

test("lists of parts that join to the same bytes give different MACs", () => {
  const lists = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"]];
  const macs = lists.map((parts) =>
    authenticate(keyOf("mac"), {
      label: "emdb 1 page",
      parts: parts.map((part) => new TextEncoder().encode(part)),
    }).toHex(),
  );
  expect(new Set(macs).size).toBe(lists.length);
});

test("every label gives a key and a MAC of its own", () => {
  const labels: Record<Label, true> = {
    "emdb 1 slot": true,
    "emdb 1 slot check": true,
    "emdb 1 slot wrap": true,
    "emdb 1 slot commitment": true,
    "emdb 1 page": true,
    "emdb 1 session record": true,
    "emdb 1 session seal": true,
    "emdb 1 image seal": true,
  };
  const all = Object.keys(labels) as Label[];
  const outputs = all.flatMap((label) => [
    deriveKey(keyOf("label").bytes, { label }).bytes.toHex(),
    authenticate(keyOf("label"), { label, parts: [] }).toHex(),
  ]);
  expect(new Set(outputs).size).toBe(all.length * 2);
});

test("a whole number takes 8 bytes, little endian, up to the largest exact one", () => {
  expect(wholeNumber(0).toHex()).toBe("0000000000000000");
  expect(wholeNumber(0x0102030405).toHex()).toBe("0504030201000000");
  expect(wholeNumber(Number.MAX_SAFE_INTEGER).toHex()).toBe("ffffffffffff1f00");
  for (const value of [-1, 0.5, 2 ** 53, Number.NaN]) expect(() => wholeNumber(value)).toThrow("whole number");
});
