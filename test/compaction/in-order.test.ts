/** A compaction in the order of keys: how records lie behind it, and that nothing else about them is changed. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import type { Opened } from "../../src/engine/assemble.ts";
import type { BatchWrite, Space } from "../../src/engine/contract.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { addressOf, copy } from "../../src/ffi/memory.ts";
import { Emdb, type CompactOptions, type OpenOptions } from "../../src/index.ts";
import { remainderOf } from "../../src/ordered/range-reader.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import { KIND_PUT, WORD_SHAPE, kindOf } from "../../src/log/frame.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";
import { LATER_MS, stateOf } from "../engine/fixture.ts";
import { CONFIG, type Config } from "../engine/open-engine.ts";
import { Random } from "../sim/random.ts";
import { sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { liveThrough } from "./life.ts";

setDefaultTimeout(300_000);

const ORDERED = { rangeScans: true } as const;

/** Records whose keys come in no order, one by one. */
function writesOf(seed: number, count: number, space: Space): BatchWrite[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, index) => ({
    space,
    key: `key ${String(random.below(2 ** 31)).padStart(10, "0")} ${index}`,
    value: `${index} `.padEnd(8 + random.below(120), "v"),
    expiresAtMs: index % 5 === 0 ? LATER_MS + index : 0,
  }));
}

/** Where the records of a key space lie, in the order of their keys, and where each of them ends. */
function placesOf({ engine }: Opened, space: Space): { readonly lsn: number; readonly end: number }[] {
  const { core, spaces } = engine;
  const units = new Float64Array(64);
  const rest = remainderOf({});
  const places: { lsn: number; end: number }[] = [];
  const take = (): number => core.ordering!.reader.take(spaces.tree(space as SpaceState), rest, units, 64);
  for (let count = take(); count > 0; count = take()) {
    for (const unit of units.subarray(0, count)) {
      core.lookup.loadAt(unit * 8);
      if (kindOf(core.lookup.shape) === KIND_PUT)
        places.push({ lsn: unit * 8, end: unit * 8 + core.lookup.frameBytes() });
    }
  }
  return places;
}

/** How many of them do not begin where the one before ends. */
function breaksOf(opened: Opened, space: Space): number {
  const places = placesOf(opened, space);
  return places.filter(({ lsn }, index) => index > 0 && lsn !== places[index - 1]!.end).length;
}

function compact({ compaction, work }: Opened, isInOrder = true): void {
  expect(work.tryTake()).toBe(true);
  for (const _ of compaction.copySteps({ isInOrder }));
  for (const _ of compaction.relocationSteps());
  work.give();
}

const bytesIn = ({ engine }: Opened): number => engine.core.visible - engine.core.base;

test("records that came in any order lie side by side in the order of their keys, in each key space", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const spaces = [engine.defaultSpace, engine.spaceNamed("one"), engine.spaceNamed("other")];
  const all = spaces.flatMap((space, index) => writesOf(index + 1, 3000, space));
  for (const write of all) engine.writeBatch([write]);
  for (const { space, key } of all.filter((_, index) => index % 7 === 0)) engine.remove(space as Space, key);
  const state = fixture.state();
  compact(opened, false);
  for (const space of spaces) expect(breaksOf(opened, space)).toBeGreaterThan(2000);
  const bytes = bytesIn(opened);

  compact(opened);
  // Between two stretches there may be one.
  for (const space of spaces) expect(breaksOf(opened, space)).toBeLessThan(2571 / 512 + 1);
  expect(bytesIn(opened)).toBe(bytes);
  expect(fixture.state()).toBe(state);
  const write = spyOn(engine, "writeBatch");
  compact(opened);
  expect(write).not.toHaveBeenCalled();
  expect(fixture.state()).toBe(state);
});

