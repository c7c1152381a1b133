/** One file under two names is one database: whoever comes second by the other name is refused. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { linkSync, readdirSync, renameSync, rmSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { startChild } from "./processes.ts";

setDefaultTimeout(120_000);
const KEY = new Uint8Array(32).fill(7);

test.each(["group", "write-through"] as const)(
  "a hard link leads to the same lock, also behind a compaction (%s)",
  async (flushPolicy) => {
    using folder = temporaryFolder();
    const [path, other, later] = [folder.file("a"), folder.file("b"), folder.file("c")];
    const db = Emdb.open(path, { flushPolicy });
    db.insert("first", "1");
    db.flushSync();
    linkSync(path, other);
    const names = readdirSync(folder.path).sort();
    const refused = async (name: string): Promise<void> => {
      const { message } = expectCode("EMDB_LOCKED", () => Emdb.open(name));
      expect(message).toContain("another name");
      const { child, said } = await startChild("open", name);
      expect(said).toBe("EMDB_LOCKED");
      await child[Symbol.asyncDispose]();
      await expectRejects("EMDB_LOCKED", Emdb.enableEncryption(name, { key: KEY }));
      await expectRejects("EMDB_LOCKED", Emdb.salvage(name, folder.file("saved")));
      expect(readdirSync(folder.path).sort()).toEqual(names);
    };
    await refused(other);
    {
      using reader = Emdb.open(other, { readOnly: true, createIfMissing: false });
      expect(reader.getText("first")).toBe("1");
    }
    await db.compact();
    linkSync(path, later);
    names.push("c");
    await refused(later);
    db.insert("second", "2");
    await db.backupTo(folder.file("copy"));
    db.closeSync();
    using again = Emdb.open(later);
    expect([again.getText("first"), again.getText("second")]).toEqual(["1", "2"]);
    expectCode("EMDB_LOCKED", () => Emdb.open(path));
  },
);

test("a database that was moved while it was open is the same one", () => {
  using folder = temporaryFolder();
  const [path, moved] = [folder.file("a"), folder.file("b")];
  const db = Emdb.open(path);
  db.insert("first", "1");
  db.flushSync();
  if (process.platform === "win32") linkSync(path, moved);
  else renameSync(path, moved);
  expectCode("EMDB_LOCKED", () => Emdb.open(moved));
  db.closeSync();
  using again = Emdb.open(moved);
  expect(again.getText("first")).toBe("1");
});

// Windows lets nobody remove a file that somebody has open.
test.skipIf(process.platform === "win32")(
  "who has broken a lock gets the file that the robbed one still has open, again and again, and nobody else does",
  async () => {
    using folder = temporaryFolder();
    const [path, other] = [folder.file("a"), folder.file("b")];
    const robbed = Emdb.open(path);
    robbed.insert("first", "1");
    robbed.flushSync();
    linkSync(path, other);
    Emdb.breakLock(path, { force: true });
    expect(Emdb.lockHolder(path)).toBeUndefined();
    for (let round = 0; round < 2; round++) {
      const { child, said } = await startChild("write and hold", path);
      expect(said).toBe("written");
      expect(Emdb.lockHolder(path)).toMatchObject({ pid: child.pid, isHeld: true });
      expectCode("EMDB_LOCKED", () => robbed.insert("more", "x"));
      expectCode("EMDB_LOCKED", () => Emdb.open(other));
      await child.kill();
      await child[Symbol.asyncDispose]();
    }
    expectCode("EMDB_LOCKED", () => robbed.closeSync());
    using again = Emdb.open(other);
    expect(again.getText("flushed")).toBe("by the child");
  },
);

// Windows lets nobody remove a file that somebody has open.
test.skipIf(process.platform === "win32")(
  "to break the lock of one name takes nothing from whoever has the file under another name",
  async () => {
    using folder = temporaryFolder();
    const [path, other] = [folder.file("a"), folder.file("b")];
    Emdb.open(path).closeSync();
    linkSync(path, other);
    using db = Emdb.open(other);
    const refused = async (name: string): Promise<void> => {
      Emdb.breakLock(name, { force: true });
      const { child, said } = await startChild("open", name);
      await child[Symbol.asyncDispose]();
      expect(said).toBe("EMDB_LOCKED");
      db.insert("still", "ours");
      db.flushSync();
    };
    // With the lock file that the last holder left, and with none.
    await refused(path);
    await refused(path);
    rmSync(other);
    renameSync(path, folder.file("c"));
    await refused(folder.file("c"));
  },
);

test("a database whose views are still held may be opened again, and its lock goes with its close", () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  const db = Emdb.open(path);
  db.insert("long", new Uint8Array(2_000_000).fill(7));
  db.flushSync();
  const view = db.getZeroCopy("long")!;
  db.closeSync();
  using again = Emdb.open(path);
  expect(again.getZeroCopy("long")![0]).toBe(view[1_999_999]);
});
