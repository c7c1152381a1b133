/** Walks and ranges read their records a piece at a time: what a piece holds, and what it does not. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import type { RecordSource } from "../../src/engine/contract.ts";
import { Emdb } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode, fastFolder } from "./fixture.ts";

setDefaultTimeout(120_000);

const MIB = 1 << 20;

/** Bytes of keys and values in each piece, to the end. */
function pieces(source: RecordSource): number[] {
  const sizes: number[] = [];
  for (let batch = source.batch(); batch !== undefined; batch = source.batch())
    sizes.push(batch.reduce((sum, [key, value]) => sum + key.length + value.length, 0));
  return sizes;
}

test.each([300_000, 20_000])("a piece holds a mebibyte and one value of %i bytes at most, and all come", (length) => {
  using folder = fastFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { rangeScans: true });
  const { engine, sync } = fixture;
  const space = engine.defaultSpace;
  const count = 200;
  for (let index = 0; index < count; index += 1)
    engine.insert(space, `key ${String(index).padStart(3, "0")}`, new Uint8Array(length), 0);
  sync.flush();
  const all = count * (length + 7);
  const walks = [
    engine.snapshot(space),
    engine.snapshot(space, "values"),
    engine.range(space, { isReverse: false }),
    engine.range(space, { isReverse: true, limit: count }),
  ];
  for (const [index, walk] of walks.entries()) {
    const sizes = pieces(walk);
    expect(Math.max(...sizes)).toBeLessThan(MIB + length + 64 * 7);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(index === 1 ? count * length : all);
  }
  // A range that is short by its limit, too.
  expect(Math.max(...pieces(engine.range(space, { isReverse: false, limit: 60 })))).toBeLessThan(MIB + length + 64 * 7);
});

test("a short range over long values with expired records between them holds no more either", () => {
  using folder = fastFolder();
  let now = 1000;
  const system = faulty(hostSystem(), (call) => (call === "now" ? now : undefined));
  using fixture = new EngineFixture(folder.file("data.emdb"), system, { rangeScans: true });
  const { engine } = fixture;
  const space = engine.defaultSpace;
  const length = 300_000;
  for (let index = 0; index < 40; index += 1) {
    engine.insert(space, `${String(index).padStart(2, "0")} live`, new Uint8Array(length), 0);
    for (let stale = 0; stale < 70; stale += 1)
      engine.insert(space, `${String(index).padStart(2, "0")} stale ${stale}`, "x", 2000);
  }
  now = 3000;
  for (const isReverse of [false, true]) {
    const sizes = pieces(engine.range(space, { isReverse, limit: 30 }));
    expect(Math.max(...sizes)).toBeLessThan(MIB + length + 64 * 7);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(30 * (length + 7));
  }
});

test("a walk over keys copies no value, and one over values no key", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path);
  for (let index = 0; index < 300; index += 1) db.insert(`key ${index}`, `value ${index}`);
  // One with a deadline and one that is written over meanwhile go the long way.
  db.insert("key 7", "value 7", { ttlMs: 1e9 });
  const keys = db.keys();
  const values = db.values();
  const first = [keys.next().value, values.next().value].map((bytes) => Buffer.from(bytes!).toString());
  db.insertMany(Array.from({ length: 300 }, (_, index): [string, string] => [`key ${index}`, "later"]));
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
  const expected = (what: string): string[] => Array.from({ length: 300 }, (_, index) => `${what} ${index}`).sort();
  expect([first[0]!, ...[...keys].map(text)].sort()).toEqual(expected("key"));
  expect([first[1]!, ...[...values].map(text)].sort()).toEqual(expected("value"));
});

test("a walk over the keys of long values reads none of them", () => {
  using folder = fastFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, sync } = fixture;
  for (let index = 0; index < 100; index += 1)
    engine.insert(engine.defaultSpace, `${index}`, new Uint8Array(100_000), 0);
  sync.flush();
  using read = spyOn(engine.core.lookup, "value");
  const sizes = pieces(engine.snapshot(engine.defaultSpace, "keys"));
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(190);
  expect(read).not.toHaveBeenCalled();
});

test("records before one that cannot be read are given, then the error, and the walk is over", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path, { verifyReads: true });
  for (let index = 0; index < 200; index += 1) db.insert(`key ${index}`, "a value that is long enough to be found");
  db.flushSync();
  // Where a record comes in a walk its hash says, which is another one in each database.
  const key = Buffer.from([...db.keys()][150]!).toString();
  const file = openSync(path, "r+");
  writeSync(file, "#", readFileSync(path).indexOf(`${key}a value`) + key.length + 2);
  closeSync(file);
  for (const walk of [db.iter(), db.keys(), db.values()]) {
    let given = 0;
    expectCode("EMDB_CORRUPTED", () => {
      for (const _ of walk) given += 1;
    });
    expect(given).toBe(150);
    expect(walk.next().done).toBe(true);
  }
});

test("a walk asks where a record is for each that there is, and not for the empty slots of the pages", () => {
  using folder = fastFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine } = fixture;
  const space = engine.defaultSpace;
  for (let index = 0; index < 10; index += 1) engine.insert(space, `key ${index}`, "value", 0);
  engine.remove(space, "key 0");
  const asked = spyOn(engine.core.heap.positions, "units");
  expect([...engine.snapshot(space)]).toHaveLength(9);
  expect(asked.mock.calls.length).toBeLessThanOrEqual(20);
});
