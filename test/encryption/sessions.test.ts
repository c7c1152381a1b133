/** The sessions of a log: one for each open that writes, found again from the newest one back. */

import { expect, spyOn, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { FrameSealer } from "../../src/crypto/frame-sealer.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb, EmdbError } from "../../src/index.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";
import { fastFolder } from "../engine/fixture.ts";
import { framesOf, placeAt, repair } from "./attack-fixture.ts";
import { emulator } from "../support/platform.ts";
import { KEY, openWith } from "./rekey-fixture.ts";

const SECRET = { key: KEY };
const KIND_SESSION = 10;

function sessionsIn(path: string): number {
  const file = readFileSync(path);
  const records = framesOf(file).filter(({ lsn }) => (file[lsn + 8]! & 15) === KIND_SESSION);
  // Two for each, side by side.
  for (let index = 0; index < records.length; index += 2)
    expect(records[index + 1]!.lsn).toBe(records[index]!.lsn + 88);
  return records.length / 2;
}

test("an open that only reads begins none, and leaves the file as it was", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  {
    using db = openWith(path, SECRET);
    db.insert("k", "v");
  }
  const before = readFileSync(path);
  {
    using db = openWith(path, SECRET);
    expect(db.getText("k")).toBe("v");
    db.remove("not there");
  }
  expect(readFileSync(path).equals(before)).toBe(true);
  expect(sessionsIn(path)).toBe(1);
});

test("a log that a crash cut behind the first record of its only session has no dead bytes, and not fewer", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  {
    using db = openWith(path, SECRET);
    db.insert("k", "v");
  }
  const file = readFileSync(path);
  rmSync(`${path}.hint`);
  writeFileSync(path, file.subarray(0, framesOf(file)[1]!.lsn));
  for (const readOnly of [true, false]) {
    using db = Emdb.open(path, { encryption: SECRET, readOnly });
    expect(db.stats()).toMatchObject({ liveRecords: 0, deadBytes: 0 });
  }
});

test("each open that writes begins one, and records of all of them are read, with the image and without", async () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const count = 150;
  for (let index = 0; index < count; index++) {
    using db = openWith(path, SECRET);
    db.insert(`key ${index}`, `value ${index}`);
    if (index % 10 === 0) db.insert("overwritten", `in ${index}`);
  }
  expect(sessionsIn(path)).toBe(count);
  for (const hasImage of [true, false]) {
    if (!hasImage) rmSync(`${path}.hint`);
    using db = openWith(path, SECRET);
    expect(db.recovery.usedCheckpoint).toBe(hasImage);
    // The newest one, the oldest one, one in the middle: each needs another session.
    for (const index of [count - 1, 0, 77, 3]) expect(db.getText(`key ${index}`)).toBe(`value ${index}`);
    expect(db.len()).toBe(count + 1);
    expect([...db].length).toBe(count + 1);
    expect(db.getText("overwritten")).toBe("in 140");
    expect((await db.verify()).problems).toEqual([]);
  }
  {
    await using db = openWith(path, SECRET);
    await db.compact();
    expect(db.len()).toBe(count + 1);
  }
  // That of the copy, and that of the close's mark.
  expect(sessionsIn(path)).toBe(2);
}, 60_000);

test("no flipped bit of a session's two records costs any other record, with the image and in salvage", async () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const lives = 3;
  for (let life = 0; life < lives; life++) {
    using db = openWith(path, SECRET);
    for (let index = 0; index < 20; index++) db.insert(`${life} ${index}`, `value ${index}`);
  }
  const file = readFileSync(path);
  const records = framesOf(file).filter(({ lsn }) => (file[lsn + 8]! & 15) === KIND_SESSION);
  expect(records.length).toBe(2 * lives);
  const step = emulator === undefined ? 1 : 97;
  // The image knows the last session, and looks in the log whether that is there; the ones before it are read from the log.
  for (const { lsn, bytes } of records) {
    for (let bit = 0; bit < bytes * 8; bit += step) {
      const flipped = Uint8Array.from(file);
      flipped[lsn + (bit >> 3)]! ^= 1 << (bit & 7);
      writeFileSync(path, flipped);
      using db = Emdb.open(path, { encryption: SECRET, readOnly: true });
      expect(db.recovery.usedCheckpoint).toBe(true);
      for (let life = lives - 1; life >= 0; life--) {
        if (db.getText(`${life} 7`) !== "value 7") throw new Error(`life ${life} is lost by bit ${bit} at ${lsn}`);
      }
    }
  }
  for (const [index, { lsn, bytes }] of records.entries()) {
    for (let bit = index; bit < bytes * 8; bit += 53 * step) {
      const flipped = Uint8Array.from(file);
      flipped[lsn + (bit >> 3)]! ^= 1 << (bit & 7);
      writeFileSync(path, flipped);
      const target = folder.file(`salvaged ${lsn} ${bit}.emdb`);
      const report = await Emdb.salvage(path, target, { encryption: SECRET });
      expect(report.recoveredRecords).toBe(20 * lives);
      expect(report.lostRanges).toEqual([{ offset: lsn, bytes: 88 }]);
    }
  }
}, 120_000);

