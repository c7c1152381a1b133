/** Where a range begins and what moment it shows, when that is found out late or while others write. */

import { expect, test } from "bun:test";
import type { RangeBounds, RecordSource } from "../../src/engine/contract.ts";
import { SNAPSHOTS } from "../../src/engine/threads/control.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (key: Uint8Array): string => Buffer.from(key).toString();

class Opened implements Disposable {
  readonly #folder = temporaryFolder();
  readonly fixture = new EngineFixture(this.#folder.file("data.emdb"), hostSystem(), { rangeScans: true });
  readonly engine = this.fixture.engine;

  insert(keys: readonly string[]): void {
    this.engine.insertMany(this.engine.defaultSpace, keys, keys, 0);
  }

  keys(bounds: RangeBounds): string[] {
    return [...this.engine.range(this.engine.defaultSpace, bounds)].map(({ key }) => text(key));
  }

  [Symbol.dispose](): void {
    this.fixture[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

test("a bound that only the rest of a long key tells from an entry is exact", () => {
  using opened = new Opened();
  const stems = Array.from({ length: 150 }, (_, index) => String(index * 7).padStart(9, "0"));
  const all = stems.map((stem) => `${stem} middle`);
  opened.insert(all);
  opened.fixture.sync.flush();
  opened.engine.removeMany(opened.engine.defaultSpace, [all[40]!, all[149]!]);
  const live = all.filter((key) => key !== all[40] && key !== all[149]);
  for (const stem of stems) {
    for (const key of [`${stem} ahead`, `${stem} middle`, `${stem} middle.`, `${stem} next`]) {
      for (const isInclusive of [true, false]) {
        for (const limit of [1, 2, 70]) {
          const bound = { key: bytes(key), isInclusive };
          const above = live.filter((one) => one > key || (isInclusive && one === key));
          expect(opened.keys({ lower: bound, isReverse: false, limit })).toEqual(above.slice(0, limit));
          const below = live.filter((one) => one < key || (isInclusive && one === key)).reverse();
          expect(opened.keys({ upper: bound, isReverse: true, limit })).toEqual(below.slice(0, limit));
        }
      }
    }
  }
});

test("a short range in a shared database notes a moment only if something is written while it is read", () => {
  using opened = new Opened();
  opened.insert(["a", "b", "c", "d"]);
  const { engine } = opened;
  engine.core.becomeShared();
  const { flags } = engine.core.control;
  const before = flags[SNAPSHOTS];
  let holds = 0;
  const hold = engine.snapshots.hold.bind(engine.snapshots);
  engine.snapshots.hold = (space) => {
    holds += 1;
    return hold(space);
  };
  expect(opened.keys({ isReverse: false, limit: 3 })).toEqual(["a", "b", "c"]);
  expect(holds).toBe(0);
  const reader = engine.core.ordering!.reader;
  const take = reader.take.bind(reader);
  let takes = 0;
  reader.take = (tree, rest, to, room) => {
    const count = take(tree, rest, to, room);
    takes += 1;
    if (takes === 1) {
      engine.removeMany(engine.defaultSpace, ["b"]);
      engine.insert(engine.defaultSpace, "aa", "later", 0);
    }
    return count;
  };
  expect(opened.keys({ isReverse: false, limit: 3 })).toEqual(["a", "aa", "c"]);
  expect(holds).toBe(1);
  expect(flags[SNAPSHOTS]).toBe(before);
});

test("what a batch that failed had entered is not met by a range that began meanwhile, whatever stands in its place", () => {
  for (const isReverse of [false, true]) {
    using opened = new Opened();
    const old = Array.from({ length: 200 }, (_, index) => `key ${String(index).padStart(4, "0")}`);
    opened.insert(old);
    const { engine } = opened;
    const space = engine.defaultSpace;
    engine.core.becomeShared();
    const batch = [...old.slice(0, 100), "key 0010 new", "last"];
    let range: ReturnType<typeof engine.range> | undefined;
    const values: unknown[] = batch.map(() => "lost");
    // A range of another Worker may begin at any time; here it does between two writes of a batch that fails.
    const put = engine.core.ordering!.put.bind(engine.core.ordering);
    let puts = 0;
    engine.core.ordering!.put = (spaces, state, frame) => {
      put(spaces, state, frame);
      puts += 1;
      if (puts !== batch.length - 1) return;
      const { key } = engine.core;
      const loaded = key.memory.u8.slice(0, key.bytes);
      range = engine.range(space, { isReverse });
      key.load(loaded);
    };
    values[batch.length - 1] = undefined;
    expect(() => engine.insertMany(space, batch, values as string[], 0)).toThrow();
    // Other frames stand now where those of the batch were.
    opened.insert(Array.from({ length: 100 }, (_, index) => `other ${index}`));
    const found = [...range!].map(({ key, value }) => [text(key), text(value)]);
    const wanted = old.map((key) => [key, key]);
    expect(found).toEqual(isReverse ? wanted.reverse() : wanted);
  }
});

test.each([
  { isReverse: false, limit: 1 },
  { isReverse: true, limit: 1 },
  { isReverse: false, limit: 2 },
  { isReverse: true, limit: 2 },
])("a range of few whose first keys are being written by another thread goes on behind them: %j", (bounds) => {
  for (const count of [1, 2, 3]) {
    using opened = new Opened();
    const { engine } = opened;
    const named = (index: number): string => `${String(index).padStart(9, "0")} middle`;
    const all = Array.from({ length: 150 }, (_, index) => named(index * 7));
    opened.insert(all);
    engine.core.becomeShared();
    const batch = Array.from({ length: count }, (_, index) => named(351 + index));
    const { isReverse, limit } = bounds;
    const bound = { key: bytes(batch.at(isReverse ? -1 : 0)!), isInclusive: true };
    const ordering = engine.core.ordering!;
    const take = ordering.reader.take.bind(ordering.reader);
    let takes = 0;
    ordering.reader.take = (...taking) => {
      takes += 1;
      if (takes > 1000) throw new Error("it takes the same key again and again");
      return take(...taking);
    };
    const put = ordering.put.bind(ordering);
    let puts = 0;
    let range: RecordSource | undefined;
    ordering.put = (spaces, state, frame) => {
      put(spaces, state, frame);
      puts += 1;
      if (puts !== count) return;
      const { key } = engine.core;
      const loaded = key.memory.u8.slice(0, key.bytes);
      range = engine.range(engine.defaultSpace, { ...(isReverse ? { upper: bound } : { lower: bound }), ...bounds });
      key.load(loaded);
    };
    opened.insert(batch);
    const expected = isReverse ? all.slice(51 - limit, 51).reverse() : all.slice(51, 51 + limit);
    expect([...range!].map(({ key }) => text(key))).toEqual(expected);
  }
});
