/** What an open database holds, what it makes durable, and what it notices of a file that was changed under it. */

import { expect, test } from "bun:test";
import { closeSync, copyFileSync, openSync, readFileSync, readdirSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { attachTo } from "../../src/engine/open/open.ts";
import { Emdb } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode } from "./fixture.ts";

/** The calls about files that opening, writing and closing make, in order. */
function callsOf(path: string, body: (fixture: EngineFixture) => void): string[] {
  const calls: string[] = [];
  const system = faulty(hostSystem(), (call, args) => {
    if (["sync", "syncFolder", "rename", "write", "truncate", "unlock"].includes(call)) {
      calls.push(call === "rename" && String(args[1]) === path ? "rename to the log" : call);
    }
    return undefined;
  });
  const fixture = new EngineFixture(path, system);
  body(fixture);
  fixture.close();
  return calls;
}

test("a new log is synced, then named, then its folder is synced", () => {
  using folder = temporaryFolder();
  const calls = callsOf(folder.file("data.emdb"), () => undefined);
  const named = calls.indexOf("rename to the log");
  expect(calls.slice(0, named)).toContain("sync");
  expect(calls.slice(0, named).lastIndexOf("sync")).toBeGreaterThan(calls.slice(0, named).lastIndexOf("write"));
  expect(calls[named + 1]).toBe("syncFolder");
});

test("closing flushes: the last sync comes after the last write to the log, and before the lock is let go", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const calls = callsOf(path, ({ engine }) => engine.insert(engine.defaultSpace, "a", "b", 0));
  expect(calls.lastIndexOf("sync")).toBeGreaterThan(calls.indexOf("rename to the log"));
  expect(calls.lastIndexOf("unlock")).toBeGreaterThan(calls.lastIndexOf("sync"));
  expect(calls.lastIndexOf("unlock")).toBeGreaterThan(calls.lastIndexOf("write"));
  const db = Emdb.open(path);
  expect(db.getText("a")).toBe("b");
  db.closeSync();
});

test("a flush acknowledges what was written before it began, and nothing that came while its sync ran", () => {
  using folder = temporaryFolder();
  let whileSyncing: (() => void) | undefined;
  let syncs = 0;
  const system = faulty(hostSystem(), (call) => {
    if (call !== "sync") return undefined;
    syncs += 1;
    whileSyncing?.();
    whileSyncing = undefined;
    return undefined;
  });
  using fixture = new EngineFixture(folder.file("data.emdb"), system);
  const { engine, sync } = fixture;
  engine.insert(engine.defaultSpace, "before", "x", 0);
  const end = engine.core.tail.end;
  // As another thread would, into the file as well.
  whileSyncing = () => {
    engine.insert(engine.defaultSpace, "meanwhile", "x", 0);
    sync.spill();
  };
  sync.flush();
  expect(sync.durable).toBe(end);
  const before = syncs;
  sync.flush();
  expect(syncs).toBe(before + 1);
  expect(sync.durable).toBe(engine.core.tail.end);
});

test("after close the file can be removed and made anew at once", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (let round = 0; round < 3; round += 1) {
    const db = Emdb.open(path);
    expect(db.len()).toBe(0);
    db.insert("a", new Uint8Array(500_000));
    db.flushSync();
    const walk = db.iter();
    walk.next();
    await db.close();
    for (const name of readdirSync(folder.path)) unlinkSync(folder.file(name));
  }
});

test("a view without a copy outlives the database and its file", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const value = new Uint8Array(2 ** 20).map((_, at) => at * 7);
  db.insert("long", value);
  db.insert("short", "x");
  db.flushSync();
  const views = [db.getZeroCopy("long")!, db.getZeroCopy("short")!];
  db.insert("long", "gone");
  db.closeSync();
  if (process.platform !== "win32") unlinkSync(path);
  expect(Buffer.compare(views[0]!, value)).toBe(0);
  expect(new TextDecoder().decode(views[1])).toBe("x");
  // A mapping begins at a page: the buffer is wider than the value.
  const { buffer, byteOffset, byteLength } = views[0]!;
  expect(Buffer.compare(new Uint8Array(buffer, byteOffset, byteLength), value)).toBe(0);
  expect(views[0]!.slice().buffer.byteLength).toBe(value.length);
  // Collected before the folder is removed, where a mapped file cannot be.
  views.length = 0;
  for (let round = 0; round < 5; round += 1) Bun.gc(true);
});

