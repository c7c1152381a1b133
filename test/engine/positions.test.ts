/** Positions grow for ever: what an index stores for them in 36 bits begins anew again and again, and nobody can tell. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { PERIOD_UNITS, Positions, withStored } from "../../src/ffi/positions.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import type { Opened } from "../../src/engine/assemble.ts";
import { statsOf } from "../../src/engine/stats.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { HEADER_PAGE_BYTES, LOG_BYTES_MAX, POSITIONS_END_MAX, RING_BYTES } from "../../src/limits.ts";
import { LOG_CLAIMED, LOG_ORIGIN, LOG_TAIL, positionsInUse } from "../../src/log/log-words.ts";
import { Life } from "../compaction/life.ts";
import { Random } from "../sim/random.ts";
import { baseBefore, leapTo, wrapAt } from "../support/far-positions.ts";
import { emulator, sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty } from "./engine-fixture.ts";
import { CONFIG, openFile, type Config } from "./open-engine.ts";

setDefaultTimeout(300_000);

const UNITS_MAX = LOG_BYTES_MAX / 8;
const SEEDS = process.env["EMDB_SOAK"] !== undefined ? 100 : 1;
const FIRST = Number(process.env["EMDB_TEST_SEED"] ?? 1);
const key = new Uint8Array(32).fill(9);

/** What is stored for a position, as docs/design.md says it. */
function storedTwin(units: number): number {
  return units < 512 ? units : 512 + ((units - 512) % PERIOD_UNITS);
}

const words = { originAt: 0, baseAt: 1 };

test("whatever is in use, each position is stored in 36 bits, not as 0, and comes back as itself", () => {
  const random = new Random(71);
  const ring = RING_BYTES / 8;
  for (let round = 0; round < 20_000; round += 1) {
    const numbers = new Float64Array(2);
    const positions = new Positions(numbers, words);
    const laps = random.below(random.pick([1, 3, 15_000])) * PERIOD_UNITS;
    const origin = Math.floor((laps + random.below(2 ** 31) * random.below(40)) / ring) * ring;
    numbers[0] = origin * 8;
    const near = random.pick([512, 512 + PERIOD_UNITS - (origin % PERIOD_UNITS), UNITS_MAX]) - 3 + random.below(6);
    const ahead = random.chance(0.5) ? near : random.below(2 ** 31) * random.below(32) + random.below(100);
    const units = origin + Math.min(Math.max(ahead, 512), UNITS_MAX - 1);
    numbers[1] = origin * 8 + Math.floor(((units - origin) * random.below(3)) / 2 / ring) * ring * 8;
    const stored = positions.stored(units);
    expect(stored).toBe(storedTwin(units));
    expect(stored >= 512 && stored < UNITS_MAX).toBe(true);
    const high = withStored(random.word() & ~15, stored);
    expect(positions.units(stored >>> 0, high)).toBe(units);
    expect(positions.units(0, high & ~15)).toBe(0);
    expect(positions.stored(0)).toBe(0);
  }
});

test("a position that is not in use is not stored", () => {
  const numbers = new Float64Array([3 * LOG_BYTES_MAX, 3 * LOG_BYTES_MAX]);
  const positions = new Positions(numbers, words);
  const units = numbers[0]! / 8;
  expect(() => positions.stored(units + 512 + PERIOD_UNITS + 512)).toThrow();
  expect(() => positions.stored(units - PERIOD_UNITS)).toThrow();
  expect(positions.stored(units + UNITS_MAX - 1)).toBe(storedTwin(units + UNITS_MAX - 1));
});

test("who has read what is in use before the slot, and gets a position of a file that is gone, looks again", () => {
  const random = new Random(72);
  for (let round = 0; round < 2000; round += 1) {
    const before = random.below(40_000) * RING_BYTES;
    const after = before + (1 + random.below(60_000)) * RING_BYTES;
    // Nothing of the file before is left, and the position is one that its window could not hold.
    const first = Math.max((before + LOG_BYTES_MAX) / 8, after / 8 + 512);
    const units = Math.min(first + random.below(round % 2 === 0 ? 600 : 2 ** 31), after / 8 + UNITS_MAX - 1);
    let [origins, base] = [Infinity, random.chance(0.5) ? before : after];
    const numbers = new Proxy(new Float64Array(2), {
      get: (_, index) => (index === "1" ? base : origins-- > 0 ? before : after),
    });
    const positions = new Positions(numbers, words);
    positions.stored((before + HEADER_PAGE_BYTES) / 8);
    // The base is new to it, and `origin` is read together with that, or nothing is.
    origins = base === before ? 1 : 0;
    base = after;
    const stored = storedTwin(units);
    expect(positions.units(stored >>> 0, withStored(0, stored))).toBe(units);
    expect(origins).toBeLessThan(0);
  }
});

