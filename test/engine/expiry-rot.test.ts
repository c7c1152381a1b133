/** Sweeping where some of what has expired has rotted: all that is sound goes, what is not is told, and nothing is lost. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { closeSync, copyFileSync, openSync, readFileSync, writeSync } from "node:fs";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { SWEEP_LOOKS_PER_SLICE, SWEEP_RECORDS_PER_SLICE } from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { ExpiryFixture } from "./expiry-fixture.ts";
import { expectCode } from "./fixture.ts";

setDefaultTimeout(60_000);

const KEY = new Uint8Array(32).fill(3);

/** Overwrites bytes of a file behind its database's back. */
function scribble(path: string, at: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, at);
  closeSync(file);
}

/** Lets a text of a file rot, the lowest bit of its last letter; the function returned makes it sound again. */
function rot(path: string, text: string): () => void {
  const at = readFileSync(path).indexOf(text) + text.length - 1;
  const letter = text.charCodeAt(text.length - 1);
  scribble(path, at, Uint8Array.of(letter ^ 1));
  return () => scribble(path, at, Uint8Array.of(letter));
}

/** Lets the records at some positions be unreadable. */
function rotAt({ engine }: ExpiryFixture, isRotten: (lsn: number) => boolean): void {
  const { lookup } = engine.core;
  const original = lookup.loadAt.bind(lookup);
  lookup.loadAt = (lsn: number): void => {
    if (isRotten(lsn)) throw new EmdbError("EMDB_CORRUPTED", "planted");
    original(lsn);
  };
}

test.each(["the first to expire", "in the middle", "the last to expire"])(
  "a key that has rotted, %s, is told by each sweep and stays, its neighbour too; all others go",
  (where) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const rotten = ["the first to expire", "in the middle", "the last to expire"].indexOf(where) * 2;
    const fixture = new ExpiryFixture(path);
    const { engine, clock, space } = fixture;
    for (let index = 0; index < 5; index += 1) fixture.put(`session ${index * 2}`, index + 1);
    for (let index = 0; index < 5; index += 1) fixture.put(`session ${index * 2 + 1}`);
    fixture.opened.sync!.flush();
    clock.nowMs += 10;
    // The key reads as that of a record that stays.
    const heal = rot(path, `session ${rotten}`);
    expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
    const { end } = engine.core.tail;
    expect(engine.count(space)).toBe(6);
    expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
    expect([engine.count(space), engine.core.tail.end]).toEqual([6, end]);
    heal();
    fixture.checkQueue();
    expect(engine.sweepExpired(space)).toBe(1);
    fixture.opened.sync!.flush();
    copyFileSync(path, `${path} replayed`);
    fixture.close();
    using replayed = new ExpiryFixture(`${path} replayed`);
    for (let index = 0; index < 10; index += 1)
      expect(replayed.engine.has(replayed.space, `session ${index}`)).toBe(index % 2 === 1);
  },
);

test("a deadline that has rotted is told by each sweep, and its record keeps its place in the queue", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new ExpiryFixture(path);
  const { engine, clock, space } = fixture;
  fixture.put("session", 10);
  fixture.put("other", 10);
  fixture.opened.sync!.flush();
  clock.nowMs += 10;
  // It stands behind the key, and reads as years later.
  const at = readFileSync(path).indexOf("session") + "session".length;
  const former = readFileSync(path).subarray(at + 5, at + 6);
  scribble(path, at + 5, Uint8Array.of(former[0]! ^ 0x40));
  for (const count of [1, 1]) {
    expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
    expect(engine.count(space)).toBe(count);
  }
  scribble(path, at + 5, former);
  expect(engine.sweepExpired(space)).toBe(1);
});

test("the sweep of a slice in which some have rotted is one batch, taken back whole when it fails, and nothing is lost", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  for (let index = 0; index < 100; index += 1) fixture.put(`${index}`, index + 1);
  clock.nowMs += 100;
  let loads = 0;
  rotAt(fixture, () => ++loads < 20);
  const { tail } = engine.core;
  const place = tail.place.bind(tail);
  let left = 50;
  tail.place = (bytes: number): number => {
    left -= 1;
    if (left === 0) throw new EmdbError("EMDB_FULL", "no space left on device");
    return place(bytes);
  };
  expectCode("EMDB_FULL", () => engine.sweepExpired(space));
  Reflect.deleteProperty(tail, "place");
  Reflect.deleteProperty(engine.core.lookup, "loadAt");
  expect(engine.count(space)).toBe(100);
  fixture.checkQueue();
  expect(engine.sweepExpired(space)).toBe(100);
});

