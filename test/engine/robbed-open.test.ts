/**
 * Who is robbed of its lock while it still opens, makes, or copies a database: it writes, cuts, renames and removes nothing
 * any more, since all of that is the robber's by now.
 */

import { expect, test } from "bun:test";
import { appendFileSync, existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import type { Environment } from "../../src/engine/assemble.ts";
import { LockFile, breakLock, readHolder } from "../../src/engine/files/lock-file.ts";
import { rewriteFile } from "../../src/engine/copy/rekey.ts";
import { salvageFile } from "../../src/engine/salvage/salvage.ts";
import { compactPath, hintPath, newHintPath } from "../../src/engine/files/siblings.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { Emdb } from "../../src/index.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

// Windows lets nobody remove a file that somebody has open.
const isWindows = process.platform === "win32";

/** Breaks a lock, opens the database and writes to it. */
function rob(path: string): EngineFixture {
  breakLock(hostSystem(), path, true);
  const robber = new EngineFixture(path, hostSystem());
  robber.engine.insert(robber.engine.defaultSpace, "the robber's", "1", 0);
  robber.sync.flush();
  return robber;
}

/** The host's system, on which somebody robs `path` right before the first call for which `when` holds. */
class Robbed implements Disposable {
  robber: EngineFixture | undefined;
  readonly system: System;

  constructor(path: string, when: (call: keyof System, args: readonly unknown[]) => boolean) {
    this.system = faulty(hostSystem(), (call, args) => {
      if (this.robber === undefined && when(call, args)) this.robber = rob(path);
      return undefined;
    });
  }

  /** The robber has the database and its lock, and goes on as if nobody else had been there. */
  expectUnharmed(): void {
    const { path, engine, sync } = this.robber!;
    expect(readHolder(hostSystem(), path)?.isHeld).toBe(true);
    expectCode("EMDB_LOCKED", () => void new EngineFixture(path, hostSystem()));
    engine.insert(engine.defaultSpace, "more", "2", 0);
    sync.flush();
    this.robber!.close();
    using again = new EngineFixture(path, hostSystem());
    const keys = [...again.engine.snapshot(again.engine.defaultSpace)].map(({ key }) => new TextDecoder().decode(key));
    expect(keys).toEqual(expect.arrayContaining(["the robber's", "more"]));
  }

  [Symbol.dispose](): void {
    this.robber?.[Symbol.dispose]();
  }
}

test.skipIf(isWindows)("whose lock is broken while it recovers a torn log cuts nothing off", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (const isNewLock of [false, true]) {
    Emdb.open(path).closeSync();
    appendFileSync(path, new Uint8Array(100).fill(7));
    if (isNewLock) rmSync(`${path}.lock`);
    // What dead processes have left is removed once the log has been read.
    using robbed = new Robbed(path, (call, [name]) => call === "unlink" && String(name).includes(".emdb-new-"));
    expectCode("EMDB_LOCKED", () => void new EngineFixture(path, robbed.system));
    robbed.expectUnharmed();
  }
});

test.skipIf(isWindows)(
  "whose lock is broken while it reads the log removes no draft of the robber's, and no checkpoint",
  () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    using own = new EngineFixture(path, hostSystem());
    own.engine.insert(own.engine.defaultSpace, "key", "value", 0);
    const log = own.engine.core.place!;
    own.close();
    rmSync(hintPath(path));
    const theirs = [compactPath(log), newHintPath(log), hintPath(path)];
    using robbed = new Robbed(path, (call) => call === "map");
    let isBeside = false;
    const system = faulty(robbed.system, () => {
      if (isBeside || robbed.robber === undefined) return undefined;
      isBeside = true;
      for (const file of theirs) writeFileSync(file, "the robber's");
      return undefined;
    });
    expectCode("EMDB_LOCKED", () => void new EngineFixture(path, system));
    expect(theirs.map((file) => existsSync(file))).toEqual([true, true, true]);
    for (const file of theirs) rmSync(file);
    robbed.expectUnharmed();
  },
);

test.skipIf(isWindows)("whose lock is broken while it makes a database puts nothing in the robber's place", () => {
  using folder = temporaryFolder();
  // Before its draft is made, and when that is about to get the name: then the robber has put its own in the draft's place.
  const moments = [
    ["open", "EMDB_LOCKED"],
    ["rename", "EMDB_NOT_FOUND"],
  ] as const;
  for (const [call, code] of moments) {
    const path = folder.file(`data ${call}`);
    using robbed = new Robbed(path, (made, [name]) => made === call && String(name).includes(".emdb-new-"));
    expectCode(code, () => void new EngineFixture(path, robbed.system));
    robbed.expectUnharmed();
    expect(readdirSync(folder.path).filter((file) => file.includes("emdb-new"))).toEqual([]);
  }
});

