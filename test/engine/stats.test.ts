/** `stats` says the truth at every moment: of the log, of what is dead in it, of records and of the file. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { rmSync, statSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import type { Keyspace } from "../../src/api/types.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { Spaces } from "../../src/engine/spaces.ts";
import { statsOf } from "../../src/engine/stats.ts";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { EXPIRED_LOOKS_MAX } from "../../src/limits.ts";
import { EXTENSION_BYTES_MAX, FRAME_HEADER_BYTES } from "../../src/log/frame.ts";
import { Random } from "../sim/random.ts";
import { CONFIG } from "./open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(60_000);
const NAMES = ["", "a", "b"] as const;
const aligned = (bytes: number): number => Math.ceil(bytes / 8) * 8;

/** Bytes that the live records of a key space need in a log: the frames' lengths, computed by themselves. */
function neededBytes(space: Keyspace): { records: number; bytes: number } {
  let records = 0;
  let bytes = 0;
  for (const [key, value] of space.iter()) {
    const expiry = space.expiresAt(key) === 0 ? 0 : 8;
    expect(expiry).toBeLessThan(EXTENSION_BYTES_MAX);
    bytes += aligned(FRAME_HEADER_BYTES + key.length + value.length + expiry);
    records += 1;
  }
  expect(space.len()).toBe(records);
  return { records, bytes };
}

/** Holds what `stats` says against a walk over everything and against the file. */
function checkStats(db: Emdb): void {
  const stats = db.stats();
  const names = db.listNamespaces();
  let live = 4096;
  let records = 0;
  for (const space of [db, ...names.map((name) => db.namespace(name))]) {
    const needed = neededBytes(space);
    records += needed.records;
    live += needed.bytes;
  }
  for (const name of names) live += aligned(FRAME_HEADER_BYTES + Buffer.byteLength(name));
  expect(stats.liveRecords).toBe(records);
  expect(stats.namespaceCount).toBe(names.length);
  expect(stats.logicalSizeBytes - stats.deadBytes).toBe(live);
  expect(stats.deadBytes).toBeGreaterThanOrEqual(0);
  expect(stats.fileSizeBytes).toBeGreaterThanOrEqual(stats.logicalSizeBytes);
  expect(stats.preallocatedBytes).toBe(stats.fileSizeBytes - stats.logicalSizeBytes);
  if (db.path !== undefined) expect(stats.fileSizeBytes).toBe(statSync(db.path).size);
  else expect(stats.preallocatedBytes).toBe(0);
}

function act(db: Emdb, random: Random): void {
  const name = random.pick(NAMES);
  const space = name === "" ? db : db.namespace(name);
  const key = (): string => `key ${random.below(200)}`;
  const choice = random.below(100);
  if (choice < 45) space.insert(key(), "v".repeat(random.below(200)));
  else if (choice < 55) space.insert(key(), "kept", { expiresAtMs: 4_000_000_000_000 + random.below(1000) });
  else if (choice < 70) space.remove(key());
  else if (choice < 80) space.insertMany(Array.from({ length: 20 }, (): [string, string] => [key(), "batch"]));
  else if (choice < 90) space.removeMany(Array.from({ length: 20 }, key));
  else if (choice < 94) space.clear();
  else if (choice < 96 && name !== "") db.dropNamespace(name);
  else if (choice < 98) db.flushSync();
  else space.insert(key(), new Uint8Array(1_500_000));
}

test.each([1, 2, 3])(
  "after every few random steps, live and dead bytes, counts and sizes add up, seed %d",
  async (seed) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const random = new Random(seed);
    for (let round = 0; round < 3; round += 1) {
      const db = Emdb.open(path);
      checkStats(db);
      for (let step = 0; step < 400; step += 1) {
        act(db, random);
        if (step % 20 === 0) checkStats(db);
      }
      const before = db.stats();
      await db.close();
      const reopened = Emdb.open(path);
      checkStats(reopened);
      const { liveRecords, namespaceCount, logicalSizeBytes, deadBytes } = before;
      expect(reopened.stats()).toMatchObject({ liveRecords, namespaceCount, logicalSizeBytes, deadBytes });
      await reopened.close();
      const reader = Emdb.open(path, { readOnly: true });
      checkStats(reader);
      await reader.close();
    }
  },
);

test("the numbers add up in memory, and an empty database has nothing dead", async () => {
  const db = Emdb.openInMemory();
  expect(db.stats()).toMatchObject({ liveRecords: 0, namespaceCount: 0, logicalSizeBytes: 4096, deadBytes: 0 });
  const random = new Random(4);
  for (let step = 0; step < 400; step += 1) {
    act(db, random);
    if (step % 20 === 0) checkStats(db);
  }
  await db.close();
});

test("after clear and drop all but the header and the namespaces that are left is dead", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"));
  for (const name of NAMES) {
    const space = name === "" ? db : db.namespace(name);
    space.insertMany(Array.from({ length: 100 }, (_, index): [string, string] => [`key ${index}`, "value"]));
    space.clear();
    checkStats(db);
  }
  db.dropNamespace("a");
  checkStats(db);
  const { logicalSizeBytes, deadBytes } = db.stats();
  expect(logicalSizeBytes - deadBytes).toBe(4096 + aligned(FRAME_HEADER_BYTES + 1));
  await db.close();
});

