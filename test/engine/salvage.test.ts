/** Salvage: what one damaged place costs, what is kept, and what is refused. */

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { linkSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { salvageFile } from "../../src/engine/salvage/salvage.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { SCAN_BYTES } from "../../src/limits.ts";
import { FRAME_HEADER_BYTES } from "../../src/log/frame.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { emulator } from "../support/platform.ts";
import { removeTree, temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { EVERYTHING, LATER_MS, expectOpens, stateOf, tell, type Step, type Story } from "./fixture.ts";
import { frameAt, framesOf, giveUpBatch, overwrite, systemWith, unreadable, type FrameSpan } from "./verify-frames.ts";
import { openFile } from "./open-engine.ts";

setDefaultTimeout(240_000);
const STRIDE = emulator === undefined ? 1 : 41;

let story: Story;
let frames: FrameSpan[];
/** The state that each step's loss must lead to. */
let without: string[];

beforeAll(async () => {
  using folder = temporaryFolder();
  story = await tell(folder.file("data.emdb"), EVERYTHING);
  frames = framesOf(folder.file("data.emdb"), story.flushedEnd);
  without = EVERYTHING.map((_, lost) => stateAfter(EVERYTHING.filter((_step, index) => index !== lost)));
  // The name of a namespace stands only in the frame that creates it.
  const [named, other] = [5, 9];
  without[named] = story.steps.at(-1)!.state.replace('"named"', '"lost-namespace-1"');
  without[other] = story.steps.at(-1)!.state;
});

function stateAfter(steps: readonly Step[]): string {
  const db = Emdb.openInMemory();
  for (const step of steps) step(db);
  const state = stateOf(db);
  db.closeSync();
  return state;
}

function stateIn(path: string): string {
  const db = Emdb.open(path, { readOnly: true });
  const state = stateOf(db);
  db.closeSync();
  removeTree(path);
  return state;
}

/** What a bad place costs: its frame, or the whole batch where the header of the last frame is bad. */
function lostAt(at: number, isHeader: boolean): { readonly offset: number; readonly bytes: number } {
  const frame = frameAt(frames, at);
  const step = story.steps.findIndex(({ end }) => end > at);
  const isEnd = frame.end === story.steps[step]!.end;
  const offset = isHeader && isEnd ? story.steps[step - 1]!.end : frame.start;
  return { offset, bytes: frame.end - offset };
}

/** Salvages without waiting for the disk, which these tests say nothing about. */
async function rescue(folder: TemporaryFolder, bytes: Uint8Array, calls: Partial<System> = {}) {
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  writeFileSync(path, bytes);
  const system = systemWith({ sync: () => 0, syncFolder: () => 0, ...calls });
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const report = await salvageFile(environment, { path, target, encryption: undefined }, {});
  expect(readdirSync(folder.path).sort()).toEqual(["data.emdb", "saved.emdb"]);
  if (Buffer.compare(readFileSync(path), bytes) !== 0) throw new Error("the source was changed");
  return { ...report, state: stateIn(target) };
}

test("a sound database is salvaged whole: records, deadlines, namespaces in their order", async () => {
  using folder = temporaryFolder();
  for (const bytes of [story.closed, story.crashed]) {
    const { state, recoveredRecords, lostRanges } = await rescue(folder, bytes);
    expect(state).toBe(story.steps.at(-1)!.state);
    expect(lostRanges).toEqual([]);
    expect(recoveredRecords).toBe(6);
  }
});

test("zeros behind the log are no loss, however many, and a bad place before them is one up to its last byte", async () => {
  using folder = temporaryFolder();
  const sound = story.crashed.subarray(0, story.flushedEnd);
  for (const zeroBytes of [SCAN_BYTES - 8, SCAN_BYTES + 8, 3 * SCAN_BYTES + 1000]) {
    const bytes = new Uint8Array(sound.length + zeroBytes);
    bytes.set(sound);
    expect((await rescue(folder, bytes)).lostRanges).toEqual([]);
    bytes.fill(1, sound.length, sound.length + 50);
    expect((await rescue(folder, bytes)).lostRanges).toEqual([{ offset: sound.length, bytes: 50 }]);
  }
});

test("any one flipped bit of the log costs the record that it is in, and in the header of a batch's end the batch", async () => {
  using folder = temporaryFolder();
  for (let at = 4096; at < story.flushedEnd; at += STRIDE) {
    const bytes = story.closed.slice();
    bytes[at]! ^= 1 << ((at * 5) % 8);
    const { state, lostRanges } = await rescue(folder, bytes);
    const step = story.steps.findIndex(({ end }) => end > at);
    const lost = lostAt(at, frameAt(frames, at).start + FRAME_HEADER_BYTES > at);
    expect({ at, lostRanges }).toEqual({ at, lostRanges: [lost] });
    // What is left of a batch is looked at frame by frame in salvage-batches.
    if (story.steps[step]!.end - story.steps[step - 1]!.end !== lost.bytes) continue;
    if (state !== without[step - 1]) throw new Error(`byte ${at}: ${state}\nnot ${without[step - 1]}`);
  }
});

test("no flipped bit of the header's sector, the key area or the last mark costs anything", async () => {
  using folder = temporaryFolder();
  const places = Array.from({ length: 512 }, (_, at) => at);
  places.push(600, 4000, 4095, story.flushedEnd, story.flushedEnd + 8, story.flushedEnd + 23);
  for (const at of places.filter((_, index) => index % STRIDE === 0)) {
    const bytes = story.closed.slice();
    bytes[at]! ^= 1 << (at % 8);
    const { state } = await rescue(folder, bytes);
    if (state !== story.steps.at(-1)!.state) throw new Error(`byte ${at}: ${state}`);
  }
});

test("a header page of which only the file id is left still lets every record be found", async () => {
  using folder = temporaryFolder();
  const bytes = story.closed.slice();
  bytes.fill(0xa5, 0, 16);
  bytes.fill(0xa5, 48, 4096);
  expect((await rescue(folder, bytes)).state).toBe(story.steps.at(-1)!.state);
});

test("a header page that is damaged beyond that is proven by a frame that stands far behind it, and garbage on the way is told", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  const long = 4 * SCAN_BYTES;
  {
    using db = Emdb.open(path);
    db.insert("long", new Uint8Array(long));
    db.insert("behind", "it");
  }
  const bytes = new Uint8Array(readFileSync(path));
  bytes.fill(0xa5, 48, long);
  writeFileSync(path, bytes);
  const told: number[] = [];
  // By a clock that stands still a step ends by its length alone.
  const system = systemWith({ monotonic: () => 0 });
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const options = { onProgress: ({ done }: { readonly done: number }) => void told.push(done) };
  const report = await salvageFile(environment, { path, target, encryption: undefined }, options);
  expect(report.recoveredRecords).toBe(1);
  // Each piece that is looked through is a step of its own, between which the event loop turns.
  for (let from = 0; from < long; from += 2 * SCAN_BYTES)
    expect([from, told.some((done) => done > from && done <= from + 2 * SCAN_BYTES)]).toEqual([from, true]);
});

test("zeroed and garbled stretches lose what they touch, and every other record is there", async () => {
  using folder = temporaryFolder();
  for (let from = 4096; from + 100 < story.flushedEnd; from += 40 * STRIDE) {
    for (const filling of [0, 0xee]) {
      const bytes = story.closed.slice();
      bytes.fill(filling, from, from + 100);
      const { lostRanges } = await rescue(folder, bytes);
      expect(lostRanges.length).toBe(1);
      const [lost] = lostRanges;
      const first = story.steps.findLast(({ end }) => end <= from)!.end;
      const last = story.steps.find(({ end }) => end >= from + 100)!.end;
      expect(lost!.offset).toBeGreaterThanOrEqual(first);
      expect(lost!.offset + lost!.bytes).toBeLessThanOrEqual(last);
    }
  }
});

test("the frame behind a damaged one is found wherever it stands to what is read at a time", async () => {
  using folder = temporaryFolder();
  using maker = temporaryFolder();
  for (let over = -8; over <= 24; over += 8) {
    const path = maker.file(`${over}.emdb`);
    const db = Emdb.open(path);
    const start = db.stats().logicalSizeBytes;
    db.insert("k", new Uint8Array(SCAN_BYTES + over - FRAME_HEADER_BYTES - 1).fill(1));
    // So long a value is a batch of two frames, the second of which has a header alone.
    expect(db.stats().logicalSizeBytes - start).toBe(SCAN_BYTES + over + FRAME_HEADER_BYTES);
    db.insert("behind", "it");
    await db.close();
    const bytes = new Uint8Array(readFileSync(path));
    bytes[start + 1]! ^= 4;
    const { recoveredRecords, lostRanges } = await rescue(folder, bytes);
    expect({ over, recoveredRecords, lostRanges }).toEqual({
      over,
      recoveredRecords: 1,
      lostRanges: [{ offset: start, bytes: SCAN_BYTES + over }],
    });
  }
});

test("each frame of a batch, zeroed, is lost alone, and the last one with the batch", async () => {
  using folder = temporaryFolder();
  const inBatches = frames.filter(({ start }) => !story.steps.some(({ end }) => end === start));
  expect(inBatches.length).toBeGreaterThan(10);
  for (const { start, end } of inBatches) {
    const bytes = story.closed.slice();
    bytes.fill(0, start, end);
    expect((await rescue(folder, bytes)).lostRanges).toEqual([lostAt(start, true)]);
  }
});

test("records of a namespace whose creation was lost are under a name of their own", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  for (const name of ["one", "two", "three"]) db.namespace(name).insert("key", name, { expiresAtMs: LATER_MS });
  await db.close();
  const creations = framesOf(path, Infinity).filter((_, index) => index % 2 === 0);
  overwrite(path, creations[1]!.start, new Uint8Array(8));
  const target = folder.file("saved.emdb");
  const report = await Emdb.salvage(path, target);
  expect(report).toMatchObject({ recoveredRecords: 3, lostRanges: [{ offset: creations[1]!.start }] });
  const saved = Emdb.open(target);
  expect(saved.listNamespaces()).toEqual(["one", "lost-namespace-2", "three"]);
  expect(saved.namespace("lost-namespace-2").getText("key")).toBe("two");
  expect(saved.namespace("lost-namespace-2").expiresAt("key")).toBe(LATER_MS);
  await saved.close();
});

