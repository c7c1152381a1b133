/** Reads that check what they read, in the file that a compaction has just put into service. */

import { expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
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

test("a key whose own bytes have rotted is told as damage, and keys that are not there are not", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  await using db = Emdb.open(path, { verifyReads: true, rangeScans: true });
  const name = "account 42, of which there is one";
  for (let index = 0; index < 3000; index++) db.insert(`key ${index}`, "value");
  for (let index = 0; index < 3000; index += 3) db.remove(`key ${index}`);
  db.insert(name, "balance 100");
  db.flushSync();
  for (let index = 0; index < 3000; index += 3) expect(db.containsKey(`key ${index}`)).toBe(false);
  for (let index = 0; index < 20_000; index++) expect(db.get(`none ${index}`)).toBeUndefined();
  const at = readFileSync(path).indexOf(name);
  const file = openSync(path, "r+");
  writeSync(file, new Uint8Array([98]), 0, 1, at);
  closeSync(file);
  const calls: Readonly<Record<string, () => unknown>> = {
    get: () => db.get(name),
    getText: () => db.getText(name),
    getZeroCopy: () => db.getZeroCopy(name),
    getMany: () => db.getMany(["key 1", name]),
    containsKey: () => db.containsKey(name),
    expiresAt: () => db.expiresAt(name),
    compareAndSwap: () => db.compareAndSwap(name, undefined, "balance 0"),
    update: () => db.update(name, () => "balance 0"),
    "get in a transaction": () => db.transaction((tx) => tx.get(name)),
  };
  const count = db.len();
  for (const [what, call] of Object.entries(calls)) {
    let code: unknown = "nothing";
    try {
      call();
    } catch (error) {
      code = (error as EmdbError).code;
    }
    expect([what, code]).toEqual([what, "EMDB_CORRUPTED"]);
  }
  expect(db.len()).toBe(count);
});

const COMMON = `b${"x".repeat(30)}`;
const COUNT = 12;

test("a range whose bounds fall beside a key that has rotted is right or told as damage, never short of a record", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  await using db = Emdb.open(path, { verifyReads: true, rangeScans: true });
  // One leaf, in which no few bytes tell the keys apart.
  const names = Array.from({ length: COUNT }, (_, index) => `${COMMON}${String(index).padStart(2, "0")}`);
  db.insertMany(["a", ...names].map((name) => [name, "value"]));
  db.flushSync();
  const bounds = names.flatMap((name) => [{ gte: name }, { gt: name }, { lt: name }, { lte: name }]);
  const ranges = bounds.flatMap((bound) => [
    bound,
    { ...bound, reverse: true },
    { ...bound, limit: 3 },
    { ...bound, limit: 3, reverse: true },
  ]);
  const keysOf = (range: (typeof ranges)[number]): string =>
    [...db.range(range)].map(([key]) => Buffer.from(key).toString()).join(" ");
  const right = ranges.map(keysOf);
  const file = openSync(path, "r+");
  const log = readFileSync(path);
  let told = 0;
  for (const name of names) {
    const at = log.indexOf(name) + COMMON.length - 1;
    for (const byte of [0x21, 0x7e]) {
      writeSync(file, new Uint8Array([byte]), 0, 1, at);
      for (const [index, range] of ranges.entries()) {
        try {
          expect([name, byte, range, keysOf(range)]).toEqual([name, byte, range, right[index]!]);
        } catch (error) {
          if ((error as EmdbError).code !== "EMDB_CORRUPTED") throw error;
          told += 1;
        }
      }
    }
    writeSync(file, log.subarray(at, at + 1), 0, 1, at);
  }
  closeSync(file);
  expect(told).toBeGreaterThan(COUNT);
  expect(ranges.map(keysOf)).toEqual(right);
});