test("a few that lie elsewhere do not have their neighbours written anew, and many do", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const writes = writesOf(1, 3000, engine.defaultSpace).sort((a, b) => (a.key < b.key ? -1 : 1));
  engine.writeBatch(writes);
  compact(opened);
  expect(breaksOf(opened, engine.defaultSpace)).toBe(0);
  const write = spyOn(engine, "writeBatch");
  // Each that is elsewhere is two places where the next does not follow.
  const rewritten = (step: number): number => {
    for (let index = 0; index < writes.length; index += step) {
      const { space, key, value } = writes[index]!;
      engine.insert(space as Space, key, value!, 0);
    }
    write.mockClear();
    compact(opened);
    return write.mock.calls.flatMap(([batch]) => batch).length;
  };
  expect(rewritten(100)).toBe(0);
  expect(rewritten(25)).toBe(3000);
  expect(rewritten(3000)).toBe(0);
});

test("what is long stays where it is, and what is short comes together", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const value = (index: number): string => `${index} `.padEnd(index % 3 === 0 ? 4096 : 50, "v");
  for (let turn = 0; turn < 900; turn++) {
    const index = (turn * 7) % 900;
    engine.insert(engine.defaultSpace, `key ${1000 + index}`, value(index), 0);
  }
  const state = fixture.state();
  const write = spyOn(engine, "writeBatch");
  compact(opened);
  expect(write.mock.calls.flatMap(([batch]) => batch).length).toBe(600);
  const short = placesOf(opened, engine.defaultSpace).filter(({ lsn, end }) => end - lsn < 4096);
  const apart = short.filter(({ lsn }, index) => index > 0 && lsn !== short[index - 1]!.end).length;
  expect(apart).toBeLessThan(4);
  compact(opened);
  expect(write.mock.calls.flatMap(([batch]) => batch).length).toBe(600);
  expect(fixture.state()).toBe(state);
});

const LIVES = sampleOf<readonly [string, Partial<Config>]>(
  [
    ["a file", {}],
    ["memory", {}],
    ["a file with checked reads", { verifyReads: true }],
    ["a write-through file", { flushPlan: { kind: "write-through" } }],
  ],
  2,
);

test.each(LIVES)("a life of such compactions in %s loses, revives and changes nothing", (name, config) => {
  const first = Number(process.env["EMDB_TEST_SEED"] ?? 1);
  const count = process.env["EMDB_SOAK"] === undefined ? 1 : 200;
  for (let seed = first; seed < first + count; seed++) {
    using folder = temporaryFolder();
    const path = name === "memory" ? undefined : folder.file("data.emdb");
    liveThrough(path, { seed, config: { ...config, rangeScans: true }, rounds: 4, isInOrder: true });
  }
});

/** A database of some thousand records in no order. */
function scattered(path: string, options: OpenOptions = ORDERED): Emdb {
  const db = Emdb.open(path, options);
  for (const { key, value, expiresAtMs } of writesOf(1, 4000, { id: 0, name: "" }))
    db.insert(key, value!, expiresAtMs === 0 ? {} : { expiresAtMs });
  return db;
}

test("it is asked for, needs the ordered index, and is not for what is encrypted", async () => {
  using folder = temporaryFolder();
  using plain = Emdb.open(folder.file("plain.emdb"));
  expect(plain.compact({ inKeyOrder: true })).rejects.toMatchObject({
    code: "EMDB_INVALID_CONFIG",
    message: "inKeyOrder needs the ordered index: open with { rangeScans: true }",
  });
  await plain.compact({ inKeyOrder: false });
  const encryption = { key: new Uint8Array(32).fill(1) };
  using sealed = Emdb.open(folder.file("sealed.emdb"), { ...ORDERED, encryption });
  sealed.insert("a", "1");
  expect(sealed.compact({ inKeyOrder: true })).rejects.toMatchObject({
    code: "EMDB_INVALID_CONFIG",
    message: expect.stringContaining("inKeyOrder is not for an encrypted database"),
  });
  await sealed.compact({ inKeyOrder: false });
  for (const wrong of [1, "yes", null]) {
    const options = { inKeyOrder: wrong } as unknown as CompactOptions;
    expect(plain.compact(options)).rejects.toMatchObject({
      code: "EMDB_INVALID_ARGUMENT",
      message: expect.stringContaining("inKeyOrder must be true or false, got "),
    });
  }
  expect(plain.compact({ inOrder: true } as CompactOptions)).rejects.toMatchObject({
    code: "EMDB_INVALID_ARGUMENT",
    message: expect.stringContaining('CompactOptions has no "inOrder"'),
  });
  expect(plain.backupTo(folder.file("copy.emdb"), { inKeyOrder: true } as CompactOptions)).rejects.toMatchObject({
    code: "EMDB_INVALID_ARGUMENT",
  });
});