test.each(["nothing", "clear", "drop"] as const)(
  "a namespace that is called as another one was by a salvage takes nothing from its records: %s",
  async (then) => {
    using folder = temporaryFolder();
    const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
    const made = "lost-namespace-1";
    const db = Emdb.open(path);
    const from = db.stats().logicalSizeBytes;
    db.namespace("one").insert("k", "in one", { expiresAtMs: LATER_MS });
    db.namespace(made).insert("k", "in two");
    db.namespace(`${made}-2`);
    if (then === "clear") db.namespace(made).clear();
    if (then === "drop") db.dropNamespace(made);
    db.namespace("one").insert("more", "in one");
    await db.close();
    overwrite(path, from + 1, Uint8Array.of(9, 9, 9));
    await Emdb.salvage(path, target);
    using saved = Emdb.open(target);
    const others = then === "drop" ? [`${made}-2`] : [made, `${made}-2`];
    expect(saved.listNamespaces().sort()).toEqual([...others, `${made}-3`]);
    const one = saved.namespace(`${made}-3`);
    expect([one.getText("k"), one.getText("more"), one.len()]).toEqual(["in one", "in one", 2]);
    expect([one.expiresAt("k"), one.expiresAt("more")]).toEqual([LATER_MS, 0]);
    if (then !== "drop") expect(saved.namespace(made).getText("k")).toBe(then === "clear" ? undefined : "in two");
  },
);

