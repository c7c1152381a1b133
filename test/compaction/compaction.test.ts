/** What is written, held and counted around compactions, through the door; and what a compaction that cannot be done leaves. */

import { afterEach, expect, setDefaultTimeout, setSystemTime, test } from "bun:test";
import { closeSync, openSync, readFileSync, readdirSync, statSync, writeFileSync, writeSync } from "node:fs";
import { SWAP, SWAP_NONE } from "../../src/engine/threads/control.ts";
import type { EmdbErrorCode } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { EngineFixture, faulty, type Fault } from "../engine/engine-fixture.ts";
import { EVERYTHING, LATER_MS, stateOf } from "../engine/fixture.ts";
import { heldClock } from "../support/held-clock.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { canCount, resourcesIn } from "../workers/resources.ts";

/** A table of moves keeps its name where a mapped file does. */
const DRAFT = /\.emdb-compact-[0-9a-f]{16}$/;

setDefaultTimeout(145_000);
afterEach(() => void setSystemTime());

const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString();

async function codeOf(work: Promise<unknown>): Promise<EmdbErrorCode | "fine"> {
  return work.then(
    () => "fine" as const,
    (error: unknown) => (error as { code: EmdbErrorCode }).code,
  );
}

const ways: readonly (readonly [string, OpenOptions])[] = [
  ["of records", {}],
  ["with ranges", { rangeScans: true, verifyReads: true }],
  ["that is encrypted", { encryption: { key: new Uint8Array(32).fill(1) } }],
  ["with write-through", { flushPolicy: "write-through" }],
];
/** Under an emulator the first way has all changes, and each other one a third of them. */
const SHARE = emulator === undefined ? 1 : 3;
/** An emulator harms every second word of a frame; which frames it meets is chance anyhow. */
const WORD_STEP = emulator === undefined ? 8 : 16;
const fresh = (options: OpenOptions): OpenOptions =>
  options.encryption === undefined ? options : { ...options, encryption: { key: new Uint8Array(32).fill(1) } };

const CHANGES: readonly (readonly [string, (db: Emdb, round: number) => void])[] = [
  ["an insert", (db, round) => db.insert(`new ${round}`, `${round}`)],
  ["an overwrite", (db, round) => db.insert("alpha", `over ${round}`, { expiresAtMs: LATER_MS + round })],
  ["a remove", (db) => void db.remove("beta")],
  ["a clear", (db) => db.namespace("named").clear()],
  [
    "a batch",
    (db, round) =>
      void db.insertMany([
        ["user.1", `${round}`],
        ["user.9", "9"],
      ]),
  ],
  [
    "a transaction",
    (db, round) =>
      db.transaction((tx) => {
        tx.remove("alpha");
        tx.insert("t", `${round}`);
        tx.namespace("named").insert("t", `${round}`);
      }),
  ],
  ["a new namespace", (db, round) => db.namespace(`made ${round}`).insert("in", `${round}`)],
  ["a drop", (db, round) => void db.dropNamespace(round % 2 === 0 ? "named" : `made ${round - 1}`)],
  ["a value too long for the ring", (db, round) => db.insert("long", new Uint8Array(1_200_000).fill(round))],
];

test.each(ways.map(([name, options], way) => [name, { options, way }] as const))(
  "every write after a compaction of a database %s is there at once and after a reopen",
  async (_, { options, way }) => {
    for (const [name, change] of CHANGES.filter((_, index) => way === 0 || (index + way) % SHARE === 0)) {
      using folder = temporaryFolder();
      using twinFolder = temporaryFolder();
      const path = folder.file("data.emdb");
      let db = Emdb.open(path, fresh(options));
      using twin = Emdb.open(twinFolder.file("twin.emdb"));
      for (const step of EVERYTHING) for (const one of [db, twin]) step(one);
      const agree = (): void => expect([name, stateOf(db)]).toEqual([name, stateOf(twin)]);
      const both = (round: number): void => {
        for (const one of [db, twin]) change(one, round);
        agree();
      };
      // Compact; compact, write, compact; compact twice, write.
      await db.compact();
      both(0);
      await db.compact();
      agree();
      await db.compact();
      both(1);
      db.flushSync();
      const crashed = readFileSync(path);
      const state = stateOf(db);
      db.closeSync();
      db = Emdb.open(path, fresh(options));
      agree();
      expect(db.listNamespaces()).toEqual(twin.listNamespaces());
      both(2);
      await db.compact();
      agree();
      expect((await db.verify()).problems).toEqual([]);
      db.closeSync();
      // The file as a crash after the flush would have left it.
      using other = temporaryFolder();
      writeFileSync(other.file("data.emdb"), crashed);
      using again = Emdb.open(other.file("data.emdb"), fresh(options));
      expect(stateOf(again)).toBe(state);
    }
  },
);

