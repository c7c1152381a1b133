/** The messages that a user meets first: each names what it is about, and what to do. */

import { expect, test } from "bun:test";
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ioError } from "../../src/ffi/io-error.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { childCommand, childText } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const KEY = { key: new Uint8Array(32).fill(1) };
const OTHER_KEY = { key: new Uint8Array(32).fill(2) };
const index = join(import.meta.dir, "../../src/index.ts");

function expectWords({ message }: Error, words: readonly string[]): void {
  for (const word of words) expect(message).toContain(word);
}

test("what is no database is told from what could be one", async () => {
  using folder = temporaryFolder();
  const { path } = folder;
  const named = JSON.stringify(path);
  expectWords(
    expectCode("EMDB_NOT_A_DATABASE", () => Emdb.open(path)),
    [named, "folder", "file in it"],
  );
  const salvaging = Emdb.salvage(path, folder.file("saved.emdb"));
  expectWords(await expectRejects("EMDB_NOT_A_DATABASE", salvaging), [named, "folder"]);
  const text = folder.file("notes.txt");
  writeFileSync(text, "notes");
  expectWords(
    expectCode("EMDB_NOT_A_DATABASE", () => Emdb.open(text)),
    [JSON.stringify(text), "give the path"],
  );
  expectWords(
    expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("none/data.emdb"))),
    [JSON.stringify(folder.file("none")), "make it first"],
  );
  const [none, copy] = [folder.file("none.emdb"), folder.file("copy.emdb")];
  const nothing = await expectRejects("EMDB_NOT_FOUND", Emdb.salvage(none, copy));
  expect(nothing.message).toBe(`there is no database at ${JSON.stringify(none)}`);
});

test("a path that begins as one for a shell or as a URL is told what to give instead", () => {
  using folder = temporaryFolder();
  const adviceFor = (path: string): string => expectCode("EMDB_NOT_FOUND", () => Emdb.open(path)).message;
  expect(adviceFor(folder.file("~/data.emdb"))).toContain("homedir()");
  expect(adviceFor(folder.file("~/in/it/data.emdb"))).toContain("homedir()");
  expect(adviceFor(folder.file("none/~/data.emdb"))).toContain("make it first");
  if (process.platform === "win32") return; // where no name holds a colon
  expect(adviceFor(folder.file("file:/data.emdb"))).toContain("new URL(");
});

test("a secret that does not fit says which file, and what is to be passed", () => {
  using folder = temporaryFolder();
  const [sealed, plain] = [folder.file("sealed.emdb"), folder.file("plain.emdb")];
  Emdb.open(sealed, { encryption: KEY }).closeSync();
  Emdb.open(plain).closeSync();
  const open = (path: string, options: OpenOptions) => () => Emdb.open(path, options);
  expectWords(expectCode("EMDB_KEY_MISMATCH", open(sealed, { encryption: OTHER_KEY })), [JSON.stringify(sealed)]);
  const without = expectCode("EMDB_INVALID_CONFIG", open(sealed, {}));
  expectWords(without, [JSON.stringify(sealed), "pass encryption: { key } or { passphrase }"]);
  const needless = expectCode("EMDB_INVALID_CONFIG", open(plain, { encryption: KEY }));
  expectWords(needless, [JSON.stringify(plain), "leave out encryption", "Emdb.enableEncryption"]);
  const another = open(sealed, { encryption: KEY, cipher: "chacha20-poly1305" });
  expectWords(expectCode("EMDB_INVALID_CONFIG", another), ["aes-256-gcm", "leave out cipher"]);
});

test("a database that is refused for damage names what can still be done to it", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using db = Emdb.open(path);
    db.insert("one", "1");
    db.flushSync();
    db.insert("two", "2");
  }
  unlinkSync(`${path}.hint`);
  const bytes = readFileSync(path);
  bytes[HEADER_PAGE_BYTES + 4]! ^= 1;
  writeFileSync(path, bytes);
  const { message } = expectCode("EMDB_CORRUPTED", () => Emdb.open(path));
  expectWords(new Error(message), [JSON.stringify(path), `${HEADER_PAGE_BYTES}`, "Emdb.salvage"]);
  // Nobody can call it: the database is not open.
  expect(message).not.toContain("verify");
});

