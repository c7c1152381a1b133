import { expect, setDefaultTimeout, test } from "bun:test";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import { LONG_WORK, MUTEX } from "../../src/engine/threads/control.ts";
import { rowOfHolder } from "../../src/engine/threads/mutex.ts";
import { attachTo, openFile as openFileIn, openMemory } from "../../src/engine/open/open.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { faulty } from "./engine-fixture.ts";
import { ExpiryFixture } from "./expiry-fixture.ts";
import { CONFIG, openFile } from "./open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { turn, until } from "../support/turns.ts";

setDefaultTimeout(60_000);

const VALUE = new Uint8Array(1000);

function overwrite(db: Emdb, times: number): void {
  for (let time = 0; time < times; time += 1) for (let key = 0; key < 100; key += 1) db.insert(`key ${key}`, VALUE);
}

test("a log that is overwritten stays as small as autoCompact says", async () => {
  using folder = temporaryFolder();
  await using db = Emdb.open(folder.file("data.emdb"), { autoCompact: { ratio: 0.5, minBytes: 500_000 } });
  for (let round = 0; round < 20; round += 1) {
    overwrite(db, 5);
    await until(() => db.stats().logicalSizeBytes < 1_500_000);
  }
  expect(db.len()).toBe(100);
  expect((await db.verify()).problems).toEqual([]);
});

test("a log in memory is compacted by itself as well", async () => {
  using db = Emdb.openInMemory({ autoCompact: { minBytes: 500_000 } });
  overwrite(db, 20);
  await until(() => db.stats().logicalSizeBytes < 500_000);
  expect(db.get("key 99")).toEqual(VALUE);
});

test("a clear of much is enough to begin", async () => {
  using folder = temporaryFolder();
  await using db = Emdb.open(folder.file("data.emdb"), { autoCompact: { minBytes: 500_000 } });
  db.insertMany(Array.from({ length: 1000 }, (_, key) => [`key ${key}`, VALUE]));
  db.clear();
  await until(() => db.stats().logicalSizeBytes < 10_000);
});

test("while an iterator keeps the file before, it is compacted once, and again when that is over", async () => {
  using folder = temporaryFolder();
  const autoCompact = { ratio: 0.5, bytesMin: 500_000 };
  const { engine, compaction, leave } = openFile(hostSystem(), folder.file("data.emdb"), { autoCompact });
  const { core, defaultSpace: space } = engine;
  const keys = Array.from({ length: 3000 }, (_, key) => `key ${key}`);
  engine.insertMany(
    space,
    keys,
    keys.map(() => VALUE),
    0,
  );
  const walk = engine.snapshot(space);
  walk.next();
  engine.removeMany(space, keys);
  const bases = new Set([core.base]);
  const write = (): void => engine.insert(space, "after", new Uint8Array(100_000), 0);
  await until(() => {
    write();
    return core.base > 0;
  });
  for (let count = 0; count < 500; count += 1) {
    if (count % 10 === 0) write();
    await turn();
    bases.add(core.base);
    expect(core.log.segments.list().length).toBe(1);
  }
  expect(bases.size).toBe(2);
  // There is room for one on request.
  await compaction.run({});
  walk.return();
  await until(() => {
    write();
    return core.tail.end - core.base < 600_000;
  });
  leave();
});

/** The number of a thread that there is not. */
const OTHER_THREAD = 2 ** 31 - 3;

/** A database that is open in two threads: this one, and one that lives, dies and turns its event loop when a test says so. */
class TwoThreads implements Disposable {
  readonly own: Opened;
  readonly other: Opened;
  readonly #deferred: (() => void)[] = [];
  #isAlive = true;