test("iterators, streams, ranges and views from before each of six compactions show what they showed", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"), { rangeScans: true });
  const space = db.namespace("space");
  const held: { rows: () => Promise<string[]>; expected: string[] }[] = [];
  for (let round = 0; round < 7; round++) {
    for (let index = 0; index < 600; index++) {
      if (index % 7 === round) space.remove(`key ${index}`);
      else if (index % 3 === 0 || round === 0) space.insert(`key ${index}`, `${round} of ${index}`);
    }
    if (round === 4) space.clear();
    const rowOf = ([key, value]: [Uint8Array, Uint8Array]): string => `${text(key)}=${text(value)}`;
    const expected = [...space.iter()].map(rowOf).sort();
    const [walk, range] = [space.iter(), space.range({ reverse: true })];
    const reader = space.stream().getReader();
    const first = rowOf(range.next().value ?? [new Uint8Array(), new Uint8Array()]);
    held.push({ expected, rows: async () => [...walk].map(rowOf) });
    if (expected.length > 0) held.push({ expected, rows: async () => [first, ...[...range].map(rowOf)] });
    held.push({
      expected,
      rows: async () => {
        const rows: string[] = [];
        for (let next = await reader.read(); !next.done; next = await reader.read()) rows.push(rowOf(next.value));
        return rows;
      },
    });
    const view = space.getZeroCopy("key 1");
    const shown = text(view);
    held.push({ expected: [`${shown}`], rows: async () => [`${text(view)}`] });
    if (round < 6) await db.compact();
  }
  for (const { rows, expected } of held) expect((await rows()).sort()).toEqual(expected);
  await db.compact();
  if (canCount) expect(resourcesIn(folder.path).files).toBe(2);
});

test("iterators that keep every file they may make the next compaction EMDB_FULL, and letting one go makes room", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"));
  const walks: IteratorObject<Uint8Array, undefined>[] = [];
  let code: EmdbErrorCode | "fine" = "fine";
  for (let round = 0; code === "fine" && round < 20; round++) {
    db.insert("key", `${round}`);
    walks.push(db.values());
    code = await codeOf(db.compact());
  }
  expect(code).toBe("EMDB_FULL");
  expect(text(walks[0]!.next().value)).toBe("0");
  walks[0]!.return?.();
  expect(await codeOf(db.compact())).toBe("fine");
  expect(text(walks[1]!.next().value)).toBe("1");
  expect(db.getText("key")).toBe(`${walks.length - 1}`);
});

test("iterators that were dropped half-way keep no file longer than the next compaction needs it", async () => {
  using db = Emdb.openInMemory();
  db.insertMany(Array.from({ length: 100 }, (_, index) => [`${index}`, "value"]));
  for (let round = 0; round < 20; round++) {
    db.iter().next();
    expect(await codeOf(db.compact())).toBe("fine");
  }
});

