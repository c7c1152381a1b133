/** What crashes leave behind the end of the log stays behind it: it is never read again as if it had been written. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { EmdbError } from "../../src/errors.ts";
import { FRAME_HEADER_BYTES } from "../../src/log/frame.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { EVERYTHING, expectOpens, stateOf, tell, tryOpen, turn } from "./fixture.ts";

setDefaultTimeout(120_000);

/** The file now, while it is open. */
function imageOf(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

/** Writes "a" and flushes; then writes "b", "c", "d", which reach the file and are not synced. */
async function logWithTail(path: string): Promise<{ flushed: Uint8Array; written: Uint8Array; flushedEnd: number; ends: number[] }> {
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
    writeFileSync(path, image);
    let db = Emdb.open(path);
    expect(stateOf(db)).toContain("61=");
    expect(db.len()).toBe(1);
    expect(db.recovery.tornBytes).toBeGreaterThan(0);
    // As long as "b", so that the log now ends where "c" began.
    db.insert("x", "value of x".padEnd(32, "."));
    await turn();
    const crashed = imageOf(path);
    db.closeSync();
    writeFileSync(path, crashed);
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
  writeFileSync(path, image);
  expect(tryOpen(path)).toEqual({ kind: "error", code: "EMDB_CORRUPTED", offset: end });
  expect(imageOf(path)).toEqual(image);
});

test("garbage behind a clean close is gone once the log goes on over it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  const garbage = new Uint8Array(50_000);
  new Random(91).randomize(garbage);
  writeFileSync(path, Buffer.concat([story.closed, garbage]));
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
    writeFileSync(path, story.crashed.subarray(0, cut));
    const db = Emdb.open(path);
    const opened = imageOf(path);
    const kept = cut - db.recovery.tornBytes;
    expect(opened).toEqual(story.crashed.slice(0, kept));
    db.closeSync();
  }
});

test.each([1, 2, 3])("crash, open, write, flush, again and again, loses nothing flushed and brings nothing back (seed %d)", async (seed) => {
  const random = new Random(seed);
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  /** States since the last flush; after a crash one of them must show, and it is the new beginning. */
  let possible: string[] = ["[[\"\",[]]]"];
  const rounds = emulator === undefined ? 60 : 15;
  for (let round = 0; round < rounds; round += 1) {
    const db = Emdb.open(path);
    const state = stateOf(db);
    if (!possible.includes(state)) throw new Error(`round ${round}: not a state since the last flush`);
    possible = [state];
    let durableEnd = db.stats().logicalSizeBytes;
    for (let step = random.below(12); step > 0; step -= 1) {
      writeSomething(db, random);
      possible.push(stateOf(db));
      if (random.chance(0.25)) {
        db.flushSync();
        durableEnd = db.stats().logicalSizeBytes;
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
    writeFileSync(path, damagedBehind(crashed, { durableEnd, end, random }));
  }
  expect(tryOpen(path)).toMatchObject({ kind: "open" });
});

function writeSomething(db: Emdb, random: Random): void {
  const key = (): string => `key ${random.below(12)}`;
  const value = (): string => "v".repeat(random.below(200)) + random.word();
  switch (random.below(7)) {
    case 0:
      db.insertMany(Array.from({ length: 1 + random.below(5) }, (): [string, string] => [key(), value()]));
      break;
    case 1:
      db.remove(key());
      break;
    case 2:
      db.namespace(`space ${random.below(2)}`).insert(key(), value());
      break;
    case 3:
      if (random.chance(0.3)) db.clear();
      else db.dropNamespace(`space ${random.below(2)}`);
      break;
    default:
      db.insert(key(), value());
  }
}

/** What a power loss may leave: everything durable, and behind it sectors that made it, that did not, or are torn. */
function damagedBehind(
  image: Uint8Array,
  { durableEnd, end, random }: { readonly durableEnd: number; readonly end: number; readonly random: Random },
): Uint8Array {
  const damaged = image.slice(0, end + random.below(2000));
  for (let at = durableEnd; at < damaged.length; at += 64) {
    const until = Math.min(at + 64, damaged.length);
    if (random.chance(0.3)) damaged.fill(0, at, until);
    else if (random.chance(0.1)) random.randomize(damaged.subarray(at, until));
  }
  return damaged;
}

test("the cut of a torn tail is what the first open reports and the second one does not", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { written, ends } = await logWithTail(folder.file("made.emdb"));
  writeFileSync(path, written.subarray(0, ends[2]! - 1));
  const first = Emdb.open(path);
  expect(first.recovery).toMatchObject({ tornBytes: ends[2]! - 1 - ends[1]!, missingBytes: 0, replayedRecords: 3 });
  expect(first.recovery.durationMs).toBeGreaterThanOrEqual(0);
  const crashed = imageOf(path);
  first.closeSync();
  expect(crashed.length).toBe(ends[1]!);
  writeFileSync(path, crashed);
  const second = Emdb.open(path);
  expect(second.recovery).toMatchObject({ tornBytes: 0, replayedRecords: 3 });
  second.closeSync();
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
  writeFileSync(path, crashed);
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
    writeFileSync(path, image.subarray(0, cut));
    const outcome = tryOpen(path);
    if (outcome.kind !== "open") throw new EmdbError("EMDB_CORRUPTED", JSON.stringify(outcome));
  }
});