test("what it has done grows to the total, and wherever it is aborted on the way the records are as before", async () => {
  using folder = temporaryFolder();
  using db = scattered(folder.file("data.emdb"));
  const state = stateOf(db);
  let outcome = "";
  for (let calls = 1; outcome !== "done"; calls++) {
    const controller = new AbortController();
    const seen: number[] = [];
    let last = { done: 0, total: 0 };
    const onProgress: CompactOptions["onProgress"] = (progress) => {
      expect(progress.done).toBeGreaterThanOrEqual(last.done);
      last = progress;
      if (seen.push(progress.done) === calls) controller.abort();
    };
    outcome = await db.compact({ inKeyOrder: true, onProgress, signal: controller.signal }).then(
      () => "done",
      (error: { readonly code: string }) => error.code,
    );
    expect(outcome).toBe(outcome === "done" ? outcome : "EMDB_ABORTED");
    if (outcome === "done") expect(last.done).toBe(last.total);
    expect(stateOf(db)).toBe(state);
  }
  expect((await db.verify()).problems).toEqual([]);
});

test("records that are written, and key spaces that are emptied or dropped, between its steps are as they were told", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const { compaction, work } = opened;
  const names = ["cleared", "dropped", "written"];
  for (const name of names) engine.writeBatch(writesOf(names.indexOf(name), 2000, engine.spaceNamed(name)));
  const [cleared, , written] = names.map((name) => engine.spaceNamed(name));
  const early = engine.snapshot(written!);
  expect(work.tryTake()).toBe(true);
  const steps = compaction.copySteps({ isInOrder: true });
  const write = spyOn(engine, "writeBatch");
  while (write.mock.calls.length === 0) steps.next();
  engine.clear(cleared!);
  engine.insert(cleared!, "since", "1", 0);
  while (write.mock.calls.length < 2) steps.next();
  engine.dropSpace("dropped");
  while (write.mock.calls.length < 4) steps.next();
  const records = writesOf(2, 2000, written!);
  for (const { key } of records.filter((_, index) => index % 3 === 0)) engine.insert(written!, key, "since", 0);
  for (const { key } of records.filter((_, index) => index % 3 === 1)) engine.remove(written!, key);
  for (const _ of steps);
  for (const _ of compaction.relocationSteps());
  work.give();
  expect(engine.spaceNames()).toEqual(["cleared", "written"]);
  expect([...engine.snapshot(cleared!)].map(({ key }) => Buffer.from(key).toString())).toEqual(["since"]);
  const got = records.map(({ key }) => Buffer.from(engine.get(written!, key) ?? "gone").toString());
  const told = records.map(({ value }, index) => ["since", "gone", value as string][index % 3]!);
  expect(got).toEqual(told);
  expect([...early].length).toBe(2000);
});

