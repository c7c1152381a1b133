/** Recorded histories of several threads, judged by the log's order; what is live is what a reopen finds. */

import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { hostSystem } from "../../src/ffi/host.ts";
import type { Bytes } from "../../src/engine/contract.ts";
import { Emdb, EmdbError } from "../../src/index.ts";
import { EngineFixture } from "../engine/engine-fixture.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { HistoryCheck } from "./history-check.ts";
import { COLUMNS, KEYS, KIND, LISTS, keyOf, liveMarks, markIn, markOf, recordsOf } from "./history-facts.ts";
import { Random } from "../sim/random.ts";
import { Recorder } from "./history-recorder.ts";
import { keepReplaced, versionsIn } from "./history-log.ts";
import type { Orders } from "./history-worker.ts";
import { Thread } from "./thread.ts";

const isSoak = process.env["EMDB_SOAK"] !== undefined;
const OPERATIONS = isSoak ? 20_000_000 : emulator === undefined ? 360_000 : 6_000;
const first = Number(process.env["EMDB_TEST_SEED"] ?? 11);
const SEEDS = [first, first + 1, first + 2];
/** An emulator is too slow to compact and to write at the same time. */
const COMPACTING_SEEDS = emulator === undefined ? [first + 3, first + 4] : [];
const COMPACTING_OPERATIONS = isSoak ? 10_000_000 : 150_000;
const COMPACTIONS = isSoak ? 400 : 12;
const TIMEOUT_MS = 3_600_000;

async function record(
  db: Emdb,
  {
    seed,
    threads,
    operations: total,
  }: { readonly seed: number; readonly threads: number; readonly operations: number },
  beside: () => Promise<void> = () => Promise.resolve(),
): Promise<Float64Array[]> {
  const clock = new SharedArrayBuffer(16);
  const words = new Int32Array(clock);
  const operations = Math.ceil(total / threads);
  const share = db.share();
  const people = Array.from({ length: threads }, (_, index) => {
    const rows = new SharedArrayBuffer((operations + 4 * KEYS) * COLUMNS * 8 * 2);
    const orders: Orders = { share, seed: seed * 100 + index, index, operations, rows, clock };
    return { rows, thread: new Thread("history-worker.ts", orders) };
  });
  while (Atomics.load(words, 1) < threads && people.every(({ thread }) => thread.failure === undefined)) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  Atomics.store(words, 2, 1);
  Atomics.notify(words, 2);
  await beside();
  const records: Float64Array[] = [];
  for (const { thread, rows } of people) {
    const count = await thread.said();
    if (typeof count !== "number") throw new Error(`a thread failed: ${thread.failure} (seed ${seed})`);
    records.push(new Float64Array(rows, 0, count * COLUMNS));
    await thread.kill();
  }
  return records;
}

/** A thread that the system does not let run keeps the files that are replaced meanwhile: with eight of them it is too early. */
async function isCompacted(db: Emdb): Promise<boolean> {
  try {
    await db.compact();
    return true;
  } catch (error) {
    if (!(error instanceof EmdbError) || error.code !== "EMDB_FULL") throw error;
    await new Promise((resolve) => setImmediate(resolve));
    return false;
  }
}

/** Every row was judged, of every kind there are, and no fewer than there were operations. */
function expectJudged(check: HistoryCheck, records: readonly Float64Array[], operations: number): void {
  expect(check.faults).toEqual([]);
  const recorded = new Map<number, number>();
  for (const record of records)
    for (let at = 0; at < record.length; at += COLUMNS) recorded.set(record[at]!, (recorded.get(record[at]!) ?? 0) + 1);
  expect(check.counts).toEqual(recorded);
  // With few operations no two swaps may have met.
  if (emulator === undefined) expect(new Set(recorded.keys())).toEqual(new Set(Object.values(KIND)));
  expect(check.count).toBeGreaterThanOrEqual(operations);
}

