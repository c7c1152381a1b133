/** What crashes leave behind the end of the log stays behind it: it is never read again as if it had been written. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { EmdbError } from "../../src/errors.ts";
import { FRAME_HEADER_BYTES } from "../../src/log/frame.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { startChild } from "./processes.ts";
import { crashTo, EVERYTHING, expectOpens, stateAt, stateOf, tell, tryOpen } from "./fixture.ts";
import { turn } from "../support/turns.ts";

setDefaultTimeout(120_000);

/** The file now, while it is open. */
function imageOf(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

/** Writes "a" and flushes; then writes "b", "c", "d", which reach the file and are not synced. */
async function logWithTail(
  path: string,
): Promise<{ flushed: Uint8Array; written: Uint8Array; flushedEnd: number; ends: number[] }> {
  const db = Emdb.open(path);
  db.insert("a", "durable");
  db.flushSync();
  const flushed = imageOf(path);
  const flushedEnd = db.stats().logicalSizeBytes;
  const ends = ["b", "c", "d"].map((key) => {
    db.insert(key, `value of ${key}`.padEnd(32, "."));
    return db.stats().logicalSizeBytes;
  });
  await turn();
  const written = imageOf(path);
  db.closeSync();
  return { flushed, written, flushedEnd, ends };
}

test("frames that reached the disk while their predecessor did not never come back, a mark in front of them or not", async () => {
  using folder = temporaryFolder();
  const { flushed, written, flushedEnd, ends } = await logWithTail(folder.file("made.emdb"));
  // The sector with "b" is the one from before, mark and all; those with "c" and "d" made it.
  const marked = written.slice();
  marked.set(flushed.subarray(flushedEnd, ends[0]), flushedEnd);
  // The same where the mark was never written.
  const unmarked = written.slice();
  unmarked.fill(0, flushedEnd, ends[0]);
  for (const image of [marked, unmarked]) {
    const path = folder.file("data.emdb");
    crashTo(path, image);
    let db = Emdb.open(path);
    expect(stateOf(db)).toContain("61=");
    expect(db.len()).toBe(1);
    expect(db.recovery.tornBytes).toBeGreaterThan(0);
    // As long as "b", so that the log now ends where "c" began.
    db.insert("x", "value of x".padEnd(32, "."));
    await turn();
    const crashed = imageOf(path);
    db.closeSync();
    crashTo(path, crashed);
    db = Emdb.open(path);
    expect([...db.keys()].map((key) => new TextDecoder().decode(key)).sort()).toEqual(["a", "x"]);
    db.closeSync();
  }
});

test("a lost write behind a clean close is damage when the log went on and was flushed", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  const db = Emdb.open(path);
  db.insert("next", "written over the clean mark");
  db.insert("then", "x".repeat(600));
  db.flushSync();
  db.insert("more", "x");
  db.closeSync();
  // The disk answers with the sector that held the clean mark.
  const image = imageOf(path);
  const end = story.steps.at(-1)!.end;
  image.set(story.closed.subarray(end, end + FRAME_HEADER_BYTES), end);
  crashTo(path, image);
  expect(tryOpen(path)).toEqual({ kind: "error", code: "EMDB_CORRUPTED", offset: end });
  expect(imageOf(path)).toEqual(image);
});

test("garbage behind a clean close is gone once the log goes on over it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  const garbage = new Uint8Array(50_000);
  new Random(91).randomize(garbage);
  crashTo(path, Buffer.concat([story.closed, garbage]));
  const db = Emdb.open(path);
  for (let index = 0; index < 20; index += 1) db.insert(`key ${index}`, "x".repeat(index));
  await turn();
  const crashed = imageOf(path);
  const state = stateOf(db);
  db.closeSync();
  expectOpens(path, crashed, state);
});

test("opening, reading and closing a database that was closed in good order changes no byte and no time of it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  const before = statSync(path, { bigint: true });
  for (let round = 0; round < 3; round += 1) expect(tryOpen(path)).toMatchObject({ kind: "open" });
  expect(imageOf(path)).toEqual(story.closed);
  expect(statSync(path, { bigint: true }).mtimeNs).toBe(before.mtimeNs);
});

