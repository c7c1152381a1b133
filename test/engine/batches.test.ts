/** A batch is there whole or not at all, wherever the log ends: batches longer than the ring and than a write included. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, readFileSync } from "node:fs";
import { AUDIT } from "../../src/engine/threads/control.ts";
import { Emdb } from "../../src/index.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { statsOf } from "../../src/engine/stats.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { expectOpens, fastFolder, stateAt, stateOf, tell, type Step } from "./fixture.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

setDefaultTimeout(120_000);
const STRIDE = emulator === undefined ? 1 : 53;
/** How often what is the same each time is done: a batch that fails, and one that is cut anywhere. */
const FAILURES = emulator === undefined ? 20 : 6;
const CUTS = emulator === undefined ? 12 : 4;
/** An emulator takes each way of a failure with every second length, so that it has met every length. */
const LENGTHS = emulator === undefined ? 1 : 2;

const many = (count: number, prefix: string): [string, string][] =>
  Array.from({ length: count }, (_, index): [string, string] => [`${prefix}${index}`, `value ${index}`]);

/** Each is one batch over records that were there before. */
const batches: readonly { readonly name: string; readonly step: Step }[] = [
  { name: "insertMany", step: (db) => db.insertMany(many(9, "old")) },
  { name: "insertMany of one", step: (db) => db.insertMany([["one", "1"]]) },
  {
    name: "insertMany with one key again and again",
    step: (db) => db.insertMany(["a", "b", "c"].map((v) => ["k", v])),
  },
  { name: "removeMany", step: (db) => void db.removeMany(["old1", "none", "old3", "old5", "old1"]) },
  { name: "deleteGroup", step: (db) => void db.deleteGroup("user") },
  { name: "clear", step: (db) => db.clear() },
  { name: "clear of a namespace", step: (db) => db.namespace("named").clear() },
  { name: "dropNamespace", step: (db) => void db.dropNamespace("named") },
  {
    name: "transaction that creates namespaces",
    step: (db) =>
      db.transaction((tx) => {
        tx.namespace("made").insert("a", "1", { ttlMs: 1e12 });
        tx.insert("old0", "changed");
        tx.namespace("made too").insert("b", "2");
        tx.namespace("made").remove("a");
        tx.namespace("made").insert("c", "3");
      }),
  },
  {
    name: "transaction with one write, to a namespace that it creates",
    step: (db) => db.transaction((tx) => tx.namespace("made").insert("a", "1")),
  },
  {
    name: "transaction",
    step: (db) =>
      db.transaction((tx) => {
        tx.insert("old0", "changed");
        tx.remove("old2");
        tx.namespace("named").insert("n0", "changed");
        tx.insert("new", "x");
        tx.remove("new");
        tx.insert("old0", "changed again");
      }),
  },
  {
    name: "transaction that ends in a remove of nothing",
    step: (db) => db.transaction((tx) => (tx.insert("x", "y"), tx.remove("none"))),
  },
];

const before: readonly Step[] = [
  (db) => db.insertMany(many(7, "old")),
  (db) =>
    db.insertMany([
      ["user.1", "a"],
      ["user.2", "b"],
      ["user.3", "c"],
    ]),
  (db) => void db.namespace("named"),
  (db) => db.namespace("named").insertMany(many(4, "n")),
  (db) => void db.remove("old6"),
];

test.each(batches)("$name is all or nothing at every byte of the log", async ({ step }) => {
  using folder = fastFolder();
  const story = await tell(folder.file("made.emdb"), [...before, step]);
  const path = folder.file("data.emdb");
  const [start, end] = [story.steps.at(-2)!.end, story.steps.at(-1)!.end];
  expect(story.steps.at(-1)!.state).not.toBe(story.steps.at(-2)!.state);
  for (let length = start; length <= end; length += STRIDE) {
    expectOpens(path, story.closed.subarray(0, length), stateAt(story, length).state);
  }
});