test.each(SEEDS)(
  "what threads read and write at once is what the log says, in its order (seed %i)",
  async (seed) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path);
    const records = await record(db, { seed, threads: 2 + (seed % 3), operations: OPERATIONS });
    db.flushSync();
    const versions = versionsIn(path);
    expectJudged(new HistoryCheck(versions, records), records, OPERATIONS);
    const live = versions.map((list) => list.at(-1)!.mark);
    expect([liveMarks(db), db.len()]).toEqual([live, recordsOf(live)]);
    db.closeSync();
    const again = Emdb.open(path);
    expect([liveMarks(again), again.len()]).toEqual([live, recordsOf(live)]);
    again.closeSync();
  },
  TIMEOUT_MS,
);

test.each(COMPACTING_SEEDS)(
  "what threads read and write beside compactions is what the logs say, one after the other (seed %i)",
  async (seed) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const kept = folder.file("replaced");
    mkdirSync(kept);
    const db = Emdb.open(path);
    const stopKeeping = keepReplaced(hostSystem(), { path, kept });
    const operations = COMPACTING_OPERATIONS;
    const records = await record(db, { seed, threads: 3, operations }, async () => {
      for (let count = 0; count < COMPACTIONS;) count += (await isCompacted(db)) ? 1 : 0;
    });
    stopKeeping();
    db.flushSync();
    const versions = versionsIn(path, kept);
    const check = new HistoryCheck(versions, records);
    expectJudged(check, records, operations);
    const behind = readdirSync(kept).filter((name) => Number(name.split("-")[1]) > 4096);
    console.log(`${check.count} operations beside ${behind.length} compactions`);
    expect(behind.length).toBeGreaterThan(COMPACTIONS / 2);
    const live = versions.map((list) => list.at(-1)!.mark);
    expect([liveMarks(db), db.len()]).toEqual([live, recordsOf(live)]);
    db.closeSync();
    using again = Emdb.open(path);
    expect([liveMarks(again), again.len()]).toEqual([live, recordsOf(live)]);
  },
  TIMEOUT_MS,
);

test("what a batch wrote that the log takes back again is no version", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine } = fixture;
  const space = engine.defaultSpace;
  const write = (key: string | Uint8Array, value: Bytes) => ({ space, key, value, expiresAtMs: 0 });
  const giveUp = {
    ...write(keyOf(1), ""),
    get value(): never {
      throw new Error("given up");
    },
  };
  engine.insert(space, keyOf(0), markOf(1, 0), 0);
  // The long one has taken what is before it to the file with it.
  const batch = [write(keyOf(0), markOf(2, 0)), write("long", new Uint8Array(2_000_000)), giveUp];
  expect(() => engine.writeBatch(batch)).toThrow("given up");
  engine.writeBatch([write(keyOf(0), markOf(3, 0)), write(keyOf(1), markOf(4, 0))]);
  fixture.sync.flush();
  const [first, second] = versionsIn(fixture.path);
  expect(first!.map(({ mark }) => mark)).toEqual([0, 1, 3]);
  expect(second!.map(({ mark }) => mark)).toEqual([0, 4]);
  expect(first!.at(-1)!.commit).toBe(second!.at(-1)!.commit);
});