  constructor(path: string | undefined) {
    const system = faulty(hostSystem(), (call, [thread]) =>
      call === "isThreadAlive" && thread === OTHER_THREAD ? (this.#isAlive as never) : undefined,
    );
    const environment: Environment = { system, defer: (work) => void setImmediate(work), hasWorkers: false };
    const config = { ...CONFIG, autoCompact: { ratio: 0.5, bytesMin: 500_000 } };
    const request = { path: path ?? "", createFolders: false, config };
    this.own = path === undefined ? openMemory(environment, config) : openFileIn(environment, request);
    this.own.engine.core.becomeShared();
    const others = faulty(system, (call) => (call === "threadId" ? OTHER_THREAD : undefined));
    const defer = (work: () => void): void => void this.#deferred.push(work);
    this.other = attachTo({ system: others, defer, hasWorkers: false }, this.own.base);
  }

  /** The event loop of the other thread turns. */
  turnOther(): void {
    for (const work of this.#deferred.splice(0)) work();
  }

  killOther(): void {
    this.#isAlive = false;
  }

  /** Overwrites a key until a compaction by itself has come to its end; false when none comes. */
  async isCompacted(): Promise<boolean> {
    const { engine } = this.own;
    const { core, defaultSpace: space } = engine;
    const { base } = core;
    for (let count = 0; core.base === base && count < 300; count += 1) {
      engine.insert(space, "key", new Uint8Array(50_000), 0);
      await turn();
    }
    if (core.base === base) return false;
    await until(() => core.control.flags[LONG_WORK] === 0);
    return true;
  }

  [Symbol.dispose](): void {
    if (this.#isAlive) this.other.leave();
    this.own.leave();
  }
}

for (const where of ["a file", "memory"]) {
  /** What the other thread does to keep the file before, and how that ends. */
  test.each<[string, (threads: TwoThreads) => void, (threads: TwoThreads) => void]>([
    [
      "has not turned its event loop since it read",
      ({ other }) => void other.engine.get(other.engine.defaultSpace, "key"),
      (threads) => threads.turnOther(),
    ],
    [
      "dies with an iterator",
      ({ other }) => void other.engine.snapshot(other.engine.defaultSpace).next(),
      (threads) => threads.killOther(),
    ],
  ])(`a log in ${where} goes on being compacted after another thread %s`, async (_, keep, end) => {
    using folder = temporaryFolder();
    using threads = new TwoThreads(where === "memory" ? undefined : folder.file("data.emdb"));
    const { core } = threads.own.engine;
    threads.own.engine.insert(threads.own.engine.defaultSpace, "key", VALUE, 0);
    keep(threads);
    expect(await threads.isCompacted()).toBe(true);
    expect(core.log.segments.list().length).toBe(1);
    end(threads);
    for (let round = 0; round < 3; round += 1) expect(await threads.isCompacted()).toBe(true);
    expect(core.log.segments.list().length).toBe(0);
  });

  test(`a log in ${where} goes on being compacted after a thread dies that was leading the index over`, async () => {
    using folder = temporaryFolder();
    using threads = new TwoThreads(where === "memory" ? undefined : folder.file("data.emdb"));
    const { other, own } = threads;
    own.engine.insert(own.engine.defaultSpace, "key", VALUE, 0);
    expect(other.work.tryTake()).toBe(true);
    for (const _ of other.compaction.copySteps());
    threads.killOther();
    for (let round = 0; round < 3; round += 1) expect(await threads.isCompacted()).toBe(true);
    expect(own.engine.core.log.segments.list().length).toBe(0);
  });
}

test("below the floor, below the ratio, and without the option nothing is compacted", async () => {
  for (const autoCompact of [{ minBytes: 50_000_000 }, { ratio: 0.99, minBytes: 1 }, false] as const) {
    using folder = temporaryFolder();
    await using db = Emdb.open(folder.file("data.emdb"), { autoCompact });
    overwrite(db, 20);
    const { deadBytes } = db.stats();
    for (let count = 0; count < 50; count += 1) await turn();
    expect(db.stats().deadBytes).toBe(deadBytes);
  }
});

test("a second handle must ask for the same", () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"), { autoCompact: true });
  expect(() => Emdb.open(db.path!)).toThrow("autoCompact");
});

test.each([
  ["in a file", "data.emdb"],
  ["in memory", undefined],
])("records %s that expire and are never swept do not make the log longer", async (_, name) => {
  using folder = temporaryFolder();
  const autoCompact = { ratio: 0.5, bytesMin: 500_000 };
  using fixture = new ExpiryFixture(name && folder.file(name), { autoCompact });
  const { engine, clock } = fixture;
  const { core } = engine;
  const space = engine.spaceNamed("sessions");
  engine.insert(space, "kept", VALUE, 0);
  for (let key = 0; key < 8000; key += 1) {
    engine.insert(space, `key ${key}`, VALUE, clock.nowMs + 100);
    clock.nowMs += 1;
    if (key % 100 === 0) for (let turns = 0; turns < 20; turns += 1) await turn();
    expect(core.visible - core.base).toBeLessThan(3_000_000);
  }
  await until(() => core.control.flags[LONG_WORK] === 0);
  expect(engine.count(space)).toBeLessThan(3000);
  expect(engine.get(space, "kept")).toEqual(VALUE);
  expect(fixture.timers.size).toBe(0);
  expect((await verifyDatabase(fixture.opened, {})).problems).toEqual([]);
});

test("a thread that has left before its event loop turns takes no lock: its row may be another's", () => {
  const put: (() => void)[] = [];
  const environment: Environment = { system: hostSystem(), defer: (work) => void put.push(work), hasWorkers: false };
  const autoCompact = { ratio: 0.5, bytesMin: 10_000 };
  const opened = openMemory(environment, { ...CONFIG, autoCompact });
  opened.engine.core.becomeShared();
  const attach = (): Opened => {
    const attached = attachTo(environment, opened.base);
    attached.engine.core.becomeShared();
    return attached;
  };
  for (let key = 0; key < 20; key += 1) opened.engine.insert(opened.engine.defaultSpace, `key ${key}`, VALUE, 0);
  const first = attach();
  first.engine.insert(first.engine.defaultSpace, "one more", VALUE, 0);
  first.leave();
  const second = attach();
  const { core } = second.engine;
  expect(core.row).toBe(first.engine.core.row);
  core.mutex.lock();
  for (const work of put.splice(0)) work();
  expect(rowOfHolder(core.control.flags[MUTEX]!)).toBe(core.row);
  core.mutex.unlock();
  second.leave();
  opened.leave();
});

test("while iterators keep the file before, the collector is asked each time the log has doubled whether anybody has them", async () => {
  using folder = temporaryFolder();
  const autoCompact = { ratio: 0.5, bytesMin: 500_000 };
  const { engine, leave } = openFile(hostSystem(), folder.file("data.emdb"), { autoCompact });
  const { core, defaultSpace: space } = engine;
  const bytes = (): number => core.visible - core.base;
  const overwrite = (): void => {
    for (let key = 0; key < 100; key += 1) engine.insert(space, `key ${key}`, VALUE, 0);
  };
  const lengths: number[] = [];
  const { gc } = Bun;
  Bun.gc = (isNow) => {
    if (isNow === true) lengths.push(bytes());
    return 0;
  };
  try {
    overwrite();
    const walk = engine.snapshot(space);
    walk.next();
    for (let count = 0; core.base === 0 || bytes() < 80_000_000; count += 1) {
      if (core.base > 0 || count % 50 === 0) overwrite();
      await turn();
    }
    expect(lengths.length).toBeGreaterThanOrEqual(2);
    expect(lengths.length).toBeLessThanOrEqual(7);
    for (const [index, length] of lengths.slice(1).entries())
      expect(length).toBeGreaterThanOrEqual(2 * lengths[index]!);
    expect(core.log.segments.list().length).toBe(1);
    walk.return();
    overwrite();
    await until(() => bytes() < 1_000_000);
  } finally {
    Bun.gc = gc;
  }
  leave();
});
