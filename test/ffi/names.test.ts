import { expect, test } from "bun:test";
import { linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FileStatus } from "../../src/ffi/system.ts";
import { windowsLibraries } from "../../src/ffi/win32.ts";
import { emulator } from "../support/platform.ts";
import { bytesOf, outcome, readText, system, TemporaryFolder } from "./temporary-folder.ts";

const isWindows = process.platform === "win32";

/** Symbolic links need a right of their own on Windows. */
function canLinkSymbolically(): boolean {
  using folder = new TemporaryFolder();
  folder.file("a", "");
  try {
    symlinkSync(folder.at("a"), folder.at("b"));
    return readFileSync(folder.at("b"), "utf8") === "";
  } catch {
    return false;
  }
}

function identityOf(path: string): string {
  const status = system.status(path);
  if (typeof status === "number") throw new Error(outcome(status));
  return status.identity;
}

test("a status tells files from folders and how long they are", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "12345");
  expect(system.status(folder.at("a"))).toMatchObject({ kind: "file", bytes: 5 });
  expect(system.status(folder.path)).toMatchObject({ kind: "folder" });
  expect(outcome(system.status(folder.at("none")))).toBe("ENOENT");
  expect(outcome(system.status(folder.at("a\0")))).toBe("EINVAL");
});

test("a path and an open file have one identity, two files have two", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "12345");
  folder.file("b", "12345");
  expect(system.statusOf(file)).toEqual(system.status(folder.at("a")) as FileStatus);
  expect(identityOf(folder.at("a"))).not.toBe(identityOf(folder.at("b")));
  expect(identityOf(folder.path)).not.toBe(identityOf(folder.at("a")));
});

test("a hard link is the same file, and stays it when the first name is gone", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "12345");
  expect(system.link(folder.at("a"), folder.at("b"))).toBe(0);
  expect(identityOf(folder.at("b"))).toBe(identityOf(folder.at("a")));
  expect(outcome(system.link(folder.at("a"), folder.at("b")))).toBe("EEXIST");
  expect(outcome(system.link(folder.at("none"), folder.at("c")))).toBe("ENOENT");
  expect(system.unlink(folder.at("a"))).toBe(0);
  expect(system.write(file, bytesOf("X"), { position: 0, bytes: 1 })).toBe(1);
  expect(readText(folder.open("b", "read"), 0, 9)).toBe("X2345");
});

test.skipIf(!canLinkSymbolically())("a symbolic link has the identity and the real path of its target", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "12345");
  mkdirSync(folder.at("real"));
  folder.file(join("real", "b"), "6");
  symlinkSync(folder.at("a"), folder.at("link"));
  symlinkSync(folder.at("real"), folder.at("folder-link"));
  expect(identityOf(folder.at("link"))).toBe(identityOf(folder.at("a")));
  expect(system.realPath(folder.at("link"))).toBe(folder.at("a"));
  expect(system.realPath(folder.at(join("folder-link", "b")))).toBe(folder.at(join("real", "b")));
});

test("a real path has one spelling, and only what is there has one", () => {
  using folder = new TemporaryFolder();
  const path = folder.file("a", "");
  mkdirSync(folder.at("sub"));
  expect(system.realPath(join(folder.path, "sub", "..", "a"))).toBe(path);
  expect(system.realPath(`${folder.path}/./a`)).toBe(path);
  expect(outcome(system.realPath(folder.at("none")))).toBe("ENOENT");
});

test("rename replaces what was there", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "new");
  folder.file("b", "old");
  const identity = identityOf(folder.at("a"));
  expect(system.rename(folder.at("a"), folder.at("b"))).toBe(0);
  expect(readFileSync(folder.at("b"), "utf8")).toBe("new");
  expect(identityOf(folder.at("b"))).toBe(identity);
  expect(outcome(system.status(folder.at("a")))).toBe("ENOENT");
  expect(outcome(system.rename(folder.at("a"), folder.at("b")))).toBe("ENOENT");
});

test("a file that is open for writing can be renamed, over nothing and over another", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "new");
  folder.file("b", "old");
  expect(system.rename(folder.at("a"), folder.at("c"))).toBe(0);
  expect(system.rename(folder.at("c"), folder.at("b"))).toBe(0);
  expect(system.write(file, bytesOf("N"), { position: 0, bytes: 1 })).toBe(1);
  expect(readFileSync(folder.at("b"), "utf8")).toBe("New");
});

test.skipIf(isWindows)("a file that is renamed over lives on for whoever has it open or mapped", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("b", "old");
  const view = system.mapView(file, { position: 0, bytes: 3 }) as Uint8Array;
  folder.file("a", "new");
  expect(system.rename(folder.at("a"), folder.at("b"))).toBe(0);
  expect(readText(file, 0, 9)).toBe("old");
  expect(new TextDecoder().decode(view)).toBe("old");
  expect(readFileSync(folder.at("b"), "utf8")).toBe("new");
});