test("expired records and dropped namespaces go, the others keep order, handle and deadline, and sweeps find them", async () => {
  using folder = temporaryFolder();
  const clock = heldClock();
  const path = folder.file("data.emdb");
  let db = Emdb.open(path);
  const names = ["first", "gone", "third", "fourth"];
  const handles = names.map((name) => db.namespace(name));
  for (const handle of handles) {
    for (let index = 0; index < 500; index++)
      handle.insert(`${index}`, "v".repeat(50), { ttlMs: 1000 + (index % 5) * 1000 });
  }
  db.dropNamespace("gone");
  clock.nowMs += 2500;
  await db.compact();
  expect(db.listNamespaces()).toEqual(["first", "third", "fourth"]);
  expect(handles[0]!.len()).toBe(300);
  expect(handles[0]!.ttl("4")).toBe(2500);
  expect(() => handles[1]!.get("1")).toThrow(expect.objectContaining({ code: "EMDB_NAMESPACE_DROPPED" }));
  const { liveRecords, deadBytes, logicalSizeBytes } = db.stats();
  expect([liveRecords, deadBytes]).toEqual([900, 0]);
  expect(logicalSizeBytes).toBeLessThan(900 * 100 + 4096 + 200);
  handles[3]!.persist("4");
  clock.nowMs += 1000;
  expect(handles.map((handle, index) => (index === 1 ? 0 : handle.sweepExpired()))).toEqual([100, 0, 100, 100]);
  db.closeSync();
  db = Emdb.open(path);
  expect(db.listNamespaces()).toEqual(["first", "third", "fourth"]);
  clock.nowMs += 2000;
  expect(db.namespace("fourth").sweepExpired()).toBe(199);
  expect(db.namespace("fourth").expiresAt("4")).toBe(0);
  db.closeSync();
});

test("live and dead bytes make up the log at every moment, and a compacted file is 1.15 times its records at most", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  let payload = 0;
  for (let index = 0; index < 45_000; index++) {
    const key = Bun.hash(`${index}`).toString(16).padStart(16, "0").padEnd(24, "k");
    db.insert(key, new Uint8Array(150));
    if (index % 3 === 0) db.insert(key, new Uint8Array(150).fill(1));
    payload += 24 + 150;
  }
  const frame = Math.ceil((24 + 24 + 150) / 8) * 8;
  const live = (): number => db.stats().logicalSizeBytes - db.stats().deadBytes;
  expect(live()).toBe(4096 + 45_000 * frame);
  let looks = 0;
  await db.compact({
    onProgress: () => {
      looks += 1;
      expect(live()).toBe(4096 + 45_000 * frame);
      expect(db.len()).toBe(45_000);
    },
  });
  expect(looks).toBeGreaterThan(2);
  expect([db.stats().deadBytes, live()]).toEqual([0, 4096 + 45_000 * frame]);
  db.closeSync();
  expect(statSync(path).size).toBeLessThan(1.15 * payload);
});

test("damage in the middle of the log is EMDB_CORRUPTED with its place, and nothing is changed", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path);
  for (let index = 0; index < 3000; index++) db.insert(`key ${index}`, "v".repeat(100));
  db.flushSync();
  // The mark behind it.
  await Promise.resolve();
  const at = db.stats().logicalSizeBytes >> 1;
  const file = openSync(path, "r+");
  writeSync(file, new Uint8Array([255, 255, 255]), 0, 3, at);
  closeSync(file);
  const [before, names] = [readFileSync(path), readdirSync(folder.path).sort()];
  for (const work of [() => db.compact(), () => db.backupTo(folder.file("copy.emdb"))]) {
    const error = await work().then(
      () => undefined,
      (thrown: unknown) => thrown as { code: string; offset: number },
    );
    expect(error?.code).toBe("EMDB_CORRUPTED");
    expect(Math.abs((error?.offset ?? 0) - at)).toBeLessThan(200);
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(readdirSync(folder.path).sort()).toEqual(names);
  }
  expect(text(db.get("key 0"))).toBe("v".repeat(100));
});

