import { describe, expect, spyOn, test } from "bun:test";
import { argon2Sync } from "node:crypto";
import { argon2id as nobleArgon2id } from "@noble/hashes/argon2.js";
import {
  ARGON2_DEFAULT,
  argon2Problem,
  passphraseBytes,
  stretch,
  stretchLater,
  stretchWithNoble,
  stretchWithWasm,
  type Argon2Parameters,
} from "../../src/crypto/argon2.ts";
import { nodeCrypto } from "../../src/crypto/packages.ts";
import { PASSPHRASE_BYTES_MAX } from "../../src/limits.ts";
import { bytesOf, outcome } from "./fixtures.ts";

describe("RFC 9106, 5.3 (with secret and associated data) holds for", () => {
  const message = new Uint8Array(32).fill(1);
  const salt = new Uint8Array(16).fill(2);
  const secret = new Uint8Array(8).fill(3);
  const associatedData = new Uint8Array(12).fill(4);
  const tag = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";

  test.skipIf(Bun.version === "1.4.0")("the runtime's Argon2id", () => {
    const output = argon2Sync("argon2id", {
      message,
      nonce: salt,
      secret,
      associatedData,
      parallelism: 4,
      tagLength: 32,
      memory: 32,
      passes: 3,
    });
    expect(new Uint8Array(output).toHex()).toBe(tag);
  });
  test("the package's Argon2id", () => {
    const options = { t: 3, m: 32, p: 4, dkLen: 32, key: secret, personalization: associatedData };
    expect(nobleArgon2id(message, salt, options).toHex()).toBe(tag);
  });
});

test("all four ways to stretch give the same key, for several parameters", async () => {
  const all: Argon2Parameters[] = [
    { memoryKiB: 32, passes: 3, lanes: 4 },
    { memoryKiB: 64, passes: 1, lanes: 1 },
    { memoryKiB: 1000, passes: 4, lanes: 3 },
  ];
  for (const parameters of all) {
    const request = { passphrase: bytesOf("passphrase", 20), salt: bytesOf("salt", 32), parameters };
    const keys = [
      stretch(request),
      stretchWithNoble(request),
      await stretchLater(request),
      await stretchWithWasm(request),
    ];
    expect(new Set(keys.map((key) => key.bytes.toHex())).size).toBe(1);
  }
});

test("the default is RFC 9106's second recommended option, and gives the same key synchronously and not", async () => {
  expect(ARGON2_DEFAULT).toEqual({ memoryKiB: 64 * 1024, passes: 3, lanes: 4 });
  const request = { passphrase: bytesOf("passphrase", 20), salt: bytesOf("salt", 32), parameters: ARGON2_DEFAULT };
  expect(stretch(request).bytes.toHex()).toBe((await stretchLater(request)).bytes.toHex());
});

test("nor can the packages beyond their memory, which is EMDB_UNSUPPORTED too", async () => {
  const parameters = { memoryKiB: 2 ** 32 - 1, passes: 1, lanes: 1 };
  const request = { passphrase: bytesOf("passphrase", 20), salt: bytesOf("salt", 32), parameters };
  const told = expect.objectContaining({ name: "EmdbError", code: "EMDB_UNSUPPORTED", cause: expect.any(Error) });
  expect(() => stretchWithNoble(request)).toThrow(told);
  expect(await stretchWithWasm(request).catch((error: unknown) => error)).toEqual(told);
});

test("a runtime that cannot stretch, for want of memory, is EMDB_UNSUPPORTED, synchronously and not", async () => {
  const request = { passphrase: bytesOf("passphrase", 20), salt: bytesOf("salt", 32), parameters: ARGON2_DEFAULT };
  const failed = new Error("Argon2 derivation failed");
  const told = expect.objectContaining({ name: "EmdbError", code: "EMDB_UNSUPPORTED", cause: failed });
  const crypto = nodeCrypto();
  using sync = spyOn(crypto, "argon2Sync").mockImplementation(() => {
    throw failed;
  });
  using later = spyOn(crypto, "argon2").mockImplementation((_algorithm, _parameters, done) => {
    done(failed, undefined as never);
  });
  expect(() => stretch(request)).toThrow(told);
  expect(await stretchLater(request).catch((error: unknown) => error)).toEqual(told);
  expect([sync, later].map((spy) => spy.mock.calls.length)).toEqual([1, 1]);
});