test("opening a crashed database writes nothing but the cut of its torn tail", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING, 3);
  for (const cut of [story.steps.at(-1)!.end, story.steps.at(-1)!.end - 3, story.flushedEnd + 5]) {
    crashTo(path, story.crashed.subarray(0, cut));
    const db = Emdb.open(path);
    expect(imageOf(path)).toEqual(story.crashed.slice(0, stateAt(story, cut).end));
    db.closeSync();
  }
});

test.each([1, 2, 3])(
  "crash, open, write, flush, again and again, loses nothing flushed and brings nothing back (seed %d)",
  async (seed) => {
    const random = new Random(seed);
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    /** States since the last flush; after a crash one of them must show, and it is the new beginning. */
    let possible: string[] = ['[["",[]]]'];
    const rounds = emulator === undefined ? 50 : 15;
    for (let round = 0; round < rounds; round += 1) {
      const db = Emdb.open(path);
      const state = stateOf(db);
      if (!possible.includes(state)) throw new Error(`round ${round}: not a state since the last flush`);
      possible = [state];
      let durableEnd = db.stats().logicalSizeBytes;
      let before = imageOf(path);
      for (let step = random.below(12); step > 0; step -= 1) {
        for (const write of somethingToWrite(random)) {
          write(db);
          possible.push(stateOf(db));
        }
        if (random.chance(0.25)) {
          db.flushSync();
          durableEnd = db.stats().logicalSizeBytes;
          before = imageOf(path);
          possible = [possible.at(-1)!];
        }
      }
      if (random.chance(0.7)) await turn();
      const crashed = imageOf(path);
      const end = Math.max(durableEnd, Math.min(crashed.length, db.stats().logicalSizeBytes));
      db.closeSync();
      if (random.chance(0.2)) {
        possible = [possible.at(-1)!];
        continue;
      }
      crashTo(path, damagedBehind(crashed, { before, durableEnd, end, random }));
    }
    expect(tryOpen(path)).toMatchObject({ kind: "open" });
  },
);

/** One or two writes, each a step of its own in the log. */
function somethingToWrite(random: Random): ((db: Emdb) => void)[] {
  const key = `key ${random.below(12)}`;
  const value = "v".repeat(random.below(200)) + random.word();
  const space = `space ${random.below(2)}`;
  const entries = Array.from({ length: 1 + random.below(5) }, (): [string, string] => [
    `key ${random.below(12)}`,
    `${value} ${random.word()}`,
  ]);
  switch (random.below(7)) {
    case 0:
      return [(db) => db.insertMany(entries)];
    case 1:
      return [(db) => void db.remove(key)];
    case 2:
      return [(db) => void db.namespace(space), (db) => db.namespace(space).insert(key, value)];
    case 3:
      return random.chance(0.3) ? [(db) => db.clear()] : [(db) => void db.dropNamespace(space)];
    case 4:
      return [(db) => void db.removeMany(entries.map(([name]) => name))];
    default:
      return [(db) => db.insert(key, value)];
  }
}

interface Crash {
  /** The file as of the last flush. */
  readonly before: Uint8Array;
  readonly durableEnd: number;
  readonly end: number;
  readonly random: Random;
}

/** What a power loss may leave: everything durable, and behind it sectors that made it, that are as before, or torn. */
function damagedBehind(image: Uint8Array, { before, durableEnd, end, random }: Crash): Uint8Array {
  const damaged = image.slice(0, end + random.below(2000));
  for (let at = durableEnd; at < damaged.length; at += 64) {
    const until = Math.min(at + 64, damaged.length);
    if (random.chance(0.3)) damaged.fill(0, at, until).set(before.subarray(at, until), at);
    else if (random.chance(0.1)) random.randomize(damaged.subarray(at, until));
  }
  return damaged;
}

