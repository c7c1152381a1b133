/** Opened for reading: as of the open, beside a writer, and without a trace. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EVERYTHING, expectCode, stateAt, stateOf, tell } from "./fixture.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { openFile } from "./open-engine.ts";
import { startChild } from "./processes.ts";
import { turn } from "../support/turns.ts";

setDefaultTimeout(120_000);

const readOnly = { readOnly: true } as const;

test("a read-only open creates nothing: no file, no lock, no folder", () => {
  using folder = temporaryFolder();
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("none.emdb"), readOnly));
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("no folder/none.emdb"), readOnly));
  writeFileSync(folder.file("empty.emdb"), "");
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("empty.emdb"), readOnly));
  expect(readdirSync(folder.path)).toEqual(["empty.emdb"]);
  expect(readFileSync(folder.file("empty.emdb")).length).toBe(0);
});

test("every write through a read-only handle is EMDB_READ_ONLY and changes nothing", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  const names = readdirSync(folder.path);
  const db = Emdb.open(path, readOnly);
  const named = db.namespace("named");
  const writes: (() => unknown)[] = [
    () => db.insert("a", "b"),
    () => db.insertMany([["a", "b"]]),
    () => db.remove("alpha"),
    () => db.removeMany(["alpha"]),
    () => db.clear(),
    () => db.compareAndSwap("none", undefined, "x"),
    () => db.update("alpha", () => "x"),
    () => db.persist("alpha"),
    () => db.sweepExpired(),
    () => db.transaction((tx) => tx.insert("a", "b")),
    () => db.namespace("new"),
    () => db.dropNamespace("named"),
    () => db.deleteGroup("alpha"),
    () => db.focus("a").set("b", "c"),
    () => named.insert("a", "b"),
    () => named.clear(),
  ];
  for (const write of writes) expectCode("EMDB_READ_ONLY", write);
  expect(stateOf(db)).toBe(story.steps.at(-1)!.state);
  db.flushSync();
  await db.flush();
  db.closeSync();
  expect(Buffer.compare(readFileSync(path), story.closed)).toBe(0);
  expect(readdirSync(folder.path)).toEqual(names);
});

test("a namespace that is not there is told from a write, with how to look first", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  using db = Emdb.open(path, readOnly);
  const { message } = expectCode("EMDB_READ_ONLY", () => db.namespace("new"));
  expect(message).toContain("no such namespace");
  expect(message).toContain("listNamespaces");
});

test("a read-only open of a crashed file shows what is whole and leaves the torn tail where it is", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(folder.file("made.emdb"), EVERYTHING, 3);
  for (const cut of [story.steps.at(-1)!.end - 3, story.flushedEnd + 5, story.crashed.length]) {
    const crashed = story.crashed.subarray(0, cut);
    writeFileSync(path, crashed);
    const db = Emdb.open(path, readOnly);
    expect(stateOf(db)).toBe(stateAt(story, cut).state);
    db.closeSync();
    expect(new Uint8Array(readFileSync(path))).toEqual(new Uint8Array(crashed));
    expect(existsSync(`${path}.lock`)).toBe(false);
  }
});

test("a read-only handle sees what its own process wrote before, and stays as of its open", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const writer = Emdb.open(path);
  writer.insert("a", "1");
  const reader = Emdb.open(path, readOnly);
  expect(reader.getText("a")).toBe("1");
  writer.insert("a", "2");
  writer.insert("b", "2");
  writer.flushSync();
  await turn();
  expect([reader.getText("a"), reader.getText("b"), reader.len()]).toEqual(["1", undefined, 1]);
  writer.clear();
  writer.closeSync();
  expect([reader.getText("a"), reader.getText("b"), reader.len()]).toEqual(["1", undefined, 1]);
  expectCode("EMDB_READ_ONLY", () => reader.insert("c", "3"));
  reader.closeSync();
});

test("a second process inspects while the first one has it open and writes on", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  for (let round = 0; round < 3; round += 1) {
    db.insert(`key ${round}`, `value ${round}`);
    db.flushSync();
    const { child, said } = await startChild("inspect", path);
    const state = [...db].map(([key, value]) => `${key.toHex()}=${value.toHex()}`).sort();
    expect(said).toBe(`${round + 1} ${Bun.hash(state.join()).toString(16)}`);
    await child[Symbol.asyncDispose]();
  }
  db.insert("goes", "on");
  db.closeSync();
});

test("beside a process that writes and flushes for ever, every read-only open is whole batches and no error", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { child, said } = await startChild("write for ever", path);
  expect(said).toBe("writing");
  let newest = 0;
  for (let round = 0; round < (emulator === undefined ? 250 : 20); round += 1) {
    const db = Emdb.open(path, readOnly);
    const left = db.getText("left");
    expect(db.getText("right")).toBe(left);
    const seen = Number.parseInt(left ?? "0", 10);
    expect(seen).toBeGreaterThanOrEqual(newest);
    newest = seen;
    if (round % 10 === 0) expect([...db].length).toBe(db.len());
    db.closeSync();
  }
  expect(newest).toBeGreaterThan(0);
  await child.kill();
  const db = Emdb.open(path);
  expect(db.getText("left")).toBe(db.getText("right"));
  db.closeSync();
});

test("a writer that goes on while a read-only open reads is not taken for damage", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  for (let key = 0; key < 90; key += 1) db.insert(`key ${key}`, new Uint8Array(10_000));
  db.flushSync();
  const state = stateOf(db);
  const asOfTheOpen = new Uint8Array(readFileSync(path));
  for (let round = 0; round < 3; round += 1) {
    for (let key = 0; key < 30; key += 1) db.insert(`later ${key}`, new Uint8Array(9000));
    db.flushSync();
  }
  db.insert("last", "x");
  db.flushSync();
  // The first read of the log shows it as of the open, every other one what has been written meanwhile.
  const host = hostSystem();
  let reads = 0;
  const system = faulty(host, (call, args) => {
    const span = args[2] as { readonly position: number; readonly bytes: number };
    if (call !== "read" || span.position < 4096) return undefined;
    reads += 1;
    if (reads > 1) return undefined;
    const [, into] = args as [number, Uint8Array];
    const part = asOfTheOpen.subarray(span.position, span.position + span.bytes);
    into.set(part);
    return part.length;
  });
  using reader = new EngineFixture(path, system, { readOnly: true });
  expect(reads).toBeGreaterThan(1);
  expect(reader.state()).toBe(state);
  db.closeSync();
});

test("damage that does not go away is damage for a read-only open too", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(folder.file("made.emdb"), EVERYTHING);
  const damaged = story.closed.slice();
  damaged[story.steps[2]!.end + 9]! ^= 1;
  writeFileSync(path, damaged);
  expect(expectCode("EMDB_CORRUPTED", () => Emdb.open(path, readOnly)).offset).toBe(story.steps[2]!.end);
  expect(readdirSync(folder.path).filter((name) => name.startsWith("data"))).toEqual(["data.emdb"]);
});

/** A host that lets something else happen before its `count`-th call about a file; tells how many there were. */
function interrupted(count: number, body: () => void): { readonly system: System; readonly calls: () => number } {
  let calls = 0;
  const system = faulty(hostSystem(), (call) => {
    if (!["open", "read", "size", "status", "map"].includes(call)) return undefined;
    calls += 1;
    if (calls === count) body();
    return undefined;
  });
  return { system, calls: () => calls };
}

