/** What stands at a name that a database would use for a file of its own, and is not its own, stays as it is. */

import { expect, test } from "bun:test";
import { copyFileSync, existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { compactPath, createPath, newHintPath, newPath, salvagePath } from "../../src/engine/files/siblings.ts";
import { Emdb } from "../../src/index.ts";
import { spareNames } from "../../src/log/free-name.ts";
import { fileIdOf } from "../../src/log/header.ts";
import { emulator, sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";

const KEY = new Uint8Array(32).fill(7);
const DRAFTS = [".emdb-new", ".emdb-compact", ".emdb-compact-moves", ".emdb-replaced", ".emdb-replaced-1", ".hint.new"];
const ALL = [...DRAFTS, ".emdb-compact-gone", ".hint.new-gone", ".emdb-backup", ".emdb-backup-moves", ".emdb-salvage"];
/** One of each kind, for an emulator. */
const SOME = emulator === undefined ? ALL : ALL.filter((_, index) => index % 3 === 0);

function fill(db: Emdb, count: number): void {
  for (let index = 0; index < count; index++) db.insert(`key ${index}`, "v".repeat(100));
}

/** Everything that a database does with the names beside it. */
async function live(path: string): Promise<void> {
  const db = Emdb.open(path);
  fill(db, 200);
  await db.compact();
  await db.checkpoint();
  await db.close();
  Emdb.open(path).closeSync();
  await Emdb.enableEncryption(path, { key: KEY });
  Emdb.open(path, { encryption: { key: KEY } }).closeSync();
  await Emdb.disableEncryption(path, { key: KEY });
  using again = Emdb.open(path);
  expect(again.len()).toBe(200);
  await again.compact();
}

/** What another database does with the names beside the place where it puts a copy. */
async function copyTo(target: string, source: string): Promise<void> {
  {
    using db = Emdb.open(source);
    fill(db, 200);
    await db.backupTo(target);
    await db.backupTo(target);
  }
  await Emdb.salvage(source, `${target}.saved`);
}

test.each(ALL)("a text at a database's %s stays through all that it does", async (ending) => {
  using folder = temporaryFolder();
  for (const text of sampleOf(["n".repeat(9000), "my own notes"], 1)) {
    const [made, copied] = [folder.file(`made ${text.length}`), folder.file(`copied ${text.length}`)];
    const files = [made, copied, `${copied}.saved`].map((path) => `${path}${ending}`);
    for (const file of files) writeFileSync(file, text);
    await live(made);
    await copyTo(copied, folder.file(`source ${text.length}`));
    for (const file of files) expect([file, readFileSync(file, "utf8")]).toEqual([file, text]);
  }
  const drafts = readdirSync(folder.path).filter((name) => /\.(?:emdb-|hint\.new)/.test(name));
  expect(drafts.filter((name) => !name.endsWith(ending))).toEqual([]);
});

test.each(SOME)("a database at another one's %s keeps what it has, open or closed", async (ending) => {
  using folder = temporaryFolder();
  const path = folder.file(`a${ending}`);
  const db = Emdb.open(path);
  db.insert("what", "precious");
  db.flushSync();
  await live(folder.file("a"));
  db.insert("more", "precious");
  db.flushSync();
  db.closeSync();
  await live(folder.file("a"));
  {
    using again = Emdb.open(path, { createIfMissing: false });
    expect([again.getText("what"), again.getText("more")]).toEqual(["precious", "precious"]);
  }
  await copyTo(folder.file("a"), folder.file("source"));
  using again = Emdb.open(path, { createIfMissing: false });
  expect([again.getText("what"), again.getText("more")]).toEqual(["precious", "precious"]);
});

test("a closed database is not taken for the log that a compaction has replaced", () => {
  using folder = temporaryFolder();
  const path = folder.file("a.emdb-replaced");
  Emdb.open(path).closeSync();
  const bytes = readFileSync(path);
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("a"), { createIfMissing: false }));
  using db = Emdb.open(folder.file("a"));
  expect(db.len()).toBe(0);
  expect(readFileSync(path).equals(bytes)).toBe(true);
});

