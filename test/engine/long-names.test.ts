/**
 * Databases whose names leave too little room for the names beside them: none is made, and one that is there is used as far
 * as it goes.
 */

import { expect, test } from "bun:test";
import { readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { Emdb, type EmdbError } from "../../src/index.ts";
import { FILE_NAME_BYTES_MAX } from "../../src/limits.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { emulator, testUnlessExcepted } from "../support/platform.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";

const KEY = { key: new Uint8Array(32).fill(7) };
const NEW_KEY = { key: new Uint8Array(32).fill(8) };

/** The lock and the image fit beside it, the draft of an image does not. */
const LONG = 249;

/** Wine tells the real path of no more than 259 characters: there it is a folder at the root. */
function nearbyFolder(): TemporaryFolder {
  return emulator === "wine" ? temporaryFolder("C:\\e") : temporaryFolder();
}

function named(folder: TemporaryFolder, length: number): string {
  return folder.file("n".repeat(length));
}

/** A database with two records whose name is as long as that; it was made under a shorter one. */
function madeEarlier(folder: TemporaryFolder, length: number, encryption?: typeof KEY): string {
  const short = folder.file(`short-${length}.emdb`);
  {
    using db = Emdb.open(short, { ...(encryption === undefined ? {} : { encryption }) });
    db.insert("one", "1");
    db.insert("two", "2");
  }
  const path = named(folder, length);
  renameSync(short, path);
  if (length + 5 <= 255) renameSync(`${short}.hint`, `${path}.hint`);
  return path;
}

/** Value, limit and remedy are in the message. */
function expectRemedy({ message, path }: EmdbError, length: number): void {
  expect(message).toContain(`has ${length} `);
  expect(message).toContain(`up to ${FILE_NAME_BYTES_MAX} `);
  expect(message).toContain("rename the file");
  expect(basename(path ?? "")).toHaveLength(length);
}

function contents(path: string, encryption?: typeof KEY): (string | undefined)[] {
  using db = Emdb.open(path, { readOnly: true, ...(encryption === undefined ? {} : { encryption }) });
  return [...["one", "two", "three"].map((key) => db.getText(key)), String(db.len())];
}

test("no database is made under a name that leaves no room for those beside it, by whichever call", async () => {
  using folder = nearbyFolder();
  const tooLong = named(folder, FILE_NAME_BYTES_MAX + 1);
  const longest = named(folder, FILE_NAME_BYTES_MAX);
  using db = Emdb.open(folder.file("data.emdb"));
  db.flushSync();
  const errors = [
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(tooLong)),
    await expectRejects("EMDB_INVALID_ARGUMENT", db.backupTo(tooLong)),
  ];
  await db.backupTo(longest);
  errors.push(await expectRejects("EMDB_INVALID_ARGUMENT", Emdb.salvage(longest, tooLong)));
  for (const { message } of errors) {
    expect(message).toContain(`has ${FILE_NAME_BYTES_MAX + 1} `);
    expect(message).toContain(`the limit is ${FILE_NAME_BYTES_MAX}`);
  }
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(tooLong, { createIfMissing: false }));
  // An empty file would be made a database.
  writeFileSync(tooLong, "");
  expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(tooLong));
  expect(readdirSync(folder.path).filter((name) => name.startsWith(basename(tooLong)))).toEqual([basename(tooLong)]);
});

test("under the longest name everything is done", async () => {
  using folder = nearbyFolder();
  const path = named(folder, FILE_NAME_BYTES_MAX);
  {
    using db = Emdb.open(path);
    for (let round = 0; round < 100; round++) db.insert("one", `${round}`);
    await db.compact();
    await db.checkpoint();
  }
  await Emdb.enableEncryption(path, KEY);
  await Emdb.salvage(path, `${path.slice(0, -1)}s`, { encryption: KEY });
  using db = Emdb.open(path, { encryption: KEY });
  expect(db.getText("one")).toBe("99");
});

test("a path that no system takes is refused with its length", async () => {
  using folder = nearbyFolder();
  const path = named(folder, 300);
  expect(expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(path)).message).toContain("300");
  const target = Emdb.open(folder.file("data.emdb"));
  expect((await expectRejects("EMDB_INVALID_ARGUMENT", target.backupTo(path))).message).toContain("300");
  target.closeSync();
});

test("a database that has a longer name is opened, written, verified, backed up and closed", async () => {
  using folder = nearbyFolder();
  for (const length of [FILE_NAME_BYTES_MAX + 1, LONG]) {
    const path = madeEarlier(folder, length);
    expect(contents(path)).toEqual(["1", "2", undefined, "2"]);
    const db = Emdb.open(path);
    expect([db.recovery.usedCheckpoint, db.getText("one")]).toEqual([true, "1"]);
    db.insert("three", "3");
    db.flushSync();
    expect(Emdb.lockHolder(path)?.isHeld).toBe(true);
    expect((await db.verify()).problems).toEqual([]);
    await db.backupTo(folder.file(`backup-${length}.emdb`));
    await db.close();
    expect(Emdb.lockHolder(path)?.isHeld).toBe(false);
    Emdb.breakLock(path);
    for (const there of [path, folder.file(`backup-${length}.emdb`)])
      expect(contents(there)).toEqual(["1", "2", "3", "3"]);
  }
});

