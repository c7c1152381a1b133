/** What comes right after the death of a thread that was putting a compacted file in its place. */

import { expect, test } from "bun:test";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { RELOCATED, SWAP, WORK_LEFT } from "../../src/engine/threads/control.ts";
import { attachTo, openMemory } from "../../src/engine/open/open.ts";
import { clearRow } from "../../src/engine/threads/rows.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { EngineFixture } from "../engine/engine-fixture.ts";
import { CONFIG } from "../engine/open-engine.ts";
import { roomyFolder } from "../support/temporary-folder.ts";
import { dieAt, expectWhole, fill } from "./die-at.ts";

const TIMEOUT_MS = 60_000;

/** A filled database whose compacting thread has died: the new file has the name, and the shared words are those of the one before. */
async function diedInSwap(path: string): Promise<Emdb> {
  const db = Emdb.open(path, { rangeScans: true });
  fill(db, 0);
  await dieAt(db, { step: 1, call: "syncFolder" });
  return db;
}

test.each(["compaction", "backup", "checkpoint"])(
  "a %s that is the first thing after a thread died in a swap knows where everything is",
  async (name) => {
    using folder = roomyFolder();
    using elsewhere = roomyFolder();
    const path = folder.file("data.emdb");
    const target = elsewhere.file("copy.emdb");
    const db = await diedInSwap(path);
    if (name === "compaction") await db.compact();
    if (name === "backup") await db.backupTo(target);
    if (name === "checkpoint") await db.checkpoint();
    expectWhole(db, 0);
    expect((await db.verify()).problems).toEqual([]);
    db.closeSync();
    using again = Emdb.open(name === "backup" ? target : path, { rangeScans: true });
    expectWhole(again, 0);
  },
  TIMEOUT_MS,
);

/** What was refused is nowhere, and what is written now is there, in the process and after a reopen, with all the rest. */
async function expectGoesOn(db: Emdb, path: string): Promise<void> {
  db.insert("afterwards", "written");
  expect(db.get("refused")).toBeUndefined();
  expectWhole(db, 0);
  expect((await db.verify()).problems).toEqual([]);
  db.closeSync();
  using again = Emdb.open(path, { rangeScans: true });
  expect(again.getText("afterwards")).toBe("written");
  expectWhole(again, 0);
}

test(
  "one more handle is given right after a thread died in a swap, and what it writes is there",
  async () => {
    using folder = roomyFolder();
    const path = folder.file("data.emdb");
    const db = await diedInSwap(path);
    const other = Emdb.open(path, { rangeScans: true });
    other.insert("of the other", "written");
    expect(db.getText("of the other")).toBe("written");
    other.closeSync();
    await expectGoesOn(db, path);
  },
  TIMEOUT_MS,
);

test(
  "a swap that a dead thread left waits for the next write where no descriptor is free to sync the folder",
  async () => {
    using folder = roomyFolder();
    const path = folder.file("data.emdb");
    const db = await diedInSwap(path);
    const system = hostSystem();
    const { open } = system;
    system.open = (at, mode) => (mode === "folder" ? -Errno.EMFILE : open.call(system, at, mode));
    try {
      const insert = (): void => db.insert("refused", "for now");
      expect(insert).toThrow(expect.objectContaining({ code: "EMDB_IO", syscall: "open", errno: "EMFILE" }));
    } finally {
      Reflect.deleteProperty(system, "open");
    }
    await expectGoesOn(db, path);
  },
  TIMEOUT_MS,
);

test.each(["status", "statusOf"] as const)(
  "a swap that a dead thread left waits for the next write where the system does not tell which file has the name (%s)",
  async (call) => {
    using folder = roomyFolder();
    using elsewhere = roomyFolder();
    const path = folder.file("data.emdb");
    const db = await diedInSwap(path);
    const realPath = hostSystem().realPath(path);
    const system = hostSystem();
    const own = system[call].bind(system) as (of: unknown) => unknown;
    // Of the log's path, or of any open file.
    const refused = (of: unknown): unknown => (typeof of === "number" || of === realPath ? -Errno.EIO : own(of));
    Object.assign(system, { [call]: refused });
    try {
      const insert = (): void => db.insert("refused", "for now");
      for (let turn = 0; turn < 2; turn++)
        expect(insert).toThrow(expect.objectContaining({ code: "EMDB_IO", syscall: "stat", errno: "EIO" }));
      // Nor is a draft written over the one that the swap still needs.
      for (const work of [(): Promise<void> => db.compact(), (): Promise<void> => db.backupTo(elsewhere.file("copy"))])
        expect(await work().catch((error: unknown) => error)).toMatchObject({ code: "EMDB_IO", syscall: "stat" });
    } finally {
      Reflect.deleteProperty(system, call);
    }
    await expectGoesOn(db, path);
  },
  TIMEOUT_MS,
);

