/** The walk that fills a queue of deadlines which nobody kept: in slices, between which the database is written to. */

import { expect, test } from "bun:test";
import { attachTo } from "../../src/engine/open/open.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { EmdbError } from "../../src/errors.ts";
import { WALK_LOOKS_PER_SLICE } from "../../src/limits.ts";
import { Random } from "../sim/random.ts";
import { entriesOf, queueFaults } from "../support/queue-faults.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { ExpiryFixture, failAppends, healAppends } from "./expiry-fixture.ts";

const RECORDS = 30_000;
/** A shard is looked at as a whole: seven pages. */
const SHARD_SLOTS = 7 * 512;
const LONG_MS = 1e9;

/** A database of many records with deadlines, whose queue is unknown. */
function unknown(path?: string): ExpiryFixture {
  const fixture = new ExpiryFixture(path);
  for (let key = 0; key < RECORDS; key += 1) fixture.put(`${key}`, LONG_MS + key);
  fixture.engine.core.expiry.forget(fixture.space.address);
  return fixture;
}

/** Whether the next slice leaves the queue unknown; nothing is due yet. */
function isSliced({ space, clock }: ExpiryFixture, engine: Engine): boolean {
  const slice = engine.sweeper.slice(space, clock.nowMs);
  expect(slice).toEqual({ removed: 0, isDone: !engine.core.expiry.isUnknown(space.address), rot: undefined });
  return !slice.isDone;
}

function checkEntries({ engine, space }: ExpiryFixture): void {
  expect(queueFaults(engine, space)).toEqual([]);
  const entries = entriesOf(engine.core, space);
  expect(new Set(entries).size).toBe(entries.length);
}

test("a walk for deadlines holds the writer's lock for some thousand records at a time, and finds them all", () => {
  using fixture = unknown();
  const { engine, space, clock } = fixture;
  const found: number[] = [];
  for (let isMore = true, before = 0; isMore; before = fixture.facts().live) {
    isMore = isSliced(fixture, engine);
    found.push(fixture.facts().live - before);
  }
  expect(found.length).toBeGreaterThan(2);
  expect(Math.max(...found)).toBeLessThan(WALK_LOOKS_PER_SLICE + SHARD_SLOTS);
  checkEntries(fixture);
  expect(fixture.facts()).toMatchObject({ isUnknown: false, live: RECORDS });
  clock.nowMs += LONG_MS + 99;
  expect(engine.sweepExpired(space)).toBe(100);
});

/** Some writes of every kind, as a thread makes them between two slices. */
function writeSome(fixture: ExpiryFixture, engine: Engine, random: Random): void {
  const { space, clock } = fixture;
  const key = (): string => `${random.below(RECORDS + 2000)}`;
  const deadline = (): number => (random.chance(0.3) ? 0 : clock.nowMs + LONG_MS + random.below(1000));
  for (let write = 0; write < 300; write += 1) engine.insert(space, key(), "again", deadline());
  engine.removeMany(space, Array.from({ length: 100 }, key));
  const writes = Array.from({ length: 200 }, () => ({ space, key: key(), value: "batch", expiresAtMs: deadline() }));
  engine.writeBatch(writes);
  if (engine !== fixture.engine) return;
  failAppends(fixture, 150);
  expect(() => engine.writeBatch(writes)).toThrow(EmdbError);
  healAppends(fixture);
}

test.each([341, 342, 343])(
  "what two threads write between the slices of a walk, in turn, is entered once (seed %d)",
  (seed) => {
    using fixture = unknown();
    const { engine, space, clock } = fixture;
    const random = new Random(seed);
    const other = attachTo(fixture.environment(), fixture.opened.base);
    engine.core.becomeShared();
    let slices = 0;
    for (; isSliced(fixture, random.chance(0.5) ? engine : other.engine); slices += 1)
      for (const writer of [engine, other.engine]) writeSome(fixture, writer, random);
    expect(slices).toBeGreaterThan(2);
    checkEntries(fixture);
    const { live } = fixture.facts();
    clock.nowMs += 2 * LONG_MS;
    expect(other.engine.sweepExpired(space)).toBe(live);
    expect(fixture.facts()).toMatchObject({ isUnknown: false, live: 0 });
    other.leave();
  },
);