test("work that needs a longer name than there can be says so and does nothing", async () => {
  using folder = nearbyFolder();
  const length = LONG;
  const path = madeEarlier(folder, length);
  {
    using db = Emdb.open(path, { autoCompact: { ratio: 0.1, minBytes: 1 } });
    db.insert("three", "3");
    expectRemedy(await expectRejects("EMDB_INVALID_CONFIG", db.compact()), length);
    expectRemedy(await expectRejects("EMDB_INVALID_CONFIG", db.checkpoint()), length);
    db.insert("two", "2");
  }
  expectRemedy(await expectRejects("EMDB_INVALID_CONFIG", Emdb.enableEncryption(path, KEY)), length);
  expect(contents(path)).toEqual(["1", "2", "3", "3"]);
  expect(readdirSync(folder.path).filter((name) => !name.startsWith("n") && !name.startsWith("short"))).toEqual([]);
});

test("an encrypted one is given another secret, and salvaged", async () => {
  using folder = nearbyFolder();
  const path = madeEarlier(folder, LONG, KEY);
  await Emdb.rotateEncryptionKey(path, KEY, NEW_KEY);
  expectRemedy(await expectRejects("EMDB_INVALID_CONFIG", Emdb.disableEncryption(path, NEW_KEY)), LONG);
  expect(contents(path, NEW_KEY)).toEqual(["1", "2", undefined, "2"]);
  const target = folder.file("saved.emdb");
  expect(await Emdb.salvage(path, target, { encryption: NEW_KEY })).toEqual({ recoveredRecords: 2, lostRanges: [] });
  expect(contents(target, NEW_KEY)).toEqual(["1", "2", undefined, "2"]);
});

testUnlessExcepted("one beside which there is no room for its lock is only read, and salvaged", async () => {
  using folder = nearbyFolder();
  const length = 255;
  const path = madeEarlier(folder, length);
  const error = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
  expectRemedy(error, length);
  expect(error.message).toContain("readOnly");
  expectRemedy(await expectRejects("EMDB_INVALID_CONFIG", Emdb.enableEncryption(path, KEY)), length);
  expect(contents(path)).toEqual(["1", "2", undefined, "2"]);
  expect(Emdb.lockHolder(path)).toBeUndefined();
  Emdb.breakLock(path);
  Emdb.breakLock(path, { force: true });
  const target = folder.file("saved.emdb");
  expect(await Emdb.salvage(path, target)).toEqual({ recoveredRecords: 2, lostRanges: [] });
  using db = Emdb.open(path, { readOnly: true });
  await db.backupTo(folder.file("backup.emdb"));
  expect(contents(folder.file("backup.emdb"))).toEqual(["1", "2", undefined, "2"]);
});

test.skipIf(process.platform === "win32")("the name that counts is the one behind a link", async () => {
  using folder = nearbyFolder();
  using elsewhere = temporaryFolder();
  const long = madeEarlier(folder, LONG);
  const short = elsewhere.file("short.emdb");
  symlinkSync(long, short);
  {
    using db = Emdb.open(short);
    db.insert("three", "3");
    expectRemedy(await expectRejects("EMDB_INVALID_CONFIG", db.compact()), LONG);
  }
  expect(contents(short)).toEqual(["1", "2", "3", "3"]);
  const nowhere = elsewhere.file("nowhere.emdb");
  symlinkSync(named(folder, FILE_NAME_BYTES_MAX + 1), nowhere);
  expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(nowhere));
  const link = named(elsewhere, 255);
  symlinkSync(folder.file("data.emdb"), link);
  using db = Emdb.open(link);
  db.insert("one", "1");
  await db.compact();
  await db.checkpoint();
  await expectRejects("EMDB_INVALID_ARGUMENT", db.backupTo(nowhere));
  expect(basename(db.path ?? "")).toBe("data.emdb");
});

test.skipIf(process.platform === "win32")("what fits beside a name is done to the byte", async () => {
  using folder = temporaryFolder();
  for (const [length, compacts, checkpoints] of [
    [219, true, true],
    [220, false, true],
    [229, false, true],
    [230, false, false],
  ] as const) {
    const path = madeEarlier(folder, length);
    using db = Emdb.open(path);
    const isDone = async (work: Promise<void>): Promise<boolean> =>
      work.then(
        () => true,
        (error: unknown) => {
          if ((error as EmdbError).code !== "EMDB_INVALID_CONFIG") throw error;
          return false;
        },
      );
    expect([length, await isDone(db.compact())]).toEqual([length, compacts]);
    db.insert("three", "3");
    expect([length, await isDone(db.checkpoint())]).toEqual([length, checkpoints]);
    db.closeSync();
    expect([length, await isDone(Emdb.enableEncryption(path, KEY))]).toEqual([length, checkpoints]);
  }
});