describe("the judge finds", () => {
  const versions = (...marks: number[]): { mark: number; commit: number }[] =>
    marks.map((mark, commit) => ({ mark, commit }));
  const judged = (rows: number[][], ...lists: { mark: number; commit: number }[][]): string[] =>
    new HistoryCheck(
      [...lists, ...Array.from({ length: LISTS - lists.length }, () => versions(0))],
      [Float64Array.from(rows.flat())],
    ).faults;
  const write = (key: number, mark: number, from: number, to: number): number[] => [KIND.write, key, mark, from, to];

  test("nothing in a history that is right", () => {
    const rows = [
      write(0, 1, 1, 2),
      [KIND.read, 0, 1, 3, 4],
      write(0, 2, 5, 6),
      [KIND.swappedFrom, 0, 2, 7, 8],
      write(0, 3, 7, 8),
    ];
    expect(judged(rows, versions(0, 1, 2, 3))).toEqual([]);
  });
  test("a stale read, a read of the future, a miss", () => {
    expect(judged([write(0, 1, 1, 2), write(0, 2, 3, 4), [KIND.read, 0, 1, 5, 6]], versions(0, 1, 2))).toHaveLength(1);
    expect(judged([[KIND.read, 0, 1, 1, 2], write(0, 1, 3, 4)], versions(0, 1))).toContainEqual(
      expect.stringContaining("was read before its write began"),
    );
    expect(judged([write(0, 1, 1, 2), [KIND.read, 0, 0, 3, 4]], versions(0, 1))).toHaveLength(1);
  });
  test("a read that goes back behind another one", () => {
    const rows = [write(0, 1, 1, 2), write(0, 2, 3, 20), [KIND.read, 0, 2, 5, 6], [KIND.read, 0, 1, 7, 8]];
    expect(judged(rows, versions(0, 1, 2))).toHaveLength(1);
  });
  test("a lost update, a lost write and a write that was made twice", () => {
    const rows = [write(0, 1, 1, 2), write(0, 2, 3, 4), [KIND.swappedFrom, 0, 1, 3, 6], write(0, 3, 3, 6)];
    expect(judged(rows, versions(0, 1, 2, 3))).toHaveLength(1);
    expect(judged([write(0, 1, 1, 2)], versions(0))).toHaveLength(1);
    expect(judged([write(0, 1, 1, 2)], versions(0, 1, 1))).toHaveLength(1);
  });
  test("a batch in two commits, and one that was seen in part", () => {
    const together = (kind: number, one: number, other: number, from: number): number[][] => [
      [kind, 0, one, from, from + 1],
      [kind, 1, other, from, from + 1],
    ];
    const end = (first: number): number[] => [KIND.end, first, 0, 0, 0];
    const rows = [...together(KIND.writeTogether, 1, 2, 1), end(0)];
    expect(
      judged(rows, versions(0, 1), [
        { mark: 0, commit: 0 },
        { mark: 2, commit: 2 },
      ]),
    ).toHaveLength(1);
    const seen = [
      ...rows.map((row) => (row[0] === KIND.end ? row : [...row.slice(0, 4), 9])),
      ...together(KIND.readTogether, 1, 0, 5),
      end(3),
    ];
    expect(judged(seen, versions(0, 1), versions(0, 2))).toHaveLength(1);
  });
  test("a write that the log holds before one that had ended when it began, of the same key or of another", () => {
    expect(judged([write(0, 2, 1, 2), write(0, 1, 3, 4)], versions(0, 1, 2))).toEqual([
      expect.stringContaining("known before it began"),
    ]);
    const later = [versions(0)[0]!, { mark: 1, commit: 2 }];
    expect(judged([write(0, 1, 1, 2), write(1, 2, 3, 4)], later, versions(0, 2))).toEqual([
      expect.stringContaining("known before it began"),
    ]);
    expect(judged([write(0, 1, 1, 4), write(1, 2, 3, 4)], later, versions(0, 2))).toEqual([]);
  });
  test("a removal that nobody made, one that was told and not made, one told twice, and one made too early", () => {
    const remove = (mark: number, from: number, to: number): number[] => [KIND.remove, 0, mark, from, to];
    const made = write(0, 1, 1, 2);
    expect(judged([made, remove(1, 3, 4)], versions(0, 1, 0))).toEqual([]);
    expect(judged([made], versions(0, 1, 0))).toEqual([expect.stringContaining("which nobody made")]);
    expect(judged([made, remove(1, 3, 4)], versions(0, 1))).toEqual([expect.stringContaining("right after")]);
    const twice = judged([made, remove(1, 3, 6), remove(1, 4, 5)], versions(0, 1, 0));
    expect(twice).toContainEqual(expect.stringContaining("removed twice"));
    const early = judged([made, remove(1, 5, 6), write(1, 2, 3, 4)], versions(0, 1, 0), [
      { mark: 0, commit: 0 },
      { mark: 2, commit: 3 },
    ]);
    expect(early).toEqual([expect.stringContaining("known before it began")]);
    // Absent before the removal had begun.
    const absent = judged([made, [KIND.read, 0, 0, 3, 4], remove(1, 5, 6)], versions(0, 1, 0));
    expect(absent).toEqual([expect.stringContaining("not found")]);
  });
  test("a swap that was refused though nothing else was there", () => {
    const refused = [KIND.refused, 0, 1, 5, 6];
    const made = write(0, 1, 1, 2);
    const fault = [expect.stringContaining("which had what it expected")];
    expect(judged([made, refused], versions(0, 1))).toEqual(fault);
    expect(judged([made, refused, write(0, 2, 7, 8)], versions(0, 1, 2))).toEqual(fault);
    expect(judged([write(0, 2, 1, 2), write(0, 1, 3, 4), refused], versions(0, 2, 1))).toEqual(fault);
    for (const beside of [write(0, 2, 3, 9), write(0, 2, 6, 7)])
      expect(judged([made, refused, beside], versions(0, 1, 2))).toEqual([]);
    expect(judged([made, refused, [KIND.remove, 0, 1, 4, 9]], versions(0, 1, 0))).toEqual([]);
  });
  test("a moment before a commit that was known, and one behind a write that had not begun", () => {
    const known = [write(0, 1, 1, 2), write(0, 2, 3, 20), write(1, 3, 4, 6)];
    const lists = [versions(0, 1, 2), [versions(0)[0]!, { mark: 3, commit: 3 }]];
    const never = [expect.stringContaining("was never there")];
    expect(judged([...known, [KIND.read, 0, 1, 7, 8]], ...lists)).toEqual(never);
    expect(judged([...known, [KIND.readTogether, 0, 1, 7, 8], [KIND.end, 3, 0, 0, 0]], ...lists)).toEqual(never);
    expect(judged([...known, [KIND.read, 0, 1, 5, 8]], ...lists)).toEqual([]);
    const unborn = [write(0, 1, 3, 20), [KIND.read, 0, 1, 7, 8], write(1, 2, 9, 10)];
    const seen = judged(unborn, [versions(0)[0]!, { mark: 1, commit: 2 }], versions(0, 2));
    expect(seen).toContainEqual(never[0]);
  });
  test("a value that is of two writes", () => {
    const value = markOf(7, 20);
    value[12] = 8;
    expect(() => markIn(value)).toThrow(/torn/);
  });
});