test("a namespace keeps its name when the batch that created it is lost", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const from = db.stats().logicalSizeBytes;
  db.transaction((tx) => {
    tx.namespace("made").insert("lost", "1");
    tx.namespace("other").insert("lost", "2");
  });
  const to = db.stats().logicalSizeBytes;
  db.namespace("made").insert("kept", "3");
  await db.close();
  // The header of the last frame: it could have been an abort.
  overwrite(path, to - 32, Uint8Array.of(1, 2, 3));
  const report = await Emdb.salvage(path, folder.file("saved.emdb"));
  expect(report).toEqual({ recoveredRecords: 1, lostRanges: [{ offset: from, bytes: to - from }] });
  const saved = Emdb.open(folder.file("saved.emdb"));
  expect(saved.listNamespaces()).toEqual(["made"]);
  expect(saved.namespace("made").getText("kept")).toBe("3");
  await saved.close();
});

test("a name that is created again was dropped before, though its drop is lost", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.namespace("name").insert("old", "1");
  const from = db.stats().logicalSizeBytes;
  db.dropNamespace("name");
  db.namespace("name").insert("new", "2");
  await db.close();
  overwrite(path, from + 4, Uint8Array.of(1, 2, 3));
  const report = await Emdb.salvage(path, folder.file("saved.emdb"));
  expect(report.recoveredRecords).toBe(1);
  const saved = Emdb.open(folder.file("saved.emdb"));
  expect(saved.namespace("name").getText("new")).toBe("2");
  expect(saved.listNamespaces()).toEqual(["name"]);
  await saved.close();
});

