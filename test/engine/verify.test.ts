/** Verify over whole databases: what is sound has no problem, and what was damaged is named by its place. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, truncateSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { Random } from "../sim/random.ts";
import { emulator, sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EVERYTHING, stateOf, tell } from "./fixture.ts";
import { Thread } from "../workers/thread.ts";
import { frameAt, framesOf, overwrite } from "./verify-frames.ts";
import { turn } from "../support/turns.ts";

setDefaultTimeout(120_000);
const STRIDE = emulator === undefined ? 1 : 29;
const NAMES = ["", "a", "b", "c"] as const;

/** One random step on a random key space. */
function act(db: Emdb, random: Random): void {
  const name = random.pick(NAMES);
  const space = name === "" ? db : db.namespace(name);
  const key = (): string => `key ${random.below(300)}`;
  const choice = random.below(100);
  if (choice < 50) space.insert(key(), "v".repeat(random.below(300)));
  else if (choice < 70) space.remove(key());
  else if (choice < 85) {
    space.insertMany(Array.from({ length: random.below(40) }, (): [string, string] => [key(), "batch"]));
  } else if (choice < 93) space.removeMany(Array.from({ length: random.below(40) }, key));
  else if (choice < 95) space.clear();
  else if (choice < 96 && name !== "") db.dropNamespace(name);
  else if (choice < 98) {
    expect(() =>
      db.transaction((tx) => {
        tx.insert(key(), "never");
        throw new Error("rolled back");
      }),
    ).toThrow("rolled back");
  } else space.insert(key(), "soon", { ttlMs: 1 });
}

test("a database of any history is sound, open, reopened, read-only and after its namespaces went", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (const seed of sampleOf([1, 2, 3, 4, 5, 6], 2)) {
    const random = new Random(seed);
    const db = Emdb.open(path, { rangeScans: seed % 2 === 0 });
    for (let step = 0; step < 1500; step += 1) act(db, random);
    const report = await db.verify();
    expect({ seed, problems: report.problems }).toEqual({ seed, problems: [] });
    expect(report.bytes).toBe(db.stats().logicalSizeBytes);
    expect(report.records).toBeGreaterThan(db.stats().liveRecords);
    await db.close();
    const reader = Emdb.open(path, { readOnly: true });
    expect((await reader.verify()).problems).toEqual([]);
    await reader.close();
  }
});

test("a database in memory is verified like one in a file", async () => {
  const db = Emdb.openInMemory();
  expect(await db.verify()).toMatchObject({ records: 0, problems: [] });
  const random = new Random(7);
  for (let step = 0; step < 3000; step += 1) act(db, random);
  const report = await db.verify();
  expect(report.problems).toEqual([]);
  expect(report.bytes).toBe(db.stats().logicalSizeBytes);
  await db.close();
});

test("a database whose torn tail was just cut off is sound", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  for (const cut of [5, 50, 500]) {
    await Bun.write(path, story.crashed.subarray(0, story.flushedEnd - cut));
    const db = Emdb.open(path);
    expect((await db.verify()).problems).toEqual([]);
    db.insert("after", "the cut");
    expect((await db.verify()).problems).toEqual([]);
    await db.close();
  }
});

test("records are written, in every way, while a verify runs, and it finds nothing wrong", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"), { rangeScans: true });
  for (const seed of sampleOf([20, 21, 22, 23, 24, 25], 2)) {
    const random = new Random(seed);
    const many = Array.from({ length: 20_000 }, (_, index): [string, string] => [`many ${index}`, "x".repeat(100)]);
    db.insertMany(many);
    let turns = 0;
    const report = await db.verify({
      onProgress: () => {
        turns += 1;
        if (turns > 60) return;
        for (let step = 0; step < 100; step += 1) act(db, random);
        db.insertMany(many.slice(turns * 50, turns * 50 + 50));
        if (turns === 2) db.clear();
      },
    });
    expect(turns).toBeGreaterThan(0);
    expect({ seed, problems: report.problems }).toEqual({ seed, problems: [] });
  }
  expect((await db.verify()).problems).toEqual([]);
  await db.close();
});

test("a Worker writes all the while, and verify finds nothing wrong", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"), { rangeScans: true });
  db.insertMany(Array.from({ length: 30_000 }, (_, index): [string, string] => [`base ${index}`, "x".repeat(100)]));
  const thread = new Thread("verified-worker.ts", db.share());
  expect(await thread.said()).toBe("writing");
  for (let round = 0; round < (emulator === undefined ? 4 : 2); round += 1) {
    const before = db.stats().logicalSizeBytes;
    const { problems, bytes } = await db.verify();
    expect({ round, problems }).toEqual({ round, problems: [] });
    expect(bytes).toBeGreaterThanOrEqual(before);
  }
  thread.tell("stop");
  expect(await thread.said()).toBe("stopped");
  expect((await db.verify()).problems).toEqual([]);
  await thread.kill();
  await db.close();
});