test("damage in what is dead ends no compaction and goes with it, whichever bytes of a frame it is in", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (let byte = 0; byte < 160; byte += WORD_STEP) {
    using db = Emdb.open(path);
    for (let round = 0; round < 2; round++)
      for (let index = 0; index < 400; index++) db.insert(`key ${index}`, `${round} ${byte}`.padEnd(100, "v"));
    db.flushSync();
    const state = stateOf(db);
    const file = openSync(path, "r+");
    // Among the four hundred that are overwritten there are some frames whose first byte is at each distance from this.
    const at = (db.stats().logicalSizeBytes >> 2) + byte;
    writeSync(file, new Uint8Array(8).fill(255), 0, 8, at);
    closeSync(file);
    expect((await db.verify()).problems).not.toEqual([]);
    await db.compact();
    expect((await db.verify()).problems).toEqual([]);
    expect([byte, stateOf(db) === state]).toEqual([byte, true]);
    db.closeSync();
    using again = Emdb.open(path);
    expect(stateOf(again)).toBe(state);
    again.clear();
    await again.compact();
  }
});

test("a compaction that fails at any call leaves the original in service, or poisoned once the name has changed, and nothing beside it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let fault: Fault = () => undefined;
  const system = faulty(hostSystem(), (call, args) => fault(call, args));
  const calls = ["open", "write", "sync", "syncFolder", "rename", "allocate", "map", "reserve", "read"];
  for (const name of calls) {
    for (let at = 1; at < 25; at++) {
      using fixture = new EngineFixture(path, system);
      const { engine, opened, sync } = fixture;
      for (let index = 0; index < 300; index++) engine.insert(engine.defaultSpace, `key ${index}`, `${name} ${at}`, 0);
      sync.flush();
      const state = fixture.state();
      let seen = 0;
      fault = (call) => (call === name && ++seen === at ? -28 : undefined);
      const outcome = await codeOf(opened.compaction.run({}));
      fault = () => undefined;
      expect([name, at, fixture.state() === state]).toEqual([name, at, true]);
      expect(readdirSync(folder.path).some((name) => DRAFT.test(name))).toBe(false);
      // A swap that seems to be under way keeps refused writes in the file, and a dead thread's syncs from being made again.
      expect(engine.core.control.flags[SWAP]).toBe(SWAP_NONE);
      if (canCount && outcome !== "fine") expect(resourcesIn(folder.path).files).toBeLessThanOrEqual(3);
      if (name === "syncFolder" && seen >= at) {
        expect(() => engine.insert(engine.defaultSpace, "k", "v", 0)).toThrow(
          expect.objectContaining({ code: "EMDB_POISONED" }),
        );
      } else {
        engine.insert(engine.defaultSpace, "written", "afterwards", 0);
        sync.flush();
        expect(await codeOf(opened.compaction.run({}))).toBe("fine");
        expect(text(engine.get(engine.defaultSpace, "written"))).toBe("afterwards");
      }
      fixture[Symbol.dispose]();
      using again = new EngineFixture(path, system);
      expect([name, at, again.engine.count(again.engine.defaultSpace)]).toEqual([
        name,
        at,
        name === "syncFolder" && seen >= at ? 300 : 301,
      ]);
      again.engine.remove(again.engine.defaultSpace, "written");
      if (seen < at) break;
    }
  }
  if (canCount) expect(resourcesIn(folder.path).files).toBe(0);
});

// Windows renames a mapped file in two steps, and takes the first one back.
test.skipIf(process.platform === "win32")(
  "a compaction whose rename was done although it was told to have failed goes on in the new file",
  async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const host = hostSystem();
    const system = faulty(host, (call, args) => {
      if (call !== "rename" || !DRAFT.test(String(args[0]))) return undefined;
      const renamed = host.rename(...(args as Parameters<typeof host.rename>));
      return renamed < 0 ? renamed : -Errno.EIO;
    });
    {
      using fixture = new EngineFixture(path, system);
      const { engine, opened, sync } = fixture;
      const insert = (key: string): void => engine.insert(engine.defaultSpace, key, "value", 0);
      insert("before");
      sync.flush();
      expect(await codeOf(opened.compaction.run({}))).toBe("fine");
      insert("after");
      sync.flush();
      fixture.close();
    }
    using again = Emdb.open(path);
    expect([...again.keys()].map((key) => Buffer.from(key).toString()).sort()).toEqual(["after", "before"]);
  },
);