test("a backup beside its target's place stays when another one is made there", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("source"));
  fill(db, 100);
  const kept = [".emdb-backup", ".emdb-compact", ".emdb-new", ".emdb-replaced"].map((ending) => `copy${ending}`);
  for (const name of kept) await db.backupTo(folder.file(name));
  const bytes = kept.map((name) => readFileSync(folder.file(name)));
  await db.backupTo(folder.file("copy"));
  await live(folder.file("copy"));
  expect(kept.map((name) => existsSync(folder.file(name)) && readFileSync(folder.file(name)))).toEqual(bytes);
});

test.each(ALL)("no database can be made, by an open or a backup, at the %s of one that is there", async (ending) => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  Emdb.open(path).closeSync();
  const names = readdirSync(folder.path).sort();
  const other = `${path}${ending}`;
  const { message } = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(other));
  for (const named of [path, other]) expect(message).toContain(JSON.stringify(named));
  using source = Emdb.open(folder.file("source"));
  await expectRejects("EMDB_INVALID_CONFIG", source.backupTo(other));
  source.closeSync();
  await expectRejects("EMDB_INVALID_CONFIG", Emdb.salvage(folder.file("source"), other));
  expect(
    readdirSync(folder.path)
      .filter((name) => !name.startsWith("source"))
      .sort(),
  ).toEqual(names);
});

test("a salvage that finds every name of a draft taken is refused, and removes none", async () => {
  using folder = temporaryFolder();
  const source = folder.file("source");
  Emdb.open(source).closeSync();
  const names = spareNames(salvagePath(folder.file("target")));
  for (const name of names) writeFileSync(name, "kept");
  const { message } = await expectRejects("EMDB_INVALID_CONFIG", Emdb.salvage(source, folder.file("target")));
  expect(message).toContain(JSON.stringify(names[0]));
  for (const name of names) expect(readFileSync(name, "utf8")).toBe("kept");
  expect(existsSync(folder.file("target"))).toBe(false);
});

test("what a death leaves of a draft is removed by the next open, whatever it holds", () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  const begun = createPath(path);
  writeFileSync(begun, "n".repeat(4096));
  using db = Emdb.open(path);
  fill(db, 200);
  db.closeSync();
  expect(existsSync(begun)).toBe(false);
  const log = { path, fileId: fileIdOf(readFileSync(path)) };
  const drafts = [newPath(log), newHintPath(log), compactPath(log), `${compactPath(log)}-moves`];
  for (const content of ["", "what a power loss has left\n".repeat(1000)]) {
    for (const draft of drafts) writeFileSync(draft, content);
    using again = Emdb.open(path);
    expect(again.len()).toBe(200);
    expect(drafts.filter((draft) => existsSync(draft))).toEqual([]);
  }
});

test("a new log that never got its name is removed by the next open of the one that is there, unless it is longer than ours are", () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  Emdb.open(path).closeSync();
  const begun = createPath(path);
  for (const [bytes, isLeft] of [
    [0, false],
    [4096, false],
    [4097, true],
  ] as const) {
    writeFileSync(begun, "n".repeat(bytes));
    Emdb.open(path, { readOnly: true }).closeSync();
    expect(existsSync(begun)).toBe(true);
    Emdb.open(path).closeSync();
    expect([bytes, existsSync(begun)]).toEqual([bytes, isLeft]);
  }
});

test("a log that is being made has one name beside it wherever its folder is, and others have others", () => {
  const name = basename(createPath("/one/a"));
  expect(basename(createPath("/one/two/a"))).toBe(name);
  expect(name).toMatch(/^a\.emdb-new-[0-9a-f]{16}$/);
  const [first, second] = [name.slice(-16, -8), name.slice(-8)];
  expect(first).not.toBe(second);
  expect(basename(createPath("/one/b")).slice(-16)).not.toBe(name.slice(-16));
});

test("a draft of a database is not opened as one", () => {
  using folder = temporaryFolder();
  const path = folder.file("a");
  Emdb.open(path).closeSync();
  const draft = compactPath({ path, fileId: fileIdOf(readFileSync(path)) });
  copyFileSync(path, draft);
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(draft));
});