test("a batch of megabytes, written in pieces, is all or nothing wherever it is cut", async () => {
  const random = new Random(101);
  using folder = temporaryFolder();
  const big = (): Uint8Array => {
    const value = new Uint8Array(random.pick([10, 5000, 300_000, 1_500_000]));
    random.randomize(value.subarray(0, 64));
    return value;
  };
  const story = await tell(folder.file("made.emdb"), [
    (db) => db.insertMany(many(50, "k")),
    (db) => db.insertMany(Array.from({ length: 30 }, (_, index): [string, Uint8Array] => [`k${index * 2}`, big()])),
  ]);
  const path = folder.file("data.emdb");
  const [start, end] = [story.steps.at(-2)!.end, story.steps.at(-1)!.end];
  expect(end - start).toBeGreaterThan(8 * 2 ** 20);
  for (let round = 0; round < CUTS; round += 1) {
    const length = start + random.below(end - start);
    expectOpens(path, story.closed.subarray(0, length), stateAt(story, length).state);
  }
  expectOpens(path, story.closed.subarray(0, end), story.steps.at(-1)!.state);
});

/** A system whose disk is full as soon as the file would grow beyond a size. */
function withDisk(bytesMax: { value: number }): System {
  return faulty(hostSystem(), (call, args) =>
    call === "allocate" && (args[1] as number) > bytesMax.value ? -28 : undefined,
  );
}

test.each([
  { name: "that is still in memory", bytesMax: 600_000, valueBytes: 50_000 },
  { name: "of which a part is in the file", bytesMax: 12_000_000, valueBytes: 700_000 },
  { name: "with long frames, which are in the file", bytesMax: 6_000_000, valueBytes: 1_300_000 },
])("a batch $name and finds no more space leaves nothing, now and after a crash", ({ bytesMax, valueBytes }) => {
  using folder = temporaryFolder();
  const disk = { value: Infinity };
  const path = folder.file("data.emdb");
  using fixture = new EngineFixture(path, withDisk(disk));
  const { engine } = fixture;
  const space = engine.defaultSpace;
  engine.insert(space, "k3", "before", 0);
  engine.insert(space, "gone", "before", 0);
  engine.remove(space, "gone");
  fixture.sync.flush();
  const state = fixture.state();
  disk.value = bytesMax;
  const keys = ["k1", "k2", "k3", "gone", ...Array.from({ length: 40 }, (_, index) => `more ${index}`), "k3"];
  const failing = (): void =>
    engine.insertMany(
      space,
      keys,
      keys.map(() => new Uint8Array(valueBytes)),
      0,
    );
  expect(failing).toThrow(expect.objectContaining({ code: "EMDB_FULL", errno: "ENOSPC" }));
  expect(fixture.state()).toBe(state);
  expect(failing).toThrow(EmdbError);
  expect(fixture.state()).toBe(state);
  const crashed = fixture.image();

  // After space is freed it goes on.
  disk.value = Infinity;
  engine.insert(space, "after", "freed", 0);
  engine.insertMany(space, ["k1", "k3"], ["one", "three"], 0);
  const later = fixture.state();
  fixture.sync.flush();
  const flushed = fixture.image();
  fixture.checkLiveBytes();
  fixture.close();
  expectOpens(folder.file("crashed.emdb"), crashed, state);
  expectOpens(folder.file("flushed.emdb"), flushed, later);
  const db = Emdb.open(path);
  expect(stateOf(db)).toBe(later);
  db.closeSync();
});

/** A host that does a write and then says what it was told to: a full disk, or the death of the thread. */
function leaving(plan: { failure: number | Error | undefined; bytesMax: number }): System {
  const host = hostSystem();
  return faulty(host, (call, args) => {
    const { failure } = plan;
    if (call !== "write" || failure === undefined) return undefined;
    const [handle, from, { position, bytes }] = args as Parameters<typeof host.write>;
    host.write(handle, from, { position, bytes: Math.min(bytes, plan.bytesMax) });
    plan.failure = undefined;
    if (typeof failure === "number") return failure;
    throw failure;
  });
}