test("whoever writes more keys behind the others than it looks at in a step does not keep it from its end", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const { compaction, work } = opened;
  engine.writeBatch(writesOf(1, 2000, engine.defaultSpace));
  expect(work.tryTake()).toBe(true);
  const write = spyOn(engine, "writeBatch");
  const copied = spyOn(engine.spaces, "noteCopy");
  let last = 0;
  let steps = 0;
  for (const _ of compaction.copySteps({ isInOrder: true })) {
    if (write.mock.calls.length === 0 || copied.mock.calls.length > 0) continue;
    steps += 1;
    if (steps > 50) throw new Error("it does not end");
    const keys = Array.from({ length: 1500 }, () => `later ${String((last += 1)).padStart(9, "0")}`);
    engine.insertMany(engine.defaultSpace, keys, keys, 0);
  }
  for (const _ of compaction.relocationSteps());
  work.give();
  // What came meanwhile is not written twice.
  expect(write.mock.calls.flatMap(([batch]) => batch).length).toBe(2000);
  expect(write.mock.calls.length).toBe(4);
  expect(breaksOf(opened, engine.defaultSpace)).toBeLessThan(100);
  expect(engine.count(engine.defaultSpace)).toBe(2000 + last);
});

test("no step of it holds the writer's lock for more than some hundred records, or what is as long, or came meanwhile", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const { compaction, work } = opened;
  const [short, long] = ["short", "long"].map((name) => engine.spaceNamed(name));
  engine.writeBatch(writesOf(1, 3000, short!));
  for (let index = 0; index < 300; index++) engine.insert(long!, `key ${index}`, "v".repeat(8000), 0);
  engine.insert(long!, "last", "1", 0);
  expect(work.tryTake()).toBe(true);
  const taken = spyOn(engine.core.ordering!.reader, "take");
  const copied = spyOn(engine.spaces, "noteCopy");
  const perStep: number[] = [];
  for (const _ of compaction.copySteps({ isInOrder: true })) {
    const count = taken.mock.results.reduce((sum, { value }) => sum + Number(value), 0);
    taken.mockClear();
    if (count === 0 || copied.mock.calls.length > 0) continue;
    perStep.push(count);
    if (perStep.length > 1) continue;
    const keys = Array.from({ length: 20_000 }, (_, index) => `key ${index}`);
    engine.insertMany(short!, keys, keys, 0);
  }
  for (const _ of compaction.relocationSteps());
  work.give();
  // Of each to the end of a leaf, which has up to 63.
  const [first = 0, ...others] = perStep;
  expect(first).toBeGreaterThanOrEqual(512);
  expect(first).toBeLessThan(512 + 63);
  const ofLong = others.slice(-Math.ceil((300 * 8000) / (256 * 1024 + 63 * 8000)));
  for (const count of ofLong) expect(count).toBeLessThan(33 + 63);
  const ofShort = others.slice(0, others.length - ofLong.length);
  for (const count of ofShort) expect(count).toBeLessThan(8192 + 63);
  expect(Math.max(...ofShort)).toBeGreaterThan(512 + 63);
});

test("a record that has rotted ends it before anything is written of its stretch, and is not written as if it were sound", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new EngineFixture(path, hostSystem(), ORDERED);
  const { opened, engine, sync } = fixture;
  engine.writeBatch(writesOf(1, 3000, engine.defaultSpace));
  compact(opened, false);
  sync.flush();
  const places = placesOf(opened, engine.defaultSpace);
  // In its value, before what fills the frame up.
  const at = places[1500]!.end - engine.core.base - 9;
  const file = openSync(path, "r+");
  const byte = new Uint8Array(1);
  const change = (): void => {
    readSync(file, byte, 0, 1, at);
    writeSync(file, new Uint8Array([byte[0]! ^ 1]), 0, 1, at);
  };
  change();
  const write = spyOn(engine, "writeBatch");
  expect(() => compact(opened)).toThrow(expect.objectContaining({ code: "EMDB_CORRUPTED" }));
  opened.work.give();
  // Those before its stretch.
  expect(write.mock.calls.length).toBeLessThan(4);
  change();
  closeSync(file);
  compact(opened);
  expect(breaksOf(opened, engine.defaultSpace)).toBeLessThan(3000 / 512 + 1);
});