test("what rotted so that a removal fails half-way takes its slice along, and ends the sweep of its key space", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  for (let index = 0; index < 10; index += 1) fixture.put(`${index}`, index + 1);
  clock.nowMs += 10;
  const { keydir } = engine.core;
  const replace = keydir.replace.bind(keydir);
  let left = 5;
  keydir.replace = (units, isRemoval) => {
    left -= 1;
    if (left === 0) throw new EmdbError("EMDB_CORRUPTED", "planted");
    replace(units, isRemoval);
  };
  expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
  expect(engine.count(space)).toBe(10);
  fixture.checkQueue();
  expect(engine.sweepExpired(space)).toBe(10);
});

test.each([
  ["some", SWEEP_RECORDS_PER_SLICE + 10, 2 * SWEEP_RECORDS_PER_SLICE],
  ["more than a slice looks at", SWEEP_LOOKS_PER_SLICE, 0],
])("a sweep comes to its end where %s have rotted, and has removed what comes after them", (_, rotten, swept) => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  const count = rotten + 2 * SWEEP_RECORDS_PER_SLICE;
  for (let index = 0; index < rotten; index += 1) fixture.put(`${index}`, index + 1);
  const soundFrom = engine.core.tail.end;
  for (let index = rotten; index < count; index += 1) fixture.put(`${index}`, index + 1);
  clock.nowMs += count;
  rotAt(fixture, (lsn) => lsn < soundFrom);
  expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
  expect(engine.count(space)).toBe(count - swept);
  Reflect.deleteProperty(engine.core.lookup, "loadAt");
  fixture.checkQueue();
  expect(engine.sweepExpired(space)).toBe(count - swept);
});

test.each([
  ["plain", undefined],
  ["encrypted", { key: KEY }],
])("in the background all that is sound goes, from every key space, beside a %s record that has rotted", (_, key) => {
  // One with the hash of the one that has rotted would be met with it, and stay.
  using _random = spyOn(hostSystem(), "random").mockImplementation((into) => void into.fill(7));
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const encryption = key && { key: key.key.slice() };
  using fixture = new ExpiryFixture(path, { sweepIntervalMs: 1000, encryption });
  const { engine, clock, space } = fixture;
  const other = engine.spaceNamed("other");
  const rottenFrom = engine.core.tail.end;
  fixture.put("rotten", 1);
  const rottenTo = engine.core.tail.end;
  for (let index = 0; index < SWEEP_RECORDS_PER_SLICE + 10; index += 1) {
    fixture.put(`${index}`, 2);
    fixture.put(`${index}`, 2, other);
  }
  fixture.opened.sync!.flush();
  const at = rottenFrom - engine.core.base + 26;
  const byte = readFileSync(path)[at]!;
  scribble(path, at, Uint8Array.of(byte ^ 1));
  expect(rottenTo).toBeGreaterThan(rottenFrom + 26);
  clock.nowMs += 2;
  // As many turns as a pass and a half takes.
  for (let turn = 0; turn < 8; turn += 1) for (const timer of [...fixture.timers]) timer.fire();
  expect([engine.count(space), engine.count(other)]).toEqual([1, 0]);
  expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
  scribble(path, at, Uint8Array.of(byte));
  expect(engine.sweepExpired(space)).toBe(1);
});

/** What a walk over the index, after a writer's death, cannot read. */
const UNREAD = [
  { what: "without a deadline", ttlMs: undefined },
  { what: "that has expired", ttlMs: 1 },
  { what: "that expires later", ttlMs: 1000 },
];

