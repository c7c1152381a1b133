/** What a core may see that loads and stores out of order (arm64): words of another thread older than others that were written after them. */

import { expect, test } from "bun:test";
import { attachTo } from "../../src/engine/open/open.ts";
import { Lookup } from "../../src/engine/read/lookup.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { LOG_BASE, LOG_VISIBLE, LOG_WRITTEN, LogReader } from "../../src/log/log-words.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

const ENVIRONMENT = { system: hostSystem(), defer: () => undefined, hasWorkers: false };

/** A reader that sees `written` as it was when it was told to, until its next barrier. */
class StaleReader extends LogReader {
  readonly #stale: { written: number | undefined };

  constructor({ numbers, flags }: LogReader["words"]) {
    const stale: { written: number | undefined } = { written: undefined };
    const seen = new Proxy(numbers, {
      get: (target, name): unknown =>
        name === String(LOG_WRITTEN) && stale.written !== undefined ? stale.written : Reflect.get(target, name, target),
    });
    super({ numbers: seen, flags });
    this.#stale = stale;
  }

  growStale(written: number): void {
    this.#stale.written = written;
  }

  override barrier(): void {
    // The constructor passes one, too.
    if (#stale in this) this.#stale.written = undefined;
    super.barrier();
  }
}

test("a reader that sees the end of a long frame before it sees that it is in the file finds it all the same", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, sync } = fixture;
  const { core, defaultSpace: space } = engine;
  const key = "k";
  for (const value of ["before", "old value"]) engine.insert(space, key, value, 0);
  sync.spill();
  const written = core.control.log.numbers[LOG_WRITTEN]!;
  const began = core.visible;
  const found = (visible: number): string | undefined => {
    const reader = new StaleReader(core.control.log);
    const lookup = new Lookup(core.keydir, reader, core.key);
    // The second time it is what the reader has seen before: no reason for a barrier.
    reader.growStale(written);
    reader.mapEnd();
    reader.growStale(written);
    core.key.load(key);
    return lookup.findNewest(engine.spaces.root(space)) && lookup.walkBack(visible)
      ? lookup.value().toString()
      : undefined;
  };
  const long = new Uint8Array(40_000).fill(7);
  engine.insert(space, key, long, 0);
  expect(found(began)).toBe(new TextEncoder().encode("old value").toString());
  expect(found(core.visible)).toBe(long.toString());
});

test("a Worker that learns of namespaces while one is entered learns of it later, and creates no other", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, opened } = fixture;
  const { core } = engine;
  core.becomeShared();
  const other = attachTo(ENVIRONMENT, opened.base);
  const held: (() => void)[] = [];
  const arrive = (): void => {
    for (const store of held.splice(0)) store();
  };
  // Stores into memory arrive at the next barrier; those of the words that count, at once, and the other Worker looks.
  const { heap } = core;
  const [writeNumber, write32, orderStores] = [heap.writeNumber, heap.write32, core.orderStores];
  heap.writeNumber = (address, value) => void held.push(() => writeNumber.call(heap, address, value));
  heap.write32 = (address, value) => void held.push(() => write32.call(heap, address, value));
  core.orderStores = () => {
    arrive();
    orderStores.call(core);
  };
  const numbers = new Proxy(core.control.numbers, {
    get: (target, name): unknown => Reflect.get(target, name, target),
    set: (target, name, value): boolean => {
      Reflect.set(target, name, value, target);
      expect(other.engine.spaces.list()).toEqual([]);
      return true;
    },
  });
  Object.defineProperty(core.control, "numbers", { value: numbers });
  const one = engine.spaceNamed("users");
  arrive();
  expect(other.engine.spaceNames()).toEqual(["users"]);
  expect(other.engine.spaceNamed("users").id).toBe(one.id);
  other.leave();
});