test("an open for reading beside a compaction sees all of one file, whenever that takes its place", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let isMore = true;
  for (let count = 1; isMore; count += 1) {
    {
      using db = Emdb.open(path);
      db.insertMany(Array.from({ length: 50 }, (_, index) => [`k${index}`, `${count}`]));
    }
    const { system, calls } = interrupted(count, () => {
      const { work, compaction, leave } = openFile(hostSystem(), path);
      expect(work.tryTake()).toBe(true);
      compaction.runSync();
      work.give();
      leave();
    });
    using reader = new EngineFixture(path, system, readOnly);
    expect(reader.engine.count(reader.engine.defaultSpace)).toBe(50);
    expect(Buffer.from(reader.engine.get(reader.engine.defaultSpace, "k7")!).toString()).toBe(`${count}`);
    isMore = count < calls();
  }
});

// Windows lets nobody cut a file that somebody has mapped.
test.skipIf(process.platform === "win32").each([undefined, { key: new Uint8Array(32).fill(1) }])(
  "an open for reading believes nothing of a batch without an end, whenever a writer mends the file (secret: %#)",
  (encryption) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const changes = { encryption };
    let crashed: Uint8Array = new Uint8Array();
    {
      using fixture = new EngineFixture(folder.file("made.emdb"), hostSystem(), changes);
      const { engine } = fixture;
      const space = engine.defaultSpace;
      for (let index = 0; index < 20; index += 1) engine.insert(space, `k${index}`, "0", 0);
      fixture.sync.flush();
      const long = { space, key: "k0", value: "1".repeat(2_000_000), expiresAtMs: 0 };
      const cut = {
        ...long,
        get value(): never {
          crashed = fixture.image();
          throw new Error("cut");
        },
      };
      expect(() => engine.writeBatch([{ ...long, key: "k1", value: "1" }, long, cut])).toThrow("cut");
    }
    let isMore = true;
    for (let count = 1; isMore; count += 1) {
      writeFileSync(path, crashed);
      const { system, calls } = interrupted(count, () => {
        using writer = new EngineFixture(path, hostSystem(), changes);
        writer.engine.insert(writer.engine.defaultSpace, "new", "2".repeat(3_000_000), 0);
        writer.sync.flush();
      });
      using reader = new EngineFixture(path, system, { ...readOnly, ...changes });
      const { engine } = reader;
      const values = [...engine.snapshot(engine.defaultSpace)].map(({ value }) => Buffer.from(value).toString());
      expect(values.filter((value) => value === "0").length).toBe(20);
      expect(values.length - 20).toBe(engine.get(engine.defaultSpace, "new") === undefined ? 0 : 1);
      isMore = count < calls();
      reader.close();
      rmSync(`${path}.hint`, { force: true });
    }
  },
);

test.skipIf(!hostSystem().canMapPastEnd)(
  "an open for reading reads all of a file that has the number of a shorter one which is gone",
  () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    {
      using db = Emdb.open(path);
      db.insertMany(Array.from({ length: 50 }, (_, index) => [`k${index}`, "value"]));
    }
    const host = hostSystem();
    let looks = 0;
    // The first look is at the one before.
    const status = (of: string): ReturnType<System["status"]> => {
      const told = host.status(of);
      looks += 1;
      return looks > 1 || typeof told === "number" ? told : { ...told, bytes: 5000, born: 1 };
    };
    const made = faulty(host, () => undefined);
    const system = new Proxy(made, {
      get: (target, name): unknown => (name === "status" ? status : Reflect.get(target, name)),
    });
    using reader = new EngineFixture(path, system, readOnly);
    expect(reader.engine.count(reader.engine.defaultSpace)).toBe(50);
  },
);

test("an open for reading of a file that is another one each time ends", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  let opens = 0;
  // Behind each second open the header page that was looked at is read again.
  const system = faulty(hostSystem(), (call, args) => {
    if (call === "open" && args[0] === path) opens += 1;
    return call === "read" && opens % 2 === 0 ? 0 : undefined;
  });
  expectCode("EMDB_LOCKED", () => new EngineFixture(path, system, readOnly));
});