test("a batch that was given up when it was written stays given up, and a long value comes over whole", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const engine = openFile(hostSystem(), path);
  giveUpBatch(engine, "kept");
  engine.leave();
  const db = Emdb.open(path);
  const long = new Uint8Array(3_000_000).map((_, index) => (index * 31) % 251);
  db.insert("kept", long);
  db.insert("damaged", "x");
  const end = db.stats().logicalSizeBytes;
  db.insert("last", long.subarray(5));
  await db.close();
  overwrite(path, end - 16, Uint8Array.of(9, 9, 9));
  await Emdb.salvage(path, folder.file("saved.emdb"));
  const saved = Emdb.open(folder.file("saved.emdb"));
  expect(Buffer.compare(saved.get("kept")!, long)).toBe(0);
  expect(Buffer.compare(saved.get("last")!, long.subarray(5))).toBe(0);
  expect(saved.len()).toBe(2);
  expect(saved.listNamespaces()).toEqual([]);
  expect((await saved.verify()).problems).toEqual([]);
  await saved.close();
});

test("a page that the disk cannot read costs only the records in it", async () => {
  using folder = temporaryFolder();
  using maker = temporaryFolder();
  const path = maker.file("big.emdb");
  const db = Emdb.open(path);
  for (let index = 0; index < 1000; index += 1) db.insert(`key ${index}`, `value ${index}`.repeat(5));
  await db.close();
  const calls = unreadable("data.emdb", (from, to) => from < 16_384 && to > 12_288);
  const { recoveredRecords, lostRanges } = await rescue(folder, new Uint8Array(readFileSync(path)), calls);
  expect(recoveredRecords).toBeGreaterThan(900);
  expect(recoveredRecords).toBeLessThan(1000);
  expect(lostRanges.length).toBe(1);
  expect(lostRanges[0]!.bytes).toBeLessThan(4096 + 300);
});

test("a header page that the system refuses to read is EMDB_IO, and not damage", async () => {
  using folder = temporaryFolder();
  let source = -1;
  const calls: Partial<System> = {
    open(name, mode) {
      const handle = hostSystem().open(name, mode);
      if (name.endsWith("data.emdb") && mode === "read") source = handle;
      return handle;
    },
    read: (file, into, span) =>
      file === source && span.position === 0 ? -Errno.EINVAL : hostSystem().read(file, into, span),
  };
  const refused: unknown = await rescue(folder, story.closed, calls).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "EMDB_IO", syscall: "pread" });
  expect(readdirSync(folder.path)).toEqual(["data.emdb"]);
});

const refusals: readonly {
  readonly what: string;
  readonly code: string;
  readonly prepare: (folder: TemporaryFolder, path: string) => string | Promise<string>;
}[] = [
  {
    what: "itself by another spelling",
    code: "EMDB_INVALID_CONFIG",
    prepare: (f) => `${f.path}/./../${f.path.split(/[\\/]/).at(-1)}/link.emdb`,
  },
  {
    what: "itself by a hard link",
    code: "EMDB_INVALID_CONFIG",
    prepare: (f, path) => (linkSync(path, f.file("hard.emdb")), f.file("hard.emdb")),
  },
  {
    what: "a file that exists",
    code: "EMDB_INVALID_CONFIG",
    prepare: (f) => (writeFileSync(f.file("other"), "x"), f.file("other")),
  },
  {
    what: "a place in a folder that does not exist",
    code: "EMDB_NOT_FOUND",
    prepare: (f) => f.file("none/saved.emdb"),
  },
];