// A mapped file is not replaced everywhere, nor then by anybody else.
test.if(hostSystem().canMapPastEnd)(
  "where another file has the name after the death of a thread in a swap nothing more is written",
  async () => {
    using folder = roomyFolder();
    const path = folder.file("data.emdb");
    const db = await diedInSwap(path);
    writeFileSync(folder.file("other"), "another one's");
    renameSync(folder.file("other"), path);
    for (let turn = 0; turn < 2; turn++)
      expect(() => db.insert("refused", "for good")).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
    expectWhole(db, 0);
    expect(() => db.closeSync()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
    expect(readFileSync(path, "utf8")).toBe("another one's");
  },
  TIMEOUT_MS,
);

const stops = [1, 2, 3, 4, 5].flatMap((step) => [["add", step] as const, ["store", step] as const]);

test.each(stops)(
  "a flush and a close that come right after a thread died with the words half exchanged (%s %i) lose nothing",
  async (call, step) => {
    using folder = roomyFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path, { rangeScans: true });
    fill(db, 0);
    await dieAt(db, { step, call, after: "syncFolder" });
    db.flushSync();
    await db.flush();
    expectWhole(db, 0);
    db.insert("afterwards", "written");
    expectWhole(db, 0);
    db.closeSync();
    using again = Emdb.open(path, { rangeScans: true });
    expectWhole(again, 0);
  },
  TIMEOUT_MS,
);

/** Runs work that ends before it stores a word for the `which`th time, as its thread does: from then on it stores nothing. */
function dieBeforeStore(
  flags: Int32Array,
  at: { readonly word: number; readonly which: number },
  work: () => void,
): void {
  const { store } = Atomics;
  let left = at.which;
  const watched = (array: Int32Array, index: number, value: number): number => {
    // Others have arrays of their own over the same words.
    if (index === at.word && array.byteOffset === flags.byteOffset && array.buffer === flags.buffer) left -= 1;
    if (left === 0) throw new Error("it has died");
    return store(array, index, value);
  };
  Object.assign(Atomics, { store: watched });
  try {
    expect(work).toThrow("it has died");
  } finally {
    Object.assign(Atomics, { store });
  }
}

test.each([1, 2, 3, 4])(
  "a thread that dies before it says how far its swap in memory is (%i) leaves a log in service",
  async (which) => {
    const environment = {
      system: hostSystem(),
      defer: (work: () => void) => void setImmediate(work),
      hasWorkers: false,
    };
    const own = openMemory(environment, CONFIG);
    const { engine } = own;
    const { core, defaultSpace: space } = engine;
    const keys = Array.from({ length: 2000 }, (_, index) => `key ${index % 500}`);
    const write = (): void => engine.insertMany(space, keys, keys, 0);
    write();
    core.becomeShared();
    const other = attachTo(environment, own.base);
    dieBeforeStore(core.control.flags, { word: SWAP, which }, () => {
      for (const _ of other.compaction.copySteps());
    });
    // It has the lock still, and what it had of long work is found by the next one.
    Atomics.store(core.control.flags, WORK_LEFT, 1);
    expect(core.mutex.tryLock()).toBe(true);
    core.mutex.unlock();
    clearRow(core.control, other.engine.core.row);
    engine.settle();
    const { segments } = core.log;
    expect(segments.list().filter((at) => segments.end(at) > core.base)).toEqual([]);
    await own.compaction.run({});
    expect(segments.list()).toEqual([]);
    write();
    expect((await verifyDatabase(own, {})).problems).toEqual([]);
    expect(engine.count(space)).toBe(500);
    own.leave();
  },
);

test("a thread that dies right before it says up to where a file may still be needed keeps it from nobody", async () => {
  using folder = roomyFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, opened } = fixture;
  const { core, defaultSpace } = engine;
  for (let index = 0; index < 2000; index++) engine.insert(defaultSpace, `key ${index % 500}`, "value", 0);
  for (const _ of opened.compaction.copySteps());
  // A new era is the last thing before it.
  const { add } = Atomics;
  const dying = (array: Int32Array, index: number, value: number): number => {
    if (core.control.numbers[RELOCATED] === 0) throw new Error("it has died");
    return add(array, index, value);
  };
  Object.assign(Atomics, { add: dying });
  try {
    expect(() => {
      for (const _ of opened.compaction.relocationSteps());
    }).toThrow("it has died");
  } finally {
    Object.assign(Atomics, { add });
  }
  expect(core.log.segments.list()).toHaveLength(1);
  await opened.compaction.run({});
  expect(core.log.segments.list()).toEqual([]);
  expect(engine.count(defaultSpace)).toBe(500);
});
