/** Room in the index ahead of a long batch: what it saves, what it may waste, and that a batch does without. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { RoomAhead } from "../../src/engine/write/room-ahead.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { ShardBuilder } from "../../src/keydir/shard.ts";
import { fastFolder } from "./fixture.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

setDefaultTimeout(120_000);

const PAGE_BYTES = 4096;
const COUNT = 40_000;

const keysOf = (count: number, distinct = count): string[] =>
  Array.from({ length: count }, (_, index) => `key ${index % distinct}`);

function insertMany({ engine }: EngineFixture, keys: readonly string[]): void {
  engine.insertMany(
    engine.defaultSpace,
    keys,
    keys.map(() => "v"),
    0,
  );
}

/** Bytes of the index that hold something. */
function inUse({ engine }: EngineFixture): number {
  const { heap } = engine.core;
  return heap.bytes - heap.idlePages * PAGE_BYTES;
}

/** Pages of the index that no shard of the default key space has. */
function otherPages(fixture: EngineFixture): number {
  const { core, spaces, defaultSpace } = fixture.engine;
  let pages = inUse(fixture) / PAGE_BYTES;
  for (let hash = 0; hash < 1 << HASH_BITS;) {
    const shard = core.keydir.shardOf(spaces.root(defaultSpace), hash);
    pages -= shard.pages.length;
    hash += 1 << (HASH_BITS - shard.depth);
  }
  return pages;
}

/** Bytes of the index behind some writes. */
function bytesAfter(write: (fixture: EngineFixture) => void): number {
  using folder = fastFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  write(fixture);
  return inUse(fixture);
}

function insertEach({ engine }: EngineFixture, keys: readonly string[]): void {
  for (const key of keys) engine.insert(engine.defaultSpace, key, "v", 0);
}

test("a long batch of new keys lays shards out half as often as single inserts do, in hardly more memory", () => {
  const keys = keysOf(COUNT);
  using built = spyOn(ShardBuilder.prototype, "build");
  const single = bytesAfter((fixture) => insertEach(fixture, keys));
  const singly = built.mock.calls.length;
  built.mockClear();
  const batch = bytesAfter((fixture) => insertMany(fixture, keys));
  expect(singly).toBeGreaterThan(50);
  expect(built.mock.calls.length).toBeLessThan(0.6 * singly);
  expect(batch).toBeLessThan(1.3 * single);
});

test("a batch into an index that is much larger leaves its shards to grow by themselves", () => {
  const batches = Array.from({ length: 16 }, (_, batch) => keysOf(100_000).slice(batch * 5000, batch * 5000 + 5000));
  using built = spyOn(ShardBuilder.prototype, "build");
  bytesAfter((fixture) => insertEach(fixture, batches.flat()));
  const singly = built.mock.calls.length;
  built.mockClear();
  bytesAfter((fixture) => {
    for (const batch of batches) insertMany(fixture, batch);
  });
  expect(built.mock.calls.length).toBeLessThan(1.05 * singly);
});

test("a batch of keys that come again and again, or are there already, gets no room that they do not need", () => {
  const again = keysOf(COUNT, 500);
  const single = bytesAfter((fixture) => insertEach(fixture, again));
  expect(bytesAfter((fixture) => insertMany(fixture, again))).toBeLessThan(single + 4 * 500 * 16);
  bytesAfter((fixture) => {
    insertEach(fixture, keysOf(COUNT));
    const once = inUse(fixture);
    insertMany(fixture, keysOf(COUNT));
    expect(inUse(fixture)).toBe(once);
  });
});

test("a batch whose new keys end early wastes three times what it filled at most", () => {
  const keys = [...keysOf(1024), ...keysOf(COUNT, 1024)];
  const single = bytesAfter((fixture) => insertEach(fixture, keys));
  expect(bytesAfter((fixture) => insertMany(fixture, keys)) - single).toBeLessThan(4 * 1024 * 16);
});

test("where there is no memory for the room a batch goes on without, and no page is lost", () => {
  using folder = fastFolder();
  const plan = { left: 0, isInRoom: false };
  const system = faulty(hostSystem(), (call) => {
    if (call !== "commit" || !plan.isInRoom || plan.left === 0) return undefined;
    plan.left -= 1;
    return plan.left === 0 ? -Errno.ENOMEM : undefined;
  });
  // oxlint-disable-next-line typescript/unbound-method -- called with the object that it is taken from
  const { make } = RoomAhead.prototype;
  using room = spyOn(RoomAhead.prototype, "make");
  room.mockImplementation(function (this: RoomAhead, done: number): void {
    plan.isInRoom = true;
    make.call(this, done);
    plan.isInRoom = false;
  });
  const bytes: number[] = [];
  let failed = 0;
  for (let nth = 0; nth < 6; nth += 1) {
    using fixture = new EngineFixture(folder.file(`${nth}.emdb`), system);
    plan.left = nth;
    insertMany(fixture, keysOf(COUNT));
    if (nth > 0 && plan.left === 0) failed += 1;
    expect(fixture.engine.count(fixture.engine.defaultSpace)).toBe(COUNT);
    fixture.checkLiveBytes();
    bytes.push(inUse(fixture));
  }
  expect(failed).toBeGreaterThan(2);
  expect(Math.max(...bytes)).toBeLessThan(1.1 * bytes[0]!);
});

test("an index that finds no memory for a shard's new layout keeps the pages that it had for it already", () => {
  using folder = fastFolder();
  const plan = { isShort: false };
  const system = faulty(hostSystem(), (call) => (call === "commit" && plan.isShort ? -Errno.ENOMEM : undefined));
  using fixture = new EngineFixture(folder.file("data.emdb"), system);
  const { engine } = fixture;
  const insert = (key: string): boolean => {
    try {
      engine.insert(engine.defaultSpace, key, "v", 0);
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: "EMDB_IO", errno: "ENOMEM" });
      return false;
    }
  };
  insertEach(fixture, keysOf(20_000));
  const others = otherPages(fixture);
  plan.isShort = true;
  const refused: string[] = [];
  for (const key of keysOf(60_000)) if (!insert(key)) refused.push(key);
  expect(refused.length).toBeGreaterThan(100);
  expect(otherPages(fixture)).toBe(others);
  plan.isShort = false;
  for (const key of refused) expect(insert(key)).toBe(true);
  fixture.checkLiveBytes();
});
