/** Two databases whose files have each other's names: neither is ever written over by the other's lock or image. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";

function make(path: string, text: string): void {
  using db = Emdb.open(path);
  db.insert("what", text);
}

function read(path: string): string | undefined {
  using db = Emdb.open(path);
  return db.getText("what");
}

test.each([".lock", ".hint"])(
  "a database named as another one's %s is there first, and stays as it is",
  async (ending) => {
    using folder = temporaryFolder();
    const [path, other] = [folder.file(`a${ending}`), folder.file("a")];
    make(path, "first");
    const [bytes, names] = [readFileSync(path), readdirSync(folder.path).sort()];
    const { message } = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(other));
    expect(message).toContain(`a${ending}`);
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(other, { encryption: { key: new Uint8Array(32) } }));
    if (ending === ".lock") {
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(other));
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(other, { force: true }));
    }
    make(folder.file("source"), "source");
    using source = Emdb.open(folder.file("source"));
    await expectRejects("EMDB_INVALID_CONFIG", source.backupTo(other));
    source.closeSync();
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.salvage(folder.file("source"), other));
    expect(existsSync(other)).toBe(false);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    expect(
      readdirSync(folder.path)
        .filter((name) => !name.startsWith("source"))
        .sort(),
    ).toEqual(names);
    expect(read(path)).toBe("first");
  },
);

// Windows and macOS find a file under its name in capitals.
test.each([".lock", ".hint", ".HINT"])(
  "a database is there first, and none can be made where its %s is",
  async (ending) => {
    using folder = temporaryFolder();
    const path = folder.file("a");
    const db = Emdb.open(path);
    db.insert("what", "first");
    db.flushSync();
    const other = `${path}${ending}`;
    if (ending === ".lock") expectCode("EMDB_NOT_A_DATABASE", () => Emdb.open(other));
    else expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(other));
    make(folder.file("source"), "source");
    using source = Emdb.open(folder.file("source"));
    await source.backupTo(folder.file("b.emdb"));
    if (ending !== ".lock") await expectRejects("EMDB_INVALID_CONFIG", source.backupTo(other));
    db.closeSync();
    expect(read(path)).toBe("first");
  },
);

test("a long file of somebody else's at the place of the lock is neither locked nor shortened", () => {
  using folder = temporaryFolder();
  const text = "a lock file of another program\n".repeat(200);
  writeFileSync(folder.file("a.lock"), text);
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(folder.file("a")));
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.breakLock(folder.file("a"), { force: true }));
  expect(readFileSync(folder.file("a.lock"), "utf8")).toBe(text);
  expect(readdirSync(folder.path)).toEqual(["a.lock"]);
});
