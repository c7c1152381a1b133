/** What is wiped is gone from the process's memory: looked for in a process of its own, on Linux. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { childCommand } from "../support/platform.ts";
import { systemAead } from "../../src/crypto/system-aead.ts";
import { CIPHERS, keyOf } from "./fixtures.ts";

interface Counts {
  readonly rawKey: number;
  readonly dataKey: number;
  readonly cipherKey: number;
  readonly text: number;
  /** How often a cipher's key stood there while it was in use. */
  readonly inUse: number;
}

interface ThreadCounts {
  readonly inUse: number;
  readonly afterwards: number;
}

function counts(cipher: string, isKept: string): Counts {
  const child = Bun.spawnSync([...childCommand(), join(import.meta.dir, "memory-child.ts"), cipher, isKept]);
  expect(child.stderr.toString()).toBe("");
  return JSON.parse(child.stdout.toString()) as Counts;
}

describe.skipIf(process.platform !== "linux").each(CIPHERS)("%s:", (cipher) => {
  const hasSystem = systemAead(cipher, keyOf("probe")) !== undefined;
  test("a raw key that its caller kept is found, so the search can find", () => {
    const { rawKey, inUse } = counts(cipher, "kept");
    expect(rawKey).toBeGreaterThan(0);
    expect(inUse).toBeGreaterThan(0);
  });
  test("once let go of, none of the raw key, the data key and the key of a cipher stands in memory", () => {
    const { rawKey, dataKey, cipherKey } = counts(cipher, "wiped");
    expect({ rawKey, dataKey }).toEqual({ rawKey: 0, dataKey: 0 });
    // The package of the one cipher makes small arrays of a key, which it can wipe no more.
    if (hasSystem || cipher === "aes-256-gcm") expect(cipherKey).toBe(0);
  });
  test("a package leaves nothing of a text but where it was asked for", () => {
    expect(counts(cipher, "wiped").text).toBe(0);
  });
  test.skipIf(!hasSystem)(
    "nothing of the key of a cipher is left by a thread that is terminated, exits or ends without a word",
    () => {
      const child = Bun.spawnSync([...childCommand(), join(import.meta.dir, "memory-threads-child.ts"), cipher]);
      expect(child.stderr.toString()).toBe("");
      const { terminated, exits, ends } = JSON.parse(child.stdout.toString()) as Record<string, ThreadCounts>;
      // One in each direction; a thread that exits by itself may be gone before it is looked for.
      expect([terminated, ends].map((counted) => counted?.inUse)).toEqual([2, 2]);
      expect([terminated, exits, ends].map((counted) => counted?.afterwards)).toEqual([0, 0, 0]);
    },
    60_000,
  );
});
