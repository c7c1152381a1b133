/** One process at a time: whoever asks second is told who is first, by any spelling of the path, and no dead holder stays. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { basename, join } from "node:path";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { PACKAGE_VERSION } from "../../src/version.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { emulator, testUnlessExcepted } from "../support/platform.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { faulty } from "./engine-fixture.ts";
import { openFile } from "./open-engine.ts";
import { Child, rob, startChild } from "./processes.ts";

setDefaultTimeout(120_000);
const isWindows = process.platform === "win32";

test.each(["a database that is there", "a database that has to be made"])(
  "of processes that open %s at once, exactly one gets it",
  async (what) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    if (what === "a database that is there") Emdb.open(path).closeSync();
    for (let round = 0; round < (emulator === undefined ? 3 : 1); round += 1) {
      const children = Array.from({ length: 4 }, () => new Child("open", path));
      for (const child of children) expect(await child.line()).toBe("ready");
      await Promise.all(children.map((child) => child.go()));
      const said = await Promise.all(children.map((child) => child.line()));
      expect(said.sort()).toEqual(["EMDB_LOCKED", "EMDB_LOCKED", "EMDB_LOCKED", "open"]);
      for (const child of children) await child[Symbol.asyncDispose]();
    }
    Emdb.open(path).closeSync();
  },
);

test("after the holder is killed the next open gets the database at once, with all that was flushed", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { child, said } = await startChild("write and hold", path);
  expect(said).toBe("written");
  const { holder, message } = expectCode("EMDB_LOCKED", () => Emdb.open(path));
  expect(holder).toMatchObject({ pid: child.pid, isHeld: true });
  expect(message).toContain(String(child.pid));
  await child.kill();
  expect(Emdb.lockHolder(path)).toMatchObject({ pid: child.pid, isHeld: false });
  const db = Emdb.open(path);
  expect(db.getText("flushed")).toBe("by the child");
  expect(Emdb.lockHolder(path)).toMatchObject({ pid: process.pid, isHeld: true });
  db.closeSync();
});

/** Other ways to write the path of a file. */
function spellings(path: string): string[] {
  const folder = path.slice(0, -basename(path).length - 1);
  const odd = [
    `${folder}/./${basename(path)}`,
    `${folder}/../${basename(folder)}/${basename(path)}`,
    `${folder}//${basename(path)}`,
  ];
  if (isWindows) return [...odd, path.toUpperCase()];
  symlinkSync(path, join(folder, "link to the file"));
  symlinkSync(folder, join(folder, "link to the folder"));
  return [...odd, join(folder, "link to the file"), join(folder, "link to the folder", basename(path))];
}

test.skipIf(isWindows)("a link to nothing leads to where it points, over several and out of a linked folder", () => {
  using folder = temporaryFolder();
  mkdirSync(folder.file("real/deep"), { recursive: true });
  symlinkSync(folder.file("real/deep"), folder.file("linked"));
  symlinkSync("../data.emdb", folder.file("real/deep/second"));
  symlinkSync("linked/second", folder.file("first"));
  using db = Emdb.open(folder.file("first"));
  db.insert("a", "1");
  expect(db.path).toBe(folder.file("real/data.emdb"));
  expect(lstatSync(folder.file("first")).isSymbolicLink()).toBe(true);
  using again = Emdb.open(folder.file("real/data.emdb"));
  expect(again.getText("a")).toBe("1");
  symlinkSync("none/there", folder.file("lost"));
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("lost")));
  symlinkSync("turn", folder.file("round"));
  symlinkSync("round", folder.file("turn"));
  expect(expectCode("EMDB_IO", () => Emdb.open(folder.file("round"))).errno).toBe("ELOOP");
  expectCode("EMDB_IO", () => Emdb.lockHolder(folder.file("round")));
});

test("who asks whether the lock is held is in nobody's way, and sees no other one who asks", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  const system = hostSystem();
  const [one, other] = [system.open(`${path}.lock`, "read"), system.open(`${path}.lock`, "read")];
  expect(system.probeLock(one)).toBe(0);
  expect(system.probeLock(other)).toBe(0);
  expect(Emdb.lockHolder(path)!.isHeld).toBe(false);
  {
    using db = Emdb.open(path);
    expect(system.probeLock(one)).toBe(-Errno.EAGAIN);
    expect(Emdb.lockHolder(path)!.isHeld).toBe(true);
    expect(db.isOpen).toBe(true);
  }
  // Somebody who has it for a moment only is waited for.
  let refusals = 3;
  const busy = faulty(system, (call) => (call === "lock" && refusals-- > 0 ? -Errno.EAGAIN : undefined));
  openFile(busy, path).leave();
  expect(refusals).toBeLessThan(0);
  for (const handle of [one, other]) system.close(handle);
});

