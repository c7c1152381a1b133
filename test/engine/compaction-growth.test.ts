import { expect, setDefaultTimeout, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { turn } from "../support/turns.ts";

setDefaultTimeout(60_000);

for (const encryption of [undefined, { key: new Uint8Array(32).fill(5) }]) {
  const name = encryption === undefined ? "a log" : "an encrypted log";
  // A position of the old file must never be one of the new file, however far the old one has grown meanwhile.
  test(`${name} that grows by more than its ring while it is compacted keeps what is written`, async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const options = encryption === undefined ? {} : { encryption };
    const model = new Map<string, Uint8Array>();
    const put = (db: Emdb, key: string, fill: number): void => {
      const value = new Uint8Array(100_000).fill(fill);
      db.insert(key, value);
      model.set(key, value);
    };
    const expectAll = (db: Emdb): void => {
      for (const [key, value] of model) expect(Buffer.compare(db.get(key)!, value)).toBe(0);
      expect(db.len()).toBe(model.size);
    };
    {
      await using db = Emdb.open(path, options);
      for (let index = 0; index < 200; index += 1) put(db, `key ${index}`, index);
      const compacted = db.compact();
      for (let index = 0; index < 300; index += 1) {
        put(db, `key ${(index * 7) % 250}`, index + 1);
        if (index % 10 === 0) await turn();
      }
      await compacted;
      expectAll(db);
      expect((await db.verify()).problems).toEqual([]);
    }
    await using again = Emdb.open(path, options);
    expectAll(again);
  });
}
