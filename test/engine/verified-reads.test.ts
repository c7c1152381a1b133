/** Reads that check what they read, in the file that a compaction has just put into service. */

import { expect, test } from "bun:test";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { Emdb, type EmdbError } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { stateOf } from "./fixture.ts";

test.each([0, 1, 300])(
  "with verifyReads, what is written behind a compaction of %i records is read before anything is flushed",
  async (count) => {
    using folder = temporaryFolder();
    await using db = Emdb.open(folder.file("data.emdb"), { verifyReads: true });
    for (let round = 0; round < 3; round += 1) {
      for (let index = 0; index < count; index += 1) db.insert(`key ${index}`, `value ${round}`);
      await db.compact();
      db.insert("behind it", "x".repeat(700));
      db.namespace("named").insert("behind it", "too");
      const state = stateOf(db);
      db.flushSync();
      expect(stateOf(db)).toBe(state);
      db.remove("behind it");
      db.dropNamespace("named");
    }
  },
);

test("damage that a read meets after a compaction is told with its byte in the file and the path", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (const encryption of [undefined, { key: new Uint8Array(32).fill(7) }]) {
    rmSync(path, { force: true });
    rmSync(`${path}.hint`, { force: true });
    using db = Emdb.open(path, { verifyReads: true, ...(encryption === undefined ? {} : { encryption }) });
    db.insertMany(Array.from({ length: 2000 }, (_, index) => [`k${index}`, `value ${index}`.padEnd(100, ".")]));
    await db.compact();
    db.flushSync();
    const at = db.stats().logicalSizeBytes >> 1;
    const file = openSync(path, "r+");
    writeSync(file, new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]), 0, 8, at);
    closeSync(file);
    const thrown: unknown[] = [];
    for (let index = 0; index < 2000; index += 1) {
      try {
        db.get(`k${index}`);
      } catch (error) {
        thrown.push(error);
      }
    }
    expect(thrown.length).toBeGreaterThan(0);
    for (const error of thrown) {
      expect(error).toMatchObject({ code: "EMDB_CORRUPTED", path });
      expect(Math.abs((error as EmdbError).offset! - at)).toBeLessThan(250);
    }
  }
});
