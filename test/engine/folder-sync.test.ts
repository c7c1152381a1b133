/** A folder that cannot be synced once a file has its name: the caller hears what is in place, and what a loss of power may undo. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Environment } from "../../src/engine/assemble.ts";
import { rewriteFile } from "../../src/engine/copy/rekey.ts";
import { salvageFile } from "../../src/engine/salvage/salvage.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { Emdb, type EmdbError } from "../../src/index.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

const KEY = { key: new Uint8Array(32).fill(3) };

/** Fails each sync of a folder behind a call of that name on that file. */
function failingBehind(call: keyof System, path: string): System {
  let isBehind = false;
  return faulty(hostSystem(), (name, args) => {
    if (name === call && args.includes(path)) isBehind = true;
    return isBehind && name === "syncFolder" ? -Errno.EIO : undefined;
  });
}

function environmentOf(system: System): Environment {
  return { system, defer: (work) => void setImmediate(work), hasWorkers: false };
}

function makeDatabase(path: string): void {
  using db = Emdb.open(path);
  db.insert("one", "1");
}

/** The call and the folder stand first, then what has happened. */
function expectTold({ message, syscall, errno }: EmdbError, path: string, words: readonly string[]): void {
  expect([syscall, errno]).toEqual(["fsync", "EIO"]);
  expect(message).toStartWith(`fsync on ${JSON.stringify(dirname(path))} failed: EIO (`);
  for (const word of words) expect(message).toContain(word);
}

test("a backup whose name may not last says that it is whole and has replaced the target", async () => {
  using folder = temporaryFolder();
  using elsewhere = temporaryFolder();
  const target = elsewhere.file("copy.emdb");
  writeFileSync(target, "what was there before");
  using fixture = new EngineFixture(folder.file("data.emdb"), failingBehind("rename", target));
  fixture.engine.insert(fixture.engine.defaultSpace, "one", "1", 0);
  const error = await expectRejects("EMDB_IO", fixture.opened.backup.run(target, {}));
  expectTold(error, target, ["the backup is whole", "replaced the target", "loss of power"]);
  using copy = Emdb.open(target);
  expect([copy.getText("one"), copy.len()]).toEqual(["1", 1]);
});

test("a rescue whose name may not last says that it is whole and in its place", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  makeDatabase(path);
  const environment = environmentOf(failingBehind("rename", target));
  const salvaging = salvageFile(environment, { path, target, encryption: undefined }, {});
  expectTold(await expectRejects("EMDB_IO", salvaging), target, ["whole", "in its place", "loss of power", "source"]);
  using copy = Emdb.open(target);
  expect(copy.getText("one")).toBe("1");
});

test("a change of encryption whose name may not last says that it is done", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  makeDatabase(path);
  const request = { path, current: undefined, next: KEY, cipher: undefined };
  const early = rewriteFile(environmentOf(failingBehind("unlink", `${path}.hint`)), request, {});
  expectTold(await expectRejects("EMDB_IO", early), path, ["checkpoint is removed", "nothing else"]);
  expect(readFileSync(path).includes("one")).toBe(true);
  const late = rewriteFile(environmentOf(failingBehind("rename", path)), request, {});
  expectTold(await expectRejects("EMDB_IO", late), path, ["written anew", "whole", "loss of power"]);
  using db = Emdb.open(path, { encryption: KEY });
  expect(db.getText("one")).toBe("1");
});

test("a checkpoint whose name may not last says that it is in its place", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const fixture = new EngineFixture(path, failingBehind("rename", `${path}.hint`));
  fixture.engine.insert(fixture.engine.defaultSpace, "one", "1", 0);
  const error = await expectRejects("EMDB_IO", fixture.opened.checkpoint!.run());
  expectTold(error, path, ["the checkpoint is whole", "in its place", "loss of power"]);
  fixture.close();
  using db = Emdb.open(path);
  expect([db.recovery.usedCheckpoint, db.getText("one")]).toEqual([true, "1"]);
});

test("an open that has removed a useless checkpoint, and cannot make that last, says so", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  makeDatabase(path);
  writeFileSync(`${path}.hint`, new Uint8Array(5000).fill(1));
  const error = expectCode("EMDB_IO", () => new EngineFixture(path, failingBehind("unlink", `${path}.hint`)));
  expectTold(error, path, ["checkpoint", "is removed", "open again"]);
  expect(existsSync(`${path}.hint`)).toBe(false);
  using db = Emdb.open(path);
  expect(db.getText("one")).toBe("1");
});

test("a compaction whose name may not last says what is in place, and to open again", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  makeDatabase(path);
  const fixture = new EngineFixture(path, failingBehind("rename", path));
  const error = await expectRejects("EMDB_IO", fixture.opened.compaction.run({}));
  expectTold(error, path, ["compacted log is whole", "loss of power", "reopen"]);
  expectCode("EMDB_POISONED", () => fixture.engine.insert(fixture.engine.defaultSpace, "two", "2", 0));
  expectCode("EMDB_POISONED", () => fixture.close());
  using db = Emdb.open(path);
  expect([db.getText("one"), db.get("two")]).toEqual(["1", undefined]);
});
