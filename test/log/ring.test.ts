/** The tail: frames of every length around the ring's end, spilled, taken back and long ones; all equal after reopen. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { pinned } from "../../src/ffi/memory.ts";
import {
  COPIED_FRAME_BYTES_MAX,
  HEADER_PAGE_BYTES,
  RING_BYTES,
  RING_FRAME_BYTES_MAX,
  STRIDE_BYTES,
} from "../../src/limits.ts";
import {
  LOG_CLAIMED,
  LOG_FENCE,
  LOG_FILE,
  LOG_NUMBERS,
  LOG_TAIL,
  LOG_WRITTEN,
  LogReader,
  type LogWords,
} from "../../src/log/log-words.ts";
import { NewLog, releaseDraft } from "../../src/log/new-log.ts";
import { FileTail, MemoryTail, type Tail } from "../../src/log/tail.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";

setDefaultTimeout(120_000);
const LOG_BYTES = emulator === undefined ? 48 * 2 ** 20 : 20 * 2 ** 20;

/** A value that is known from its number and length. */
function valueOf(number: number, bytes: number): Uint8Array {
  const value = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += 509) value[at] = (number * 31 + at) & 255;
  if (bytes > 0) value[bytes - 1] = number & 255;
  return value;
}

class Model {
  readonly lengths = new Map<string, { readonly number: number; readonly bytes: number }>();
  #number = 0;

