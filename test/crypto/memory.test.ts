/** What is wiped is gone from the process's memory: looked for in a process of its own, on Linux. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { childCommand } from "../support/platform.ts";
import { CIPHERS } from "./fixtures.ts";

function counts(cipher: string, isKept: string): { rawKey: number; dataKey: number } {
  const child = Bun.spawnSync([...childCommand(), join(import.meta.dir, "memory-child.ts"), cipher, isKept]);
  expect(child.stderr.toString()).toBe("");
  return JSON.parse(child.stdout.toString()) as { rawKey: number; dataKey: number };
}

describe.skipIf(process.platform !== "linux").each(CIPHERS)("%s:", (cipher) => {
  test("a raw key that its caller kept is found, so the search can find", () => {
    expect(counts(cipher, "kept").rawKey).toBeGreaterThan(0);
  });
  test("once let go of, neither the raw key nor the data key stands in memory", () => {
    expect(counts(cipher, "wiped")).toMatchObject({ rawKey: 0, dataKey: 0 });
  });
});
