/**
 * The ordered index in step with the hash index: random writes, failed batches, clears, drops and reopenings from a
 * seed, with ranges held across all of it, against a plain sorted model.
 */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import type { RangeBounds, SnapshotRecord } from "../../src/engine/contract.ts";
import { EmdbError } from "../../src/errors.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import { buildOrdering } from "../../src/engine/ordering/ordering-build.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

setDefaultTimeout(120_000);
const SEEDS = emulator === undefined ? 30 : 2;
const STEPS = 120;

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** A range that was begun, what it must give, and what it has given. */
interface Held {
  readonly range: IterableIterator<SnapshotRecord>;
  readonly wanted: string[];
  readonly given: string[];
}

class Story {
  readonly random: Random;
  readonly #path: string;
  fixture: EngineFixture;
  models = new Map<string, Map<string, string>>([["", new Map()]]);
  held: Held[] = [];

  constructor(seed: number, path: string) {
    this.random = new Random(seed);
    this.#path = path;
    this.fixture = this.#open();
  }

  #open(): EngineFixture {
    return new EngineFixture(this.#path, hostSystem(), { rangeScans: true });
  }

  key(): string {
    const stems = ["", "user:0000000000", "\xff\xff", "a"];
    return stems[this.random.below(4)]! + String.fromCharCode(97 + this.random.below(6)).repeat(this.random.below(4));
  }

  space(name: string): SpaceState {
    return name === "" ? this.fixture.engine.defaultSpace : this.fixture.engine.spaceNamed(name);
  }

  step(): void {
    const { random } = this;
    const { engine } = this.fixture;
    const name = random.below(3) === 0 ? "named" : "";
    const space = this.space(name);
    let model = this.models.get(name);
    if (model === undefined) this.models.set(name, (model = new Map()));
    const bytes = (key: string): Uint8Array => new Uint8Array(Buffer.from(key, "latin1"));
    const batch = Array.from({ length: 1 + random.below(40) }, () => this.key());
    switch (random.below(15)) {
      case 0:
      case 1:
      case 2: {
        engine.insert(space, bytes(batch[0]!), "one", 0);
        model.set(batch[0]!, "one");
        break;
      }
      case 3:
      case 4: {
        engine.insertMany(
          space,
          batch.map(bytes),
          batch.map((_, index) => `many ${index}`),
          0,
        );
        batch.forEach((key, index) => model.set(key, `many ${index}`));
        break;
      }
      case 5:
      case 6: {
        engine.removeMany(space, batch.map(bytes));
        for (const key of batch) model.delete(key);
        break;
      }
      case 7: {
        // Its last value is none: the batch fails when most of it has been written, and is taken back.
        const values = batch.map((_, index) => (index === batch.length - 1 ? undefined : "lost"));
        expect(() => engine.insertMany(space, batch.map(bytes), values as string[], 0)).toThrow();
        break;
      }
      case 8: {
        if (random.below(4) > 0) break;
        engine.clear(space);
        model.clear();
        break;
      }
      case 9: {
        if (random.below(4) > 0 || name === "") break;
        engine.dropSpace(name);
        this.models.delete(name);
        break;
      }
      case 10: {
        if (random.below(6) > 0) break;
        this.fixture[Symbol.dispose]();
        this.held = [];
        this.fixture = this.#open();
        break;
      }
      case 11: {
        // The image, and at the next reopening the leaves from it.
        if (random.below(3) === 0) this.fixture.opened.checkpoint?.runSync();
        break;
      }
      case 12: {
        // Growth: leaves and shards divide under the ranges that are held, and join again.
        if (random.below(4) > 0) break;
        const many = Array.from({ length: 2000 }, (_, index) => `user:0000000000${random.below(9)}${index}`);
        engine.insertMany(space, many.map(bytes), many, 0);
        for (const key of many) model.set(key, key);
        if (random.below(2) === 0) break;
        this.hold(space, model);
        engine.removeMany(space, many.map(bytes));
        for (const key of many) model.delete(key);
        break;
      }
      case 13: {
        this.#transaction(batch, name);
        break;
      }
      default: {
        this.hold(space, model);
      }
    }
  }