  write(fixture: EngineFixture, key: string, bytes: number): void {
    this.#number += 1;
    fixture.engine.insert(fixture.engine.defaultSpace, key, valueOf(this.#number, bytes), 0);
    this.lengths.set(key, { number: this.#number, bytes });
  }

  check(fixture: EngineFixture, keys: Iterable<string> = this.lengths.keys()): void {
    const { engine } = fixture;
    for (const key of keys) {
      const { number, bytes } = this.lengths.get(key)!;
      const value = engine.get(engine.defaultSpace, key);
      if (value === undefined || Buffer.compare(value, valueOf(number, bytes)) !== 0)
        throw new Error(`${key} is wrong`);
    }
    expect(engine.count(engine.defaultSpace)).toBe(this.lengths.size);
  }
}

function randomLength(random: Random): number {
  const limits = [COPIED_FRAME_BYTES_MAX, RING_FRAME_BYTES_MAX];
  const lengths = [20, 3000, 20_000, 100_000, ...limits.flatMap((limit) => [limit - 100, limit + 100]), 3 * 2 ** 20];
  const bytes = random.pick(lengths);
  return random.chance(0.5) ? Math.max(0, bytes - random.below(200)) : random.below(bytes);
}

test.each([
  { seed: 1, plan: { kind: "on-each-flush" } },
  { seed: 2, plan: { kind: "on-each-flush" } },
  { seed: 3, plan: { kind: "write-through" } },
] as const)(
  "values of 0 to 3 MiB over many turns of the ring read back at once, later, and after reopen ($seed, $plan.kind)",
  ({ seed, plan }) => {
    const random = new Random(seed);
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const model = new Model();
    {
      using fixture = new EngineFixture(path, hostSystem(), { verifyReads: true, flushPlan: plan });
      while (fixture.engine.core.tail.end < LOG_BYTES) {
        const key = `key ${random.below(40)}`;
        model.write(fixture, key, randomLength(random));
        model.check(fixture, [key, random.pick([...model.lengths.keys()])]);
        if (random.chance(0.02)) fixture.sync.flush();
        if (random.chance(0.02)) fixture.sync.spill();
      }
      model.check(fixture);
    }
    using again = new EngineFixture(path, hostSystem(), { verifyReads: true });
    model.check(again);
    again.checkLiveBytes();
  },
);

test("a frame may end one unit before, at, or one unit behind the end of the ring, whatever follows", () => {
  for (const overshoot of [-16, -8, 0, 8, 16, 1000]) {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const model = new Model();
    {
      using fixture = new EngineFixture(path, hostSystem());
      for (let turn = 1; turn <= 2; turn += 1) {
        // Up to a little before the ring's end, then one frame that ends where it should.
        const goal = turn * RING_BYTES + overshoot;
        for (let part = 0; fixture.engine.core.tail.end + 31_000 < goal; part += 1)
          model.write(fixture, `p${part % 5}`, 20_000);
        const overhead = 24 + "edge".length;
        model.write(fixture, "edge", goal - fixture.engine.core.tail.end - overhead);
        expect(fixture.engine.core.tail.end).toBe(goal);
        model.check(fixture);
        model.write(fixture, "small", 3);
        model.write(fixture, "next", 30_000);
        model.check(fixture);
      }
    }
    using again = new EngineFixture(path, hostSystem());
    model.check(again);
  }
});

test("a batch that is taken back at the ring's end leaves the ring as it was for what comes next", () => {
  const random = new Random(5);
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let isFull = false;
  const system: System = faulty(hostSystem(), (call) => (call === "allocate" && isFull ? -28 : undefined));
  const model = new Model();
  let refused = 0;
  {
    using fixture = new EngineFixture(path, system, { verifyReads: true });
    const { engine } = fixture;
    while (engine.core.tail.end < 4 * RING_BYTES) {
      for (let part = 0; part < 6; part += 1) model.write(fixture, `key ${random.below(20)}`, random.below(200_000));
      const space = engine.defaultSpace;
      const keys = Array.from({ length: 1 + random.below(60) }, (_, index) => `key ${index}`);
      const values = keys.map(() => valueOf(9, random.below(400_000)));
      isFull = true;
      try {
        engine.insertMany(space, keys, values, 0);
        for (const [index, key] of keys.entries()) model.lengths.set(key, { number: 9, bytes: values[index]!.length });
      } catch (error) {
        expect(error).toMatchObject({ code: "EMDB_FULL" });
        refused += 1;
      }
      isFull = false;
      model.check(fixture);
    }
  }
  expect(refused).toBeGreaterThan(3);
  using again = new EngineFixture(path, hostSystem(), { verifyReads: true });
  model.check(again);
  again.checkLiveBytes();
});

test("a write that fails half-way is written again later, at its place", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let failures = 0;
  const host = hostSystem();
  const system: System = faulty(host, (call, args) => {
    if (call !== "write" || failures === 0) return undefined;
    failures -= 1;
    const [file, from, span] = args as [number, number, { position: number; bytes: number }];
    host.write(file, from, { position: span.position, bytes: Math.floor(span.bytes / 2) });
    return -5;
  });
  const model = new Model();
  {
    using fixture = new EngineFixture(path, system);
    for (let round = 0; round < 10; round += 1) {
      model.write(fixture, `key ${round}`, 100_000);
      failures = 1;
      expect(() => fixture.sync.spill()).toThrow(expect.objectContaining({ code: "EMDB_IO", errno: "EIO" }));
      model.check(fixture);
      model.write(fixture, `more ${round}`, 50);
      fixture.sync.spill();
      model.check(fixture);
    }
  }
  using again = new EngineFixture(path, hostSystem());
  model.check(again);
});

test("what no write could take stays whole when the ring is full and a batch has just been taken back", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let isFailing = false;
  const system: System = faulty(hostSystem(), (call) => (call === "write" && isFailing ? -5 : undefined));
  const model = new Model();
  {
    using fixture = new EngineFixture(path, system);
    const { engine } = fixture;
    const { tail } = engine.core;
    isFailing = true;
    for (let part = 0; tail.end < 3.25 * STRIDE_BYTES; part += 1) model.write(fixture, `key ${part}`, 30_000);
    const { end } = tail;
    const keys = Array.from({ length: 100 }, (_, index) => `batch ${index}`);
    const values = keys.map(() => valueOf(0, 30_000));
    const insertAll = (): unknown => engine.insertMany(engine.defaultSpace, keys, values, 0);
    expect(insertAll).toThrow(expect.objectContaining({ code: "EMDB_IO", errno: "EIO" }));
    expect(tail.end).toBe(end);
    isFailing = false;
    // No end of a stride comes before the ring has no more room.
    for (let part = 0; tail.end < RING_BYTES + STRIDE_BYTES; part += 1) model.write(fixture, `more ${part}`, 30_000);
    model.check(fixture);
  }
  using again = new EngineFixture(path, hostSystem(), { verifyReads: true });
  model.check(again);
});

test("what was written while the file could not be mapped is read from the ring until it can", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let isFailing = false;
  const system = new Proxy(
    faulty(hostSystem(), (call) => (call === "map" && isFailing ? -Errno.ENOMEM : undefined)),
    // So that the map ends with the file, and each step needs another.
    { get: (target, name) => (name === "canMapPastEnd" ? false : (Reflect.get(target, name) as unknown)) },
  );
  const model = new Model();
  {
    using fixture = new EngineFixture(path, system);
    isFailing = true;
    for (let part = 0; part < 100; part += 1) model.write(fixture, `key ${part}`, 30_000);
    expect(() => fixture.sync.spill()).toThrow(expect.objectContaining({ syscall: "mmap" }));
    model.check(fixture);
    isFailing = false;
    fixture.sync.spill();
    model.check(fixture);
  }
  using again = new EngineFixture(path, hostSystem(), { verifyReads: true });
  model.check(again);
});

test("a reader of the ring is told that its frame is in the file, before anything is placed over it", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine } = fixture;
  const { log, tail } = engine.core;
  const space = engine.defaultSpace;
  const lsn = tail.end;
  engine.insert(space, "first", "x", 0);
  expect(log.at(lsn)).toBeGreaterThan(0);
  expect(log.isInRing).toBe(true);
  // It stands there, looking at the ring, while the writer goes around.
  let toldAt = 0;
  while (tail.end < lsn + RING_BYTES + 200_000) {
    const isWhole = log.isStillWhole(lsn);
    expect(isWhole).toBe(tail.end - tail.pendingBytes <= lsn);
    if (!isWhole && toldAt === 0) toldAt = tail.end;
    engine.insert(space, "more", new Uint8Array(30_000), 0);
  }
  expect(toldAt).toBeGreaterThan(lsn);
  expect(toldAt).toBeLessThan(lsn + RING_BYTES);
  expect(log.at(lsn)).toBeGreaterThan(0);
  expect(log.isInRing).toBe(false);
});