test("many slots name the positions that each of them does, whatever was in use when they were last looked at", () => {
  const random = new Random(73);
  for (let round = 0; round < 2000; round += 1) {
    const before = random.below(40_000) * RING_BYTES;
    const after = before + random.below(2) * (1 + random.below(60_000)) * RING_BYTES;
    const numbers = new Float64Array([before, before]);
    const positions = new Positions(numbers, words);
    positions.stored((before + HEADER_PAGE_BYTES) / 8);
    numbers.fill(after);
    const count = random.below(20);
    const units = Array.from({ length: count }, () => {
      const ahead = random.chance(0.5) ? 512 + random.below(600) : random.below(2 ** 31) * random.below(32);
      return after / 8 + Math.min(Math.max(ahead, 512), UNITS_MAX - 1);
    });
    const slots = new Uint32Array(count * 4 + 2);
    for (const [index, unit] of units.entries()) {
      const stored = storedTwin(unit);
      slots[index * 4] = stored >>> 0;
      slots[index * 4 + 1] = withStored(random.word(), stored);
    }
    const isDown = random.chance(0.5);
    const from = isDown ? { first: count * 4 - 4, step: -4 } : { first: 0, step: 4 };
    const to = new Float64Array(count + 3).fill(7);
    positions.take(new Int32Array(slots.buffer), from, { to, at: 2, count });
    expect([...to]).toEqual([7, 7, ...(isDown ? units.toReversed() : units), 7]);
  }
});

const COMPACTIONS = emulator === undefined ? 100 : 8;

/** An emulator takes the first: positions are numbers in memory, and no platform sees one. */
const ways = sampleOf<readonly [string, Partial<Config>]>(
  [
    ["a file", {}],
    ["memory with ranges", { rangeScans: true }],
    ["a file with ranges and checked reads", { rangeScans: true, verifyReads: true }],
    ["an aes-256-gcm file with ranges", { encryption: { key }, cipher: "aes-256-gcm", rangeScans: true }],
    ["a write-through file", { flushPlan: { kind: "write-through" } }],
  ],
  1,
);

async function checkWhole(life: Life): Promise<void> {
  const { opened } = life;
  const report = await verifyDatabase(opened, {});
  expect(report.problems).toEqual([]);
  const { deadBytes, logicalSizeBytes } = statsOf(opened.engine, opened.base);
  expect(deadBytes >= 0 && deadBytes < logicalSizeBytes).toBe(true);
  life.check();
}

for (const [name, config] of ways) {
  test(`a life beyond the places where what is stored begins anew loses, revives and changes nothing in ${name}`, async () => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed += 1) {
      using folder = temporaryFolder();
      const life = new Life(name.startsWith("memory") ? undefined : folder.file("data.emdb"), seed, config);
      for (let change = 0; change < 400; change += 1) life.one();
      for (let round = 0; round < 5; round += 1) {
        // The compaction, or what is written before it, comes to the place and beyond.
        life.leap([1, 9_000_000, 30_000, 1, 400_000][round]!);
        for (let change = life.random.below(900); change > 0; change -= 1) life.one();
        life.compact([3, 12, 0][round % 3]!);
        life.check();
        if (round % 2 === 1) life.checkSweep();
        if (round === 1) await checkWhole(life);
        if (round === 2 && life.opened.checkpoint !== undefined) {
          life.opened.checkpoint.runSync();
          life.reopen();
        }
        life.check();
      }
      life.finishHeld();
      await checkWhole(life);
      life.reopen();
      life.check();
      life.end();
    }
  });
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString();

/** The error that says that something is full. */
function fullOf(work: () => void): EmdbError {
  try {
    work();
  } catch (error) {
    if (error instanceof EmdbError) return error;
    throw error;
  }
  throw new Error("nothing was full");
}

/** A database and the model of it. */
class Subject implements Disposable {
  readonly opened: Opened;
  readonly model = new Map<string, string>();
  nowMs = 1_700_000_000_000;