  /** One batch over two key spaces, which now and then removes what it has just put. */
  #transaction(keys: readonly string[], name: string): void {
    const { random } = this;
    const writes = keys.map((key) => {
      const place = random.below(4) === 0 ? "" : name;
      const value = random.below(5) === 0 ? undefined : `transaction ${random.below(9)}`;
      return { key, place, value };
    });
    this.fixture.engine.writeBatch(
      writes.map(({ key, place, value }) => {
        const bytes = new Uint8Array(Buffer.from(key, "latin1"));
        return { space: this.space(place), key: bytes, value, expiresAtMs: 0 };
      }),
    );
    for (const { key, place, value } of writes) {
      const model = this.models.get(place)!;
      if (value === undefined) model.delete(key);
      else model.set(key, value);
    }
  }

  /** Begins a range, to be gone on with now and then. */
  hold(space: SpaceState, model: ReadonlyMap<string, string>): void {
    const { random } = this;
    const bound = (): { key: Uint8Array; isInclusive: boolean } => ({
      key: new Uint8Array(Buffer.from(this.key(), "latin1")),
      isInclusive: random.below(2) === 0,
    });
    const bounds: RangeBounds = {
      ...(random.below(2) === 0 ? { lower: bound() } : {}),
      ...(random.below(2) === 0 ? { upper: bound() } : {}),
      ...(random.below(3) === 0 ? { limit: 1 + random.below(5) } : {}),
      isReverse: random.below(2) === 0,
    };
    this.held.push({ range: this.fixture.engine.range(space, bounds), wanted: within(model, bounds), given: [] });
  }

  goOn(): void {
    for (const one of this.held) {
      const next = this.random.below(3) === 0 ? one.range.next() : undefined;
      if (next === undefined || next.done === true) continue;
      one.given.push(`${text(next.value.key)}=${text(next.value.value)}`);
    }
  }

  /** Takes every held range to its end. */
  finish(): void {
    for (const { range, wanted, given } of this.held) {
      for (const { key, value } of range) given.push(`${text(key)}=${text(value)}`);
      // With a limit the walk may end behind it.
      expect(given).toEqual(given.length < wanted.length ? wanted.slice(0, given.length) : wanted);
    }
    this.held = [];
  }

  check(): void {
    const { engine } = this.fixture;
    expect(orderingFaults(engine.core, engine.spaces)).toEqual([]);
    for (const [name, model] of this.models) {
      const found = [...engine.range(this.space(name), { isReverse: false })];
      expect(found.map(({ key, value }) => `${text(key)}=${text(value)}`)).toEqual(within(model, { isReverse: false }));
    }
  }
}

function within(model: ReadonlyMap<string, string>, { lower, upper, isReverse }: RangeBounds): string[] {
  const found = [...model].filter(([key]) => {
    const low = lower === undefined ? 1 : Buffer.compare(Buffer.from(key, "latin1"), lower.key);
    const high = upper === undefined ? -1 : Buffer.compare(Buffer.from(key, "latin1"), upper.key);
    return (low > 0 || (low === 0 && lower?.isInclusive)) && (high < 0 || (high === 0 && upper?.isInclusive));
  });
  found.sort(([a], [b]) => (a < b ? -1 : 1));
  if (isReverse) found.reverse();
  return found.map(([key, value]) => `${key}=${value}`);
}

test("both indexes agree after every kind of write, and ranges show their own moment", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    using folder = temporaryFolder();
    const story = new Story(seed, folder.file("data.emdb"));
    try {
      for (let step = 0; step < STEPS; step++) {
        story.step();
        story.goOn();
        if (step % 10 === 9) story.check();
        if (step % 40 === 39) story.finish();
      }
      story.finish();
    } catch (error) {
      throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
    } finally {
      story.fixture[Symbol.dispose]();
    }
  }
});

test("a batch that finds no memory for either index is taken back, wherever that strikes it", () => {
  using folder = temporaryFolder();
  const plan = { left: Infinity };
  const system = faulty(hostSystem(), (call) => (call === "commit" && --plan.left < 0 ? -Errno.ENOMEM : undefined));
  using fixture = new EngineFixture(folder.file("data.emdb"), system, { rangeScans: true });
  const { engine } = fixture;
  const space = engine.defaultSpace;
  const random = new Random(5);
  const model = new Map<string, string>();
  let refusals = 0;
  for (let round = 0; round < 12; round++) {
    const keys = Array.from({ length: 4000 }, () => `key ${random.below(30_000)}`);
    const before = fixture.state();
    for (let left = 0; ; left += 1) {
      plan.left = left;
      try {
        engine.insertMany(space, keys, keys, 0);
        break;
      } catch (error) {
        plan.left = Infinity;
        expect(error).toMatchObject({ code: "EMDB_IO", errno: "ENOMEM" });
        expect(orderingFaults(engine.core, engine.spaces)).toEqual([]);
        expect(fixture.state()).toBe(before);
        refusals += 1;
      }
    }
    plan.left = Infinity;
    for (const key of keys) model.set(key, key);
    expect(orderingFaults(engine.core, engine.spaces)).toEqual([]);
    const found = [...engine.range(space, { isReverse: false })];
    expect(found.map(({ key, value }) => `${text(key)}=${text(value)}`)).toEqual(within(model, { isReverse: false }));
  }
  expect(refusals).toBeGreaterThan(2);
});

