/** Records that lie side by side in the log are brought into the cache as one piece, of which nothing is behind the log. */

import { closeSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { expect, test } from "bun:test";
import { openMemory } from "../../src/engine/open/open.ts";
import { FRAMES_MAX } from "../../src/engine/read/frame-batch.ts";
import { RecordList } from "../../src/engine/read/record-batches.ts";
import { readPart } from "../../src/engine/read/record-walk.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { addressOf, copy } from "../../src/ffi/memory.ts";
import { Emdb } from "../../src/index.ts";
import { FRAME_HEADER_BYTES, WORD_VALUE_BYTES } from "../../src/log/frame.ts";
import { EngineFixture } from "./engine-fixture.ts";
import { CONFIG } from "./open-engine.ts";
import { expectCode, fastFolder } from "./fixture.ts";

const PAGE_BYTES = 4096;

const LENGTHS = [...Array.from({ length: 9 }, () => 470), 1];

/** Ten records, the last one short, behind one of some bytes; how long the file is then. */
function write(path: string, bytesBefore: number): number {
  const db = Emdb.open(path, { rangeScans: true });
  db.insert("before", new Uint8Array(bytesBefore));
  db.insertMany(LENGTHS.map((bytes, index) => [`key ${index}`, new Uint8Array(bytes).fill(index)] as const));
  db.closeSync();
  return statSync(path).size;
}

test("a range whose last record is the log's last reads nothing behind the file", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const missing = PAGE_BYTES - (write(folder.file("first.emdb"), 8) % PAGE_BYTES);
  expect(write(path, 8 + missing) % PAGE_BYTES).toBe(0);
  using db = Emdb.open(path, { readOnly: true, rangeScans: true });
  const all = [...db.range({ gt: "before", limit: 10 })];
  expect(all.map(([key]) => new TextDecoder().decode(key))).toEqual(LENGTHS.map((_, index) => `key ${index}`));
  expect(all.map(([, value]) => [value.length, value[0]!])).toEqual(LENGTHS.map((length, index) => [length, index]));
  expect([...db.range({ gt: "before", reverse: true, limit: 10 })]).toEqual(all.toReversed());
});

test("a record that says that it reaches beyond the log is told as damage, and not read", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  write(path, 8);
  const at = readFileSync(path).indexOf("key 9") - FRAME_HEADER_BYTES + WORD_VALUE_BYTES * 4;
  // As many bytes as there are in the page, more than there are in the file, and more than any record has.
  for (const bytes of [1000, 1 << 20, 0x9000_0000]) {
    using db = Emdb.open(path, { readOnly: true, rangeScans: true });
    const before = [...db.range({ gt: "before", limit: 10 })];
    expect(before).toHaveLength(10);
    const file = openSync(path, "r+");
    writeSync(file, new Uint8Array(Uint32Array.of(bytes).buffer), 0, 4, at);
    for (const reverse of [false, true])
      expectCode("EMDB_CORRUPTED", () => db.range({ gt: "before", limit: 10, reverse }).toArray());
    expect([...db.range({ gt: "before", limit: 9 })]).toEqual(before.slice(0, 9));
    writeSync(file, Uint8Array.of(1, 0, 0, 0), 0, 4, at);
    closeSync(file);
  }
});

test("a long record behind short ones, or alone, is counted as one", () => {
  using folder = fastFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { rangeScans: true });
  const { engine, sync } = fixture;
  const lengths = [1, 100, 4000, 5000, 300_000];
  const positions: number[] = [];
  for (const length of lengths) {
    positions.push(engine.core.visible / 8);
    engine.insert(engine.defaultSpace, `key ${length}`, new Uint8Array(length), 0);
  }
  sync.flush();
  const moment = { lsn: engine.core.present(), now: undefined };
  for (const count of [1, 3]) {
    for (let last = count - 1; last < lengths.length; last++) {
      const list = new RecordList();
      const units = Float64Array.from(positions.slice(last - count + 1, last + 1));
      expect(readPart(engine.core, list, { units, from: 0, count, moment, wanted: "pairs" })).toBe(count);
      expect(list.pairs.map(([, value]) => value.length)).toEqual(lengths.slice(last - count + 1, last + 1));
      expect(list.longBytes > 0).toBe(lengths[last] === 300_000);
    }
  }
});

test("the same of a record in a log that a compaction has replaced, which somebody still reads", () => {
  const config = { ...CONFIG, rangeScans: true };
  const opened = openMemory({ system: hostSystem(), defer: (work) => setImmediate(work), hasWorkers: false }, config);
  const { engine, compaction, work } = opened;
  const { core } = engine;
  // Far from each other: each is found by itself.
  const units = new Float64Array(FRAMES_MAX);
  const other = engine.spaceNamed("between");
  for (let index = 0; index < 50; index++) {
    engine.insert(other, `${index}`, new Uint8Array(3000), 0);
    if (index < 30) units.fill(core.visible / 8, 2 * index);
    engine.insert(engine.defaultSpace, `key ${index + 10}`, Uint8Array.of(index), 0);
  }
  const last = core.visible - FRAME_HEADER_BYTES - 8;
  // What is known of the places of frames is then of the log in service, and of those that stand early in it.
  const moment = { lsn: core.present(), now: undefined };
  readPart(core, new RecordList(), { units, from: 0, count: FRAMES_MAX, moment, wanted: "pairs" });
  const before = engine.range(engine.defaultSpace, { isReverse: false });
  for (let index = 0; index < 5; index++) before.pull();
  expect(work.tryTake()).toBe(true);
  for (const steps of [compaction.copySteps(), compaction.relocationSteps()]) for (const _ of steps);
  work.give();
  expect(core.log.segments.list()).toHaveLength(1);
  copy(core.log.at(last) + WORD_VALUE_BYTES * 4, addressOf(new Uint8Array(Uint32Array.of(1000).buffer)), 4);
  const values: (number | undefined)[] = [];
  expectCode("EMDB_CORRUPTED", () => {
    for (let record = before.pull(); record !== undefined; record = before.pull()) values.push(record.value[0]);
  });
  expect(values).toEqual(Array.from({ length: 44 }, (_, index) => index + 5));
  opened.leave();
});
