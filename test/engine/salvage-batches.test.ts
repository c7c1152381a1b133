/** Salvage of damaged batches: every frame, alone and with those behind it, in header and body, against the rules written down plainly. */

import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { salvageFile } from "../../src/engine/salvage/salvage.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import * as format from "../../src/log/frame.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { emulator } from "../support/platform.ts";
import { removeTree, temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { LATER_MS, fastFolder, stateOf, type Step } from "./fixture.ts";
import { openFile } from "./open-engine.ts";
import { giveUpBatch, systemWith, unreadable } from "./verify-frames.ts";

setDefaultTimeout(240_000);
const PAIR_STRIDE = emulator === undefined ? 1 : 11;
/** Salvage judges bytes that it has read: an emulator takes a third of the frames, and the first of each kind. */
const STRIDE = emulator === undefined ? 1 : 3;
const BLOCK_BYTES = 4096;

const STEPS: readonly Step[] = [
  (db) => db.insert("a", "first"),
  (db) => db.insert("b", "first"),
  (db) =>
    db.transaction((tx) => {
      tx.insert("a", "second");
      tx.remove("b");
      tx.namespace("made").insert("x", "in made", { expiresAtMs: LATER_MS });
      tx.insert("c", "a value that is somewhat longer than the others are");
      tx.namespace("made").insert("y", "too");
    }),
  (db) => db.insertMany(["a", "b", "d"].map((key): [string, string] => [key, `third ${key}`])),
  (db) => db.namespace("made").insert("x", "replaced"),
  (db) => void db.removeMany(["c", "d"]),
  (db) => db.namespace("short").insert("x", "in short"),
  (db) => void db.namespace("short").remove("x"),
  (db) =>
    db.transaction((tx) => {
      tx.insert("e", "1");
      tx.insert("a", "fourth");
      tx.remove("nothing");
    }),
  (db) => db.namespace("made").clear(),
  (db) => db.namespace("made").insertMany(["z", "x"].map((key): [string, string] => [key, `after ${key}`])),
  (db) => void db.dropNamespace("made"),
  (db) => db.transaction((tx) => tx.namespace("made").insert("x", "again")),
  (db) => db.insert("f", "last"),
  (db) => db.insertMany(["a", "g", "h", "i"].map((key): [string, string] => [key, `fifth ${key}`])),
];

/** A frame of the sound log. Of an encrypted log, what it says is taken from the same frame of the plain one. */
interface Frame {
  readonly start: number;
  readonly end: number;
  readonly bodyBytes: number;
  readonly place: number;
  readonly kind: number;
  readonly space: number;
  readonly key: Buffer;
  readonly value: Buffer;
  readonly expiresAtMs: number;
}

/** Every frame of a log but the mark at its end, by its lengths alone. */
function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let start = HEADER_PAGE_BYTES; start + 24 <= bytes.length;) {
    const [shape, valueBytes] = [bytes.readUInt32LE(start + 8), bytes.readUInt32LE(start + 12)];
    const bodyBytes = format.bodyBytes(shape, valueBytes);
    const [end, bodyEnd] = [start + format.frameBytes(shape, valueBytes), start + 24 + bodyBytes];
    const extension = start + 24 + (shape >>> 16);
    frames.push({
      start,
      end,
      bodyBytes,
      place: format.placeOf(shape),
      kind: format.kindOf(shape),
      space: bytes.readUInt16LE(start + 22),
      key: bytes.subarray(start + 24, extension),
      value: bytes.subarray(bodyEnd - valueBytes, bodyEnd),
      expiresAtMs: (shape & format.SHAPE_EXPIRY) === 0 ? 0 : Number(bytes.readBigUInt64LE(extension)),
    });
    start = end;
  }
  return frames.slice(0, -1);
}

type Damage = "header" | "body";

/** What is taken of the frames with these damages: the rules, on places alone. */
function judge(frames: readonly Frame[], damages: ReadonlyMap<number, Damage>, isSealed: boolean) {
  const taken = new Set<number>();
  const given = new Set<number>();
  let batch: number[] | undefined;
  for (const [index, { place, kind }] of frames.entries()) {
    const damage = damages.get(index);
    if (damage === "header") continue;
    if (place === format.PLACE_ALONE || place === format.PLACE_FIRST) batch = undefined;
    (batch ??= []).push(index);
    const isEnd = place === format.PLACE_ALONE || place === format.PLACE_LAST;
    const isKnown = place === format.PLACE_ALONE || damage === undefined || !isSealed;
    if (isEnd && isKnown) {
      const to = kind === format.KIND_ABORT ? given : taken;
      for (const member of batch) if (!damages.has(member)) to.add(member);
    }
    if (isEnd) batch = undefined;
  }
  return { taken, given };
}

