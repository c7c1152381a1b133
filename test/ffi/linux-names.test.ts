/** Names that Linux is asked for without `node:fs`: the answers are the same, and a program that opens and closes never loads it. */

import { expect, test } from "bun:test";
import fs, { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Errno } from "../../src/ffi/errno.ts";
import { linuxKernel } from "../../src/ffi/linux.ts";
import { LinuxNames } from "../../src/ffi/linux-names.ts";
import { attempt } from "../../src/ffi/surroundings.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { childCommand } from "../support/platform.ts";
import { outcome, system, TemporaryFolder } from "./temporary-folder.ts";

const root = join(import.meta.dir, "../..");
const isLinux = process.platform === "linux";
const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW } = fs.constants;

/** The names of a kernel that answers with these numbers, one after the other: a count, or a negative errno. */
function scripted(...answers: number[]): { readonly names: LinuxNames; asked: number; closed: number[] } {
  const state = { asked: 0, closed: [] as number[] };
  const calls = {
    syscall: () => Math.max(-1, answers[state.asked++]!),
    close: (file: number) => (state.closed.push(file), 0),
  };
  return Object.assign(state, { names: new LinuxNames(calls, () => -answers[state.asked - 1]!) });
}

test.skipIf(!isLinux)("the flags of an open are those of this machine's system", () => {
  expect(linuxKernel().names!.flags).toEqual(
    Object.fromEntries(
      Object.keys(linuxKernel().names!.flags).map((name) => [name, fs.constants[name as keyof typeof fs.constants]]),
    ) as never,
  );
});

test.skipIf(!isLinux)("opens, removals, renames and real paths are what node:fs says they are", () => {
  using folder = new TemporaryFolder();
  const { names } = linuxKernel();
  const at = (name: string): string => (name === "" ? "" : folder.at(name));
  const long = "x".repeat(256);
  // Bun 1.4.0 takes no name at all for the folder it is in.
  const empty = Bun.version === "1.4.0" ? [] : [""];
  const spelled = ["a", "b", "none", "none/x", "a/x", "sub", "sub/../a", "link", "loop", "to-none", long, "sub/."];
  const paths = [...empty, ...spelled];
  const begin = (): void => {
    for (const name of readdirSync(folder.path)) fs.rmSync(folder.at(name), { recursive: true });
    for (const name of ["a", "b"]) writeFileSync(folder.at(name), name);
    mkdirSync(folder.at("sub"));
    for (const [name, to] of [
      ["link", "a"],
      ["loop", "loop"],
      ["to-none", "none"],
    ] as const)
      symlinkSync(to, folder.at(name));
  };
  /** What a call says, and what there is then. */
  const after = (call: () => string | number | undefined): unknown => {
    begin();
    const answer = call();
    return [
      answer,
      readdirSync(folder.path).map((name) => [name, attempt(() => fs.readFileSync(folder.at(name), "utf8"))]),
    ];
  };
  const opened = (file: number): number => (file < 0 ? file : (fs.closeSync(file), 0));
  for (const path of paths) {
    expect([path, after(() => names!.realPath(at(path)))]).toEqual([
      path,
      after(() => attempt(() => fs.realpathSync.native(at(path)))),
    ]);
    expect([path, after(() => names!.unlink(at(path)))]).toEqual([
      path,
      after(() => attempt(() => (fs.unlinkSync(at(path)), 0))),
    ]);
    for (const flags of [
      O_RDONLY,
      O_RDWR,
      O_RDWR | O_CREAT,
      O_RDWR | O_CREAT | O_EXCL,
      O_RDONLY | O_DIRECTORY,
      O_RDWR | O_NOFOLLOW,
    ])
      expect([path, flags, after(() => opened(names!.open(at(path), flags, 0o600)!))]).toEqual([
        path,
        flags,
        after(() => opened(attempt(() => fs.openSync(at(path), flags, 0o600)))),
      ]);
    for (const to of paths)
      expect([path, to, after(() => names!.rename(at(path), at(to)))]).toEqual([
        path,
        to,
        after(() => attempt(() => (fs.renameSync(at(path), at(to)), 0))),
      ]);
  }
});

