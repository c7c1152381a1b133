/** Reads that check what they read, in the file that a compaction has just put into service. */

import { expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
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