test("the cut of a torn tail is what the first open reports and the second one does not", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { written, ends } = await logWithTail(folder.file("made.emdb"));
  crashTo(path, written.subarray(0, ends[2]! - 1));
  const first = Emdb.open(path);
  expect(first.recovery).toMatchObject({ missingBytes: 0, replayedRecords: 3 });
  // Zeros at the end may as well be reserved space; they are cut off and not counted.
  expect(first.recovery.tornBytes).toBeGreaterThan(ends[2]! - ends[1]! - 10);
  expect(first.recovery.tornBytes).toBeLessThan(ends[2]! - ends[1]!);
  expect(first.recovery.durationMs).toBeGreaterThanOrEqual(0);
  const crashed = imageOf(path);
  first.closeSync();
  expect(crashed.length).toBe(ends[1]!);
  crashTo(path, crashed);
  const second = Emdb.open(path);
  expect(second.recovery).toMatchObject({ tornBytes: 0, replayedRecords: 3 });
  second.closeSync();
});

test("half a batch of a process that was killed is no obstacle while another process reads the file", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const writer = await startChild("write half a batch", path);
  expect(writer.said).toBe("half");
  await writer.child.kill();
  const reader = await startChild("read and hold", path);
  expect(reader.said).toBe("1 by the child");
  let db = Emdb.open(path);
  expect(db.recovery.tornBytes).toBeGreaterThan(100_000);
  expect([...db.keys()].map((key) => new TextDecoder().decode(key))).toEqual(["flushed"]);
  // As long as the first of the batch, so that the log now ends where its second one began.
  db.insert("key 0", "y".repeat(100));
  db.flushSync();
  const crashed = imageOf(path);
  db.closeSync();
  await reader.child[Symbol.asyncDispose]();
  for (const image of [imageOf(path), crashed]) {
    crashTo(path, image);
    db = Emdb.open(path);
    expect([db.len(), db.getText("flushed"), db.getText("key 0")]).toEqual([2, "by the child", "y".repeat(100)]);
    expect(db.recovery.tornBytes).toBe(0);
    db.closeSync();
  }
});

test("what was flushed before the crash of a process is there, and so is what its event loop had written", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("flushed", "1");
  db.flushSync();
  db.insert("written", "2");
  await turn();
  db.insert("pending", "3");
  const crashed = imageOf(path);
  db.closeSync();
  crashTo(path, crashed);
  const after = Emdb.open(path);
  expect([...after.keys()].map((key) => new TextDecoder().decode(key)).sort()).toEqual(["flushed", "written"]);
  after.closeSync();
});

test("a value that holds whole frames of its own database is a value", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let db = Emdb.open(path);
  db.insert("secret", "x".repeat(100));
  db.flushSync();
  const frames = imageOf(path).slice(4096, 4096 + 200);
  db.insert("inner", frames);
  db.insert("aligned", Buffer.concat([frames, frames]));
  db.remove("secret");
  const state = stateOf(db);
  db.closeSync();
  const image = imageOf(path);
  // Cut in the middle of the last value: the frames inside it are looked at, and none is taken for one.
  db = Emdb.open(path);
  expect(stateOf(db)).toBe(state);
  db.closeSync();
  for (let cut = 4500; cut < image.length - 24; cut += 40) {
    crashTo(path, image.subarray(0, cut));
    const outcome = tryOpen(path);
    if (outcome.kind !== "open") throw new EmdbError("EMDB_CORRUPTED", JSON.stringify(outcome));
  }
});

test("the records of a batch that does not count are not reported as replayed, whoever opens", async () => {
  using folder = temporaryFolder();
  const made = folder.file("made.emdb");
  const db = Emdb.open(made);
  db.insert("alone", "1");
  db.flushSync();
  const start = db.stats().logicalSizeBytes;
  db.insertMany(["b1", "b2", "b3"].map((key): [string, string] => [key, "in a batch"]));
  const end = db.stats().logicalSizeBytes;
  await turn();
  const written = imageOf(made);
  db.closeSync();
  const path = folder.file("data.emdb");
  for (const cut of [start, start + 60, end - 1, end]) {
    crashTo(path, written.subarray(0, cut));
    const replayedRecords = cut === end ? 4 : 1;
    for (const readOnly of [true, false]) {
      using again = Emdb.open(path, { readOnly });
      expect({ cut, readOnly, ...again.recovery }).toMatchObject({ cut, readOnly, replayedRecords });
    }
  }
});