test("where there is no folder there is no lock to know of or to break", () => {
  using folder = temporaryFolder();
  const path = folder.file("none/data.emdb");
  expect(Emdb.lockHolder(path)).toBeUndefined();
  Emdb.breakLock(path);
  Emdb.breakLock(path, { force: true });
  expect(existsSync(folder.file("none"))).toBe(false);
});

test("another spelling of the path, or a symbolic link, leads to the same lock", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  for (const spelling of spellings(path)) {
    const { child, said } = await startChild("open", spelling);
    expect([spelling, said]).toEqual([spelling, "EMDB_LOCKED"]);
    await child[Symbol.asyncDispose]();
  }
  db.closeSync();
});

test("within a thread, another spelling of the path gives one more handle on the same database", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const others = spellings(path).map((spelling) => Emdb.open(spelling));
  others.push(Emdb.open(Bun.pathToFileURL(path)));
  for (const [index, other] of others.entries()) {
    other.insert(`key ${index}`, "seen");
    expect(db.getText(`key ${index}`)).toBe("seen");
    expect(other.path).toBe(db.path);
  }
  db.closeSync();
  expect(db.isOpen).toBe(false);
  // The engine closes with its last handle.
  for (const other of others) {
    expect(other.getText("key 0")).toBe("seen");
    expect(Emdb.lockHolder(path)?.isHeld).toBe(true);
    other.closeSync();
  }
  expect(Emdb.lockHolder(path)?.isHeld).toBe(false);
});

test("one more handle must ask for the same options, or is EMDB_INVALID_CONFIG", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path, { defaultTtlMs: 60_000 });
  for (const options of [
    {},
    { defaultTtlMs: 1 },
    { defaultTtlMs: 60_000, verifyReads: true },
    { defaultTtlMs: 60_000, flushPolicy: "on-each-flush" as const },
  ]) {
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path, options));
  }
  Emdb.open(path, { defaultTtlMs: 60_000, flushPolicy: "group" }).closeSync();
  expect(db.isOpen).toBe(true);
  db.closeSync();
});

test("an open that waits for another process has the database when that has closed it, also when it was killed", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const { child: first, said: firstSaid } = await startChild("open when free", path);
  expect(firstSaid).toBe("EMDB_LOCKED");
  db.insert("last", "record");
  db.closeSync();
  expect(await first.line()).toBe("open record");
  const { child: second, said: secondSaid } = await startChild("open when free", path);
  expect(secondSaid).toBe("EMDB_LOCKED");
  await first.kill();
  expect(await second.line()).toBe("open record");
  await second[Symbol.asyncDispose]();
  // A database that is open in this thread is waited for by nobody.
  using again = Emdb.open(path, { lockTimeoutMs: Infinity });
  using handle = Emdb.open(path, { lockTimeoutMs: 5 });
  expect([again.getText("last"), handle.getText("last")]).toEqual(["record", "record"]);
});

test("another Worker of the process is EMDB_LOCKED, and told to attach", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const worker = new Worker(join(import.meta.dir, "lock-worker.ts"));
  const ask = async (): Promise<{ code: string; message: string }> => {
    const { promise, resolve } = Promise.withResolvers<{ code: string; message: string }>();
    worker.addEventListener("message", ({ data }) => resolve(data as { code: string; message: string }), {
      once: true,
    });
    // oxlint-disable-next-line require-post-message-target-origin -- a Worker has no origin
    worker.postMessage(path);
    return promise;
  };
  const refused = await ask();
  expect(refused.code).toBe("EMDB_LOCKED");
  expect(refused.message).toContain("attach");
  db.closeSync();
  expect((await ask()).code).toBe("open");
  worker.terminate();
});