test("expired records count until they are swept, and are dead before", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"));
  for (let index = 0; index < 10; index += 1) db.insert(`key ${index}`, "value", { ttlMs: 0 });
  const before = db.stats();
  expect(before).toMatchObject({ liveRecords: 10, deadBytes: before.logicalSizeBytes - 4096 });
  expect(db.sweepExpired()).toBe(10);
  const after = db.stats();
  expect(after).toMatchObject({ liveRecords: 0, deadBytes: after.logicalSizeBytes - 4096 });
  await db.close();
});

test("an expired record that has rotted is left to the sweep, and counts as live", () => {
  const opened = openMemory(
    { system: hostSystem(), defer: (work) => void setImmediate(work), hasWorkers: false },
    CONFIG,
  );
  const { engine, base } = opened;
  engine.insert(engine.defaultSpace, "key", "value", 1);
  expect(statsOf(engine, base).deadBytes).toBeGreaterThan(0);
  const { lookup } = engine.core;
  lookup.loadAt = () => {
    throw new EmdbError("EMDB_CORRUPTED", "planted");
  };
  expect(statsOf(engine, base).deadBytes).toBe(0);
  Reflect.deleteProperty(lookup, "loadAt");
  opened.leave();
});

test("of very many expired records those that can be looked at in some milliseconds are dead", () => {
  using db = Emdb.openInMemory();
  db.insertMany(
    Array.from({ length: 2 * EXPIRED_LOOKS_MAX }, (_, index) => [`${index}`.padStart(8), "12345678"] as const),
    { ttlMs: 0 },
  );
  const { deadBytes } = db.stats();
  expect(deadBytes).toBe(EXPIRED_LOOKS_MAX * (FRAME_HEADER_BYTES + 8 + 8 + 8));
});

test.each([
  { what: "plain", options: {} },
  { what: "with ranges", options: { rangeScans: true } },
  { what: "encrypted", options: { encryption: { key: new Uint8Array(32).fill(3) } } },
])("what a compaction gives back is what was said to be dead, $what", async ({ options }) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const expectExact = async (db: Emdb): Promise<void> => {
    const before = db.stats();
    await db.compact();
    const after = db.stats();
    expect(before.logicalSizeBytes - after.logicalSizeBytes).toBe(before.deadBytes);
    expect(after.deadBytes).toBe(0);
    expect((await db.verify()).problems).toEqual([]);
  };
  const write = (db: Emdb, round: number): void => {
    for (let index = 0; index < 50; index++) {
      const options = { expiresAtMs: index % 3 === 0 ? 5_000_000_000_000 : 1000 + index };
      db.insert(`short ${index % 40}`, "y".repeat(index), options);
      db.namespace("kept").insert(`short ${index}`, "y", options);
    }
    db.insertMany(Array.from({ length: 1000 }, (_, index) => [`k${index}`, `${round}`.repeat(index % 200)] as const));
    db.insertMany(Array.from({ length: 400 }, (_, index) => [`k${index * 2}`, "w".repeat(99)] as const));
    for (let index = 0; index < 200; index += 1) db.remove(`k${index}`);
    db.namespace("n").insert("a", `${round}`, { expiresAtMs: 4e12 });
    db.namespace(`n${round}`).insert("a", "b");
    if (round % 2 === 0) db.namespace("n").persist("a");
    db.transaction((tx) => (tx.insert("t", "1"), tx.namespace(`t${round}`).insert("z", "1")));
  };
  {
    await using db = Emdb.open(path, options);
    for (let round = 0; round < 4; round += 1) {
      write(db, round);
      if (round % 2 === 1) await expectExact(db);
    }
    write(db, 4);
  }
  // From the image, and from the log alone.
  for (const hasImage of [true, false]) {
    if (!hasImage) rmSync(`${path}.hint`);
    await using db = Emdb.open(path, options);
    const { deadBytes } = db.stats();
    if (hasImage) expect(deadBytes).toBeGreaterThan(0);
    else await expectExact(db);
  }
});

test("stats hold together although another thread writes while they are gathered", () => {
  using db = Emdb.openInMemory();
  db.share();
  db.insertMany(Array.from({ length: 100 }, (_, number): [string, string] => [`key ${number}`, "first"]));
  const counts = Spaces.prototype.counts;
  let writes = 0;
  const spy = spyOn(Spaces.prototype, "counts").mockImplementation(function (this: Spaces, space) {
    // As if another thread did it; at last it pauses.
    if (writes++ < 3) {
      db.insertMany(Array.from({ length: 100 }, (_, number): [string, string] => [`key ${number}`, "again"]));
      if (writes === 2) db.clear();
    }
    return counts.call(this, space);
  });
  const stats = db.stats();
  spy.mockRestore();
  expect(writes).toBeGreaterThan(3);
  expect(stats).toEqual(db.stats());
  checkStats(db);
});