const SMALL_FRAME_BYTES = 32;
const WRITE_THROUGH = { flushPlan: { kind: "write-through" } } as const;

test.each([
  { name: "small values before a long one", last: "long".repeat(400_000), changes: {} },
  { name: "small values before a long one, written through,", last: "long".repeat(400_000), changes: WRITE_THROUGH },
  { name: "small values, written through,", last: "4", changes: WRITE_THROUGH },
])(
  "a batch of $name whose write fails when the disk has it all is no part of what comes later",
  ({ last, changes }) => {
    using folder = temporaryFolder();
    for (const [way, failure] of [-Errno.ENOSPC, new Error("dead")].entries()) {
      for (let whole = way % LENGTHS; whole < 4; whole += LENGTHS) {
        const plan: Parameters<typeof leaving>[0] = { failure: undefined, bytesMax: Infinity };
        using fixture = new EngineFixture(folder.file(`${typeof failure} ${whole}.emdb`), leaving(plan), changes);
        const { engine, sync } = fixture;
        const space = engine.defaultSpace;
        engine.insertMany(space, ["k1", "k9"], ["0", "0"], 0);
        sync.flush();
        const state = fixture.state();
        const failing = (prefix: string): void => {
          const keys = [1, 2, 3, 4].map((index) => `${prefix}${index}`);
          plan.failure = failure;
          expect(() => engine.insertMany(space, keys, ["1", "2", "3", last], 0)).toThrow();
          expect(plan.failure).toBeUndefined();
        };
        failing("k");
        expect(fixture.state()).toBe(state);
        // No flush: it would set a mark there.
        sync.spill();
        expectOpens(folder.file("crashed.emdb"), fixture.image(), state);
        // A batch of frames of the same sizes, cut off where one of the former begins.
        plan.bytesMax = whole * SMALL_FRAME_BYTES;
        failing("n");
        expectOpens(folder.file("crashed.emdb"), fixture.image(), state);
        expect(fixture.state()).toBe(state);
        engine.insert(space, "k1", "6", 0);
        sync.spill();
        fixture.checkLiveBytes();
        expectOpens(folder.file("crashed.emdb"), fixture.image(), fixture.state());
      }
    }
  },
);

test.each([1, 3000])(
  "a batch that creates a namespace and fails after %i writes to it leaves nothing",
  async (count) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    {
      using fixture = new EngineFixture(path, hostSystem(), { rangeScans: true });
      const { engine } = fixture;
      const space = { newName: "made" };
      engine.insert(engine.defaultSpace, "k", "v", 0);
      const writes = Array.from({ length: count }, (_, index) => {
        return { space, key: `key ${index}`, value: "x".repeat(1000), expiresAtMs: index % 2 === 0 ? 9e12 : 0 };
      });
      const giveUp = {
        ...writes[0]!,
        get value(): never {
          throw new Error("given up");
        },
      };
      const state = fixture.state();
      const { indexBytes } = statsOf(engine, fixture.opened.base);
      let most = 0;
      for (let round = 0; round < FAILURES; round += 1) {
        expect(() => engine.writeBatch([...writes, giveUp])).toThrow("given up");
        expect(fixture.state()).toBe(state);
        fixture.checkLiveBytes();
        most = Math.max(most, statsOf(engine, fixture.opened.base).indexBytes);
      }
      // The memory of one failed batch may wait for readers to be past it.
      expect(most - indexBytes).toBeLessThan(2 * count * 60 + 200_000);
      engine.writeBatch(writes);
      expect(engine.spaceNames()).toEqual(["made"]);
      expect(engine.count(engine.spaceNamed("made"))).toBe(count);
      fixture.checkLiveBytes();
      fixture.sync.flush();
      expectOpens(folder.file("crashed.emdb"), fixture.image(), fixture.state());
    }
    await using db = Emdb.open(path, { rangeScans: true });
    expect((await db.verify()).problems).toEqual([]);
    await db.compact();
    expect((await db.verify()).problems).toEqual([]);
    expect(db.namespace("made").len()).toBe(count);
  },
);

