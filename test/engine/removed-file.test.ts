/** A database whose file is removed or replaced by somebody while it is open: no further handle passes the old one off as what is at the path. */

import { expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

// Windows lets nobody remove a file that is mapped.
const isWindows = process.platform === "win32";

test.skipIf(isWindows).each([
  ["its file is removed", (path: string): void => rmSync(path)],
  [
    "another file takes its place",
    (path: string): void => (copyFileSync(path, `${path}-2`), renameSync(`${path}-2`, path)),
  ],
  [
    "its folder is removed and made again",
    (_path: string, folder: string): void => (rmSync(folder, { recursive: true }), mkdirSync(folder)),
  ],
] as const)("one more handle is refused when %s, and given once the first one is closed", (_, change) => {
  using folder = temporaryFolder();
  const inner = folder.file("inner");
  mkdirSync(inner);
  const path = folder.file("inner/data.emdb");
  const db = Emdb.open(path);
  db.insert("old", "1");
  db.flushSync();
  Emdb.open(path).closeSync();
  change(path, inner);
  expectCode("EMDB_LOCKED", () => Emdb.open(path));
  expect(db.getText("old")).toBe("1");
  try {
    db.closeSync();
  } catch (error) {
    // Of the folder the lock file has gone too.
    expect(error).toMatchObject({ code: "EMDB_LOCKED" });
  }
  using again = Emdb.open(path);
  again.insert("new", "2");
  expect(again.path).toBe(path);
});

test.skipIf(isWindows)(
  "a compaction is refused where another file has taken the log's place, which stays as it is",
  async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const other = folder.file("other.emdb");
    using restored = Emdb.open(other);
    restored.insert("what", "restored");
    restored.closeSync();
    const db = Emdb.open(path);
    for (let key = 0; key < 200; key++) db.insert(`key ${key}`, "x".repeat(500));
    await db.compact();
    renameSync(other, path);
    const names = readdirSync(folder.path).sort();
    await expectRejects("EMDB_LOCKED", db.compact());
    expect(readdirSync(folder.path).sort()).toEqual(names);
    expect(db.len()).toBe(200);
    db.insert("more", "is written");
    db.closeSync();
    using again = Emdb.open(path);
    expect([again.len(), again.getText("what")]).toEqual([1, "restored"]);
  },
);

test("neither one more handle nor a compaction takes what is in the place of a log that was moved away for it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using restored = Emdb.open(folder.file("other.emdb"));
  restored.insert("what", "restored");
  restored.closeSync();
  const db = Emdb.open(path);
  // The log in service has been given its name by a compaction, or was made with it.
  for (const isCompacted of [false, true]) {
    for (let key = 0; key < 200; key++) db.insert(`key ${key}`, "x".repeat(500));
    if (isCompacted) await db.compact();
    renameSync(path, folder.file("moved.emdb"));
    renameSync(folder.file("other.emdb"), path);
    const names = readdirSync(folder.path).sort();
    expectCode("EMDB_LOCKED", () => Emdb.open(path));
    await expectRejects("EMDB_LOCKED", db.compact());
    expect(readdirSync(folder.path).sort()).toEqual(names);
    renameSync(path, folder.file("other.emdb"));
    renameSync(folder.file("moved.emdb"), path);
  }
  Emdb.open(path).closeSync();
  await db.compact();
  db.closeSync();
  using again = Emdb.open(path);
  using other = Emdb.open(folder.file("other.emdb"));
  expect([again.len(), other.getText("what")]).toEqual([200, "restored"]);
});

test.skipIf(isWindows)(
  "a removed database that is still open is saved by a backup, and put back by a compaction",
  async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path);
    for (let key = 0; key < 200; key++) db.insert(`key ${key}`, "x");
    await db.flush();
    rmSync(path);
    db.insert("more", "is written");
    await db.flush();
    await db.backupTo(folder.file("backup.emdb"));
    expect(existsSync(path)).toBe(false);
    await db.compact();
    db.insert("behind", "it");
    db.closeSync();
    for (const [name, count] of [["backup.emdb", 201] as const, ["data.emdb", 202] as const]) {
      using saved = Emdb.open(folder.file(name));
      expect([name, saved.len(), saved.getText("more")]).toEqual([name, count, "is written"]);
    }
  },
);

test("one more handle is given in the middle of compactions", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path);
  for (let round = 0; round < 10; round++) {
    for (let key = 0; key < 200; key++) db.insert(`key ${key}`, "x".repeat(500));
    const compacted = db.compact();
    for (let turn = 0; turn < 5; turn++) {
      Emdb.open(path).closeSync();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await compacted;
    using other = Emdb.open(path);
    expect(other.len()).toBe(200);
  }
});