test("what was read from the ring counts until its place is claimed or it is in the file", () => {
  const words = { numbers: new Float64Array(LOG_NUMBERS), flags: new Int32Array(4) };
  const reader = new LogReader(words);
  const lsn = 4096;
  for (const [claimed, written, isWhole] of [
    [lsn + RING_BYTES, lsn, true],
    [lsn + RING_BYTES + 8, lsn, false],
    [lsn + 8, lsn + 8, false],
  ] as const) {
    words.numbers[LOG_CLAIMED] = claimed;
    words.numbers[LOG_WRITTEN] = written;
    expect(reader.isStillWhole(lsn)).toBe(isWhole);
  }
});

test("what fills a stride is written up to its end at once, and the rest when it is asked for", () => {
  const random = new Random(6);
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const ends: number[] = [];
  const system: System = faulty(hostSystem(), (call, args) => {
    if (call !== "write") return undefined;
    const [, , span] = args as [number, number, { position: number; bytes: number }];
    ends.push(span.position + span.bytes);
    return undefined;
  });
  const model = new Model();
  {
    using fixture = new EngineFixture(path, system);
    const { tail } = fixture.engine.core;
    ends.length = 0;
    while (tail.end < 2.5 * RING_BYTES) {
      model.write(fixture, `key ${random.below(500)}`, random.below(20_000));
      // What is read has crossed the end of a stride, or of the ring, now and then.
      if (random.chance(0.01)) model.check(fixture);
      expect(tail.pendingBytes).toBeLessThan(STRIDE_BYTES + 20_100);
    }
    expect(ends.length).toBeGreaterThan(9);
    expect(ends.filter((end) => end % STRIDE_BYTES !== 0)).toEqual([]);
    const { end } = tail;
    fixture.sync.spill();
    expect(ends.at(-1)).toBe(end);
    expect(tail.pendingBytes).toBe(0);
    model.check(fixture);
  }
  using again = new EngineFixture(path, hostSystem());
  model.check(again);
});

/** The stores to the words that say what is claimed, written and counts, and the barriers, in their order; made by `body`. */
function storesOf(words: LogWords, body: (told: LogWords) => void): string[] {
  const names = new Map([
    [LOG_CLAIMED, "claimed"],
    [LOG_WRITTEN, "written"],
    [LOG_TAIL, "tail"],
  ]);
  const stores: string[] = [];
  const note = (what: string | undefined): void => {
    if (what !== undefined && stores.at(-1) !== what) stores.push(what);
  };
  const numbers = new Proxy(words.numbers, {
    get: (target, name): unknown => Reflect.get(target, name, target),
    set: (target, name, value): boolean => {
      note(names.get(Number(name)));
      return Reflect.set(target, name, value, target);
    },
  });
  const { add } = Atomics;
  Atomics.add = ((array: Int32Array, index: number, value: number): number => {
    if (array === words.flags && index === LOG_FENCE) note("barrier");
    return add(array, index, value);
  }) as typeof Atomics.add;
  try {
    body({ numbers, flags: words.flags });
  } finally {
    Atomics.add = add;
  }
  return stores;
}

test("a death between any two stores of a writer leaves no frame to be read from where it is not, nor one that is placed over unseen", () => {
  using folder = temporaryFolder();
  const system = hostSystem();
  const words = { numbers: new Float64Array(LOG_NUMBERS), flags: new Int32Array(4) };
  const frame = { headBytes: 24, value: new Uint8Array(50_000), frameBytes: 50_024 };
  const place = (tail: Tail): void => {
    tail.place(64);
    tail.advance(64);
  };
  const append = (tail: Tail): void => tail.appendLong(pinned(frame.headBytes), frame);
  const path = folder.file("data.emdb");
  const draft = { generation: 1, makeRoom: () => false };
  NewLog.begin(system, words, { ...draft, file: { path, page: pinned(HEADER_PAGE_BYTES) } });
  const file = { path, handle: words.numbers[LOG_FILE]! };
  const plan = { look: () => undefined, isWriteThrough: false, isSyncedOften: false };
  const inFile = (body: (tail: Tail) => void): string[] =>
    storesOf(words, (told) => body(new FileTail(system, file, told, plan)));
  expect(inFile(place)).toEqual(["claimed", "barrier", "tail"]);
  // The first time maps the file, which takes barriers of its own.
  for (const _ of ["first", "second"]) {
    inFile(place);
    expect(inFile((tail) => tail.spill())).toEqual(["barrier", "written"]);
  }
  expect(inFile(append)).toEqual(["claimed", "barrier", "written", "tail"]);
  releaseDraft(system, words);
  NewLog.begin(system, words, { ...draft, file: undefined });
  const inMemory = (body: (tail: Tail) => void): string[] =>
    storesOf(words, (told) => body(new MemoryTail(system, told)));
  for (const body of [place, append]) expect(inMemory(body)).toEqual(["claimed", "barrier", "written", "tail"]);
  releaseDraft(system, words);
});