test("a session both of whose records are damaged costs its own records in salvage, and none of a session behind it", async () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  for (let life = 0; life < 3; life++) {
    using db = openWith(path, SECRET);
    for (let index = 0; index < 20; index++) db.insert(`${life} ${index}`, `value ${index}`);
  }
  const file = new Uint8Array(readFileSync(path));
  const records = framesOf(readFileSync(path)).filter(({ lsn }) => (file[lsn + 8]! & 15) === KIND_SESSION);
  for (const { lsn } of records.slice(2, 4)) file[lsn + 40]! ^= 1;
  writeFileSync(path, file);
  const target = folder.file("salvaged.emdb");
  const report = await Emdb.salvage(path, target, { encryption: SECRET });
  expect(report.recoveredRecords).toBe(40);
  expect(report.lostRanges).toEqual([{ offset: records[2]!.lsn, bytes: records[4]!.lsn - records[2]!.lsn }]);
  using saved = openWith(target, SECRET);
  expect([0, 1, 2].map((life) => saved.getText(`${life} 7`))).toEqual(["value 7", undefined, "value 7"]);
});

test("who reads beside the writer sees its moment, whatever is written and compacted after it", async () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  await using db = openWith(path, SECRET);
  for (let index = 0; index < 100; index++) db.insert(`key ${index}`, "before");
  db.flushSync();
  using reader = Emdb.open(path, { encryption: SECRET, readOnly: true });
  for (let index = 0; index < 100; index++) db.insert(`key ${index}`, "after");
  db.flushSync();
  expect(reader.getText("key 7")).toBe("before");
  await db.compact();
  expect(reader.getText("key 99")).toBe("before");
  expect(reader.len()).toBe(100);
  expect([...reader.values()].every((value) => Buffer.from(value).toString() === "before")).toBe(true);
  expect((await reader.verify()).problems).toEqual([]);
});

test("no record is opened twice by an open that replays the log, for reading and for writing", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const count = 90;
  {
    using db = openWith(path, SECRET);
    const entries = Array.from({ length: count }, (_, index): [string, string] => [`key ${index}`, "value"]);
    db.insertMany(entries);
  }
  for (const readOnly of [true, false]) {
    rmSync(`${path}.hint`, { force: true });
    using opened = spyOn(FrameSealer.prototype, "openInto");
    using db = Emdb.open(path, { encryption: SECRET, readOnly });
    expect(db.recovery.usedCheckpoint).toBe(false);
    expect(db.len()).toBe(count);
    expect(opened.mock.calls.length).toBeGreaterThanOrEqual(count);
    // The last of the batch once more to learn whether it was taken back, and marks.
    expect(opened.mock.calls.length).toBeLessThan(count + 6);
  }
});

test("an open for reading takes nothing of a forged batch back through the map: it begins anew", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  {
    using db = openWith(path, SECRET);
    db.insert("before", "value");
    db.insertMany(["b1", "b2", "b3"].map((key): [string, string] => [key, "value"]));
  }
  rmSync(`${path}.hint`);
  const sound = new Uint8Array(readFileSync(path));
  const frames = framesOf(sound);
  const batch = frames.filter(({ lsn }) => placeAt(sound, lsn) !== 0);
  const forged = sound.slice(0, batch[2]!.lsn + batch[2]!.bytes);
  forged[batch[1]!.lsn + 40]! ^= 1;
  repair(forged, batch[1]!.lsn);
  const look = (file: Uint8Array, readOnly: boolean): { readonly opens: number; readonly records: number } => {
    writeFileSync(path, file);
    let opens = 0;
    const system = faulty(hostSystem(), (call) => {
      if (call === "open") opens += 1;
      return undefined;
    });
    using fixture = new EngineFixture(path, system, { encryption: SECRET, readOnly, createIfMissing: false });
    return { opens, records: fixture.engine.count(fixture.engine.defaultSpace) };
  };
  const whole = look(sound, true);
  expect(whole.records).toBe(4);
  expect(look(forged, true)).toEqual({ opens: 2 * whole.opens, records: 1 });
});

test("a value longer than the ring's frames is sealed and read like any other", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const value = new Uint8Array(5_000_000).map((_, index) => (index * 31) % 256);
  {
    using db = openWith(path, SECRET);
    db.insert("long", value);
    db.insert("edge", value.subarray(0, 1024 * 1024 - 48));
    expect(Buffer.compare(db.get("long")!, value)).toBe(0);
  }
  rmSync(`${path}.hint`);
  using db = openWith(path, SECRET);
  expect(Buffer.compare(db.get("long")!, value)).toBe(0);
  expect(db.get("edge")!.length).toBe(1024 * 1024 - 48);
});