test("every byte of a small log is changed in turn, and verify names exactly the frame that it is in", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { flushedEnd } = await tell(path, EVERYTHING);
  const frames = framesOf(path, flushedEnd);
  const bytes = new Uint8Array(readFileSync(path));
  const db = Emdb.open(path);
  for (let at = 4096; at < flushedEnd; at += STRIDE) {
    overwrite(path, at, Uint8Array.of(bytes[at]! ^ (1 << (at % 8))));
    const { problems } = await db.verify();
    const offsets = problems.map(({ offset }) => offset);
    if (offsets.length !== 1 || offsets[0] !== frameAt(frames, at).start) {
      throw new Error(`byte ${at}, frame ${frameAt(frames, at).start}: ${JSON.stringify(problems)}`);
    }
    overwrite(path, at, bytes.subarray(at, at + 1));
  }
  expect((await db.verify()).problems).toEqual([]);
  await db.close();
});

test("all damaged places are listed, not the first alone", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { flushedEnd } = await tell(path, EVERYTHING);
  const frames = framesOf(path, flushedEnd);
  const db = Emdb.open(path);
  const damaged = [frames[1]!, frames[4]!, frames[9]!, frames.at(-1)!];
  for (const { start, end } of damaged) overwrite(path, end - 8, new Uint8Array(8).fill(start % 251));
  const { problems } = await db.verify();
  expect(problems.map(({ offset }) => offset)).toEqual(damaged.map(({ start }) => start));
  await db.close();
});

test("a changed header page is a problem, the key area's byte by its place", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  await tell(path, EVERYTHING);
  const bytes = new Uint8Array(readFileSync(path));
  const db = Emdb.open(path);
  for (let at = 0; at < 4096; at += 7 * STRIDE) {
    overwrite(path, at, Uint8Array.of(bytes[at]! ^ 0x10));
    const { problems } = await db.verify();
    expect(problems.map(({ offset }) => offset)).toEqual([at < 512 ? 0 : at]);
    overwrite(path, at, bytes.subarray(at, at + 1));
  }
  await db.close();
});

test("zeros in the middle of the log and a file that was cut short are problems", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { flushedEnd } = await tell(path, EVERYTHING);
  const frames = framesOf(path, flushedEnd);
  const bytes = new Uint8Array(readFileSync(path));
  const db = Emdb.open(path);
  const [from, to] = [frames[3]!, frames[5]!];
  overwrite(path, from.start, new Uint8Array(to.end - from.start));
  expect((await db.verify()).problems).toEqual([
    {
      offset: from.start,
      reason: `nothing stands here (zeros, or the file's end), and the log ends at byte ${flushedEnd}`,
    },
  ]);
  overwrite(path, from.start, bytes.subarray(from.start, to.end));
  if (process.platform !== "win32") {
    truncateSync(path, frames[7]!.start);
    expect((await db.verify()).problems.map(({ offset }) => offset)).toEqual([frames[7]!.start]);
    overwrite(path, frames[7]!.start, bytes.subarray(frames[7]!.start));
  }
  expect((await db.verify()).problems).toEqual([]);
  await db.close();
});

test("progress goes up to the total, the event loop turns between, and an abort leaves all as it was", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"));
  for (let index = 0; index < 60; index += 1) db.insert(`key ${index}`, new Uint8Array(100_000).fill(index));
  db.insertMany(Array.from({ length: 5000 }, (_, index): [string, string] => [`small ${index}`, "x"]));
  const told: { done: number; total: number }[] = [];
  await db.verify({ onProgress: (progress) => told.push(progress) });
  // One pause at least: how long the later steps are depends on how long the turns of the event loop take.
  expect(told.length).toBeGreaterThanOrEqual(2);
  const { total } = told[0]!;
  expect(told.every((one, index) => one.total === total && one.done >= (told[index - 1]?.done ?? 0))).toBe(true);
  expect(told.at(-1)).toEqual({ done: total, total });

  const before = stateOf(db);
  const abort = new AbortController();
  let turns = 0;
  const onProgress = (): void => {
    turns += 1;
    if (turns === 1) setImmediate(() => abort.abort());
  };
  const aborted = db.verify({ signal: abort.signal, onProgress });
  expect(await aborted.catch((error: unknown) => error)).toMatchObject({ code: "EMDB_ABORTED" });
  expect(turns).toBe(1);
  expect(stateOf(db)).toBe(before);
  expect((await db.verify()).problems).toEqual([]);
  await db.close();
});

test("a verify of a database that is closed meanwhile ends with EMDB_CLOSED", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"));
  for (let index = 0; index < 40; index += 1) db.insert(`key ${index}`, new Uint8Array(100_000).fill(index));
  const verified = db.verify().catch((error: unknown) => error);
  await turn();
  db.closeSync();
  expect(await verified).toMatchObject({ code: "EMDB_CLOSED" });
});