test.skipIf(isWindows).each([
  // The database has been made by then.
  ["map", Errno.ENOMEM],
  // It has its name, which is not durable yet.
  ["syncFolder", Errno.EIO],
] as const)(
  "whose lock is broken, and who then fails (%s), removes neither the robber's database nor its lock",
  (failing, errno) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    using robbed = new Robbed(path, (call) => call === failing);
    const system = faulty(robbed.system, (call, args) => {
      if (call !== failing) return undefined;
      (robbed.system[failing] as (...given: readonly unknown[]) => unknown)(...args);
      return -errno;
    });
    expectCode("EMDB_IO", () => void new EngineFixture(path, system));
    robbed.expectUnharmed();
  },
);

test.skipIf(isWindows)("a checkpoint whose lock is broken before its image has a name gives it none", async () => {
  using folder = temporaryFolder();
  for (const way of ["run", "runSync"] as const) {
    const path = folder.file(way);
    let isOnly = false;
    // All of the log is durable: what is synced is the image.
    using robbed = new Robbed(path, (call) => isOnly && call === "sync");
    using fixture = new EngineFixture(path, robbed.system);
    fixture.engine.insert(fixture.engine.defaultSpace, "key", "value", 0);
    fixture.sync.flush();
    isOnly = true;
    await expectRejects("EMDB_LOCKED", (async () => fixture.opened.checkpoint![way]())());
    expect(existsSync(hintPath(path))).toBe(false);
    robbed.expectUnharmed();
  }
});

test.skipIf(isWindows)("who was robbed gives nothing of the robber's file back, and makes it no longer", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new EngineFixture(path, hostSystem());
  const { engine, sync } = fixture;
  engine.insert(engine.defaultSpace, "key", "value", 0);
  sync.flush();
  using robber = rob(path);
  const { core, defaultSpace } = robber.engine;
  robber.engine.insert(defaultSpace, "long", "x".repeat(100_000), 0);
  robber.sync.flush();
  const size = hostSystem().size(core.file!.handle);
  const { tail } = engine.core;
  expectCode("EMDB_LOCKED", () => tail.giveBack());
  expectCode("EMDB_LOCKED", () => tail.reserve(2 * size));
  expectCode("EMDB_LOCKED", () => tail.place(2 * size));
  expect(hostSystem().size(core.file!.handle)).toBe(size);
  expect(robber.engine.get(defaultSpace, "long")?.length).toBe(100_000);
});

test.skipIf(isWindows)(
  "a backup, a salvage and a change of the secret whose lock is broken replace nothing",
  async () => {
    using folder = temporaryFolder();
    const environment = (system: System): Environment => ({
      system,
      defer: (work) => void setImmediate(work),
      hasWorkers: false,
    });
    const source = folder.file("source");
    Emdb.open(source).closeSync();
    /** Robs a path before the draft that is to take its name is made. */
    const robbedAt = (path: string): Robbed =>
      new Robbed(path, (call, [name, mode]) => call === "open" && mode === "create" && !String(name).endsWith(".lock"));
    {
      const target = folder.file("backup");
      using robbed = robbedAt(target);
      using from = new EngineFixture(source, robbed.system);
      await expectRejects("EMDB_LOCKED", from.opened.backup.run(target, {}));
      robbed.expectUnharmed();
    }
    {
      const path = folder.file("rekeyed");
      const db = Emdb.open(path);
      db.insert("key", "value");
      db.closeSync();
      const image = hintPath(path);
      expect(existsSync(image)).toBe(true);
      rmSync(`${path}.lock`);
      using robbed = robbedAt(path);
      const secrets = { current: undefined, next: { key: new Uint8Array(32).fill(7) }, cipher: undefined };
      await expectRejects("EMDB_LOCKED", rewriteFile(environment(robbed.system), { path, ...secrets }, {}));
      expect(existsSync(image)).toBe(true);
      robbed.expectUnharmed();
    }
    {
      // The robber has the lock, and has made nothing yet.
      const target = folder.file("salvaged by nobody");
      let other: LockFile | undefined;
      const system = faulty(hostSystem(), (call, [name, mode]) => {
        if (other !== undefined || call !== "open" || mode !== "create" || String(name).endsWith(".lock"))
          return undefined;
        breakLock(hostSystem(), target, true);
        other = LockFile.take(hostSystem(), target);
        return undefined;
      });
      const request = { path: source, target, encryption: undefined };
      await expectRejects("EMDB_LOCKED", salvageFile(environment(system), request, {}));
      expect(existsSync(target)).toBe(false);
      other?.release(true);
    }
    {
      const target = folder.file("salvaged");
      using robbed = robbedAt(target);
      const request = { path: source, target, encryption: undefined };
      await expectRejects("EMDB_INVALID_CONFIG", salvageFile(environment(robbed.system), request, {}));
      robbed.expectUnharmed();
    }
  },
);
