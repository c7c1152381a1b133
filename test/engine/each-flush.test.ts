/** "on-each-flush": a flush that waits for its turn is not lost when the handle is closed, which flushes. */

import { expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

for (const how of ["close", "closeSync"] as const) {
  test(`flushes that are open at ${how} resolve`, async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path, { flushPolicy: "on-each-flush" });
    const flushes = ["a", "b", "c"].map((key) => {
      db.insert(key, "1");
      return db.flush();
    });
    if (how === "close") await db.close();
    else db.closeSync();
    expect(await Promise.all(flushes)).toEqual([undefined, undefined, undefined]);
    expect(await db.flush().catch((error: unknown) => error)).toMatchObject({ code: "EMDB_CLOSED" });
    using again = Emdb.open(path);
    expect(again.len()).toBe(3);
  });
}
