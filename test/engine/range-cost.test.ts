/** What a range touches, counted and not timed; and the records that are not made from a copy of their frame. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { Emdb, EmdbError } from "emdb";
import type { RangeBounds } from "../../src/engine/contract.ts";
import { SNAPSHOTS } from "../../src/engine/threads/control.ts";
import { Engine } from "../../src/engine/engine.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

setDefaultTimeout(60_000);

const RECORDS = 20_000;

/** An engine over many records, with its frames and looks at the tree counted. */
class Counted implements Disposable {
  readonly #folder = temporaryFolder();
  readonly fixture: EngineFixture;
  frames = 0;
  parts = 0;
  /** Blocks of the tree that were looked at. */
  blocks = 0;

  constructor(records = RECORDS) {
    this.fixture = new EngineFixture(this.#folder.file("data.emdb"), hostSystem(), { rangeScans: true });
    const { engine } = this.fixture;
    const keys = Array.from({ length: records }, (_, index) => `key ${String(index).padStart(8, "0")}`);
    engine.insertMany(engine.defaultSpace, keys, keys, 0);
    this.fixture.sync.flush();
    const { frames, ordering } = engine.core;
    const load = frames.load.bind(frames);
    frames.load = (pairs, units, part, before) => {
      this.frames += part.count;
      return load(pairs, units, part, before);
    };
    const { heap } = engine.core;
    const blockAddress = heap.blockAddress.bind(heap);
    heap.blockAddress = (block) => {
      this.blocks += 1;
      return blockAddress(block);
    };
    const reader = ordering!.reader;
    const take = reader.take.bind(reader);
    reader.take = (tree, rest, to, room) => {
      this.parts += 1;
      return take(tree, rest, to, room);
    };
  }

  take(bounds: RangeBounds, count: number): { readonly frames: number; readonly parts: number } {
    this.frames = 0;
    this.parts = 0;
    const { engine } = this.fixture;
    const range = engine.range(engine.defaultSpace, bounds);
    for (let index = 0; index < count; index++) expect(range.next().done).toBe(false);
    range.return();
    return { frames: this.frames, parts: this.parts };
  }

  [Symbol.dispose](): void {
    this.fixture[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

const lower = { key: new TextEncoder().encode("key 00010000"), isInclusive: true };

test("ten of many cost ten frames when a limit says so, and hardly more when it does not", () => {
  using counted = new Counted();
  for (const isReverse of [false, true]) {
    const bounds = isReverse ? { upper: lower, isReverse } : { lower, isReverse };
    const limited = counted.take({ ...bounds, limit: 10 }, 10);
    expect(limited.frames).toBe(10);
    expect(limited.parts).toBeLessThanOrEqual(2);
    const open = counted.take(bounds, 10);
    expect(open.frames).toBeLessThanOrEqual(24);
    expect(open.parts).toBeLessThanOrEqual(2);
    expect(counted.take(bounds, 1).frames).toBeLessThanOrEqual(8);
  }
});

test("a range between two bounds looks at their leaves, and at none behind them", () => {
  using counted = new Counted();
  const { engine } = counted.fixture;
  const upper = { key: new TextEncoder().encode("key 00010020"), isInclusive: true };
  for (const isReverse of [false, true]) {
    counted.blocks = 0;
    expect([...engine.range(engine.defaultSpace, { lower, upper, isReverse })]).toHaveLength(21);
    expect(counted.blocks).toBeLessThanOrEqual(8);
  }
});

test("five of a range, or of its stream, never meet what has rotted behind them", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using db = Emdb.open(path, { rangeScans: true });
    db.insertMany(Array.from({ length: 2000 }, (_, index) => [`key ${10_000 + index}`, `value ${index};`] as const));
  }
  const bytes = readFileSync(path);
  const at = bytes.indexOf("value 1500;");
  expect(at).toBeGreaterThan(0);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
  using db = Emdb.open(path, { rangeScans: true, verifyReads: true });
  expect(db.range().take(5).toArray()).toHaveLength(5);
  expect(db.range({ reverse: true }).take(5).toArray()).toHaveLength(5);
  const reader = db.stream({ gte: "key" }).getReader();
  for (let count = 0; count < 5; count++) expect((await reader.read()).done).toBe(false);
  await reader.cancel();
  // All of it meets the record, and says so.
  let code = "";
  try {
    db.range().toArray();
  } catch (error) {
    if (error instanceof EmdbError) code = error.code;
  }
  expect(code).toBe("EMDB_CORRUPTED");
});

test("a range over everything reads each frame once", () => {
  using counted = new Counted();
  const { frames, parts } = counted.take({ isReverse: false }, RECORDS);
  expect(frames).toBe(RECORDS);
  expect(parts).toBeLessThan(RECORDS / 20);
});

test("records that are long, just written, removed since or of no bytes come out like all others", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { rangeScans: true });
  const { engine } = fixture;
  const space = engine.defaultSpace;
  const wanted = new Map<string, string>();
  const put = (key: string, value: string): void => {
    engine.insert(space, key, value, 0);
    wanted.set(key, value);
  };
  // Around the bytes that are copied of a frame; beyond a key's bytes that are; in the file and, the last ones, in the ring.
  for (const bytes of [0, 1, 100, 207, 208, 224, 225, 231, 232, 233, 300, 5000, 2_000_000]) {
    put(`value ${bytes}`, "v".repeat(bytes));
    put(`${"k".repeat(bytes % 60_000)} key`, "of many bytes");
  }
  put("", "no key");
  put("no value", "");
  fixture.sync.flush();
  put("value 100", "overwritten");
  put("in the ring", "x".repeat(300));
  for (const limit of [undefined, 5, 60, 1000]) {
    for (const isReverse of [false, true]) {
      const range = engine.range(space, { isReverse, limit: limit ?? Infinity });
      // Nothing that is written from here on shows.
      engine.insert(space, "later", "later", 0);
      engine.removeMany(space, ["value 300", "no value"]);
      const found = [...range].map(({ key, value }) => [Buffer.from(key).toString(), Buffer.from(value).toString()]);
      const all = [...wanted].sort(([a], [b]) => (a < b ? -1 : 1));
      expect(found).toEqual((isReverse ? all.reverse() : all).slice(0, limit ?? all.length));
      engine.removeMany(space, ["later"]);
      for (const key of ["value 300", "no value"]) engine.insert(space, key, wanted.get(key)!, 0);
    }
  }
});