testUnlessExcepted("a second evaluation of the package in the thread finds the open database again", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  // As `bun --hot` does: the same modules, evaluated anew, while what was open stays open.
  const built = await Bun.build({
    entrypoints: [join(import.meta.dir, "../../src/index.ts")],
    target: "bun",
    packages: "external",
    outdir: folder.path,
    naming: "copy.js",
  });
  expect(built.success).toBe(true);
  const copy = (await import(folder.file("copy.js"))) as { Emdb: typeof Emdb };
  expect(copy.Emdb).not.toBe(Emdb);
  const db = Emdb.open(path);
  const again = copy.Emdb.open(path);
  again.insert("from the copy", "1");
  expect(db.getText("from the copy")).toBe("1");
  // Also that nothing but a transaction writes inside it is known to both.
  again.transaction((tx) => {
    expectCode("EMDB_INVALID_ARGUMENT", () => db.insert("beside", "1"));
    tx.insert("beside", "2");
  });
  expect(db.getText("beside")).toBe("2");
  db.update("beside", () => {
    expectCode("EMDB_INVALID_ARGUMENT", () => again.remove("beside"));
    return "3";
  });
  db.closeSync();
  again.insert("more", "2");
  expect(again.len()).toBe(3);
  again.closeSync();
  expect(Emdb.lockHolder(path)?.isHeld).toBe(false);
});

test("the lock's record says who opened it last, and the system says whether it is held", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  expect(Emdb.lockHolder(path)).toBeUndefined();
  const db = Emdb.open(path);
  const holder = Emdb.lockHolder(path)!;
  expect(holder).toMatchObject({
    pid: process.pid,
    hostname: hostname(),
    packageVersion: PACKAGE_VERSION,
    isHeld: true,
  });
  expect(Number.isSafeInteger(holder.acquiredAtMs)).toBe(true);
  db.closeSync();
  expect(Emdb.lockHolder(path)).toEqual({ ...holder, isHeld: false });
  // Whatever somebody wrote there, it is told or it is nothing.
  for (const text of ["", "{", "null", "[]", '"x"', '{"pid":"1"}', "\0".repeat(5000)]) {
    writeFileSync(`${path}.lock`, text);
    expect(Emdb.lockHolder(path)).toBeUndefined();
  }
  const forged = { pid: process.pid, hostname: "elsewhere", acquiredAtMs: 1, packageVersion: "9", isHeld: true };
  writeFileSync(`${path}.lock`, JSON.stringify(forged));
  expect(Emdb.lockHolder(path)?.isHeld).toBe(false);
  Emdb.open(path).closeSync();
});

test("breakLock removes what a dead holder left, and refuses while the holder lives", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.breakLock(path);
  const { child } = await startChild("write and hold", path);
  const { holder } = expectCode("EMDB_LOCKED", () => Emdb.breakLock(path));
  expect(holder?.pid).toBe(child.pid);
  await child.kill();
  expect(existsSync(`${path}.lock`)).toBe(true);
  Emdb.breakLock(path);
  expect(existsSync(`${path}.lock`)).toBe(false);
  expect(Emdb.lockHolder(path)).toBeUndefined();
  const db = Emdb.open(path);
  expectCode("EMDB_LOCKED", () => Emdb.breakLock(path));
  db.insert("still", "ours");
  db.closeSync();
});

// Windows lets nobody remove a file that somebody has open.
test.skipIf(isWindows)("a handle whose lock file was removed by hand is told so, and what to do", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("flushed", "1");
  db.flushSync();
  unlinkSync(`${path}.lock`);
  db.insert("pending", "x"); // the same turn has asked for the lock already
  const first = expectCode("EMDB_LOCKED", () => db.flushSync());
  expect(first.message).toContain("removed its .lock file");
  expect(first.holder).toBeUndefined();
  await expectRejects("EMDB_LOCKED", db.flush());
  // As the message says: close it, which fails once more, and open again.
  expectCode("EMDB_LOCKED", () => db.closeSync());
  using again = Emdb.open(path);
  expect([again.len(), again.getText("flushed")]).toEqual([1, "1"]);
  again.insert("more", "2");
  again.flushSync();
});

test.skipIf(isWindows)("a handle that was robbed of its lock by force writes and flushes no more", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("flushed", "1");
  db.flushSync();
  const before = readFileSync(path);
  Emdb.breakLock(path, { force: true });
  let robber: Child | undefined;
  for (let round = 0; round < 2; round += 1) {
    expectCode("EMDB_LOCKED", () => db.insert("robbed", "x"));
    expectCode("EMDB_LOCKED", () => db.insertMany([["robbed", "x"]]));
    expectCode("EMDB_LOCKED", () => db.remove("flushed"));
    expectCode("EMDB_LOCKED", () => db.clear());
    expectCode("EMDB_LOCKED", () => db.namespace("new"));
    expectCode("EMDB_LOCKED", () => db.transaction((tx) => tx.insert("robbed", "x")));
    expect(db.getText("flushed")).toBe("1");
    expect(db.len()).toBe(1);
    // The second time with a new holder, who writes.
    if (round === 0) robber = (await startChild("write and hold", path)).child;
  }
  expect(readFileSync(path).subarray(0, 4096)).toEqual(before.subarray(0, 4096));
  await robber?.[Symbol.asyncDispose]();
  expect(() => db.closeSync()).toThrow(expect.objectContaining({ code: "EMDB_LOCKED" }));
  db.closeSync();
});