function rangesOf(frames: readonly Frame[], isLost: (index: number) => boolean): { offset: number; bytes: number }[] {
  const ranges: { offset: number; bytes: number }[] = [];
  for (const [index, { start, end }] of frames.entries()) {
    const last = ranges.at(-1);
    if (!isLost(index)) continue;
    if (last !== undefined && last.offset + last.bytes === start) last.bytes += end - start;
    else ranges.push({ offset: start, bytes: end - start });
  }
  return ranges;
}

/** Does what frames say to Maps; an id whose creation is not among them has the name that `names` knows, or one made up. */
function replay(frames: readonly Frame[], names: ReadonlyMap<number, string>) {
  const spaces = new Map<number, { name: string; records: Map<string, string> }>([
    [0, { name: "", records: new Map() }],
  ]);
  const create = (id: number, name: string): void => {
    for (const [known, space] of spaces) if (space.name === name) spaces.delete(known);
    spaces.set(id, { name, records: new Map() });
  };
  for (const { kind, space: id, key, value, expiresAtMs } of frames) {
    if (kind === format.KIND_SPACE_CREATE) create(id, key.toString());
    if (kind === format.KIND_PUT && !spaces.has(id)) create(id, names.get(id) ?? `lost-namespace-${id}`);
    const records = spaces.get(id)?.records;
    if (kind === format.KIND_PUT) records?.set(key.toString("hex"), `${value.toString("hex")}@${expiresAtMs}`);
    if (kind === format.KIND_REMOVE) records?.delete(key.toString("hex"));
    if (kind === format.KIND_CLEAR) records?.clear();
    if (kind === format.KIND_SPACE_DROP) spaces.delete(id);
  }
  const all = [...spaces.values()];
  const state = all.map(({ name, records }) => [name, [...records].map(([key, value]) => `${key}=${value}`).sort()]);
  return { recoveredRecords: all.reduce((sum, { records }) => sum + records.size, 0), state: JSON.stringify(state) };
}

const KEY = { key: new Uint8Array(32).fill(9) };

async function rescue(folder: TemporaryFolder, bytes: Uint8Array, options: OpenOptions, calls: Partial<System> = {}) {
  const [path, target] = [folder.file("damaged.emdb"), folder.file("saved.emdb")];
  writeFileSync(path, bytes);
  const system = systemWith({ sync: () => 0, syncFolder: () => 0, ...calls });
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const report = await salvageFile(environment, { path, target, encryption: options.encryption }, {});
  const db = Emdb.open(target, { ...options, readOnly: true });
  const state = stateOf(db);
  db.closeSync();
  removeTree(target);
  return { ...report, state };
}

async function logOf(steps: readonly Step[], options: OpenOptions): Promise<Buffer> {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"), options);
  for (const step of steps) step(db);
  await db.close();
  return readFileSync(folder.file("data.emdb"));
}

