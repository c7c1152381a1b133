/** What is done behind a spill is done where no spill is due later as well: with "write-through", and in memory. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { CHECKPOINT_GROWTH_BYTES_MIN } from "../../src/limits.ts";
import { canCount, resourcesIn } from "../workers/resources.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { turn, until } from "../support/turns.ts";

setDefaultTimeout(30_000);

const VALUE = new Uint8Array(1024 * 1024);

for (const flushPolicy of ["group", "on-each-flush", "write-through"] as const) {
  test(`a writer makes an image by itself: ${flushPolicy}`, async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    using db = Emdb.open(path, { flushPolicy });
    for (let bytes = 0; bytes < 1.2 * CHECKPOINT_GROWTH_BYTES_MIN; bytes += VALUE.length) {
      db.insert("key", VALUE);
      await turn();
    }
    // Some syncs later; where none is made, the test's timeout ends it.
    await until(() => existsSync(`${path}.hint`));
  });

  test.if(canCount)(
    `writes let go of a file that was replaced, once its iterator has ended: ${flushPolicy}`,
    async () => {
      using folder = temporaryFolder();
      using db = Emdb.open(folder.file("data.emdb"), { flushPolicy });
      for (let index = 0; index < 100; index++) db.insert(`key ${index}`, "value");
      const walk = db.iter();
      walk.next();
      const files = resourcesIn(folder.path).files;
      await db.compact();
      expect(resourcesIn(folder.path).files).toBeGreaterThan(files);
      walk.return?.();
      for (let index = 0; index < 20; index++) {
        db.insert(`key ${index}`, "new");
        await turn();
      }
      expect(resourcesIn(folder.path).files).toBe(files);
    },
  );
}

test.if(canCount)("writes let go of a log in memory that was replaced, once its iterator has ended", async () => {
  const largeOnes = (): number => resourcesIn("/nowhere").largeMappings;
  using db = Emdb.openInMemory();
  for (let index = 0; index < 100; index++) db.insert(`key ${index}`, "value");
  const walk = db.iter();
  walk.next();
  const before = largeOnes();
  await db.compact();
  expect(largeOnes()).toBeGreaterThan(before);
  walk.return?.();
  for (let index = 0; index < 3; index++) {
    db.insert("key", VALUE);
    await turn();
  }
  expect(largeOnes()).toBe(before);
});