test("a database that is open elsewhere says where, and how it can be read all the same", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path);
  db.flushSync();
  const script = `
    import { Emdb } from ${JSON.stringify(index)};
    try { Emdb.open(${JSON.stringify(path)}); } catch (error) { console.log(error.message); }`;
  const child = Bun.spawnSync([...childCommand(), "-e", script], { stderr: "inherit" });
  expectWords(new Error(childText(child.stdout)), [
    path.replaceAll("\\", "\\\\"),
    `process ${process.pid}`,
    "readOnly",
  ]);
  const salvaging = Emdb.salvage(path, folder.file("saved.emdb"));
  expectWords(await expectRejects("EMDB_LOCKED", salvaging), [JSON.stringify(path), "close it first"]);
});

test("an error of the system says what it means and what has happened by then, as far as either is known", () => {
  const call = { syscall: "open", path: "/data/x" };
  const told = (errno: number, state?: string): string => ioError(-errno, { ...call, state }).message;
  expect(told(Errno.EACCES)).toStartWith('open on "/data/x" failed: EACCES (no permission');
  expect(told(Errno.EACCES)).not.toContain("mapped");
  expect(told(Errno.EACCES)).toContain("read-only");
  expect(told(Errno.EPERM)).toContain("controlled folder access");
  const renamed = ioError(-Errno.EACCES, { syscall: "rename", path: "/data/x" }).message;
  expect(renamed).toContain("no permission");
  expect(renamed).toContain("another program has open or mapped");
  // As node:fs tells there what is denied.
  const removed = ioError(-Errno.EPERM, { syscall: "unlink", path: "/data/x" }).message;
  expect(removed).toContain("another program has open or mapped");
  expect(told(Errno.EPERM)).not.toContain("mapped");
  expect(told(Errno.ENOSPC)).toContain("make room");
  expect(told(Errno.EMFILE)).toContain("ulimit -n");
  expect(told(Errno.ENOMEM)).toContain("close databases");
  expect(told(Errno.EROFS)).toContain("readOnly");
  expect(told(Errno.EINVAL)).toBe('open on "/data/x" failed: EINVAL');
  expect(told(Errno.EIO, "it is done")).toEndWith("; it is done");
});

test("one more open that disagrees is told so in the caller's own options, and what to do", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using plain = Emdb.open(path);
  const disagrees = (options: OpenOptions, words: readonly string[]): void => {
    const error = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path, options));
    expectWords(error, [JSON.stringify(path), "open already in this thread", "close it first", ...words]);
  };
  disagrees({ defaultTtlMs: 5 }, ["with no defaultTtlMs;", "asks for defaultTtlMs 5;"]);
  disagrees({ sweepIntervalMs: 5 }, ["with no sweepIntervalMs;", "asks for sweepIntervalMs 5;"]);
  disagrees({ rangeScans: true }, ["with rangeScans false;", "asks for rangeScans true;"]);
  disagrees({ verifyReads: true }, ["with verifyReads false;", "asks for verifyReads true;"]);
  disagrees({ autoCompact: { ratio: 0.25, minBytes: 4096 } }, [
    "with autoCompact false;",
    'asks for autoCompact {"ratio":0.25,"minBytes":4096};',
  ]);
  disagrees({ flushPolicy: "write-through" }, ['with flushPolicy "group";', 'asks for flushPolicy "write-through";']);
  disagrees({ flushPolicy: { group: { maxWaitMs: 2, maxBatch: 64 } } }, [
    'asks for flushPolicy {"group":{"maxWaitMs":2,"maxBatch":64}};',
  ]);
  expect(plain.isOpen).toBe(true);
});

test("a token that came from another process names it, whatever the way here has left of the token", () => {
  using db = Emdb.openInMemory();
  // As a message between processes gives it: what they cannot share is an object with nothing in it.
  const token = { ...db.share(), pid: process.pid + 1, buffer: {} };
  expectWords(
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.attach(token)),
    [`process ${process.pid + 1}`, "readOnly"],
  );
});