describe.each([
  { name: "plain", options: {} },
  { name: "encrypted", options: { encryption: KEY } },
])("of a $name log", ({ name, options }) => {
  const isSealed = name === "encrypted";
  let log: Buffer;
  let frames: Frame[];

  beforeAll(async () => {
    log = await logOf(STEPS, options);
    const said = framesOf(isSealed ? await logOf(STEPS, {}) : log);
    // An encrypted log begins with a session's two records.
    const spans = framesOf(log).slice(isSealed ? 2 : 0);
    frames = said.map((frame, index) => {
      const { start, end, bodyBytes, place } = spans[index]!;
      return { ...frame, start, end, bodyBytes, place };
    });
    expect(spans.map(({ place }) => place)).toEqual(said.map(({ place }) => place));
    expect(new Set(said.map(({ kind }) => kind)).size).toBe(6);
  });

  /** With these frames damaged, and all of it or what is left of it when it ends behind so many frames, and zeros behind it. */
  async function check(
    folder: TemporaryFolder,
    damages: ReadonlyMap<number, Damage>,
    { count = frames.length, reservedBytes = 0 } = {},
  ): Promise<void> {
    const left = frames.slice(0, count);
    const whole = count < frames.length ? log.subarray(0, left.at(-1)!.end) : log;
    const bytes = new Uint8Array(whole.length + reservedBytes);
    bytes.set(whole);
    for (const [index, damage] of damages) bytes[left[index]!.start + (damage === "header" ? 1 : 24)]! ^= 4;
    const { taken } = judge(left, damages, isSealed);
    const names = new Map<number, string>();
    for (const [index, { kind, space, key }] of left.entries()) {
      if (kind === format.KIND_SPACE_CREATE && !damages.has(index)) names.set(space, key.toString());
    }
    const case_ = { damages: [...damages], count, reservedBytes };
    const expected = {
      ...case_,
      lostRanges: rangesOf(left, (index) => !taken.has(index)),
      ...replay(
        left.filter((_, index) => taken.has(index)),
        names,
      ),
    };
    expect({ ...case_, ...(await rescue(folder, bytes, options)) }).toEqual(expected);
  }

  const kindsFor = (index: number): Damage[] => (frames[index]!.bodyBytes === 0 ? ["header"] : ["header", "body"]);

  /** Indexes of frames. */
  const sampled = (): number[] => {
    const kinds = new Set<number>();
    return [...frames.keys()].filter((index) => {
      const { kind } = frames[index]!;
      const isFirst = !kinds.has(kind);
      kinds.add(kind);
      return isFirst || index % STRIDE === 0;
    });
  };

  test("each frame, damaged in header or body, costs itself, and the whole batch only as its end", async () => {
    using folder = fastFolder();
    for (const index of sampled()) {
      for (const damage of kindsFor(index)) await check(folder, new Map([[index, damage]]));
    }
  });

  test("a log that ends behind any of its frames has lost a batch without its end, and nothing else", async () => {
    using folder = fastFolder();
    for (const count of sampled().map((index) => index + 1)) {
      if (count === frames.length) continue;
      for (const reservedBytes of [0, 100_000]) {
        await check(folder, new Map(), { count, reservedBytes });
        if (frames[count - 1]!.bodyBytes > 0)
          await check(folder, new Map([[count - 1, "body"]]), { count, reservedBytes });
      }
    }
  });

  test("two damaged frames near each other cost what the rules say", async () => {
    using folder = fastFolder();
    for (let index = 0; index < frames.length; index += PAIR_STRIDE) {
      for (let other = index + 1; other < Math.min(index + 5, frames.length); other += 1) {
        for (const damage of kindsFor(index)) {
          for (const second of kindsFor(other)) {
            await check(folder, new Map([[index, damage]]).set(other, second));
          }
        }
      }
    }
  });

  test("of a batch of a hundred records one flipped bit in its middle costs one", async () => {
    using folder = fastFolder();
    const entries = Array.from({ length: 100 }, (_, index): [string, string] => [`key ${index}`, "x".repeat(40)]);
    const bytes = await logOf([(db) => db.insertMany(entries)], options);
    const { start, end } = framesOf(bytes).at(-50)!;
    bytes[start + 40]! ^= 1;
    const report = await rescue(folder, bytes, options);
    expect(report).toMatchObject({ recoveredRecords: 99, lostRanges: [{ offset: start, bytes: end - start }] });
  });

  test("a batch that was given up stays so whichever of its frames is damaged, and so does one whose abort is", async () => {
    using folder = temporaryFolder();
    const path = folder.file("given-up.emdb");
    const engine = openFile(hostSystem(), path, { encryption: options.encryption });
    engine.engine.insert(engine.engine.defaultSpace, Buffer.from("before"), Buffer.from("1"), 0);
    // As long as goes to the file at once.
    giveUpBatch(engine, "gone", 2, { valueBytes: 100_000 });
    engine.engine.insert(engine.engine.defaultSpace, Buffer.from("after"), Buffer.from("2"), 0);
    engine.leave();
    const whole = readFileSync(path);
    const spans = framesOf(whole);
    const first = spans.findIndex(({ place }) => place === format.PLACE_FIRST);
    const last = spans.findIndex(({ place }) => place === format.PLACE_LAST);
    expect(last - first).toBe(2);
    for (let index = first; index <= last; index += 1) {
      for (const at of spans[index]!.bodyBytes === 0 ? [1] : [1, 24]) {
        const bytes = Uint8Array.from(whole);
        bytes[spans[index]!.start + at]! ^= 4;
        const { lostRanges, recoveredRecords } = await rescue(folder, bytes, options);
        const [offset, end] = [spans[first]!.start, spans[last]!.end];
        expect([index, lostRanges]).toEqual([index, [{ offset, bytes: end - offset }]]);
        expect(recoveredRecords).toBe(2);
      }
    }
    expect(await rescue(folder, whole, options)).toMatchObject({ recoveredRecords: 2, lostRanges: [] });
  });
});