  constructor(path: string | undefined, changes: Partial<Config>, canReserve = true) {
    const system = faulty(hostSystem(), (call) => {
      if (call === "allocate" && !canReserve) return -Errno.EOPNOTSUPP;
      return call === "now" ? this.nowMs : undefined;
    });
    const defer = (work: () => void): void => void setImmediate(work);
    const config = { ...CONFIG, ...changes };
    this.opened =
      path === undefined ? openMemory({ system, defer, hasWorkers: false }, config) : openFile(system, path, changes);
  }

  get end(): number {
    return this.opened.engine.core.tail.end;
  }

  put(name: string, value: string, ttlMs = 0): void {
    const expiresAtMs = ttlMs === 0 ? 0 : this.nowMs + ttlMs;
    this.opened.engine.insert(this.opened.engine.defaultSpace, name, value, expiresAtMs);
    this.model.set(name, value);
  }

  remove(name: string): void {
    this.opened.engine.remove(this.opened.engine.defaultSpace, name);
    this.model.delete(name);
  }

  /** Writes until the next frame will stand at a position, some tens of kilobytes on at least. */
  fillTo(lsn: number): void {
    // The first may begin a session.
    this.put("filler", "");
    const before = this.end;
    this.put("filler", "");
    const overhead = this.end - before;
    while (lsn - this.end > 30_000) this.put("filler", "f".repeat(20_000));
    this.put("filler", "e".repeat(lsn - this.end - overhead));
    expect(this.end).toBe(lsn);
  }

  check(): void {
    const { engine } = this.opened;
    const space = engine.defaultSpace;
    for (const [name, value] of this.model) if (textOf(engine.get(space, name)) !== value) throw new Error(name);
    const names = [...this.model.keys()];
    const many = engine.getMany(
      space,
      names.map((name) => bytesOf(name)),
    );
    for (const [index, name] of names.entries())
      if (textOf(many[index]) !== this.model.get(name)) throw new Error(`${name} of many`);
    expect(engine.get(space, "absent")).toBe(undefined);
    for (const record of engine.snapshot(space)) {
      const name = textOf(record.key)!;
      if (textOf(record.value) !== this.model.get(name)) throw new Error(`${name} of a walk`);
      names.splice(names.indexOf(name), 1);
    }
    expect(names).toEqual([]);
    expect(engine.count(space)).toBe(this.model.size);
    if (!this.opened.base.config.rangeScans) return;
    const ranged = [...engine.range(space, { isReverse: false })].map((record) => textOf(record.key));
    expect(ranged).toEqual([...this.model.keys()].sort());
  }

  compact(): void {
    const { work, compaction } = this.opened;
    if (!work.tryTake()) throw new Error("somebody else works here");
    try {
      compaction.runSync();
    } finally {
      work.give();
    }
  }

  [Symbol.dispose](): void {
    this.opened.leave();
  }
}

test.each(ways)(
  "frames at, before and behind the place where what is stored begins anew are found by all ways, in %s",
  async (name, config) => {
    using folder = temporaryFolder();
    const path = name.startsWith("memory") ? undefined : folder.file("data.emdb");
    {
      using subject = new Subject(path, config);
      const { engine } = subject.opened;
      for (let index = 0; index < 300; index += 1) subject.put(`key ${index}`, `of ${index}`);
      for (const [lap, off] of [0, -8, 8, -16, 16, -48, 4096, -4096].entries()) {
        const wrap = wrapAt(lap);
        leapTo(subject.opened, baseBefore(wrap, 200_000));
        subject.fillTo(wrap - 28_000 + off);
        const before = engine.snapshot(engine.defaultSpace);
        const seen = new Map(subject.model);
        subject.fillTo(wrap + off);
        subject.put(`key ${lap}`, `at ${wrap + off}`);
        for (let index = 0; index < 50; index += 1) subject.put(`key ${100 + index}`, `${lap} behind`);
        for (let index = 0; index < 10; index += 1) subject.remove(`key ${200 + lap * 10 + index}`);
        subject.check();
        expect(new Map([...before].map(({ key: k, value }) => [textOf(k)!, textOf(value)!]))).toEqual(seen);
        expect((await verifyDatabase(subject.opened, {})).problems).toEqual([]);
        subject.remove(`key ${lap}`);
        subject.check();
        subject.put(`key ${lap}`, "again");
        subject.opened.checkpoint?.runSync();
        subject.compact();
        subject.check();
        expect((await verifyDatabase(subject.opened, {})).problems).toEqual([]);
      }
      if (path === undefined) return;
      const copy = folder.file("copy.emdb");
      const written = subject.opened.sync!.spill();
      expect(written).toBe(subject.end);
      copyFileSync(path, copy);
      using again = new Subject(copy, config);
      for (const [key, value] of subject.model) again.model.set(key, value);
      again.check();
    }
  },
);