test("a Worker that reads the entry of a namespace before it reads that there is one reads it again", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, opened } = fixture;
  engine.core.becomeShared();
  const other = attachTo(ENVIRONMENT, opened.base);
  const { heap, log } = other.engine.core;
  const [readNumber, barrier] = [heap.readNumber, log.barrier];
  engine.spaceNamed("users");
  let isStale = true;
  heap.readNumber = (address) => (isStale ? 0 : readNumber.call(heap, address));
  log.barrier = () => {
    isStale = false;
    barrier.call(log);
  };
  expect(other.engine.spaceNames()).toEqual(["users"]);
  other.leave();
});

// As often as the entry is read.
test.each([1, 2, 3, 4])(
  "a map is taken whole, whatever becomes of its place in the table behind look %i at it",
  (stopAt) => {
    using folder = temporaryFolder();
    using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
    const { engine, opened, sync } = fixture;
    const { core, defaultSpace: space } = engine;
    engine.insert(space, "k", "v", 0);
    sync.flush();
    engine.remove(space, "k");
    // Leaves an empty file, which has no map, and an entry that is free, which the next map takes.
    opened.compaction.runSync();
    const { numbers, flags } = core.control.log;
    // Of the newest map, by its number: three words, the first at 14.
    const entry = 14 + 3 * (flags[0]! - 1);
    let looks = 0;
    const seen = new Proxy(numbers, {
      get: (target, name): unknown => {
        const value: unknown = Reflect.get(target, name, target);
        const isOfEntry = Number(name) >= entry && Number(name) < entry + 3;
        if (!isOfEntry || ++looks !== stopAt) return value;
        engine.insert(space, "k2", "v2", 0);
        sync.flush();
        return value;
      },
    });
    const reader = new LogReader({ numbers: seen, flags });
    expect(looks).toBeGreaterThanOrEqual(stopAt);
    const first = numbers[LOG_BASE]! + HEADER_PAGE_BYTES;
    expect(reader.at(first)).toBe(core.log.at(first));
  },
);

test("a frame is out before the index names it, and both indexes before the log is said to reach that far", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { rangeScans: true });
  const { engine } = fixture;
  const { core, defaultSpace: space } = engine;
  core.becomeShared();
  const told: string[] = [];
  const note = (what: string): void => {
    if (told.at(-1) !== what) told.push(what);
  };
  const noteCalls = (of: object, name: string, what: string): void => {
    const call = (Reflect.get(of, name) as (...args: unknown[]) => unknown).bind(of);
    Reflect.set(of, name, (...args: unknown[]) => (note(what), call(...args)));
  };
  noteCalls(core, "orderStores", "order");
  noteCalls(core.tail, "advance", "frame");
  for (const name of ["add", "replace"]) noteCalls(core.keydir, name, "slot");
  for (const name of ["put", "remove"]) noteCalls(core.ordering!, name, "entry");
  // Many writes are entered in the order of their keys once all are there.
  noteCalls(core.ordering!, "enterGathered", "entries");
  const numbers = new Proxy(core.control.log.numbers, {
    get: (target, name): unknown => Reflect.get(target, name, target),
    set: (target, name, value): boolean => {
      if (name === String(LOG_VISIBLE)) note("visible");
      return Reflect.set(target, name, value, target);
    },
  });
  Object.defineProperty(core.control.log, "numbers", { value: numbers });
  const tell = (body: () => unknown): string[] => {
    told.length = 0;
    body();
    return told.slice(0, told.indexOf("visible") + 1);
  };
  const each = ["frame", "order", "slot", "entry"];
  const published = ["entries", "order", "visible"];
  expect(tell(() => engine.insert(space, "one", "1", 0))).toEqual([...each, ...published]);
  expect(tell(() => engine.remove(space, "one"))).toEqual([...each, ...published]);
  const keys = Array.from({ length: 20 }, (_, index) => `key ${index}`);
  const more = keys.slice(1).flatMap(() => each);
  // The first one enters what has been gathered of another key space.
  expect(tell(() => engine.insertMany(space, keys, keys, 0))).toEqual([...each, "entries", ...more, ...published]);
});