describe("of a database that lies, the judge finds that", () => {
  type Lie = (db: Emdb, ...args: never[]) => unknown;
  /** How often a lie is told: now and then, so that the rest goes on. */
  const LIE_ONE_IN = 5;
  const OPERATIONS_OF_LIARS = 1500;

  /** The faults of one thread's history on a database one of whose calls lies. */
  function faultsOf(name: keyof Emdb, lie: Lie): string[] {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path);
    let calls = 0;
    const lying = new Proxy(db, {
      get(target, member) {
        const own: unknown = Reflect.get(target, member, target);
        if (typeof own !== "function") return own;
        calls += member === name ? 1 : 0;
        const isLie = member === name && calls % LIE_ONE_IN === 1;
        return isLie ? lie.bind(undefined, target) : (own.bind(target) as unknown);
      },
    });
    let now = 0;
    const rows = new Float64Array(10 * OPERATIONS_OF_LIARS * COLUMNS);
    const parts = { index: 0, rows, keys: 8, churnOneIn: 12, random: new Random(1) };
    const recorder = new Recorder({ ...parts, db: lying, tick: () => (now += 1) });
    try {
      for (let operation = 0; operation < OPERATIONS_OF_LIARS; operation += 1) recorder.one();
      db.flushSync();
      const check = new HistoryCheck(versionsIn(path), [rows.subarray(0, recorder.count * COLUMNS)]);
      const live = liveMarks(db);
      if (db.len() !== recordsOf(live)) check.faults.push("the count is wrong");
      return check.faults;
    } catch (error) {
      return [String(error)];
    } finally {
      db.closeSync();
    }
  }

  test("nothing is wrong with one that does not", () => {
    expect(faultsOf("get", (db, key) => db.get(key))).toEqual([]);
  });

  const some = <T>(values: readonly T[]): T[] => values.slice(1);
  test.each<{ what: string; name: keyof Emdb; lie: Lie }>([
    { what: "a get misses", name: "get", lie: () => undefined },
    { what: "a get gives what nobody wrote", name: "get", lie: () => markOf(999, 3) },
    {
      what: "a getMany misses one",
      name: "getMany",
      lie: (db, keys: string[]) => [undefined, ...some(db.getMany(keys))],
    },
    { what: "an insert is not made", name: "insert", lie: () => undefined },
    {
      what: "an insert is made twice",
      name: "insert",
      lie: (db, key: string, value: Uint8Array) => {
        db.insert(key, value);
        db.insert(key, value);
      },
    },
    { what: "a remove is not made", name: "remove", lie: (db, key) => db.get(key) },
    { what: "a remove gives nothing", name: "remove", lie: (db, key) => void db.remove(key) },
    { what: "a swap that could be made is refused", name: "compareAndSwap", lie: () => false },
    {
      what: "a swap that is refused is made",
      name: "compareAndSwap",
      lie: (db, key: string, _: unknown, next: Uint8Array) => {
        db.insert(key, next);
        return false;
      },
    },
    { what: "a swap that is told is not made", name: "compareAndSwap", lie: () => true },
    {
      what: "a swap takes another value for the one expected",
      name: "compareAndSwap",
      lie: (db, key: string, _: unknown, next: Uint8Array) => {
        db.remove(key);
        db.insert(key, next);
        return true;
      },
    },
    {
      what: "an insertMany leaves one out",
      name: "insertMany",
      lie: (db, entries: [string, Uint8Array][]) => db.insertMany(some(entries)) + 1,
    },
    {
      what: "an insertMany is two batches",
      name: "insertMany",
      lie: (db, entries: [string, Uint8Array][]) => db.insertMany(entries.slice(0, 1)) + db.insertMany(some(entries)),
    },
    {
      what: "an insertMany tells another count",
      name: "insertMany",
      lie: (db, entries: [string, Uint8Array][]) => db.insertMany(entries) - 1,
    },
    { what: "a transaction is not made", name: "transaction", lie: () => undefined },
    {
      what: "a removeMany tells another count",
      name: "removeMany",
      lie: (db, keys: string[]) => db.removeMany(keys) + 1,
    },
    {
      what: "a removeMany leaves one",
      name: "removeMany",
      lie: (db, keys: string[]) => (db.removeMany(some(keys)) === 0 ? 0 : keys.length),
    },
    {
      what: "a removeMany is not made",
      name: "removeMany",
      lie: (db, keys: string[]) => db.getMany(keys).filter((value) => value !== undefined).length,
    },
    {
      what: "a walk shows a record twice",
      name: "iter",
      lie: (db) => [...db.iter()].flatMap((record) => [record, record]),
    },
    { what: "a walk leaves a record out", name: "iter", lie: (db) => some([...db.iter()]) },
    { what: "a walk shows nothing", name: "iter", lie: () => [] },
  ])("$what", ({ name, lie }) => {
    expect(faultsOf(name, lie)).not.toBeEmpty();
  });
});
