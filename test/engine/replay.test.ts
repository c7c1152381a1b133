/** A log of many groups of replay, without its image, gives the index that the writer had. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { EngineFixture } from "./engine-fixture.ts";

setDefaultTimeout(300_000);
const WRITES = emulator === undefined ? 150_000 : 10_000;
/** So many that pages that are not full yet weigh little. */
const WRITES_TO_WEIGH = emulator === undefined ? 150_000 : 20_000;

/** Index memory that is there however few records there are: 64 KiB each of the table of namespaces and of free pages. */
const FIXED_BYTES = 2 * 65_536;

/** What a run writes: how many different keys, in how many key spaces, and how often it removes. */
const shapes = [
  { name: "new keys alone", keys: 2 ** 31, spaces: 1, removal: 0 },
  { name: "a few keys over and over", keys: 700, spaces: 1, removal: 0.3 },
  { name: "half of it overwritten or removed", keys: WRITES / 2, spaces: 1, removal: 0.2 },
  { name: "new keys, of which some are removed and come back", keys: WRITES * 2, spaces: 1, removal: 0.1 },
  { name: "five key spaces in turn", keys: WRITES / 5, spaces: 5, removal: 0.1 },
];

function write(fixture: EngineFixture, shape: (typeof shapes)[number], random: Random, count = WRITES): void {
  const { engine } = fixture;
  const spaces = [engine.defaultSpace];
  for (let number = 1; number < shape.spaces; number += 1) spaces.push(engine.spaceNamed(`space ${number}`));
  for (let done = 0; done < count;) {
    const space = random.pick(spaces);
    const key = (): string => `key ${random.below(shape.keys)}`;
    if (random.chance(0.001)) {
      const keys = [...new Set(Array.from({ length: 1 + random.below(3000) }, key))];
      if (random.chance(shape.removal)) engine.removeMany(space, keys);
      else {
        const values = keys.map((one) => `${one} ${done}`);
        engine.insertMany(space, keys, values, 0);
      }
      done += keys.length;
    } else {
      const expiresAtMs = random.chance(0.01) ? 9e12 : 0;
      if (random.chance(shape.removal)) engine.remove(space, key());
      else engine.insert(space, key(), `value ${done}`, expiresAtMs);
      done += 1;
    }
  }
}

test.each(shapes)("replayed, $name are what they were, counts and live bytes too", (shape) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let before = "";
  {
    using fixture = new EngineFixture(path, hostSystem());
    write(fixture, shape, new Random(81));
    before = fixture.state();
  }
  rmSync(`${path}.hint`);
  using again = new EngineFixture(path, hostSystem(), { verifyReads: true });
  expect(again.opened.base.recovery.usedCheckpoint).toBe(false);
  expect(again.state() === before).toBe(true);
  again.checkLiveBytes();
});

test("a batch without its end is taken back, its removals too, however many new keys came behind them", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const [many, removed, added] = emulator === undefined ? [100_000, 70_000, 120_000] : [2000, 1000, 2000];
  let before = "";
  {
    using fixture = new EngineFixture(path, hostSystem());
    const { engine } = fixture;
    const space = engine.defaultSpace;
    const keys = Array.from({ length: many }, (_, index) => `key ${index}`);
    engine.insertMany(space, keys, keys, 0);
    before = fixture.state();
    const write = { space, expiresAtMs: 0 };
    engine.writeBatch([
      ...keys.slice(0, removed).map((key) => ({ ...write, key, value: undefined })),
      ...Array.from({ length: added }, (_, index) => ({ ...write, key: `new ${index}`, value: "x" })),
    ]);
  }
  rmSync(`${path}.hint`);
  truncateSync(path, statSync(path).size - 60);
  using again = new EngineFixture(path, hostSystem());
  expect(again.opened.base.recovery.tornBytes).toBeGreaterThan(0);
  expect(again.state() === before).toBe(true);
});

test("deadlines of new keys behind many removals are all in the queue, for a sweep to find", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const many = 3000;
  {
    using db = Emdb.open(path);
    const keys = Array.from({ length: many }, (_, index) => `far ${index}`);
    db.insertMany(
      keys.map((key) => [key, "x"] as const),
      { expiresAtMs: 9e12 },
    );
    db.removeMany(keys.slice(1700));
    // What has been read goes into the index. The queue has more stale entries than it is to have, behind the live ones.
    db.namespace("other");
    db.insertMany(
      keys.map((key) => [`near ${key}`, "x"] as const),
      { expiresAtMs: 1 },
    );
  }
  rmSync(`${path}.hint`);
  using db = Emdb.open(path);
  expect(db.recovery.usedCheckpoint).toBe(false);
  expect(db.sweepExpired()).toBe(many);
  expect(db.len()).toBe(1700);
});

test("an index that was replayed takes no more memory for a record than one that was written", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using fixture = new EngineFixture(path, hostSystem());
    write(fixture, shapes[0]!, new Random(82), WRITES_TO_WEIGH);
  }
  rmSync(`${path}.hint`);
  using again = new EngineFixture(path, hostSystem());
  const { engine } = again;
  const bytes = engine.core.heap.bytes - FIXED_BYTES;
  expect(bytes / engine.count(engine.defaultSpace)).toBeLessThan(15);
});

test("the first record of an empty key space loses no counts of the shard before it", async () => {
  using folder = temporaryFolder();
  const [path, copy] = [folder.file("data.emdb"), folder.file("copy.emdb")];
  await using db = Emdb.open(path);
  const other = db.namespace("other");
  for (let index = 0; index < 20; index += 1) db.insert(`key ${index}`, "x");
  // Removals are replayed one by one, in groups, and what they count is written behind the last of them.
  for (let index = 10; index < 20; index += 1) db.remove(`key ${index}`);
  other.insert("x", "y");
  db.flushSync();
  copyFileSync(path, copy);
  {
    await using replayed = Emdb.open(copy);
    expect((await replayed.verify()).problems).toEqual([]);
    for (let index = 0; index < 10; index += 1) replayed.remove(`key ${index}`);
    expect((await replayed.verify()).problems).toEqual([]);
  }
  using again = Emdb.open(copy);
  expect(again.recovery.usedCheckpoint).toBe(true);
});