test("compactions go on for ever: a hundred of them over fifty periods, and the memory that they take is given back", () => {
  using folder = temporaryFolder();
  using subject = new Subject(folder.file("data.emdb"), { rangeScans: true });
  const { core } = subject.opened.engine;
  const random = new Random(73);
  for (let index = 0; index < 500; index += 1) subject.put(`key ${index}`, `of ${index}`);
  for (let round = 1; round <= COMPACTIONS; round += 1) {
    leapTo(subject.opened, baseBefore(wrapAt(0) + (round * PERIOD_UNITS * 8) / 2, random.below(3) * RING_BYTES));
    for (let index = 0; index < 200; index += 1) {
      const name = `key ${random.below(500)}`;
      if (random.chance(0.2)) subject.remove(name);
      else subject.put(name, `${round} ${index}`.padEnd(random.below(6000)));
    }
    subject.check();
    expect(core.log.segments.list()).toEqual([]);
    expect(positionsInUse(core.control.log).origin).toBe(core.base);
  }
  expect(core.base).toBeGreaterThan((COMPACTIONS / 2) * PERIOD_UNITS * 8);
});

test.each(sampleOf([...ways.slice(0, 2), ["a file whose space cannot be reserved", {}] as const], 1))(
  "what is held keeps positions in use: these may be full, and all goes on when it ends (%s)",
  (name, config) => {
    using folder = temporaryFolder();
    const path = name.startsWith("memory") ? undefined : folder.file("data.emdb");
    using subject = new Subject(path, config, !name.endsWith("reserved"));
    const { engine } = subject.opened;
    const { core } = engine;
    let puts = 0;
    const put = (): void => subject.put(`key ${puts++ % 1500}`, "w".repeat(20_000));
    for (let index = 0; index < 2000; index += 1) put();
    leapTo(subject.opened, 5 * LOG_BYTES_MAX);
    // The copy reserves more than is left.
    const bytes = Math.ceil((subject.end - core.base) / RING_BYTES) * RING_BYTES;
    expect(bytes).toBeGreaterThan(3 * RING_BYTES);
    const seen = new Map(subject.model);
    const held = engine.snapshot(engine.defaultSpace);
    held.pull();
    const { origin, end } = positionsInUse(core.control.log);
    expect(end).toBe(origin + LOG_BYTES_MAX);
    core.tail.spill();
    core.control.log.numbers[LOG_CLAIMED] = end - 2 * RING_BYTES - bytes;
    subject.compact();
    expect(core.base).toBe(end - RING_BYTES - bytes);
    expect(positionsInUse(core.control.log).origin).toBe(origin);
    const full = fullOf(() => {
      for (;;) put();
    });
    expect(full.code).toBe("EMDB_FULL");
    expect(full.message).toContain("that began before the last compaction");
    expect(end - subject.end).toBeLessThan(20_100);
    expect(fullOf(() => subject.compact()).code).toBe("EMDB_FULL");
    subject.check();
    expect([...held].length).toBe(seen.size - 1);
    // The write that is refused for their sake lets go of what is not needed any more.
    expect(fullOf(put).code).toBe("EMDB_FULL");
    for (let index = 0; index < 500; index += 1) put();
    subject.check();
    expect(positionsInUse(core.control.log).origin).toBe(core.base);
    subject.compact();
    subject.check();
  },
);

test.each(ways.slice(0, 3))(
  "positions are exact up to 2^53, where a write is refused until the log is opened again (%s)",
  (name, config) => {
    using folder = temporaryFolder();
    using subject = new Subject(name.startsWith("memory") ? undefined : folder.file("data.emdb"), config);
    const { core } = subject.opened.engine;
    const { engine, work, compaction } = subject.opened;
    const first = POSITIONS_END_MAX - 5 * RING_BYTES;
    subject.put("key", "v");
    engine.clear(engine.defaultSpace);
    subject.model.clear();
    expect(work.tryTake()).toBe(true);
    for (const _ of compaction.copySteps()) {
      // The index holds nothing, so no position is in use but what the copy will get.
      if (core.control.draft.numbers[LOG_TAIL] === 0) continue;
      core.control.log.numbers[LOG_ORIGIN] = first - RING_BYTES;
      core.control.log.numbers[LOG_CLAIMED] = first - RING_BYTES;
    }
    for (const _ of compaction.relocationSteps());
    work.give();
    expect(core.base).toBe(first);
    let puts = 0;
    const put = (): void => subject.put(`key ${puts++ % 300}`, "w".repeat(20_000));
    for (let index = 0; index < 600; index += 1) put();
    subject.check();
    subject.compact();
    expect(core.base).toBe(first + 2 * RING_BYTES);
    subject.check();
    const full = fullOf(() => {
      for (;;) put();
    });
    expect([full.code, full.message.includes("reopen the database")]).toEqual(["EMDB_FULL", true]);
    expect(POSITIONS_END_MAX - subject.end).toBeLessThan(20_100);
    subject.check();
    expect(fullOf(() => subject.compact()).message).toContain("reopen the database");
  },
);