test("shards that are laid together behind a walk are not entered twice", () => {
  using fixture = unknown();
  const { engine, space } = fixture;
  expect([isSliced(fixture, engine), isSliced(fixture, engine)]).toEqual([true, true]);
  const most = Array.from({ length: RECORDS - 200 }, (_, key) => `${key}`);
  for (let first = 0; first < most.length; first += 500) engine.removeMany(space, most.slice(first, first + 500));
  while (isSliced(fixture, engine));
  checkEntries(fixture);
  expect(fixture.facts().live).toBe(200);
});

test("a clear in the middle of a walk ends it, and one that is taken back does not", () => {
  using folder = temporaryFolder();
  using fixture = unknown(folder.file("data.emdb"));
  const { engine, space } = fixture;
  expect(isSliced(fixture, engine)).toBe(true);
  const dropped = engine.spaceNamed("dropped");
  engine.dropSpace("dropped");
  const batch = (): void =>
    engine.writeBatch([
      { space, key: "1", value: "v", expiresAtMs: 5 },
      { space: dropped, key: "1", value: "v", expiresAtMs: 0 },
    ]);
  expect(batch).toThrow(EmdbError);
  expect(isSliced(fixture, engine)).toBe(true);
  engine.clear(space);
  expect(fixture.facts()).toEqual({ isUnknown: false, entries: 0, live: 0, bytes: 0 });
  fixture.put("after", LONG_MS);
  expect(isSliced(fixture, engine)).toBe(false);
  checkEntries(fixture);
});

test("an image that is made in the middle of a walk has no queue, and the next open walks anew", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using fixture = unknown(path);
    expect(isSliced(fixture, fixture.engine)).toBe(true);
  }
  using again = new ExpiryFixture(path);
  expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(again.facts().isUnknown).toBe(true);
  again.clock.nowMs += LONG_MS + 9;
  expect(again.engine.sweepExpired(again.space)).toBe(10);
  checkEntries(again);
});

test("a walk that finds no memory leaves the queue unknown with nothing in it, and the next one begins anew", () => {
  using fixture = unknown();
  const { engine, space, clock } = fixture;
  const { heap, expiry } = engine.core;
  expect(isSliced(fixture, engine)).toBe(true);
  heap.takePage = () => {
    throw new EmdbError("EMDB_FULL", "no memory");
  };
  expect(() => engine.sweeper.slice(space, clock.nowMs)).toThrow("no memory");
  Reflect.deleteProperty(heap, "takePage");
  expect([expiry.isUnknown(space.address), expiry.walked(space.address)]).toEqual([true, 0]);
  while (isSliced(fixture, engine));
  checkEntries(fixture);
  expect(fixture.facts().live).toBe(RECORDS);
});

test("a walk enters what stands at the very first hash of a shard", () => {
  using fixture = new ExpiryFixture();
  const { engine } = fixture;
  const { hash } = engine.core;
  const of = hash.of.bind(hash);
  hash.of = (memory, length) => (length === "at the first".length ? 0 : of(memory, length));
  fixture.put("at the first", LONG_MS);
  for (let key = 0; key < 100; key += 1) fixture.put(`${key}`, LONG_MS);
  engine.core.expiry.forget(fixture.space.address);
  while (isSliced(fixture, engine));
  checkEntries(fixture);
  expect(fixture.facts().live).toBe(101);
});

test.each([0, 100])("where none of %d records has a deadline, one walk makes that known", (count) => {
  using fixture = new ExpiryFixture();
  const { engine, space } = fixture;
  for (let key = 0; key < count; key += 1) fixture.put(`${key}`);
  engine.core.expiry.forget(space.address);
  expect(fixture.facts().isUnknown).toBe(true);
  expect(engine.sweepExpired(space)).toBe(0);
  expect(fixture.facts()).toMatchObject({ isUnknown: false, live: 0, entries: 0 });
  expect(fixture.framesLoaded(() => engine.sweepExpired(space))).toBe(0);
});