test("a page that the disk cannot read any more when a batch is read again costs only the records in it", async () => {
  using folder = temporaryFolder();
  const entries = Array.from({ length: 3000 }, (_, index): [string, string] => [`key ${index}`, "x".repeat(1000)]);
  const bytes = await logOf([(db) => db.insertMany(entries)], {});
  const [from, to] = [2_097_152, 2_101_248];
  let reads = 0;
  const isBad = (first: number, end: number): boolean => first < to && end > from && ++reads > 1;
  const report = await rescue(folder, bytes, {}, unreadable("damaged.emdb", isBad));
  expect(reads).toBeGreaterThan(1);
  const touched = framesOf(bytes).filter((frame) => frame.end > from && frame.start < to);
  const [first, last] = [touched[0]!, touched.at(-1)!];
  expect(report.recoveredRecords).toBe(3000 - touched.length);
  expect(report.lostRanges).toEqual([{ offset: first.start, bytes: last.end - first.start }]);
});

/** Records of a batch that is longer than what is read at a time; each takes a block of the disk. */
const BLOCKS = 600;

/** A batch of blocks, and what stands behind it. */
function logToBlock(behind: "a batch that was given up" | "reserved space"): Uint8Array {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const opened = openFile(hostSystem(), path);
  const { engine } = opened;
  const space = engine.defaultSpace;
  const gone = engine.spaceNamed("gone");
  engine.dropSpace("gone");
  const over = (engine.core.tail.end + format.FRAME_HEADER_BYTES + 8) % BLOCK_BYTES;
  engine.insert(space, "up to", "x".repeat(BLOCK_BYTES - over), 0);
  const keys = Array.from({ length: BLOCKS }, (_, index) => `key ${index}`);
  const valueOf = (key: string): string => "x".repeat(BLOCK_BYTES - format.FRAME_HEADER_BYTES - key.length);
  engine.insertMany(space, keys, keys.map(valueOf), 0);
  const end = engine.core.tail.end;
  const isGivenUp = behind === "a batch that was given up";
  const never = { value: new Uint8Array(100_000), expiresAtMs: 0 };
  if (isGivenUp)
    expect(() =>
      engine.writeBatch([
        { space, key: "given up", ...never },
        { space: gone, key: "k", ...never },
      ]),
    ).toThrow("was dropped");
  opened.leave();
  const bytes = readFileSync(path);
  if (isGivenUp) return bytes;
  const reserved = new Uint8Array(end + 100_000);
  reserved.set(bytes.subarray(0, end));
  return reserved;
}

test.each(["a batch that was given up", "reserved space"] as const)(
  "the end of a batch that cannot be read again costs its record, and takes nothing from %s behind it",
  async (behind) => {
    using folder = temporaryFolder();
    const bytes = logToBlock(behind);
    const batch = framesOf(Buffer.from(bytes)).filter(({ place }) => place !== format.PLACE_ALONE);
    const [first, last] = [batch[0]!, batch[BLOCKS - 1]!];
    expect([first.place, last.place]).toEqual([format.PLACE_FIRST, format.PLACE_LAST]);
    expect([last.start % BLOCK_BYTES, last.end - last.start]).toEqual([0, BLOCK_BYTES]);
    let isReadAgain = false;
    const isBad = (from: number, to: number): boolean => {
      if (from === first.start) isReadAgain = true;
      return isReadAgain && from < last.end && to > last.start;
    };
    const report = await rescue(folder, bytes, {}, unreadable("damaged.emdb", isBad));
    expect(report).toMatchObject({
      recoveredRecords: BLOCKS,
      lostRanges: [{ offset: last.start, bytes: BLOCK_BYTES }],
    });
  },
);
