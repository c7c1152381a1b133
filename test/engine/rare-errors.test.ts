/** Errors that are dealt with on the way: the caller hears of none, or of another one, and the database goes on. */

import { expect, test } from "bun:test";
import { closeSync, openSync, readdirSync, writeSync } from "node:fs";
import { endAbandoned, noteLeft } from "../../src/engine/abandoned.ts";
import { Control } from "../../src/engine/threads/control.ts";
import { MoveTable } from "../../src/engine/copy/move-table.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { rewriteFile } from "../../src/engine/copy/rekey.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { Emdb } from "../../src/index.ts";
import { CHECKPOINT_GROWTH_BYTES_MIN } from "../../src/limits.ts";
import { KEY_AREA_AT } from "../../src/log/header.ts";
import { LOG_RETREATS } from "../../src/log/log-words.ts";
import { ExpiryQueue } from "../../src/keydir/expiry-queue.ts";
import { IndexFixture } from "../keydir/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty, type Fault } from "./engine-fixture.ts";
import { expectCode } from "./fixture.ts";
import { openFile } from "./open-engine.ts";
import { turn } from "../support/turns.ts";

const KEY = new Uint8Array(32).fill(9);
const keys = (count: number): string[] => Array.from({ length: count }, (_, index) => `key ${index}`);

interface Switchable {
  isFailing: boolean;
  readonly system: System;
}

/** A system with an error that is switched on and off. */
function switchable(fault: Fault): Switchable {
  const state: Switchable = {
    isFailing: false,
    system: faulty(hostSystem(), (call, args) => (state.isFailing ? fault(call, args) : undefined)),
  };
  return state;
}

/** Overwrites bytes of a file behind its database's back. */
function scribble(path: string, at: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, at);
  closeSync(file);
}

async function rejected(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => "no error",
    (error: unknown) => (error instanceof EmdbError ? error.code : error),
  );
}

test("what dead threads left open and cannot be ended is let go of, and opens again", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const broken = switchable((call) => (call === "sync" ? -Errno.EIO : call === "isThreadAlive" ? 0 : undefined));
  const environment = { system: broken.system, defer: setImmediate, hasWorkers: false };
  const opened = openFile(broken.system, path);
  const { base } = opened;
  const other = attachTo(environment, base);
  other.engine.insert(other.engine.defaultSpace, "a", "b", 0);
  opened.leave();
  noteLeft(environment, base);
  broken.isFailing = true;
  endAbandoned(environment, undefined);
  broken.isFailing = false;
  using again = Emdb.open(path);
  expect(again.getText("a")).toBe("b");
});

test("a compaction of its own that finds no room is nobody's error, and is tried again later", async () => {
  using folder = temporaryFolder();
  const full = switchable((call, [path]) =>
    call === "open" && String(path).includes(".emdb-compact-") ? -Errno.ENOSPC : undefined,
  );
  const autoCompact = { ratio: 0.5, bytesMin: 500_000 };
  const { engine, leave } = openFile(full.system, folder.file("data.emdb"), { autoCompact });
  full.isFailing = true;
  const write = (): void => engine.insert(engine.defaultSpace, "key", "v".repeat(100_000), 0);
  for (let count = 0; count < 20; count += 1) write();
  for (let count = 0; count < 20; count += 1) await turn();
  expect(engine.core.base).toBe(0);
  expect(engine.core.growthAt).toBeGreaterThan(engine.core.tail.end);
  full.isFailing = false;
  while (engine.core.base === 0) {
    write();
    await turn();
  }
  expect(engine.get(engine.defaultSpace, "key")?.length).toBe(100_000);
  leave();
});

test("a checkpoint of its own that finds no room is nobody's error", async () => {
  using folder = temporaryFolder();
  let refused = 0;
  const full = switchable((call, [path]) => {
    if (call !== "open" || !String(path).includes(".hint")) return undefined;
    refused += 1;
    return -Errno.ENOSPC;
  });
  const { engine, leave } = openFile(full.system, folder.file("data.emdb"));
  full.isFailing = true;
  const value = new Uint8Array(1024 * 1024);
  for (let bytes = 0; bytes < 1.2 * CHECKPOINT_GROWTH_BYTES_MIN; bytes += value.length)
    engine.insert(engine.defaultSpace, "key", value, 0);
  for (let count = 0; count < 20; count += 1) await turn();
  expect(refused).toBeGreaterThan(0);
  expect(engine.get(engine.defaultSpace, "key")?.length).toBe(value.length);
  full.isFailing = false;
  leave();
});

test("a header page that has rotted since the open is not written anew by a compaction", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path);
  db.insert("a", "b");
  db.flushSync();
  scribble(path, 0, new Uint8Array(512).fill(0x55));
  expect(await rejected(db.compact())).toBe("EMDB_CORRUPTED");
  expect(db.getText("a")).toBe("b");
  expect(readdirSync(folder.path).sort()).toEqual(["data.emdb", "data.emdb.lock"]);
});

test("a flush that is open when the database closes is told that the disk failed", async () => {
  using folder = temporaryFolder();
  const broken = switchable((call) => (call === "sync" ? -Errno.EIO : undefined));
  const { engine, commit, leave } = openFile(broken.system, folder.file("data.emdb"), {
    flushPlan: { kind: "group-commit", maxDelayMs: 0 } as never,
  });
  engine.insert(engine.defaultSpace, "a", "b", 0);
  const flush = rejected(commit!.flush());
  broken.isFailing = true;
  expect(leave).toThrow();
  expect(await flush).toBe("EMDB_IO");
});

