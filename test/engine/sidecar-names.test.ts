/** Two databases whose files have each other's names: neither is ever written over by the other's lock or image. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { encodeHeader } from "../../src/log/header.ts";
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

/** The header page of a log, and what becomes of it. */
function header(change: (page: Uint8Array) => void = () => undefined): Uint8Array {
  const ids = { fileId: new Uint8Array(16).fill(5), generation: 1, createdAtMs: 1 };
  const page = encodeHeader({ ...ids, flags: 0, cipher: 0, madeEnd: 0 }).u8.slice(0, HEADER_PAGE_BYTES);
  change(page);
  return page;
}

/** What stands at the place of an image or of a lock, and whether somebody may have written it there. */
const CONTENTS: readonly (readonly [what: string, bytes: Uint8Array, isTheirs: boolean])[] = [
  ["nothing", new Uint8Array(0), false],
  ["zeros", new Uint8Array(100), false],
  ["a text", Buffer.from("notes"), true],
  ["a text of lines", Buffer.from("a\tb\r\nc\f\v\n"), true],
  ["a text with a bell", Buffer.from("ring \u0007"), false],
  ["a text with a shift out", Buffer.from("so \u000e"), false],
  ["a text of other letters", Buffer.from("na\u00efve \u4f60\u597d \u{1f600}"), true],
  ["bytes that are no text", Uint8Array.of(0xff, 0xfe, 0x41, 0x42), false],
  ["a letter's end without its beginning", Uint8Array.of(0x41, 0xa4, 0x42), false],
  ["a log", header(), true],
  ["a log whose header has rotted", header((page) => (page[20]! ^= 1)), true],
  ["a log of a later format", header((page) => (page[8] = 9)), true],
  ["the beginning of a log, shorter than any", header().subarray(0, 100), false],
];

test.each(CONTENTS)("at the place of an image or a lock %s is taken for what it may be", (_, bytes, isTheirs) => {
  for (const ending of [".lock", ".hint"]) {
    using folder = temporaryFolder();
    const [path, beside] = [folder.file("a"), folder.file(`a${ending}`)];
    writeFileSync(beside, bytes);
    if (isTheirs) {
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
      expect(Uint8Array.from(readFileSync(beside))).toEqual(Uint8Array.from(bytes));
      expect(existsSync(path)).toBe(false);
    } else {
      make(path, "first");
      expect(read(path)).toBe("first");
    }
  }
});

test("a text is one though what is looked at of it ends within a letter", () => {
  using folder = temporaryFolder();
  // Of the image's place a page is looked at.
  for (const over of [1, 2]) {
    const text = `${"n".repeat(4096 - over)}\u4f60 and so on`;
    writeFileSync(folder.file("a.hint"), text);
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(folder.file("a")));
    expect(readFileSync(folder.file("a.hint"), "utf8")).toBe(text);
  }
});
