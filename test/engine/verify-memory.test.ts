/** Verify and salvage of a database far larger than their memory. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { emulator } from "../support/platform.ts";
import { peakOf } from "../support/memory.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(120_000);
const MIB = 1024 * 1024;
const LOG_BYTES = (emulator === undefined ? 100 : 20) * MIB;

test("verify and salvage of 100 MiB hold a few buffers, and salvage the new index, not the log", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const value = new Uint8Array(4000).fill(5);
  for (let index = 0; db.stats().logicalSizeBytes < LOG_BYTES; index += 1) {
    // One in ten is written over, so that the log names older versions far behind.
    db.insert(`key ${index % 10 === 0 ? Math.floor(index / 20) * 10 : index}`, value);
    if (index % 1000 === 0) db.flushSync();
  }
  db.flushSync();
  let steps = 0;
  const verifying = await peakOf(async (onProgress) => {
    const report = await db.verify({
      onProgress: () => {
        steps += 1;
        onProgress();
      },
    });
    expect(report.problems).toEqual([]);
    expect(report.bytes).toBeGreaterThanOrEqual(LOG_BYTES);
  });
  // A look at memory each few megabytes, also where the turns of the event loop are long and the steps with them.
  expect(steps).toBeGreaterThanOrEqual(LOG_BYTES / MIB / 8);
  const records = db.len();
  await db.close();
  const salvaging = await peakOf(async (onProgress) => {
    const report = await Emdb.salvage(path, folder.file("saved.emdb"), { onProgress });
    expect(report).toEqual({ recoveredRecords: records, lostRanges: [] });
  });
  expect(verifying.heap).toBeLessThan(8 * MIB);
  expect(verifying.anonymous).toBeLessThan(24 * MIB);
  expect(salvaging.heap).toBeLessThan(12 * MIB);
  // The ring of the new database's tail alone is 9 MiB.
  expect(salvaging.anonymous).toBeLessThan(48 * MIB);
});