test("where the disk is full while records are written anew, they are all there, and it is done when there is room", () => {
  using folder = temporaryFolder();
  let isFull = false;
  const system = faulty(hostSystem(), (call) => (isFull && call === "write" ? -Errno.ENOSPC : undefined));
  using fixture = new EngineFixture(folder.file("data.emdb"), system, ORDERED);
  const { opened, engine } = fixture;
  const { compaction, work } = opened;
  engine.writeBatch(writesOf(1, 12_000, engine.defaultSpace));
  const state = fixture.state();
  expect(work.tryTake()).toBe(true);
  const steps = compaction.copySteps({ isInOrder: true });
  const write = spyOn(engine, "writeBatch");
  while (write.mock.calls.length < 3) steps.next();
  isFull = true;
  expect(() => {
    for (const _ of steps);
  }).toThrow(expect.objectContaining({ code: "EMDB_FULL" }));
  isFull = false;
  work.give();
  expect(fixture.state()).toBe(state);
  compact(opened);
  expect(fixture.state()).toBe(state);
  expect(breaksOf(opened, engine.defaultSpace)).toBeLessThan(12_000 / 512 + 1);
});

test("where too many replaced files are still in use nothing is written either", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  engine.writeBatch(writesOf(1, 1000, engine.defaultSpace));
  const held = Array.from({ length: 8 }, () => {
    const source = engine.range(engine.defaultSpace, { isReverse: false });
    source.pull();
    compact(opened, false);
    return source;
  });
  const bytes = bytesIn(opened);
  expect(() => compact(opened)).toThrow(expect.objectContaining({ code: "EMDB_FULL" }));
  opened.work.give();
  expect(bytesIn(opened)).toBe(bytes);
  for (const source of held) source.return();
  compact(opened);
  expect(breaksOf(opened, engine.defaultSpace)).toBeLessThan(3);
});

test("streams that came in turn are brought apart", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const STREAMS = 12;
  // Each is right behind the one before of its stream, but for one of each other.
  for (let index = 0; index < 300 * STREAMS; index++)
    engine.insert(engine.defaultSpace, `stream ${(index % STREAMS) + 10} ${100_000 + index}`, "v".repeat(60), 0);
  compact(opened);
  expect(breaksOf(opened, engine.defaultSpace)).toBeLessThan((300 * STREAMS) / 512 + 1);
});

test("small key spaces are brought into order by one batch for many", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), ORDERED);
  const { opened, engine } = fixture;
  const spaces = Array.from({ length: 200 }, (_, index) => engine.spaceNamed(`space ${index}`));
  for (const key of ["c", "a", "b"]) for (const space of spaces) engine.insert(space, key, key, 0);
  const write = spyOn(engine, "writeBatch");
  compact(opened);
  expect(write.mock.calls.map(([batch]) => batch.length)).toEqual([513, 87]);
  for (const space of spaces) expect(breaksOf(opened, space)).toBe(0);
});

test("a removal that has rotted and that nobody needs does not end it", () => {
  const config = { ...CONFIG, ...ORDERED };
  const opened = openMemory({ system: hostSystem(), defer: (work) => setImmediate(work), hasWorkers: false }, config);
  const { engine } = opened;
  const { core } = engine;
  engine.writeBatch(writesOf(1, 100, engine.defaultSpace));
  // What it shows keeps the removal in the index as long as it is open.
  const held = engine.range(engine.defaultSpace, { isReverse: false });
  held.pull();
  engine.insert(engine.defaultSpace, "gone", "1", 0);
  const at = core.visible;
  engine.remove(engine.defaultSpace, "gone");
  held.return();
  // The kind is in there; there is no such one.
  copy(core.log.at(at) + WORD_SHAPE * 4, addressOf(new Uint8Array([0xff, 0xff])), 2);
  expect(() => core.lookup.loadAt(at)).toThrow();
  compact(opened);
  expect(breaksOf(opened, engine.defaultSpace)).toBeLessThan(2);
  expect(engine.count(engine.defaultSpace)).toBe(100);
  opened.leave();
});
