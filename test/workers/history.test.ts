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
import { COLUMNS, KEYS, KIND, keyOf, markIn, markOf } from "./history-facts.ts";
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

function marksOf(db: Emdb): number[] {
  return Array.from({ length: KEYS }, (_, key) => markIn(db.get(keyOf(key))));
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
    const check = new HistoryCheck(versions, records);
    expect(check.faults).toEqual([]);
    expect(check.count).toBeGreaterThan(OPERATIONS / 2);
    const live = marksOf(db);
    expect(live).toEqual(versions.map((list) => list.at(-1)!.mark));
    const count = db.len();
    db.closeSync();
    const again = Emdb.open(path);
    expect([marksOf(again), again.len()]).toEqual([live, count]);
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
    expect(check.faults).toEqual([]);
    expect(check.count).toBeGreaterThan(operations / 2);
    const behind = readdirSync(kept).filter((name) => Number(name.split("-")[1]) > 4096);
    console.log(`${check.count} operations beside ${behind.length} compactions`);
    expect(behind.length).toBeGreaterThan(COMPACTIONS / 2);
    expect(marksOf(db)).toEqual(versions.map((list) => list.at(-1)!.mark));
    db.closeSync();
    using again = Emdb.open(path);
    expect(marksOf(again)).toEqual(versions.map((list) => list.at(-1)!.mark));
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
      [...lists, ...Array.from({ length: KEYS - lists.length }, () => versions(0))],
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
    expect(judged([[KIND.read, 0, 1, 1, 2], write(0, 1, 3, 4)], versions(0, 1))).toHaveLength(1);
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
  test("a value that is of two writes", () => {
    const value = markOf(7, 20);
    value[12] = 8;
    expect(() => markIn(value)).toThrow(/torn/);
  });
});
