/** What goes over a whole database holds a few buffers of it: opening, sweeping, compacting, backing up, writing it anew. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { peakOf } from "../support/memory.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(120_000);
const MIB = 1024 * 1024;
const LOG_BYTES = (emulator === undefined ? 100 : 20) * MIB;
const VALUE_BYTES = 4000;
const KEY = { key: new Uint8Array(32).fill(3) };

/** A closed database without an image. */
function fill(path: string): void {
  const db = Emdb.open(path);
  const value = new Uint8Array(VALUE_BYTES).fill(5);
  for (let index = 0; index * VALUE_BYTES < LOG_BYTES; index += 1) db.insert(`key ${index}`, value);
  db.closeSync();
  rmSync(`${path}.hint`);
}

test("opening, compacting, backing up, encrypting and decrypting 100 MiB hold a few buffers", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  fill(path);
  let db: Emdb | undefined;
  const peaks = {
    open: await peakOf(async () => {
      db = Emdb.open(path);
      expect(db.recovery.usedCheckpoint).toBe(false);
    }),
    backup: await peakOf((onProgress) => db!.backupTo(folder.file("copy.emdb"), { onProgress })),
    compact: await peakOf((onProgress) => db!.compact({ onProgress })),
    enable: await peakOf(async (onProgress) => {
      await db!.close();
      await Emdb.enableEncryption(path, KEY, { onProgress });
    }),
    disable: await peakOf((onProgress) => Emdb.disableEncryption(path, KEY, { onProgress })),
  };
  for (const [what, { heap, anonymous }] of Object.entries(peaks)) {
    // Records that were opened or sealed are garbage for a while.
    const isRewrite = what === "enable" || what === "disable";
    const [heapMax, anonymousMax] = isRewrite ? [64 * MIB, 90 * MIB] : [16 * MIB, 32 * MIB];
    expect([what, heap < heapMax, anonymous < anonymousMax]).toEqual([what, true, true]);
  }
});

test("a sweep of 200 000 records holds a part of them", async () => {
  const count = emulator === undefined ? 200_000 : 20_000;
  using db = Emdb.openInMemory();
  db.insertMany(
    Array.from({ length: count }, (_, index) => [`key ${index}`, "value"] as const),
    { ttlMs: 0 },
  );
  const { heap } = await peakOf(async () => {
    expect(db.sweepExpired()).toBe(count);
  });
  expect(heap).toBeLessThan(8 * MIB);
});