test("a deadline that was overwritten does not pass for one of a record that stands a whole period behind it", () => {
  using folder = temporaryFolder();
  using subject = new Subject(folder.file("data.emdb"), {});
  const { engine } = subject.opened;
  const place = subject.end;
  subject.put("key", "first", 1000);
  subject.put("key", "second", 2000);
  subject.put("other", "stays");
  const far = place + 2 * PERIOD_UNITS * 8;
  leapTo(subject.opened, baseBefore(far, 200_000));
  subject.fillTo(far);
  subject.put("key", "third", 5000);
  subject.nowMs += 3000;
  expect(engine.sweepExpired(engine.defaultSpace)).toBe(0);
  subject.check();
  subject.nowMs += 3000;
  expect(engine.sweepExpired(engine.defaultSpace)).toBe(1);
  subject.model.delete("key");
  subject.check();
});

test("a sweep amid a relocation, and one after an image, finds each deadline by the positions that it has", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using subject = new Subject(path, {});
    const { engine, work, compaction, checkpoint } = subject.opened;
    const space = engine.defaultSpace;
    leapTo(subject.opened, baseBefore(wrapAt(3), 1));
    for (let index = 0; index < 3000; index += 1) subject.put(`key ${index}`, "v", 1000 + index);
    expect(work.tryTake()).toBe(true);
    for (const _ of compaction.copySteps());
    const steps = compaction.relocationSteps();
    steps.next();
    // The slots have been led over, the deadlines not yet.
    subject.nowMs += 2000;
    expect(engine.sweepExpired(space)).toBe(1001);
    for (const _ of steps);
    work.give();
    subject.nowMs += 500;
    expect(engine.sweepExpired(space)).toBe(500);
    checkpoint!.runSync();
    subject.model.clear();
    const { live, entries } = engine.core.expiry.facts(engine.spaces.default.address);
    expect([live, entries >= live]).toEqual([1499, true]);
  }
  using again = new Subject(path, {});
  again.nowMs += 3000;
  const { engine } = again.opened;
  expect(again.opened.base.recovery.usedCheckpoint).toBe(true);
  const { live, entries } = engine.core.expiry.facts(engine.spaces.default.address);
  expect([live, entries >= live]).toEqual([1499, true]);
  expect(engine.sweepExpired(engine.defaultSpace)).toBe(500);
});

test("verify finds an index that names an older version, or another record, at any position", async () => {
  using folder = temporaryFolder();
  using subject = new Subject(folder.file("data.emdb"), {});
  const { engine } = subject.opened;
  leapTo(subject.opened, baseBefore(wrapAt(4), 200_000));
  subject.fillTo(wrapAt(4) - 64);
  const older = subject.end;
  subject.put("key", "first");
  subject.put("key", "second");
  subject.put("other", "stays");
  const { core } = engine;
  const findings = async (lsn: number): Promise<string[]> => {
    core.key.load("key");
    expect(core.lookup.findNewest(engine.spaces.root(engine.spaces.default))).toBe(true);
    const right = core.lookup.lsn;
    core.keydir.replace(lsn / 8, false);
    const { problems } = await verifyDatabase(subject.opened, {});
    core.key.load("key");
    core.keydir.seek(engine.spaces.root(engine.spaces.default), core.key.hash);
    while (core.keydir.next() && core.keydir.units !== lsn / 8);
    core.keydir.replace(right / 8, false);
    return problems.map(({ reason }) => reason);
  };
  expect(await findings(older)).toContain(
    `the index names an older version of this record, at byte ${older - core.base}`,
  );
  expect(await findings(older - 8)).toContain("the index names this place, where no record is");
  expect((await verifyDatabase(subject.opened, {})).problems).toEqual([]);
});
