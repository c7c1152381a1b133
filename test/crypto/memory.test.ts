/** What is wiped is gone from the process's memory: looked for in a process of its own, on Linux. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { systemCipher } from "../../src/crypto/system-aead.ts";
import { childCommand } from "../support/platform.ts";
import { CIPHERS } from "./fixtures.ts";

interface Counts {
  readonly rawKey: number;
  readonly dataKey: number;
  readonly cipherKey: number;
  /** How often a cipher's key stood there while it was in use. */
  readonly inUse: number;
}

function counts(cipher: string, isKept: string): Counts {
  const child = Bun.spawnSync([...childCommand(), join(import.meta.dir, "memory-child.ts"), cipher, isKept]);
  expect(child.stderr.toString()).toBe("");
  return JSON.parse(child.stdout.toString()) as Counts;
}

describe.skipIf(process.platform !== "linux").each(CIPHERS)("%s:", (cipher) => {
  test("a raw key that its caller kept is found, so the search can find", () => {
    const { rawKey, inUse } = counts(cipher, "kept");
    expect(rawKey).toBeGreaterThan(0);
    expect(inUse).toBeGreaterThan(0);
  });
  test("once let go of, none of the raw key, the data key and the key of a cipher stands in memory", () => {
    // The package of the other cipher leaves copies in the collector's heap, which nobody can wipe (docs/security.md).
    const hasLeft = cipher !== "aes-256-gcm" && systemCipher(cipher) === undefined;
    expect(counts(cipher, "wiped")).toMatchObject({ rawKey: 0, dataKey: 0, ...(hasLeft ? {} : { cipherKey: 0 }) });
  });
});