test("unlink takes a name away, also of an open file, and says when there is none", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "still");
  expect(system.unlink(folder.at("a"))).toBe(0);
  expect(readText(file, 0, 9)).toBe("still");
  expect(folder.close(file)).toBe(0);
  expect(outcome(system.unlink(folder.at("a")))).toBe("ENOENT");
  expect(system.list(folder.path)).toEqual([]);
});

test.skipIf(!isWindows)(
  "a file whose deletion somebody does not share keeps its name until that one lets go of it",
  () => {
    using folder = new TemporaryFolder();
    folder.file("a", "held");
    const { system: calls } = windowsLibraries();
    const [READ, SHARE_READ, EXISTING, NORMAL] = [0x8000_0000, 1, 3, 0x80];
    const path = new Uint8Array(Buffer.from(`${folder.at("a")}\0`, "utf16le"));
    const held = calls.CreateFileW(path, READ, SHARE_READ, 0, EXISTING, NORMAL, 0);
    expect(held).toBeGreaterThan(0);
    // The words for which a removal waits.
    expect(outcome(system.unlink(folder.at("a")))).toBe("EBUSY");
    calls.CloseHandle(held);
    expect(system.unlink(folder.at("a"))).toBe(0);
  },
);

test("a made folder is listed, and not made twice", () => {
  using folder = new TemporaryFolder();
  expect(system.makeFolder(folder.at("sub"))).toBe(0);
  expect(outcome(system.makeFolder(folder.at("sub")))).toBe("EEXIST");
  expect(outcome(system.makeFolder(folder.at(join("none", "sub"))))).toBe("ENOENT");
  folder.file("a", "");
  expect((system.list(folder.path) as readonly string[]).toSorted()).toEqual(["a", "sub"]);
  expect(outcome(system.list(folder.at("none")))).toBe("ENOENT");
  expect(outcome(system.list(folder.at("a")))).toBe("ENOTDIR");
});

test("names of any script, and paths longer than 260 characters, work in every call", () => {
  using folder = new TemporaryFolder();
  const deep = Array.from({ length: 6 }, () => "folder-with-a-long-name-0123456789-0123456789-0123456789");
  for (let count = 1; count <= deep.length; count += 1) {
    expect(system.makeFolder(folder.at(join(...deep.slice(0, count))))).toBe(0);
  }
  const name = join(...deep, "\u00e4\u65e5\u{1f600} x");
  const file = folder.open(name, "create");
  expect(system.write(file, bytesOf("x"), { position: 0, bytes: 1 })).toBe(1);
  expect(folder.close(file)).toBe(0);
  expect(system.status(folder.at(name))).toMatchObject({ kind: "file", bytes: 1 });
  expect(system.rename(folder.at(name), folder.at(`${name}2`))).toBe(0);
  expect(system.link(folder.at(`${name}2`), folder.at(name))).toBe(0);
  expect(system.unlink(folder.at(name))).toBe(0);
  // Wine's GetFinalPathNameByHandle has room for 260 characters.
  if (emulator !== "wine") expect(system.realPath(folder.at(`${name}2`))).toBe(folder.at(`${name}2`));
  expect(system.list(folder.at(join(...deep)))).toHaveLength(1);
});

test("a folder that was only listed can be written to by others at once", () => {
  using folder = new TemporaryFolder();
  writeFileSync(folder.at("a"), "1");
  linkSync(folder.at("a"), folder.at("b"));
  expect(system.list(folder.path)).toHaveLength(2);
});

test("a path is asked for as it is, the longest that there is and one of wide characters, and refused when it is longer", () => {
  using folder = new TemporaryFolder();
  const name = "\u00e4\u20ac\u{1d11e}".repeat(20);
  folder.file(name, "12");
  expect(system.status(folder.at(name))).toMatchObject({ kind: "file", bytes: 2 });
  const longest = `${folder.path}${"/.".repeat(Math.floor((4095 - folder.path.length) / 2))}`;
  if (process.platform === "linux") expect(system.status(longest)).toMatchObject({ kind: "folder" });
  expect(outcome(system.status(`${folder.path}/${"x/".repeat(5000)}`))).toMatch(/^(ENAMETOOLONG|ENOENT)$/);
});

test("a link that is followed is the file that it names", () => {
  if (!canLinkSymbolically()) return;
  using folder = new TemporaryFolder();
  folder.file("a", "12345");
  symlinkSync(folder.at("a"), folder.at("b"));
  expect(identityOf(folder.at("b"))).toBe(identityOf(folder.at("a")));
});