/** Has a handle robbed by one that writes; what `attempt` and then the close try leaves the file as that one has it. */
async function expectLeftAlone(path: string, attempt: (db: Emdb) => Promise<void>, pending?: string): Promise<void> {
  const db = Emdb.open(path);
  db.insert("flushed", "1");
  db.flushSync();
  if (pending !== undefined) db.insert("pending", pending);
  Emdb.breakLock(path, { force: true });
  const { child, said } = await startChild("write and hold", path);
  expect(said).toBe("written");
  const now = readFileSync(path);
  await attempt(db);
  expect(readFileSync(path)).toEqual(now);
  expect(() => db.closeSync()).toThrow(expect.objectContaining({ code: "EMDB_LOCKED" }));
  expect(readFileSync(path)).toEqual(now);
  await child[Symbol.asyncDispose]();
}

test.skipIf(isWindows)(
  "what a robbed handle had pending is refused by its flush and never reaches the file",
  async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const attempt = async (db: Emdb): Promise<void> => {
      expectCode("EMDB_LOCKED", () => db.flushSync());
      expect(await db.flush().catch((error: unknown) => error)).toMatchObject({ code: "EMDB_LOCKED" });
    };
    await expectLeftAlone(path, attempt, "2");
    const after = Emdb.open(path);
    expect([...after.keys()].map((key) => new TextDecoder().decode(key)).sort()).toEqual(["flushed"]);
    expect(after.getText("flushed")).toBe("by the child");
    after.closeSync();
  },
);

test.skipIf(isWindows)(
  "a robbed handle that has nothing pending writes no mark over what another has written",
  async () => {
    using folder = temporaryFolder();
    await expectLeftAlone(folder.file("data.emdb"), async (db) => {
      db.flushSync();
      await db.flush();
    });
  },
);

test.skipIf(isWindows).each([
  { name: "short values", value: new Uint8Array(1000) },
  { name: "values that go to the file at once", value: new Uint8Array(3_000_000) },
])("a handle that is robbed in a stretch of $name is refused before the file has any more of them", ({ value }) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("first", value);
  const before = readFileSync(path).length;
  const bytes = (): Uint8Array => readFileSync(path).subarray(4096);
  const now = bytes();
  Emdb.breakLock(path, { force: true });
  let written = 0;
  expectCode("EMDB_LOCKED", () => {
    for (; written < 10_000; written += 1) db.insert(`key ${written}`, value);
  });
  expectCode("EMDB_LOCKED", () => db.insert("again", "x"));
  expectCode("EMDB_LOCKED", () => db.insertMany([["and", value]]));
  // Space may have been reserved.
  expect(bytes().subarray(0, before - 4096)).toEqual(now);
  expect(bytes().some((byte, at) => byte !== 0 && at >= before - 4096)).toBe(false);
  expect(() => db.closeSync()).toThrow(expect.objectContaining({ code: "EMDB_LOCKED" }));
});

test("closing lets go of the lock before it returns, and the folder can be removed", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (let round = 0; round < 5; round += 1) {
    const db = Emdb.open(path);
    db.insert(`key ${round}`, "x");
    if (round % 2 === 0) db.closeSync();
    else await db.close();
    const { child, said } = await startChild("open", path);
    expect(said).toBe("open");
    await child[Symbol.asyncDispose]();
  }
});

test.skipIf(isWindows)(
  "a handle that was robbed in the same turn as its last flush closes without cutting what another has written",
  () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path);
    db.insert("mine", "1");
    db.flushSync();
    // The event loop does not turn in between: what is known of the lock is of before.
    expect(rob(path, 500)).toBe(0);
    expectCode("EMDB_LOCKED", () => db.closeSync());
    using after = Emdb.open(path);
    expect([after.len(), after.recovery.missingBytes, after.getText("key 499")]).toEqual([501, 0, "by the robber"]);
  },
);
