/** Counters are exact: records as walked, live and dead bytes that make up the log, now and after every way to reopen. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import type { EmdbStats, Keyspace } from "../../src/api/types.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { LATER_MS, stateOf } from "./fixture.ts";
import { readFileSync } from "node:fs";

setDefaultTimeout(120_000);

const framed = (bytes: number): number => Math.ceil((24 + bytes) / 8) * 8;

/** Log bytes that a compacted file would need, by the format. */
function neededBytes(db: Emdb): number {
  const ofSpace = (space: Keyspace): number => {
    let bytes = 0;
    for (const [key, value] of space.iter()) {
      const deadline = space.expiresAt(key) === 0 ? 0 : 8;
      bytes += framed(key.length + deadline + value.length);
    }
    return bytes;
  };
  const named = db.listNamespaces();
  const creations = named.reduce((sum, name) => sum + framed(Buffer.byteLength(name)), 0);
  return (
    HEADER_PAGE_BYTES +
    creations +
    [db, ...named.map((name) => db.namespace(name))].reduce((sum, space) => sum + ofSpace(space), 0)
  );
}

function checkCounts(db: Emdb): EmdbStats {
  stateOf(db);
  const stats = db.stats();
  const named = db.listNamespaces();
  const records = [db, ...named.map((name) => db.namespace(name))].reduce((sum, space) => sum + [...space].length, 0);
  expect(stats).toMatchObject({
    liveRecords: records,
    namespaceCount: named.length,
    rangeScansEnabled: false,
    encrypted: false,
  });
  expect(stats.logicalSizeBytes - stats.deadBytes).toBe(neededBytes(db));
  expect(stats.deadBytes).toBeGreaterThanOrEqual(0);
  expect(stats.preallocatedBytes).toBe(Math.max(0, stats.fileSizeBytes - stats.logicalSizeBytes));
  return stats;
}

function change(db: Emdb, random: Random): void {
  const key = (): string => `key ${random.below(60)}`;
  const value = (): Uint8Array => new Uint8Array(random.below(random.pick([1, 30, 300, 6000])));
  const space: Keyspace = random.chance(0.5) ? db : db.namespace(`space ${random.below(4)}`);
  const entries = Array.from({ length: 1 + random.below(20) }, (): [string, Uint8Array] => [key(), value()]);
  switch (random.below(12)) {
    case 0:
      return void space.insertMany(entries);
    case 1:
      return void space.removeMany(entries.map(([name]) => name));
    case 2:
      return void space.remove(key());
    case 3:
      return random.chance(0.2) ? space.clear() : undefined;
    case 4:
      return void (random.chance(0.3) && db.dropNamespace(`space ${random.below(4)}`));
    case 5:
      return space.insert(key(), value(), { expiresAtMs: LATER_MS });
    case 6:
      return void space.persist(key());
    case 7:
      return void space.update(key(), (current) => (current === undefined ? "new" : undefined));
    case 8:
      return db.transaction((tx) => {
        for (const [name, bytes] of entries) tx.insert(name, bytes);
        tx.namespace("space 1").remove(key());
        tx.remove(key());
      });
    case 9:
      try {
        db.transaction((tx) => {
          tx.insert(key(), "never");
          throw new Error("no");
        });
      } catch {
        return;
      }
      return;
    default:
      return space.insert(key(), value());
  }
}

test.each([1, 2, 3])(
  "live and dead bytes make up the log after random changes, a reopen and a crash (seed %d)",
  (seed) => {
    const random = new Random(seed);
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    for (let round = 0; round < 8; round += 1) {
      const db = Emdb.open(path);
      for (let step = 0; step < 60; step += 1) change(db, random);
      const stats = checkCounts(db);
      const state = stateOf(db);
      db.flushSync();
      const crashed = readFileSync(path);
      db.closeSync();
      const isCrash = random.chance(0.5);
      if (isCrash) writeFileSync(path, crashed);
      const again = Emdb.open(path);
      expect(stateOf(again)).toBe(state);
      const after = checkCounts(again);
      expect([after.logicalSizeBytes, after.deadBytes]).toEqual([stats.logicalSizeBytes, stats.deadBytes]);
      again.closeSync();
    }
  },
);

test("in memory, live and dead bytes make up the log as well", () => {
  const random = new Random(9);
  const db = Emdb.openInMemory();
  for (let step = 0; step < 500; step += 1) {
    change(db, random);
    if (step % 25 === 0) checkCounts(db);
  }
  checkCounts(db);
  db.closeSync();
});

test("clearing everything leaves nothing live, and a clean close reserves no space", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let db = Emdb.open(path);
  expect(db.stats()).toMatchObject({ liveRecords: 0, deadBytes: 0, logicalSizeBytes: HEADER_PAGE_BYTES });
  db.insertMany(Array.from({ length: 1000 }, (_, index): [string, string] => [`${index}`, "x".repeat(100)]));
  db.clear();
  expect(db.stats().logicalSizeBytes - db.stats().deadBytes).toBe(HEADER_PAGE_BYTES);
  db.closeSync();
  const size = readFileSync(path).length;
  db = Emdb.open(path);
  expect(size - db.stats().logicalSizeBytes).toBeLessThanOrEqual(24);
  db.closeSync();
});

test("an expired record is counted until it is swept, and its bytes with it", () => {
  const db = Emdb.openInMemory();
  db.insert("stays", "x");
  db.insert("expired", "x", { ttlMs: 0 });
  expect([db.len(), db.stats().liveRecords, [...db].length]).toEqual([2, 2, 1]);
  expect(db.sweepExpired()).toBe(1);
  expect([db.len(), db.stats().liveRecords, [...db].length]).toEqual([1, 1, 1]);
  expect(db.stats().logicalSizeBytes - db.stats().deadBytes).toBe(neededBytes(db));
  db.closeSync();
});

test("1000 empty namespaces cost under 1 KiB of index each", () => {
  const db = Emdb.openInMemory();
  const before = db.stats().indexBytes;
  for (let index = 0; index < 1000; index += 1) db.namespace(`space ${index}`);
  expect((db.stats().indexBytes - before) / 1000).toBeLessThan(1024);
  db.closeSync();
});

test("however many empty namespaces there are, each costs at most 128 bytes of index", () => {
  using db = Emdb.openInMemory();
  const before = db.stats().indexBytes;
  let count = 0;
  for (const until of [1000, 4000, 9000, 17_000, 33_000]) {
    for (; count < until; count += 1) db.namespace(`space ${count}`);
    expect((db.stats().indexBytes - before) / count).toBeLessThanOrEqual(128);
  }
});

test("the index gives its memory back after a mass removal", () => {
  const db = Emdb.openInMemory();
  const keys = Array.from({ length: 200_000 }, (_, index) => `key ${index}`);
  const empty = db.stats().indexBytes;
  db.insertMany(keys.map((key): [string, string] => [key, ""]));
  const full = db.stats().indexBytes;
  expect((full - empty) / keys.length).toBeLessThanOrEqual(16);
  db.removeMany(keys.slice(1000));
  const after = db.stats().indexBytes;
  expect(after).toBeLessThan(full / 2);
  db.closeSync();
});