test("a runtime that has the calls by name only, as Bun 1.4.0, leaves it to the packages, synchronously and not", async () => {
  const parameters = { memoryKiB: 32, passes: 3, lanes: 4 };
  const request = { passphrase: bytesOf("passphrase", 20), salt: bytesOf("salt", 32), parameters };
  const expected = stretchWithNoble(request).bytes.toHex();
  const crypto = nodeCrypto();
  const refuse = (): never => {
    throw Object.assign(new Error("no such algorithm"), { code: "ERR_CRYPTO_ARGON2_NOT_SUPPORTED" });
  };
  using sync = spyOn(crypto, "argon2Sync").mockImplementation(refuse);
  using later = spyOn(crypto, "argon2").mockImplementation(refuse);
  expect(stretch(request).bytes.toHex()).toBe(expected);
  expect((await stretchLater(request)).bytes.toHex()).toBe(expected);
  expect([sync, later].map((spy) => spy.mock.calls.length)).toEqual([1, 1]);
});

test("what the runtime throws at once instead of telling it later is EMDB_UNSUPPORTED as well", async () => {
  const request = { passphrase: bytesOf("passphrase", 20), salt: bytesOf("salt", 32), parameters: ARGON2_DEFAULT };
  const failed = new Error("Argon2 derivation failed");
  using later = spyOn(nodeCrypto(), "argon2").mockImplementation(() => {
    throw failed;
  });
  const told = expect.objectContaining({ name: "EmdbError", code: "EMDB_UNSUPPORTED", cause: failed });
  expect(await stretchLater(request).catch((error: unknown) => error)).toEqual(told);
  expect(later).toHaveBeenCalledTimes(1);
});

test("parameters at both absurd ends are refused, those at the bounds are taken", () => {
  const at = (change: Partial<Argon2Parameters>) => argon2Problem({ ...ARGON2_DEFAULT, ...change });
  for (const memoryKiB of [0, 8, 65_535, 1_048_577, 2 ** 32 - 1, 65_536.5])
    expect(at({ memoryKiB })).toContain("memory");
  for (const passes of [0, 1, 2, 65, 2 ** 32 - 1]) expect(at({ passes })).toContain("passes");
  for (const lanes of [0, 17, 2 ** 24, 2 ** 32 - 1]) expect(at({ lanes })).toContain("lanes");
  expect(at({ memoryKiB: 1_048_576, passes: 5 })).toContain("work");
  expect(at({ memoryKiB: 1_048_576, passes: 4 })).toBeUndefined();
  expect(at({ memoryKiB: 65_536, passes: 64 })).toBeUndefined();
  expect(at({ lanes: 1 })).toBeUndefined();
  expect(at({ lanes: 16 })).toBeUndefined();
});

test("a passphrase is its UTF-8; empty, too long and ill-formed ones are refused without being repeated", () => {
  expect(passphraseBytes("p\u00e4ss").toHex()).toBe("70c3a47373");
  expect(passphraseBytes("x".repeat(PASSPHRASE_BYTES_MAX))).toHaveLength(PASSPHRASE_BYTES_MAX);
  for (const bad of ["", "x".repeat(PASSPHRASE_BYTES_MAX + 1), "half a \ud800 pair"]) {
    const { code, message } = outcome(() => passphraseBytes(bad));
    expect(code).toBe("EMDB_INVALID_CONFIG");
    expect(message).not.toContain("half");
    expect(message).not.toContain("xx");
  }
});
