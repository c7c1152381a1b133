import { expect, setDefaultTimeout, test } from "bun:test";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { openFile } from "./open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(60_000);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const VALUE = new Uint8Array(1000);

/** Turns until something holds; the test's timeout ends what never does. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

function overwrite(db: Emdb, times: number): void {
  for (let time = 0; time < times; time += 1) for (let key = 0; key < 100; key += 1) db.insert(`key ${key}`, VALUE);
}

test("a log that is overwritten stays as small as autoCompact says", async () => {
  using folder = temporaryFolder();
  await using db = Emdb.open(folder.file("data.emdb"), { autoCompact: { ratio: 0.5, minBytes: 500_000 } });
  for (let round = 0; round < 20; round += 1) {
    overwrite(db, 5);
    await until(() => db.stats().logicalSizeBytes < 1_500_000);
  }
  expect(db.len()).toBe(100);
  expect((await db.verify()).problems).toEqual([]);
});

test("a log in memory is compacted by itself as well", async () => {
  using db = Emdb.openInMemory({ autoCompact: { minBytes: 500_000 } });
  overwrite(db, 20);
  await until(() => db.stats().logicalSizeBytes < 500_000);
  expect(db.get("key 99")).toEqual(VALUE);
});

test("a clear of much is enough to begin", async () => {
  using folder = temporaryFolder();
  await using db = Emdb.open(folder.file("data.emdb"), { autoCompact: { minBytes: 500_000 } });
  db.insertMany(Array.from({ length: 1000 }, (_, key) => [`key ${key}`, VALUE]));
  db.clear();
  await until(() => db.stats().logicalSizeBytes < 10_000);
});

test("while an iterator keeps the file before, it is compacted once, and again when that is over", async () => {
  using folder = temporaryFolder();
  const autoCompact = { ratio: 0.5, bytesMin: 500_000 };
  const { engine, compaction, leave } = openFile(hostSystem(), folder.file("data.emdb"), { autoCompact });
  const { core, defaultSpace: space } = engine;
  const keys = Array.from({ length: 3000 }, (_, key) => `key ${key}`);
  engine.insertMany(
    space,
    keys,
    keys.map(() => VALUE),
    0,
  );
  const walk = engine.snapshot(space);
  walk.next();
  engine.removeMany(space, keys);
  const bases = new Set([core.base]);
  const write = (): void => engine.insert(space, "after", new Uint8Array(100_000), 0);
  await until(() => {
    write();
    return core.base > 0;
  });
  for (let count = 0; count < 500; count += 1) {
    if (count % 10 === 0) write();
    await turn();
    bases.add(core.base);
    expect(core.log.segments.list().length).toBe(1);
  }
  expect(bases.size).toBe(2);
  // There is room for one on request.
  await compaction.run({});
  walk.return();
  await until(() => {
    write();
    return core.tail.end - core.base < 600_000;
  });
  leave();
});

test("below the floor, below the ratio, and without the option nothing is compacted", async () => {
  for (const autoCompact of [{ minBytes: 50_000_000 }, { ratio: 0.99, minBytes: 1 }, false] as const) {
    using folder = temporaryFolder();
    await using db = Emdb.open(folder.file("data.emdb"), { autoCompact });
    overwrite(db, 20);
    const { deadBytes } = db.stats();
    for (let count = 0; count < 50; count += 1) await turn();
    expect(db.stats().deadBytes).toBe(deadBytes);
  }
});

test("a second handle must ask for the same", () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"), { autoCompact: true });
  expect(() => Emdb.open(db.path!)).toThrow("autoCompact");
});