test("the keys of a range are read without the values, long or short, overwritten since or just written", () => {
  using counted = new Counted(0);
  const { engine, sync } = counted.fixture;
  const space = engine.defaultSpace;
  const keys = Array.from({ length: 150 }, (_, index) => `key ${String(index).padStart(3, "0")}`);
  for (const [index, key] of keys.entries())
    engine.insert(space, key, "v".repeat(index % 50 === 0 ? 300_000 : index), 0);
  sync.flush();
  engine.insert(space, "key 001", "in the ring", 0);
  engine.insert(space, "key 002", "with a deadline", Number.MAX_SAFE_INTEGER);
  for (const limit of [Infinity, 60, 5]) {
    const range = engine.range(space, { isReverse: false, limit }, "keys");
    engine.insert(space, "key 003", "written over", 0);
    const found = [...range].map(({ key, value }) => [Buffer.from(key).toString(), value.length] as const);
    expect(found).toEqual(keys.slice(0, Math.min(limit, keys.length)).map((key) => [key, 0]));
  }
});

test("a group is removed by its keys alone", () => {
  using db = Emdb.openInMemory({ rangeScans: true });
  for (const key of ["group.a", "group.b", "grouped", "group"]) db.insert(key, "value");
  const range = spyOn(Engine.prototype, "range");
  expect(db.deleteGroup("group")).toBe(2);
  expect(range.mock.calls.map(([, , wanted]) => wanted)).toEqual(["keys"]);
  range.mockRestore();
  expect([...db.range()].map(([key]) => Buffer.from(key).toString())).toEqual(["group", "grouped"]);
});

