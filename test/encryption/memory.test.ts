/** After close neither the raw key nor the data key stands in the process's memory: looked for on Linux. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { CIPHERS } from "../crypto/fixtures.ts";

function counts(cipher: string, stage: string): { rawKey: number; dataKey: number } {
  using folder = temporaryFolder();
  const program = join(import.meta.dir, "memory-child.ts");
  const child = Bun.spawnSync([...childCommand(), program, cipher, folder.file("data.emdb"), stage]);
  expect(child.stderr.toString()).toBe("");
  return JSON.parse(child.stdout.toString()) as { rawKey: number; dataKey: number };
}

describe.skipIf(process.platform !== "linux").each(CIPHERS)("%s:", (cipher) => {
  test("while it is open the data key is found, so the search can find", () => {
    const { rawKey, dataKey } = counts(cipher, "open");
    expect(dataKey).toBeGreaterThan(0);
    // The caller's own copy was wiped by the caller; ours when the open had returned.
    expect(rawKey).toBe(0);
  }, 60_000);
  test("once it is closed, neither key is found", () => {
    expect(counts(cipher, "closed")).toMatchObject({ rawKey: 0, dataKey: 0 });
  }, 60_000);
});
