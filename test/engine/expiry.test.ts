/** Sweeping by the queue of deadlines: what it removes, what it leaves, what it costs, and that no change of a record loses its deadline. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { HintWriter } from "../../src/engine/hint/hint-writer.ts";
import { EmdbError } from "../../src/errors.ts";
import { SWEEP_RECORDS_PER_SLICE } from "../../src/limits.ts";
import { Random } from "../sim/random.ts";
import { emulator, sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { ExpiryFixture, failAppends, healAppends } from "./expiry-fixture.ts";

setDefaultTimeout(60_000);

const IMAGE_SEEDS = sampleOf([341, 342, 343], 1);

test("a sweep loads the frames of what has expired and of nothing else", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  for (let index = 0; index < 20_000; index += 1) fixture.put(`ever ${index}`);
  for (let index = 0; index < 5000; index += 1) fixture.put(`young ${index}`, 1000 + index);
  for (let index = 0; index < 50; index += 1) fixture.put(`old ${index}`, index + 1);
  expect(fixture.framesLoaded(() => expect(engine.sweepExpired(space)).toBe(0))).toBe(0);
  clock.nowMs += 50;
  expect(fixture.framesLoaded(() => expect(engine.sweepExpired(space)).toBe(50))).toBeLessThanOrEqual(150);
  expect(engine.count(space)).toBe(25_000);
  clock.nowMs += 1000;
  expect(engine.sweepExpired(space)).toBe(51);
  fixture.checkQueue();
});

test("a sweep of more than a slice removes all of it, and the lock is free between two slices", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  const count = 3 * SWEEP_RECORDS_PER_SLICE + 10;
  for (let index = 0; index < count; index += 1) fixture.put(`${index}`, 10);
  clock.nowMs += 10;
  const held: boolean[] = [];
  engine.core.mutex.giveWay = () => void held.push(engine.core.mutex.isHeld);
  expect(engine.sweepExpired(space)).toBe(count);
  expect(held).toEqual([false, false, false]);
  expect(engine.count(space)).toBe(0);
});

test("a key that is inserted again between two slices stays, whatever its old version's place in the queue", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  const count = 2 * SWEEP_RECORDS_PER_SLICE;
  for (let index = 0; index < count; index += 1) fixture.put(`${index}`, 10 + (index % 100));
  clock.nowMs += 200;
  let again = 0;
  engine.core.mutex.giveWay = () => {
    for (let index = 0; index < count; index += 7) fixture.put(`${index}`, index % 2 === 0 ? undefined : 1000);
    again += 1;
  };
  const swept = engine.sweepExpired(space);
  expect(again).toBeGreaterThan(0);
  for (let index = 0; index < count; index += 7) {
    if (!engine.has(space, `${index}`)) throw new Error(`the new version of ${index} was swept`);
  }
  const stay = Math.ceil(count / 7);
  expect(engine.count(space)).toBe(stay);
  expect(swept).toBeLessThanOrEqual(count);
  fixture.checkQueue();
});

test("records that expire with each other's deadlines in one batch are one batch of the log, torn whole by a crash", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const fixture = new ExpiryFixture(path);
  for (let index = 0; index < 10; index += 1) fixture.put(`${index}`, 10);
  fixture.opened.sync!.flush();
  const before = fixture.engine.core.tail.end;
  fixture.clock.nowMs += 10;
  expect(fixture.engine.sweepExpired(fixture.space)).toBe(10);
  const after = fixture.engine.core.tail.end;
  fixture.opened.sync!.flush();
  const whole = new Uint8Array(await Bun.file(path).arrayBuffer());
  fixture.close();
  const stride = emulator === undefined ? 8 : (after - before) / 4;
  for (let end = before; end <= after; end += stride) {
    const torn = folder.file(`torn ${end}`);
    await Bun.write(torn, whole.slice(0, end));
    using again = new ExpiryFixture(torn);
    again.clock.nowMs += 10;
    expect(again.engine.count(again.space)).toBe(end === after ? 0 : 10);
    again.checkQueue();
    expect(again.engine.sweepExpired(again.space)).toBe(end === after ? 0 : 10);
  }
});

test("a sweep that fails half-way removes nothing, and the next one removes all", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  for (let index = 0; index < 100; index += 1) fixture.put(`${index}`, index + 1);
  clock.nowMs += 100;
  for (const failAt of [1, 2, 50, 100]) {
    failAppends(fixture, failAt);
    expect(() => engine.sweepExpired(space)).toThrow(EmdbError);
    healAppends(fixture);
    expect([engine.count(space), engine.core.tail.end]).toEqual([100, engine.core.visible]);
    fixture.checkQueue();
  }
  expect(engine.sweepExpired(space)).toBe(100);
});

test.each(sampleOf([321, 322, 323, 324], 1))(
  "through writes, failed batches, clears, sweeps, crashes and closes every deadline is in the queue (seed %d)",
  (seed) => {
    const random = new Random(seed);
    using folder = temporaryFolder();
    let path = folder.file("data.emdb");
    let fixture = new ExpiryFixture(path);
    const model = new Map<string, number>();
    const live = (): number => [...model.values()].filter((at) => at === 0 || at > fixture.clock.nowMs).length;
    for (let step = 0; step < 400; step += 1) {
      const { engine, clock } = fixture;
      const space = engine.spaceNamed("a namespace");
      const what = random.below(100);
      const writes = Array.from({ length: 1 + random.below(20) }, () => ({
        space,
        key: `${random.below(60)}`,
        value: random.chance(0.7) ? "value" : undefined,
        expiresAtMs: random.chance(0.3) ? 0 : clock.nowMs + random.below(100),
      }));
      if (what < 60) {
        engine.writeBatch(writes);
        for (const { key, value, expiresAtMs } of writes) {
          if (value === undefined) model.delete(key);
          else model.set(key, expiresAtMs);
        }
      } else if (what < 75) {
        failAppends(fixture, 1 + random.below(writes.length));
        try {
          engine.writeBatch(writes.map(({ key, expiresAtMs }) => ({ space, key, value: "value", expiresAtMs })));
        } catch (error) {
          if (!(error instanceof EmdbError)) throw error;
        }
        healAppends(fixture);
      } else if (what < 85) {
        const held = model.size;
        const swept = engine.sweepExpired(space);
        for (const [key, at] of model) if (at !== 0 && at <= clock.nowMs) model.delete(key);
        expect(swept).toBe(held - model.size);
      } else if (what < 88) {
        engine.clear(space);
        model.clear();
      } else if (what < 94) {
        clock.nowMs += random.below(60);
      } else {
        const { nowMs } = clock;
        const isCrash = random.chance(0.7);
        fixture.opened.sync!.flush();
        const next = isCrash ? folder.file(`data ${step}.emdb`) : path;
        if (isCrash) copyFileSync(path, next);
        fixture.close();
        path = next;
        fixture = new ExpiryFixture(path);
        fixture.clock.nowMs = nowMs;
        if (!isCrash) {
          const swept = fixture.engine.sweepExpired(fixture.engine.spaceNamed("a namespace"));
          const held = model.size;
          for (const [key, at] of model) if (at !== 0 && at <= nowMs) model.delete(key);
          expect(swept).toBe(held - model.size);
        }
      }
      const now = fixture.engine.spaceNamed("a namespace");
      expect(fixture.engine.count(now)).toBe(model.size);
      expect([...fixture.engine.snapshot(now)].length).toBe(live());
      fixture.checkQueue(now);
    }
    fixture.close();
  },
  60_000,
);

test("a log that is replayed fills the queue: the first sweep after a crash costs what has expired", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new ExpiryFixture(path);
  for (let index = 0; index < 5000; index += 1) fixture.put(`ever ${index}`);
  for (let round = 0; round < 3; round += 1) {
    for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`, 100 + index + round);
  }
  fixture.opened.sync!.flush();
  const crashed = folder.file("crashed.emdb");
  copyFileSync(path, crashed);
  using again = new ExpiryFixture(crashed);
  expect(again.facts().isUnknown).toBe(false);
  expect(again.facts().live).toBe(1000);
  expect(again.facts().entries).toBeLessThan(2000);
  again.clock.nowMs += 121;
  expect(again.framesLoaded(() => expect(again.engine.sweepExpired(again.space)).toBe(20))).toBeLessThan(80);
});

test.each([
  ["overwritten", (fixture: ExpiryFixture, key: string) => fixture.put(key)],
  ["removed", ({ engine, space }: ExpiryFixture, key: string) => void engine.remove(space, key)],
])("a crash loses no deadline of new keys, however many stale entries there are of what was %s before", (_, spend) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new ExpiryFixture(path);
  for (let index = 0; index < 1000; index += 1) fixture.put(`old ${index}`, 1000 + index);
  // The last ones first: stale entries are looked for from the other end, and most are still there in the end.
  for (let index = 999; index >= 512; index -= 1) spend(fixture, `old ${index}`);
  for (let index = 0; index < 120; index += 1) spend(fixture, `old ${index}`);
  // What was read so far is in the index then.
  fixture.engine.spaceNamed("named");
  for (let index = 0; index < 500; index += 1) fixture.put(`new ${index}`, 3000 + index);
  const { live } = fixture.facts();
  fixture.opened.sync!.flush();
  const crashed = folder.file("crashed.emdb");
  copyFileSync(path, crashed);
  using again = new ExpiryFixture(crashed);
  expect(again.opened.base.recovery.usedCheckpoint).toBe(false);
  expect(again.facts().live).toBe(live);
  again.checkQueue();
  again.clock.nowMs += 10_000;
  expect(again.engine.sweepExpired(again.space)).toBe(live);
});

describe.each([
  ["plain", undefined],
  ["encrypted", new Uint8Array(32).fill(3)],
] as const)("a %s database that is opened by its image:", (_, key) => {
  const changes = (): { encryption: { key: Uint8Array } | undefined } => ({ encryption: key && { key: key.slice() } });

  test("the first sweep loads the frames of what has expired and of nothing else", () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const records = emulator === undefined ? 100_000 : 20_000;
    {
      using fixture = new ExpiryFixture(path, changes());
      const keys = Array.from({ length: records }, (_unused, index) => `${index}`);
      const { engine, space, clock } = fixture;
      engine.insertMany(space, keys.slice(10), keys.slice(10), clock.nowMs + 1_000_000);
      engine.insertMany(space, keys.slice(0, 10), keys.slice(0, 10), clock.nowMs + 10);
    }
    using again = new ExpiryFixture(path, changes());
    expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
    expect(again.facts()).toMatchObject({ isUnknown: false, live: records });
    const opened = again.framesLoaded(() => expect(again.engine.sweepExpired(again.space)).toBe(0));
    expect(opened).toBe(0);
    again.clock.nowMs += 10;
    const swept = again.framesLoaded(() => expect(again.engine.sweepExpired(again.space)).toBe(10));
    expect(swept).toBeLessThanOrEqual(30);
    expect(again.engine.count(again.space)).toBe(records - 10);
    again.checkQueue();
  });

  test.each(IMAGE_SEEDS)("it holds every deadline, whatever was written while it was made (seed %d)", (seed) => {
    const random = new Random(seed);
    using folder = temporaryFolder();
    let path = folder.file("data.emdb");
    for (let life = 0; life < 3; life += 1) {
      using fixture = new ExpiryFixture(path, changes());
      const { engine, clock } = fixture;
      clock.nowMs += life * 10_000;
      const { core, spaces } = engine;
      const other = engine.spaceNamed("other");
      const write = (count: number): void => {
        const entries = Array.from({ length: count }, () => ({
          space: random.chance(0.8) ? fixture.space : other,
          key: `${random.below(6000)}`,
          value: random.chance(0.8) ? "value" : undefined,
          expiresAtMs: random.chance(0.1) ? 0 : clock.nowMs + random.below(10_000),
        }));
        engine.writeBatch(entries);
      };
      write(6000);
      const writer = new HintWriter(core, spaces, core.file!);
      while (engine.exclusively(() => writer.copyPiece())) {
        writer.sealPiece();
        const what = random.below(100);
        if (what < 60) write(1 + random.below(150));
        else if (what < 70) {
          failAppends(fixture, 100);
          expect(() => write(150)).toThrow(EmdbError);
          healAppends(fixture);
        } else if (what < 85) engine.sweepExpired(fixture.space);
        else if (what < 95) clock.nowMs += random.below(300);
        else if (what < 97) engine.clear(other);
      }
      writer.sealPiece();
      fixture.opened.sync!.flush();
      writer.writeHeader();
      writer.sync();
      writer.publish();
      write(random.below(100));
      engine.sweepExpired(fixture.space);
      fixture.opened.sync!.flush();
      path = folder.file(`life ${life}.emdb`);
      copyFileSync(core.file!.path, path);
      copyFileSync(`${core.file!.path}.hint`, `${path}.hint`);
      using again = new ExpiryFixture(path, changes());
      expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
      for (const name of ["", "other"]) {
        const space = name === "" ? again.space : again.engine.spaceNamed(name);
        expect(again.engine.count(space)).toBe(engine.count(name === "" ? fixture.space : other));
        again.checkQueue(space);
      }
    }
  });
});

test("a queue that nobody kept is not in the image, and the first sweep finds what has expired by a walk", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using fixture = new ExpiryFixture(path);
    for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`, 100 + index);
    fixture.engine.core.expiry.forget(fixture.space.address);
  }
  using again = new ExpiryFixture(path);
  expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(again.facts().isUnknown).toBe(true);
  again.clock.nowMs += 109;
  expect(again.engine.sweepExpired(again.space)).toBe(10);
  again.checkQueue();
});

test("what a compaction has left behind of a queue is not in the image", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using fixture = new ExpiryFixture(path);
    const { opened } = fixture;
    for (const ttlMs of [100, undefined, 200])
      for (let index = 0; index < 50; index += 1) fixture.put(`${index}`, ttlMs);
    expect(fixture.facts()).toMatchObject({ entries: 100, live: 50 });
    expect(opened.work.tryTake()).toBe(true);
    opened.compaction.runSync();
    opened.work.give();
  }
  using again = new ExpiryFixture(path);
  expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(again.facts()).toMatchObject({ isUnknown: false, entries: 50, live: 50 });
  again.checkQueue();
});

test("a database that is opened for reading keeps no queue", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new ExpiryFixture(path);
  for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`, 100);
  fixture.opened.sync!.flush();
  using reader = new ExpiryFixture(path, { readOnly: true, createIfMissing: false });
  expect(reader.engine.count(reader.space)).toBe(1000);
  expect(reader.facts().bytes).toBe(0);
});

test("a record without a deadline costs the queue nothing, and an empty namespace has none", () => {
  using fixture = new ExpiryFixture();
  const empty = fixture.engine.spaceNamed("empty");
  for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`);
  expect(fixture.facts().bytes).toBe(0);
  expect(fixture.facts(empty).bytes).toBe(0);
});

test.each(["clear", "drop"])("after a %s the queue's memory is free at once, also under an open iterator", (how) => {
  using fixture = new ExpiryFixture();
  const { engine } = fixture;
  const { heap } = engine.core;
  const bytes: number[] = [];
  for (let round = 0; round < 4; round += 1) {
    const space = engine.spaceNamed("full");
    for (let index = 0; index < 20_000; index += 1) fixture.put(`${index}`, 1000, space);
    const walk = round % 2 === 0 ? engine.snapshot(space) : undefined;
    walk?.next();
    const idle = heap.idlePages;
    if (how === "clear") engine.clear(space);
    else engine.dropSpace("full");
    expect(heap.idlePages - idle).toBeGreaterThanOrEqual(Math.floor((20_000 * 16) / 4096));
    expect(fixture.facts(space)).toEqual({ isUnknown: false, entries: 0, live: 0, bytes: 0 });
    walk?.return?.();
    bytes.push(heap.bytes);
  }
  expect(bytes[3]!).toBeLessThan(bytes[0]! * 1.1);
});

test("a sweep of a dropped namespace is EMDB_NAMESPACE_DROPPED", () => {
  using fixture = new ExpiryFixture();
  const space = fixture.engine.spaceNamed("dropped");
  fixture.put("key", 1, space);
  fixture.engine.dropSpace("dropped");
  expect(() => fixture.engine.sweepExpired(space)).toThrow(expect.objectContaining({ code: "EMDB_NAMESPACE_DROPPED" }));
});

test.each(["alone", "shared"])("getMany shows the records of one deadline as of one moment, %s", (how) => {
  using life = new ExpiryFixture();
  const { engine, space, clock } = life;
  const keys = ["one", "two", "three"];
  const deadlineMs = clock.nowMs + 10;
  if (how === "shared") engine.core.becomeShared();
  engine.insertMany(space, keys, keys, deadlineMs);
  const counts: number[] = [];
  for (let beginMs = deadlineMs - 4; beginMs <= deadlineMs; beginMs++) {
    let nowMs = beginMs;
    // It moves on with each look at it.
    Object.defineProperty(clock, "nowMs", { get: () => nowMs++, configurable: true });
    counts.push(engine.getMany(space, keys).filter((value) => value !== undefined).length);
  }
  expect(counts).toEqual([3, 3, 3, 3, 0]);
});

test("removeMany counts the records of one deadline as of one moment", () => {
  using life = new ExpiryFixture();
  const { engine, space, clock } = life;
  const keys = ["one", "two", "three"];
  const deadlineMs = clock.nowMs + 10;
  const counts: number[] = [];
  for (let beginMs = deadlineMs - 4; beginMs <= deadlineMs; beginMs++) {
    engine.insertMany(space, keys, keys, deadlineMs);
    let nowMs = beginMs;
    // It moves on with each look at it.
    Object.defineProperty(clock, "nowMs", { get: () => nowMs++, configurable: true });
    counts.push(engine.removeMany(space, keys));
  }
  expect(counts).toEqual([3, 3, 3, 3, 0]);
});