test("a database in memory makes no file, opens none and maps none", () => {
  const before = [readdirSync(tmpdir()), readdirSync(process.cwd())];
  const openFiles = (): string[] => (process.platform === "linux" ? readdirSync("/proc/self/fd") : []);
  const files = openFiles();
  const db = Emdb.openInMemory();
  for (let key = 0; key < 5000; key += 1) db.insert(`key ${key}`, new Uint8Array(1000));
  expect(openFiles()).toEqual(files);
  expect(
    [readdirSync(tmpdir()), readdirSync(process.cwd())].map((names) =>
      names.filter((name) => name.includes("emdb-mem")),
    ),
  ).toEqual(before.map((names) => names.filter((name) => name.includes("emdb-mem"))));
  expect(db.path).toBeUndefined();
  db.closeSync();
});

/** A database of three records with `verifyReads`, and the middle one's value changed in the file under it. */
function changedUnder(body: (db: Emdb) => void): void {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  const db = Emdb.open(path, { verifyReads: true, rangeScans: true });
  for (const key of ["a", "b", "c"]) db.insert(key, `the value of ${key}`);
  db.flushSync();
  const at = readFileSync(path).indexOf("the value of b");
  const file = openSync(path, "r+");
  writeSync(file, "T", at);
  closeSync(file);
  try {
    body(db);
  } finally {
    db.closeSync();
  }
}

// Windows shows a write through another handle in the mapping as well; Wine does not always.
test.skipIf(process.platform === "win32")(
  "with verifyReads, a record that changed on the disk is EMDB_CORRUPTED for every way to read it",
  () => {
    changedUnder((db) => {
      expect(db.getText("a")).toBe("the value of a");
      const reads: (() => unknown)[] = [
        () => db.get("b"),
        () => db.getText("b"),
        () => db.getMany(["a", "b"]),
        () => db.getZeroCopy("b"),
        () => [...db.iter()],
        () => [...db.values()],
        () => [...db.range()],
        () => [...db.range({ gte: "b", limit: 1 })],
        () => db.remove("b"),
      ];
      for (const read of reads) expect(expectCode("EMDB_CORRUPTED", read).offset).toBeGreaterThanOrEqual(4096);
      expect(db.getText("c")).toBe("the value of c");
    });
  },
);

test.each(["close", "closeSync"] as const)("%s of one of several handles flushes what was written", async (close) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using other = Emdb.open(path);
  const db = Emdb.open(path);
  db.insert("a", "1");
  await db[close]();
  copyFileSync(path, folder.file("copy.emdb"));
  using copy = Emdb.open(folder.file("copy.emdb"));
  expect(copy.getText("a")).toBe("1");
  expect(other.getText("a")).toBe("1");
});

test("where no flag makes writes durable, every write of every thread is followed by a sync before it counts as that", () => {
  using folder = temporaryFolder();
  let syncs = 0;
  let result = 0;
  const counting = faulty(hostSystem(), (call) => {
    if (call === "sync") syncs += 1;
    return call === "sync" && result < 0 ? result : undefined;
  });
  const system = new Proxy(counting, {
    get: (target, name) => (name === "lacksWriteThrough" ? true : (Reflect.get(target, name) as unknown)),
  });
  using fixture = new EngineFixture(folder.file("data.emdb"), system, { flushPlan: { kind: "write-through" } });
  fixture.engine.core.becomeShared();
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const attached = attachTo(environment, fixture.opened.base);
  for (const { engine } of [fixture.opened, attached]) {
    const before = syncs;
    engine.insert(engine.defaultSpace, "a", "1", 0);
    expect(syncs).toBe(before + 1);
    expect(fixture.sync.durable).toBe(engine.core.visible);
  }
  attached.leave();
  result = -5;
  const write = (): void => fixture.engine.insert(fixture.engine.defaultSpace, "b", "2", 0);
  expectCode("EMDB_IO", write);
  expectCode("EMDB_POISONED", write);
});

test("inside a transaction another handle of the database may be closed, not the one whose it is", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path);
  const [other, third] = [Emdb.open(path), Emdb.open(path)];
  let closing: Promise<void> | undefined;
  db.transaction((tx) => {
    tx.insert("a", "1");
    expectCode("EMDB_INVALID_ARGUMENT", () => db.closeSync());
    other.closeSync();
    closing = third.close();
    tx.insert("b", "2");
  });
  await closing;
  for (const closed of [other, third]) expectCode("EMDB_CLOSED", () => closed.get("a"));
  expect([db.getText("a"), db.getText("b")]).toEqual(["1", "2"]);
});