test.each(refusals)("the target may not be $what", async ({ code, prepare }) => {
  if (process.platform === "win32") return;
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  writeFileSync(path, story.closed);
  symlinkSync(path, folder.file("link.emdb"));
  const target = await prepare(folder, path);
  const names = readdirSync(folder.path).sort();
  const error = await Emdb.salvage(path, target).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code });
  expect(readdirSync(folder.path).sort()).toEqual(names);
});

test("a file that is no database, is missing, is open, is from the future, or has no header is refused by its code", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  const codeOf = async (): Promise<unknown> => {
    const error = await Emdb.salvage(path, target).catch((thrown: unknown) => thrown);
    expect(readdirSync(folder.path).filter((name) => name.startsWith("saved"))).toEqual([]);
    return (error as { code: unknown }).code;
  };
  expect(await codeOf()).toBe("EMDB_NOT_FOUND");
  writeFileSync(path, "a text file\n".repeat(1000));
  expect(await codeOf()).toBe("EMDB_NOT_A_DATABASE");
  const bytes = story.closed.slice();
  bytes.fill(0, 0, 4096);
  writeFileSync(path, bytes);
  expect(await codeOf()).toBe("EMDB_CORRUPTED");
  // What begins as a log is one, and damaged.
  const damaged = story.closed.slice();
  damaged.fill(0xa5, 12, 4096);
  writeFileSync(path, damaged);
  expect(await codeOf()).toBe("EMDB_CORRUPTED");
  const future = story.closed.slice();
  future[8] = 7;
  writeFileSync(path, future);
  expect(await codeOf()).toBe("EMDB_VERSION");
  writeFileSync(path, story.closed);
  const db = Emdb.open(path);
  expect(await codeOf()).toBe("EMDB_LOCKED");
  await db.close();
});

test("an abort and a full disk leave nothing beside the target, and what has the name of the draft stays", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  const db = Emdb.open(path);
  for (let index = 0; index < 50; index += 1) db.insert(`key ${index}`, new Uint8Array(100_000).fill(index));
  await db.close();
  const names = readdirSync(folder.path).sort();
  const abort = new AbortController();
  const told: number[] = [];
  const onProgress = ({ done }: { readonly done: number }): void => {
    told.push(done);
    if (told.length === 3) abort.abort();
  };
  const aborted = await Emdb.salvage(path, target, { signal: abort.signal, onProgress }).catch(
    (error: unknown) => error,
  );
  expect(aborted).toMatchObject({ code: "EMDB_ABORTED" });
  expect(readdirSync(folder.path).sort()).toEqual(names);

  let room = 3_000_000;
  const system = systemWith({
    allocate: (_file, bytes) => (bytes > room ? -Errno.ENOSPC : -Errno.EOPNOTSUPP),
    write(file, from, span) {
      if (span.position + span.bytes > room) return -Errno.ENOSPC;
      return hostSystem().write(file, from, span);
    },
  });
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const request = { path, target, encryption: undefined };
  const full = await salvageFile(environment, request, {}).catch((error: unknown) => error);
  expect(full).toMatchObject({ code: "EMDB_FULL" });
  expect(readdirSync(folder.path).sort()).toEqual(names);
  room = Infinity;

  const taken = ["", "-1.lock", "-2.hint"].map((ending) => `saved.emdb.emdb-salvage${ending}`);
  for (const name of taken) writeFileSync(folder.file(name), "left by a crash, or another's");
  expect(await salvageFile(environment, request, {})).toEqual({ recoveredRecords: 50, lostRanges: [] });
  expect(readdirSync(folder.path).sort()).toEqual([...names, "saved.emdb", ...taken].sort());
  for (const name of taken) expect(readFileSync(folder.file(name), "utf8")).toStartWith("left by");
});

test("what was salvaged is a database like any other", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const bytes = story.closed.slice();
  bytes.fill(0, frames[6]!.start, frames[6]!.start + 10);
  writeFileSync(path, bytes);
  const target = folder.file("saved.emdb");
  await Emdb.salvage(path, target);
  const saved = Emdb.open(target);
  expect((await saved.verify()).problems).toEqual([]);
  saved.insert("more", "writes");
  const state = stateOf(saved);
  await saved.close();
  expectOpens(target, new Uint8Array(readFileSync(target)), state);
});
