/** A compaction that leaves nothing, while somebody still reads what was there before: what is written then is in the new file. */

import { expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

test.each(["a file", "a file with ranges", "memory"])(
  "in %s, what is written after a compaction that left nothing is read back while an iterator keeps the file before",
  async (where) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const rangeScans = where === "a file with ranges";
    const db = where === "memory" ? Emdb.openInMemory() : Emdb.open(path, { rangeScans });
    const keys = Array.from({ length: 40 }, (_, index) => `key ${index}`);
    db.insertMany(keys.map((key) => [key, `${key} before`] as const));
    db.flushSync();
    const before = db.iter();
    const first = before.next().value;
    db.removeMany(keys);
    for (let round = 0; round < 3; round += 1) {
      await db.compact();
      db.insertMany(keys.map((key) => [key, `${key} in ${round}`] as const));
      db.flushSync();
      expect(keys.map((key) => db.getText(key))).toEqual(keys.map((key) => `${key} in ${round}`));
      expect(db.getMany(keys).map((value) => Buffer.from(value ?? []).toString())).toEqual(
        keys.map((key) => `${key} in ${round}`),
      );
      if (rangeScans) expect([...db.range()].length).toBe(keys.length);
      expect((await db.verify()).problems).toEqual([]);
      if (round < 2) db.clear();
    }
    const rest = [first, ...before].map((record) => Buffer.from(record![1]).toString());
    expect(rest.sort()).toEqual(keys.map((key) => `${key} before`).sort());
    db.closeSync();
    if (where === "memory") return;
    using again = Emdb.open(path, { rangeScans });
    expect(keys.map((key) => again.getText(key))).toEqual(keys.map((key) => `${key} in 2`));
  },
);