test("where there is room for one record of a session, that one does; any other failure is told", async () => {
  using folder = fastFolder();
  const failures = [new EmdbError("EMDB_FULL", "no room"), new Error("a bug")];
  for (const [index, failure] of failures.entries()) {
    const path = folder.file(`${index}.emdb`);
    {
      using fixture = new EngineFixture(path, hostSystem(), { encryption: SECRET });
      const { engine } = fixture;
      const { tail } = engine.core;
      const place = tail.place.bind(tail);
      let calls = 0;
      tail.place = (bytes) => {
        calls += 1;
        if (calls === 2) throw failure;
        return place(bytes);
      };
      const write = (): void => engine.insert(engine.defaultSpace, "k", "v", 0);
      if (failure instanceof EmdbError) write();
      else expect(write).toThrow("a bug");
      engine.insert(engine.defaultSpace, "k", "v", 0);
    }
    rmSync(`${path}.hint`);
    await using db = openWith(path, SECRET);
    expect(db.getText("k")).toBe("v");
    expect((await db.verify()).problems).toEqual([]);
  }
});

test("a session of which a dead writer wrote one record is taken from the log, not from what was refused there before", async () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const fail = (error: Error) => (): never => {
    throw error;
  };
  {
    using fixture = new EngineFixture(path, hostSystem(), { encryption: SECRET });
    const { engine, opened } = fixture;
    const victim = attachTo({ system: hostSystem(), defer: () => undefined, hasWorkers: false }, opened.base);
    const write = (of: typeof engine): void => of.insert(of.defaultSpace, "k", "v", 0);
    using full = spyOn(engine.core.tail, "place").mockImplementation(fail(new EmdbError("EMDB_FULL", "no room")));
    expect(() => write(engine)).toThrow("no room");
    full.mockRestore();
    const { tail, vault } = victim.engine.core;
    const place = tail.place.bind(tail);
    using placed = spyOn(tail, "place")
      .mockImplementationOnce(place)
      .mockImplementation(fail(new Error("dead")));
    using entered = spyOn(vault!, "enter").mockImplementation(fail(new Error("dead")));
    expect(() => write(victim.engine)).toThrow("dead");
    expect(placed).toHaveBeenCalledTimes(2);
    expect(entered).toHaveBeenCalled();
    write(engine);
    victim.leave();
  }
  rmSync(`${path}.hint`);
  await using db = openWith(path, SECRET);
  expect(db.getText("k")).toBe("v");
  expect((await db.verify()).problems).toEqual([]);
});

test("who reads beside a writer sees the batches of all sessions since the image, after deaths between them", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  let records = 0;
  /** One life of a writer, of which a crash right behind its flush keeps the file, and the image of the life before. */
  const live = (isFirst: boolean): void => {
    const db = openWith(path, SECRET);
    db.insertMany(Array.from({ length: 20 }, () => [`key ${records++}`, "value"] as const));
    for (let index = 0; index < 20; index++) db.insert(`key ${records++}`, "value");
    db.flushSync();
    const [file, image] = [readFileSync(path), isFirst ? undefined : readFileSync(`${path}.hint`)];
    db.closeSync();
    if (image === undefined) return;
    writeFileSync(path, file);
    writeFileSync(`${path}.hint`, image);
  };
  live(true);
  for (let life = 0; life < 3; life++) live(false);
  using reader = Emdb.open(path, { readOnly: true, encryption: SECRET });
  expect(reader.recovery).toMatchObject({ usedCheckpoint: true, tornBytes: 0, replayedRecords: 120 });
  expect(reader.len()).toBe(records);
  expect(reader.getText(`key ${records - 1}`)).toBe("value");
});

test("a log of several sessions whose image has rotted is read from its beginning, as if no session of it were known", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const SESSIONS = 3;
  for (let session = 0; session < SESSIONS; session++) {
    using db = openWith(path, SECRET);
    for (let index = 0; index < 40; index++) db.insert(`key ${session} ${index}`, `value ${session}`);
  }
  expect(sessionsIn(path)).toBe(SESSIONS);
  const [log, image] = [readFileSync(path), readFileSync(`${path}.hint`)];
  let rotten = 0;
  for (let at = 0; at < image.length; at += image.length >> 5) {
    writeFileSync(path, log);
    writeFileSync(
      `${path}.hint`,
      image.map((byte, index) => (index === at ? byte ^ 1 : byte)),
    );
    {
      using db = openWith(path, SECRET);
      rotten += db.recovery.usedCheckpoint ? 0 : 1;
      expect([at, db.len(), db.getText("key 0 0")]).toEqual([at, 40 * SESSIONS, "value 0"]);
      db.insert("more", "in a session behind all of them");
    }
    using db = Emdb.open(path, { readOnly: true, encryption: SECRET });
    expect([at, db.len(), db.getText("key 2 39")]).toEqual([at, 40 * SESSIONS + 1, "value 2"]);
  }
  expect(rotten).toBeGreaterThan(25);
});