test.each(UNREAD)(
  "where nobody kept the queue, a rotted record $what hides no other, and its deadline is found when it is sound again",
  (its) => {
    using fixture = new ExpiryFixture();
    const { engine, clock, space } = fixture;
    for (let index = 0; index < 500; index += 1) fixture.put(`before ${index}`, 1);
    const rotten = engine.core.tail.end;
    fixture.put("rotten", its.ttlMs);
    for (let index = 0; index < 500; index += 1) fixture.put(`behind ${index}`, index < 100 ? 500 : 1);
    clock.nowMs += 1;
    engine.core.expiry.forget(space.address);
    rotAt(fixture, (lsn) => lsn === rotten);
    for (let again = 0; again < 3; again += 1) {
      expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
      expect(engine.count(space)).toBe(101);
    }
    Reflect.deleteProperty(engine.core.lookup, "loadAt");
    expect(engine.sweepExpired(space)).toBe(its.ttlMs === 1 ? 1 : 0);
    // One without a deadline stays counted.
    if (its.ttlMs !== undefined) fixture.checkQueue();
    clock.nowMs += 1000;
    expect(engine.sweepExpired(space)).toBe(its.ttlMs === 1000 ? 101 : 100);
  },
);

test.each(UNREAD)("an image carries on that the deadline of a rotted record $what is not known", (its) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let rotten = 0;
  {
    using fixture = new ExpiryFixture(path);
    const { engine, clock, space } = fixture;
    fixture.put("sound", 500);
    rotten = engine.core.tail.end;
    fixture.put("rotten", its.ttlMs);
    clock.nowMs += 1;
    engine.core.expiry.forget(space.address);
    rotAt(fixture, (lsn) => lsn === rotten);
    expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
  }
  using again = new ExpiryFixture(path);
  expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(again.facts().isUnknown).toBe(false);
  again.clock.nowMs += 1;
  expect(again.engine.sweepExpired(again.space)).toBe(its.ttlMs === 1 ? 1 : 0);
  if (its.ttlMs !== undefined) again.checkQueue();
  again.clock.nowMs += 1000;
  expect(again.engine.sweepExpired(again.space)).toBe(its.ttlMs === 1000 ? 2 : 1);
});

test("a record that could not be read and is removed all the same leaves an image that is whole", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using fixture = new ExpiryFixture(path);
    const { engine, space } = fixture;
    fixture.put("rotten");
    engine.core.expiry.forget(space.address);
    rotAt(fixture, () => true);
    expectCode("EMDB_CORRUPTED", () => engine.sweepExpired(space));
    Reflect.deleteProperty(engine.core.lookup, "loadAt");
    engine.remove(space, "rotten");
  }
  using again = new ExpiryFixture(path);
  expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
  again.checkQueue();
});

test("a walk that finds no memory leaves the queue as unknown as it was, and the next one enters all", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`, 1);
  clock.nowMs += 1;
  const { expiry } = engine.core;
  expiry.forget(space.address);
  const enter = expiry.enter.bind(expiry);
  let left = 500;
  expiry.enter = (...entry) => {
    left -= 1;
    if (left === 0) throw new EmdbError("EMDB_FULL", "planted");
    enter(...entry);
  };
  expectCode("EMDB_FULL", () => engine.sweepExpired(space));
  expect(expiry.isUnknown(space.address)).toBe(true);
  expect(engine.sweepExpired(space)).toBe(1000);
  fixture.checkQueue();
});

test("a compaction tells what has rotted before it copies anything, and has swept all that is sound", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new ExpiryFixture(path);
  const { engine, clock, space } = fixture;
  const other = engine.spaceNamed("other");
  for (const key of ["rotten", "sound"]) {
    fixture.put(key, 1);
    fixture.put(key, 1, other);
  }
  fixture.put("stays");
  fixture.opened.sync!.flush();
  clock.nowMs += 1;
  const heal = rot(path, "rotten");
  const { generation } = engine.core;
  expect(await fixture.opened.compaction.run({}).catch((error: unknown) => error)).toMatchObject({
    code: "EMDB_CORRUPTED",
  });
  expect([engine.count(space), engine.count(other), engine.core.generation]).toEqual([2, 0, generation]);
  heal();
  await fixture.opened.compaction.run({});
  expect([engine.count(space), engine.core.generation]).toEqual([1, generation + 1]);
});