test.skipIf(!isLinux)("a file that is made has the rights that were asked for, less what the mask takes", () => {
  using folder = new TemporaryFolder();
  const file = linuxKernel().names!.open(folder.at("a"), O_RDWR | O_CREAT, 0o640)!;
  const made = fs.openSync(folder.at("b"), O_RDWR | O_CREAT, 0o640);
  expect(fs.fstatSync(file).mode).toBe(fs.fstatSync(made).mode);
  for (const one of [file, made]) fs.closeSync(one);
});

test.skipIf(!isLinux)("a path that it has no place for is left to node:fs, which refuses it", () => {
  const { names } = linuxKernel();
  const long = `/${"x/".repeat(3000)}`;
  for (const path of ["a\0b", long]) {
    const both = [names!.rename(path, "a"), names!.rename("a", path)];
    expect([names!.open(path, O_RDONLY, 0), names!.unlink(path), names!.realPath(path), ...both]).toEqual(
      Array.from({ length: 5 }, () => undefined),
    );
  }
  expect([system.unlink("a\0b"), system.rename("a\0b", "c"), system.rename("c", "a\0b")].map(outcome)).toEqual(
    Array.from({ length: 3 }, () => "EINVAL"),
  );
  expect([outcome(system.realPath("a\0b")), outcome(system.realPath(long))]).toEqual(["EINVAL", "ENAMETOOLONG"]);
});

test.skipIf(!isLinux)("a name that is no UTF-8 is the one that node:fs gives", () => {
  using folder = new TemporaryFolder();
  const name = Buffer.concat([Buffer.from(`${folder.path}/`), Buffer.from([0x61, 0xff])]);
  writeFileSync(name, "");
  symlinkSync(name, folder.at("link"));
  expect(linuxKernel().names!.realPath(folder.at("link"))).toBeUndefined();
  expect(system.realPath(folder.at("link"))).toBe(fs.realpathSync.native(folder.at("link")));
  fs.unlinkSync(name);
});

test("a call that was interrupted is made again, and any other failure passed on", () => {
  const open = scripted(-Errno.EINTR, -Errno.EINTR, 7);
  expect([open.names.open("a", 0, 0), open.asked]).toEqual([7, 3]);
  const unlink = scripted(-Errno.EINTR, -Errno.EROFS);
  expect([unlink.names.unlink("a"), unlink.asked]).toEqual([-Errno.EROFS, 2]);
});

test("without /proc, and where the answer has no end, node:fs is asked for a real path, and nothing stays open", () => {
  for (const answer of [-Errno.ENOENT, 0, 4096]) {
    const asked = scripted(9, answer);
    expect([asked.names.realPath("a"), asked.closed]).toEqual([undefined, [9]]);
  }
});

test.skipIf(!isLinux)("no file of the package loads node:fs at its beginning", () => {
  const imports = /^(?:import|export)\s+(?!type\b)(?:[^;(]*\sfrom\s*)?["'](?:node:)?fs["']/gm;
  expect('import fs from "node:fs";'.match(imports)).toHaveLength(1);
  const files = [...new Bun.Glob("src/**/*.ts").scanSync(root)];
  expect(files.filter((file) => imports.test(readFileSync(join(root, file), "utf8")))).toEqual([]);
});

test.skipIf(!isLinux)("a program that opens a database, writes, reads and closes never asks for node:fs", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const program = `Bun.plugin({ name: "counting", setup(builder) {
      const contents = 'export function nodeFs() { globalThis.asked += 1; return process.getBuiltinModule("node:fs"); }';
      builder.onLoad({ filter: /node-fs\\.ts$/ }, () => ({ contents, loader: "ts" }));
    } });
    globalThis.asked = 0;
    const { Emdb } = await import(${JSON.stringify(join(root, "src/index.ts"))});
    const db = Emdb.open(${JSON.stringify(path)});
    db.insert("key", "value");
    db.getText("key");
    db.closeSync();
    console.log(globalThis.asked);`;
  const run = (): number =>
    Number(Bun.spawnSync([...childCommand(), "-e", program], { stderr: "inherit" }).stdout.toString());
  // One is made by a link, with a look at its folder.
  expect(run()).toBeGreaterThan(0);
  expect(existsSync(path)).toBe(true);
  expect(run()).toBe(0);
});