test("a thread that dies while it takes a batch back leaves no frame of it to what comes later", () => {
  using folder = temporaryFolder();
  for (let whole = 0; whole < 5; whole += 1) {
    const path = folder.file(`${whole}.emdb`);
    const plan: Parameters<typeof leaving>[0] = { failure: undefined, bytesMax: Infinity };
    using fixture = new EngineFixture(path, leaving(plan), WRITE_THROUGH);
    const { engine } = fixture;
    const { tail, control } = engine.core;
    const space = engine.defaultSpace;
    engine.insertMany(space, ["k1", "k9"], ["0", "0"], 0);
    const state = fixture.state();
    const retreat = tail.retreat.bind(tail);
    tail.retreat = (end) => {
      if (!retreat(end)) return false;
      tail.retreat = retreat;
      throw new Error("dead");
    };
    plan.failure = -Errno.ENOSPC;
    const sizes = ["1", "2", "3".repeat(30), "4"];
    expect(() => engine.insertMany(space, ["x1", "x2", "x3", "x4"], sizes, 0)).toThrow("dead");
    Atomics.store(control.flags, AUDIT, 1);
    engine.settle();
    expect(fixture.state()).toBe(state);
    // A batch that is cut off by the end of the process.
    plan.failure = new Error("dead");
    plan.bytesMax = whole * SMALL_FRAME_BYTES;
    let image: Uint8Array = new Uint8Array();
    tail.retreat = (end) => ((image = fixture.image()), retreat(end));
    const keys = ["k1", "y1", "y2", "y3", "y4", "y5"];
    expect(() => engine.insertMany(space, keys, ["1", "2", "3", "4", "5", "6"], 0)).toThrow("dead");
    expectOpens(folder.file("crashed.emdb"), image, state);
  }
});

test("a single write that was refused when the disk had it all does not come back", () => {
  using folder = temporaryFolder();
  const plan: Parameters<typeof leaving>[0] = { failure: undefined, bytesMax: Infinity };
  using fixture = new EngineFixture(folder.file("data.emdb"), leaving(plan), WRITE_THROUGH);
  const { engine } = fixture;
  engine.insert(engine.defaultSpace, "kept", "x", 0);
  const state = fixture.state();
  plan.failure = -Errno.ENOSPC;
  expect(() => engine.insert(engine.defaultSpace, "refused", "x", 0)).toThrow(EmdbError);
  expectOpens(folder.file("crashed.emdb"), fixture.image(), state);
});

test("a write that is refused by a disk which refuses all that follows leaves what was there, and goes on later", () => {
  using folder = temporaryFolder();
  let isFull = false;
  let hasFailed = false;
  const host = hostSystem();
  const system = faulty(host, (call, args) => {
    if (call !== "write" || !isFull) return undefined;
    // The first one is there all the same.
    if (!hasFailed) host.write(...(args as Parameters<System["write"]>));
    hasFailed = true;
    return -Errno.ENOSPC;
  });
  using fixture = new EngineFixture(folder.file("data.emdb"), system, WRITE_THROUGH);
  const { engine } = fixture;
  engine.insert(engine.defaultSpace, "kept", "x", 0);
  const state = fixture.state();
  isFull = true;
  expect(() => engine.insert(engine.defaultSpace, "refused", "x", 0)).toThrow(EmdbError);
  expect(fixture.state()).toBe(state);
  isFull = false;
  engine.insert(engine.defaultSpace, "later", "x", 0);
  expectOpens(folder.file("crashed.emdb"), fixture.image(), fixture.state());
});