test("what a batch that was thrown out of has left in scratch is in no later one", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { rangeScans: true });
  const { engine } = fixture;
  const { core, spaces, defaultSpace: space } = engine;
  const { index } = core.ordering!;
  const keys = Array.from({ length: 400 }, (_, number) => `key ${100 + number}`);
  engine.insertMany(space, keys, keys, 0);
  const enter = index.enter.bind(index);
  let left = 20;
  const spy = spyOn(index, "enter").mockImplementation((...frame) => {
    enter(...frame);
    if (--left === 0) throw new EmdbError("EMDB_CORRUPTED", "the key of a neighbour cannot be read");
  });
  expect(() => engine.insertMany(space, keys, keys, 0)).toThrow("the key of a neighbour cannot be read");
  spy.mockRestore();
  expect(orderingFaults(core, spaces)).toEqual([]);
  const others = Array.from({ length: 20 }, (_, number) => `key ${115 + number}a`);
  engine.insertMany(space, others, others, 0);
  expect(orderingFaults(core, spaces)).toEqual([]);
  expect([...engine.range(space, { isReverse: false })].map(({ key }) => text(key))).toEqual(
    [...keys, ...others].sort(),
  );
});

test("a key space with many records behind one with few is put in order at open", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const counts = [30, 9000, 3, 5000];
  const keysOf = (count: number): string[] =>
    Array.from({ length: count }, (_, number) => `${number * 7919} ${"k".repeat(number % 60)}`);
  {
    using fixture = new EngineFixture(path, hostSystem());
    const { engine } = fixture;
    for (const [number, count] of counts.entries())
      engine.insertMany(
        number === 0 ? engine.defaultSpace : engine.spaceNamed(`space ${number}`),
        keysOf(count),
        keysOf(count),
        0,
      );
  }
  using fixture = new EngineFixture(path, hostSystem(), { rangeScans: true });
  const { engine } = fixture;
  expect(orderingFaults(engine.core, engine.spaces)).toEqual([]);
  for (const [number, space] of [engine.spaces.default, ...engine.spaces.list()].entries()) {
    const found = [...engine.range(space, { isReverse: false })].map(({ key }) => text(key));
    expect(found).toEqual(keysOf(counts[number]!).sort());
  }
});

test("a batch that goes to and fro between key spaces is gathered in one memory", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { rangeScans: true });
  const { engine } = fixture;
  const places = [engine.defaultSpace, engine.spaceNamed("other")];
  const keyOrder = spyOn(engine.core.ordering!, "keyOrder");
  const writes = Array.from({ length: 6000 }, (_, number) => ({
    space: places[number % 2]!,
    key: `key ${number * 7919}`,
  }));
  engine.writeBatch(writes.map((write) => ({ ...write, value: "v", expiresAtMs: 0 })));
  engine.writeBatch(writes.slice(0, 1000).map((write) => ({ ...write, value: undefined, expiresAtMs: 0 })));
  expect(keyOrder).toHaveBeenCalledTimes(2);
  keyOrder.mockRestore();
  expect(orderingFaults(engine.core, engine.spaces)).toEqual([]);
  expect(places.map((space) => [...engine.range(space, { isReverse: false })].length)).toEqual([2500, 2500]);
});

test("every record is put in order at open, whatever the count of records says", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const keys = Array.from({ length: 3000 }, (_, number) => `key ${number * 7919}`);
  {
    using fixture = new EngineFixture(path, hostSystem());
    fixture.engine.insertMany(fixture.engine.defaultSpace, keys, keys, 0);
  }
  for (const counted of [0, 100, 2999, 5000]) {
    using plain = new EngineFixture(path, hostSystem(), { readOnly: true });
    const { core, spaces } = plain.engine;
    const spy = spyOn(spaces, "records").mockImplementation(() => counted);
    core.ordering = buildOrdering(core, spaces);
    spy.mockRestore();
    const found = [...plain.engine.range(spaces.default, { isReverse: false })].map(({ key }) => text(key));
    expect(found).toEqual(keys.toSorted());
  }
});

test("many records are put in order again at open, and verify finds both indexes alike", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const random = new Random(9);
  const keys = Array.from(
    { length: 200_000 },
    (_, index) => `key:${random.below(1e9)}:${index % 3 === 0 ? "x".repeat(60) : ""}`,
  );
  {
    using fixture = new EngineFixture(path, hostSystem());
    fixture.engine.insertMany(fixture.engine.defaultSpace, keys, keys, 0);
    fixture.engine.removeMany(fixture.engine.defaultSpace, keys.slice(0, 1000));
  }
  const removed = new Set(keys.slice(0, 1000));
  const left = [...new Set(keys)].filter((key) => !removed.has(key)).sort();
  // In one chunk, and in chunks that are stretches of the key space.
  for (const chunkMax of [undefined, 5000]) {
    using plain = new EngineFixture(path, hostSystem(), { readOnly: true });
    const { core, spaces } = plain.engine;
    core.ordering = buildOrdering(core, spaces, chunkMax);
    expect(orderingFaults(core, spaces)).toEqual([]);
    expect([...plain.engine.range(spaces.default, { isReverse: false })]).toHaveLength(left.length);
  }
  using fixture = new EngineFixture(path, hostSystem(), { rangeScans: true });
  const { engine } = fixture;
  expect(orderingFaults(engine.core, engine.spaces)).toEqual([]);
  let index = 0;
  for (const { key } of engine.range(engine.defaultSpace, { isReverse: false })) {
    if (text(key) !== left[index++]) throw new Error(`record ${index - 1} is ${text(key)}`);
  }
  expect(index).toBe(left.length);
});