test("a table of moves in memory that is full is EMDB_FULL", () => {
  const control = Control.create();
  const table = new MoveTable(hostSystem(), control, { logBytes: 0 });
  const fill = (): void => {
    for (let pair = 1; pair < 6_000_000; pair += 1) table.add(pair, pair);
  };
  expectCode("EMDB_FULL", fill);
});

test("a sealed record that rots in the file is damage when it is read", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const encryption = { key: KEY.slice() };
  using db = Emdb.open(path, { encryption });
  db.insert("a", "b".repeat(1000));
  db.flushSync();
  const { logicalSizeBytes } = db.stats();
  scribble(path, logicalSizeBytes - 500, new Uint8Array(100).fill(0x55));
  expectCode("EMDB_CORRUPTED", () => db.get("a"));
});

test("a key area that has become nonsense since the open is told by verify", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path, { encryption: { key: KEY.slice() } });
  db.insert("a", "b");
  db.flushSync();
  scribble(path, KEY_AREA_AT, new Uint8Array(64).fill(0x55));
  const { problems } = await db.verify();
  expect(problems.map(({ offset }) => offset >= KEY_AREA_AT && offset < 4096)).toContain(true);
});

test("a batch of removals that finds no memory to shrink with is written all the same", () => {
  using folder = temporaryFolder();
  const { engine, leave } = openFile(hostSystem(), folder.file("data.emdb"));
  const space = engine.defaultSpace;
  engine.insertMany(
    space,
    keys(50_000),
    keys(50_000).map(() => "value"),
    0,
  );
  const { keydir } = engine.core;
  let refused = 0;
  keydir.shrinkSome = () => {
    refused += 1;
    throw new EmdbError("EMDB_FULL", "no memory");
  };
  engine.removeMany(space, keys(49_000));
  expect([refused, engine.count(space)]).toEqual([1, 1000]);
  expect(engine.get(space, "key 49999")).toBeDefined();
  leave();
});

test("a batch that fails and cannot even be taken back at once is taken back by the next write", () => {
  using folder = temporaryFolder();
  let writes = 0;
  const full = switchable((call) => {
    if (call !== "write" || (writes += 1) === 1) return undefined;
    // Not even the abort that would close the batch finds room.
    tail.place = () => {
      throw new EmdbError("EMDB_FULL", "no room");
    };
    return -Errno.ENOSPC;
  });
  const { engine, leave } = openFile(full.system, folder.file("data.emdb"));
  const { tail } = engine.core;
  const space = engine.defaultSpace;
  engine.insert(space, "key 0", "before", 0);
  full.isFailing = true;
  const value = new Uint8Array(900_000).fill(7);
  const batch = keys(24);
  const values = batch.map(() => value);
  expectCode("EMDB_FULL", () => engine.insertMany(space, batch, values, 0));
  expect(Buffer.from(engine.get(space, "key 0") ?? []).toString()).toBe("before");
  full.isFailing = false;
  Reflect.deleteProperty(tail, "place");
  engine.insert(space, "after", "it", 0);
  expect([engine.count(space), engine.has(space, "key 5")]).toEqual([2, false]);
  leave();
});

test("an encrypted log that has no room for a last session is closed all the same", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const opened = openFile(hostSystem(), path, { encryption: { key: KEY.slice() } });
  const { engine, compaction, work } = opened;
  engine.insert(engine.defaultSpace, "a", "b", 0);
  work.tryTake();
  compaction.runSync();
  work.give();
  let refused = 0;
  engine.core.tail.place = () => {
    refused += 1;
    throw new EmdbError("EMDB_FULL", "no room");
  };
  opened.leave();
  expect(refused).toBe(1);
  using again = Emdb.open(path, { encryption: { key: KEY.slice() } });
  expect(again.getText("a")).toBe("b");
});

test("a change of encryption that finds no room leaves the file as it was, and nothing beside it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insertMany(keys(12_000).map((key) => [key, "v".repeat(1000)] as const));
  db.closeSync();
  const full = switchable((call) => (call === "write" ? -Errno.ENOSPC : undefined));
  const system = faulty(full.system, (call, [, , span]) => {
    if (call === "write") full.isFailing ||= (span as { bytes: number }).bytes > 200_000;
    return undefined;
  });
  const environment = { system, defer: setImmediate, hasWorkers: false };
  const request = { path, current: undefined, next: { key: KEY.slice() }, cipher: undefined };
  expect(await rejected(rewriteFile(environment, request, {}))).toBe("EMDB_FULL");
  expect(readdirSync(folder.path).filter((name) => name.includes(".emdb-"))).toEqual([]);
  using again = Emdb.open(path);
  expect(again.len()).toBe(12_000);
});

test("a deadline that finds no memory makes the queue unknown, and no error", () => {
  using fixture = new IndexFixture();
  const queue = new ExpiryQueue(fixture.heap, fixture.keydir);
  queue.enter = () => {
    throw new EmdbError("EMDB_FULL", "no memory");
  };
  let forgotten = 0;
  queue.forget = () => void (forgotten += 1);
  queue.restore(fixture.space, 5, 8, 0);
  expect(forgotten).toBe(1);
});

test("a read behind what is visible is done again when frames were taken back, and throws when none were", () => {
  using folder = temporaryFolder();
  const { engine, leave } = openFile(hostSystem(), folder.file("data.emdb"));
  const { log } = engine.core;
  let reads = 0;
  const read = (): number => {
    reads += 1;
    if (reads === 1) {
      Atomics.add(log.words.flags, LOG_RETREATS, 1);
      throw new Error("nonsense of a frame that is gone");
    }
    return reads;
  };
  expect(log.undisturbed(read)).toBe(2);
  expect(() =>
    log.undisturbed(() => {
      throw new Error("damage");
    }),
  ).toThrow("damage");
  leave();
});