test("a close after a batch that failed leaves the file as a clean close does", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using db = Emdb.open(path);
    db.insert("a", "1");
  }
  const clean = readFileSync(path);
  {
    using fixture = new EngineFixture(path, hostSystem());
    const { engine } = fixture;
    const space = engine.defaultSpace;
    const giveUp = {
      space,
      key: "b",
      expiresAtMs: 0,
      get value(): never {
        throw new Error("given up");
      },
    };
    // More than is preallocated, and none so long that it goes to the file at once.
    const value = "x".repeat(25_000);
    const first = Array.from({ length: 20 }, (_, index) => ({ space, key: `c${index}`, value, expiresAtMs: 0 }));
    expect(() => engine.writeBatch([...first, giveUp])).toThrow("given up");
  }
  expect(readFileSync(path).length).toBe(clean.length);
  using db = Emdb.open(path);
  expect([db.recovery.usedCheckpoint, db.recovery.replayedRecords, db.recovery.tornBytes]).toEqual([true, 0, 0]);
});

test("a namespace that a transaction writes to and empties again is not created", () => {
  using db = Emdb.openInMemory();
  db.transaction((tx) => {
    const made = tx.namespace("made");
    made.insert("a", "1");
    expect(made.get("a")).toEqual(Uint8Array.of(49));
    made.remove("a");
    tx.insert("b", "2");
  });
  expect(db.listNamespaces()).toEqual([]);
  expect(db.getText("b")).toBe("2");
});

test("a transaction whose body throws leaves nothing, in memory and in the log", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insertMany(many(5, "old"));
  const [state, size] = [stateOf(db), db.stats().logicalSizeBytes];
  const failure = new Error("no");
  const failing = (): void =>
    db.transaction((tx) => {
      tx.insert("old1", "changed");
      tx.remove("old2");
      throw failure;
    });
  expect(failing).toThrow(failure);
  expect(stateOf(db)).toBe(state);
  expect(db.stats().logicalSizeBytes).toBe(size);
  db.closeSync();
});

test("nobody sees a part of a batch: not a reader in a generator that feeds it, not a walk that began before it", () => {
  const db = Emdb.openInMemory();
  db.insertMany(many(10, "k"));
  const walk = db.iter();
  walk.next();
  function* feeding(): Generator<[string, string]> {
    for (let index = 0; index < 10; index += 1) {
      yield [`k${index}`, "changed"];
      expect(db.getText("k0")).toBe("value 0");
    }
  }
  db.insertMany(feeding());
  for (const [, value] of walk) expect(new TextDecoder().decode(value)).toMatch(/^value/);
  expect(db.getText("k0")).toBe("changed");
  db.closeSync();
});

test.each(["alone", "at the end of a batch"])(
  "the removal of a long key, %s, that fails is taken back for good",
  (where) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    // Too long for the ring: its frames are in the file at once.
    const key = "k".repeat(60_000);
    const keys = where === "alone" ? [key] : ["a", "b", key];
    using fixture = new EngineFixture(path, hostSystem(), { rangeScans: true });
    const { engine, sync } = fixture;
    engine.insertMany(engine.defaultSpace, keys, keys, 0);
    sync.flush();
    const before = fixture.state();
    const ordering = engine.core.ordering!;
    const { remove } = ordering;
    ordering.remove = (spaces, space, frame) => {
      remove.call(ordering, spaces, space, frame);
      if (engine.core.key.bytes === key.length) throw new EmdbError("EMDB_FULL", "the index is full");
    };
    expect(() => engine.removeMany(engine.defaultSpace, keys)).toThrow(EmdbError);
    Reflect.deleteProperty(ordering, "remove");
    expect(fixture.state()).toBe(before);
    engine.insert(engine.defaultSpace, "later", "write", 0);
    sync.flush();
    const copyPath = folder.file("copy.emdb");
    copyFileSync(path, copyPath);
    using copy = new EngineFixture(copyPath, hostSystem(), { rangeScans: true });
    expect(copy.state()).toBe(fixture.state());
  },
);
