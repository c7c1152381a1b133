/** What is at the place of a lock or an image and is none is neither followed, written over nor removed. */

import { expect, test } from "bun:test";
import { existsSync, lstatSync, readFileSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";

const TEXTS = ["my own notes", '{"a":1}', "\u00e9t\u00e9\n", "n".repeat(4096), "n".repeat(5000)];

// Under Wine `symlinkSync` makes nothing and says nothing.
test.skipIf(process.platform === "win32")(
  "a lock file that is a symbolic link is not followed, wherever it leads",
  async () => {
    using folder = temporaryFolder();
    const victim = folder.file("victim.txt");
    writeFileSync(victim, "precious\n".repeat(5));
    const record = JSON.stringify({ pid: 1, hostname: "h", acquiredAtMs: 1, packageVersion: "1" });
    writeFileSync(folder.file("record.txt"), record);
    using source = Emdb.open(folder.file("source"));
    for (const target of ["victim.txt", "record.txt", "nothing.txt"]) {
      const path = folder.file(`a ${target}`);
      symlinkSync(folder.file(target), `${path}.lock`);
      const { message } = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
      expect(message).toContain(JSON.stringify(`${path}.lock`));
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(path));
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(path, { force: true }));
      await expectRejects("EMDB_INVALID_CONFIG", source.backupTo(path));
      expect(lstatSync(`${path}.lock`).isSymbolicLink()).toBe(true);
      expect(existsSync(path)).toBe(false);
    }
    expect(readFileSync(victim, "utf8")).toBe("precious\n".repeat(5));
    expect(readFileSync(folder.file("record.txt"), "utf8")).toBe(record);
    expect(existsSync(folder.file("nothing.txt"))).toBe(false);
  },
);

test.each(TEXTS)("a text at the place of a lock stays as it is: %#", async (text) => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  writeFileSync(`${path}.lock`, text);
  using source = Emdb.open(folder.file("source"));
  const { message } = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
  expect(message).toContain(JSON.stringify(`${path}.lock`));
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(path));
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(path, { force: true }));
  await expectRejects("EMDB_INVALID_CONFIG", source.backupTo(path));
  expect(readFileSync(`${path}.lock`, "utf8")).toBe(text);
  expect(existsSync(path)).toBe(false);
});

test("what a power loss may have left of a lock is no obstacle, and is written over only if it is empty or zeros", () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  Emdb.open(path).closeSync();
  const record = readFileSync(`${path}.lock`);
  const rest = (bytes: number): Uint8Array => Buffer.concat([record.subarray(0, bytes), new Uint8Array(20)]);
  for (const left of [new Uint8Array(0), new Uint8Array(100), record.subarray(0, 20), rest(30)]) {
    writeFileSync(`${path}.lock`, left);
    Emdb.open(path).closeSync();
    expect(Emdb.lockHolder(path)?.pid).toBe(process.pid);
  }
  const binary = Uint8Array.of(0, 1, 2, 255, 254, 0);
  writeFileSync(`${path}.lock`, binary);
  {
    using db = Emdb.open(path);
    db.insert("a", "1");
    db.flushSync();
    expect(new Uint8Array(readFileSync(`${path}.lock`))).toEqual(binary);
  }
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(path, { force: true }));
  expect(new Uint8Array(readFileSync(`${path}.lock`))).toEqual(binary);
  truncateSync(`${path}.lock`, 0);
  Emdb.breakLock(path);
  expect(existsSync(`${path}.lock`)).toBe(false);
});

test("a text at the place of the lock of a database that is there is locked as it is", () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  Emdb.open(path).closeSync();
  writeFileSync(`${path}.lock`, "my own notes");
  {
    using db = Emdb.open(path);
    db.insert("a", "1");
  }
  using again = Emdb.open(path);
  expect(again.getText("a")).toBe("1");
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(path));
  expect(readFileSync(`${path}.lock`, "utf8")).toBe("my own notes");
});

test("a text at the place of an image is neither removed nor replaced where there is no database", async () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  writeFileSync(`${path}.hint`, "my own notes");
  const { message } = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
  expect(message).toContain(JSON.stringify(`${path}.hint`));
  using source = Emdb.open(folder.file("source"));
  source.insert("a", "1");
  await expectRejects("EMDB_INVALID_CONFIG", source.backupTo(path));
  expect(readFileSync(`${path}.hint`, "utf8")).toBe("my own notes");
  source.closeSync();
  expect(readdirSync(folder.path).sort()).toEqual(["a.hint", "source", "source.hint", "source.lock"]);
});

test("a text at the place of the image of a database costs an open time only", async () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  {
    using db = Emdb.open(path);
    db.insert("a", "1");
  }
  writeFileSync(`${path}.hint`, "no image");
  {
    using db = Emdb.open(path);
    expect([db.getText("a"), db.recovery.usedCheckpoint]).toEqual(["1", false]);
    db.insert("b", "2");
  }
  const encryption = { key: new Uint8Array(32) };
  await Emdb.enableEncryption(path, encryption);
  using again = Emdb.open(path, { encryption });
  expect(again.getText("b")).toBe("2");
});