test("a range that fails to begin in a shared database holds no moment afterwards", () => {
  using counted = new Counted(100);
  const { engine } = counted.fixture;
  engine.core.becomeShared();
  const reader = engine.core.ordering!.reader;
  reader.take = () => {
    throw new Error("no luck");
  };
  const { flags } = engine.core.control;
  const before = flags[SNAPSHOTS];
  for (const limit of [1, Infinity])
    expect(() => engine.range(engine.defaultSpace, { isReverse: false, limit })).toThrow("no luck");
  expect(flags[SNAPSHOTS]).toBe(before);
});

test("the front of a queue costs the same however much was taken from it, one by one or as a batch", () => {
  using counted = new Counted();
  const { engine, sync } = counted.fixture;
  const space = engine.defaultSpace;
  const keyOf = (index: number): string => `key ${String(index).padStart(8, "0")}`;
  let first = 0;
  const front = (): { readonly loads: number; readonly key: string } => {
    counted.blocks = 0;
    const range = engine.range(space, { isReverse: false, limit: 1 });
    const { value } = range.next();
    range.return();
    return { loads: counted.blocks, key: Buffer.from(value!.key).toString() };
  };
  const whole = front().loads;
  for (const count of [1, 1, 100, 1000, 1, 1]) {
    if (count > 1) {
      engine.removeMany(
        space,
        Array.from({ length: count }, (_, index) => keyOf(first + index)),
      );
      first += count;
    } else for (const end = first + 500; first < end; first++) engine.remove(space, keyOf(first));
    sync.spill();
    // One of the leaves may have its last tombstone still, and one more is looked at to see that.
    expect(front()).toEqual({ loads: expect.any(Number), key: keyOf(first) });
    expect(front().loads).toBeLessThanOrEqual(whole + 3);
  }
  const held = engine.range(space, { isReverse: false });
  held.next();
  for (const end = first + 1500; first < end; first++) engine.remove(space, keyOf(first));
  expect(front().loads).toBeGreaterThan(whole + 5);
  held.return();
  // What had to wait goes with the next writes, some leaves with each.
  for (let index = 0; index < 40; index++) engine.insert(space, `other ${index}`, "", 0);
  expect(front().loads).toBeLessThanOrEqual(whole + 3);
});

test("a write looks at as many leaves for old tombstones, however many key spaces have some that a walk keeps", () => {
  using counted = new Counted(100);
  const { engine, sync } = counted.fixture;
  const keys = Array.from({ length: 100 }, (_, index) => `key ${index}`);
  const held = engine.snapshot(engine.defaultSpace);
  held.next();
  /** Blocks that a single write looks at when so many more key spaces have had all their records removed. */
  let made = 0;
  const blocksBeside = (spaces: number): number => {
    for (const end = made + spaces; made < end; made++) {
      const space = engine.spaceNamed(`space ${made}`);
      engine.insertMany(space, keys, keys, 0);
      engine.removeMany(space, keys);
    }
    counted.blocks = 0;
    for (let index = 0; index < 10; index++) engine.insert(engine.defaultSpace, "key", "value", 0);
    return counted.blocks;
  };
  const few = blocksBeside(5);
  expect(few).toBeGreaterThan(0);
  expect(blocksBeside(95)).toBeLessThanOrEqual(few * 2);
  held.return();
  // When nobody keeps them any more all have their turn.
  sync.spill();
  const turns = spyOn(engine.core.ordering!.index, "tidy");
  for (let index = 0; index < 200; index++) engine.insert(engine.defaultSpace, "key", "value", 0);
  expect(new Set(turns.mock.calls.map(([tree]) => tree)).size).toBe(100);
  counted.blocks = 0;
  engine.insert(engine.defaultSpace, "key", "value", 0);
  const { blocks } = counted;
  expect(blocks).toBeLessThanOrEqual(few / 10);
});
