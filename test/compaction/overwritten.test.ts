/**
 * What is overwritten and removed again while a compaction runs is left out of the compacted file, however much it is, and
 * what remains is right: a few keys over and over, with iterators and views that were taken at every stage.
 */

import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import type { Opened } from "../../src/engine/assemble.ts";
import { ABORTS } from "../../src/engine/threads/control.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { CONFIG, openFile, type Config } from "../engine/open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Life } from "./life.ts";

const RECORDS = 3000;
const HOT = 40;
/** Steps of the copy that a burst of writes comes after, and the writes of one burst to each hot key. */
const BURSTS = 60;
const TURNS = 6;
const LENGTH = 300;

/** Fills a database, and runs a compaction in which a burst of writes follows each of the first steps. */
function compactBeside(opened: Opened, burst: (index: number) => void, bursts = BURSTS): void {
  const { compaction, work } = opened;
  expect(work.tryTake()).toBe(true);
  let index = 0;
  for (const _ of compaction.copySteps()) if (index < bursts) burst(index++);
  for (const _ of compaction.relocationSteps());
  work.give();
  expect(index).toBe(bursts);
}

/** A database in a file, and what it holds. The hot keys stand first, so that they are copied before they are written again. */
function openFilled(path: string) {
  const opened = openFile(hostSystem(), path);
  const { engine } = opened;
  const space = engine.defaultSpace;
  const expected = new Map<string, string>();
  for (let hot = 0; hot < HOT; hot++) expected.set(`hot ${hot}`, "before");
  for (let key = 0; key < RECORDS; key++) expected.set(`key ${key}`, `of key ${key}`);
  engine.insertMany(space, [...expected.keys()], [...expected.values()], 0);
  return { opened, engine, space, expected };
}

/** What a database holds, as the index says and, without an image, as its log says. */
function contentsOf(opened: Opened, { path, copy }: { readonly path: string; readonly copy: string }): object[] {
  const content = ({ engine }: Opened): object => {
    const records = [...engine.snapshot(engine.defaultSpace)].map(
      ({ key, value }) => [Buffer.from(key).toString(), Buffer.from(value).toString()] as const,
    );
    expect(engine.count(engine.defaultSpace)).toBe(records.length);
    for (const [key, value] of records) {
      const got = engine.get(engine.defaultSpace, key);
      if (got === undefined || Buffer.from(got).toString() !== value)
        throw new Error(`${key} is not what a walk shows`);
    }
    return Object.fromEntries(records);
  };
  opened.sync?.flush();
  copyFileSync(path, copy);
  const again = openFile(hostSystem(), copy);
  const both = [content(opened), content(again)];
  again.leave();
  return both;
}

const logBytes = ({ engine }: Opened): number => engine.core.visible - engine.core.base;

test("a loop that overwrites, counts in batches, and queues makes the compacted log no longer", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { opened, engine, space, expected } = openFilled(path);
  const insert = (key: string, value: string): void => {
    engine.insert(space, key, value, 0);
    expected.set(key, value);
  };
  const remove = (key: string): void => {
    engine.remove(space, key);
    expected.delete(key);
  };
  let written = 0;
  compactBeside(opened, (burst) => {
    const value = `${burst} `.padEnd(LENGTH, "v");
    for (let turn = 0; turn < TURNS; turn++) {
      for (let hot = 0; hot < HOT; hot++) {
        insert(`hot ${hot}`, `${turn} ${value}`);
        if (turn % 2 === 1) remove(`hot ${hot}`);
        else if (turn === 2) {
          const writes = [`hot ${hot}`, `twin ${hot}`].map((key) => ({ space, key, value, expiresAtMs: 0 }));
          engine.writeBatch(writes);
          for (const { key } of writes) expected.set(key, value);
        }
        insert(`job ${burst} ${turn} ${hot}`, value);
        remove(`job ${burst} ${turn} ${hot}`);
        written += 2 * LENGTH;
      }
    }
    // Of what was copied long before some is changed once, some again and again, some removed and some of that written again.
    remove(`key ${burst * 20}`);
    remove(`key ${burst * 20 + 1}`);
    insert(`key ${burst * 20 + 1}`, value);
    for (let key = 0; key <= burst * 20; key += 20) {
      insert(`key ${key + 2}`, value);
      insert(`key ${key + 3}`, value);
      if (burst % 3 !== 0) remove(`key ${key + 3}`);
    }
  });
  expect(written).toBeGreaterThan(8_000_000);
  expect(logBytes(opened)).toBeLessThan(400_000);
  const all = Object.fromEntries(expected);
  for (const content of contentsOf(opened, { path, copy: folder.file("copy.emdb") })) expect(content).toEqual(all);
  opened.leave();
});

test("a removal of a batch that was taken back while the compaction ran is in no file", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { opened, engine, space, expected } = openFilled(path);
  const gone = engine.spaceNamed("gone");
  engine.dropSpace("gone");
  const long = "long".padEnd(2_000_000, "l");
  const aborts = engine.core.control.flags[ABORTS]!;
  const abortsBursts = 30;
  compactBeside(
    opened,
    (burst) => {
      for (let hot = 0; hot < HOT; hot++) engine.insert(space, `hot ${hot}`, `${burst}`.padEnd(LENGTH, "v"), 0);
      if (burst > 12) return;
      // The long value has reached the file by the time that the batch fails, so an abort has to follow.
      const removals = Array.from({ length: 20 }, (_, index) => `key ${burst * 100 + index}`);
      const writes = [
        ...removals.map((key) => ({ space, key, value: undefined, expiresAtMs: 0 })),
        { space, key: `long ${burst}`, value: long, expiresAtMs: 0 },
        { space: gone, key: "k", value: "v", expiresAtMs: 0 },
      ];
      expect(() => engine.writeBatch(writes)).toThrow();
    },
    abortsBursts,
  );
  expect(engine.core.control.flags[ABORTS]! - aborts).toBe(13);
  for (let hot = 0; hot < HOT; hot++) expected.set(`hot ${hot}`, `${abortsBursts - 1}`.padEnd(LENGTH, "v"));
  const all = Object.fromEntries(expected);
  for (const content of contentsOf(opened, { path, copy: folder.file("copy.emdb") })) expect(content).toEqual(all);
  opened.leave();
});

test.each(["is written", "is taken back"])(
  "what a batch removes and writes again at once, and %s, is in the file once",
  (what) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const { opened, engine, space, expected } = openFilled(path);
    const isTaken = what === "is taken back";
    const gone = engine.spaceNamed("gone");
    engine.dropSpace("gone");
    // The long value has reached the file by the time that the batch fails, so an abort has to follow.
    const failing = [
      { space, key: "long", value: "l".repeat(2_000_000), expiresAtMs: 0 },
      { space: gone, key: "k", value: "v", expiresAtMs: 0 },
    ];
    const bursts = 6;
    compactBeside(
      opened,
      (burst) => {
        const key = `hot ${burst}`;
        const written = [undefined, "again"].map((value) => ({ space, key, value, expiresAtMs: 0 }));
        if (isTaken) expect(() => engine.writeBatch([...written, ...failing])).toThrow();
        else engine.writeBatch(written);
        if (!isTaken) expected.set(key, "again");
      },
      bursts,
    );
    const all = Object.fromEntries(expected);
    for (const content of contentsOf(opened, { path, copy: folder.file("copy.emdb") })) expect(content).toEqual(all);
    opened.leave();
  },
);

test("a long value in memory that stands where one was taken back is as sound as any other", () => {
  const defer = (work: () => void): void => void setImmediate(work);
  const opened = openMemory({ system: hostSystem(), defer, hasWorkers: false }, CONFIG);
  const { engine } = opened;
  const space = engine.defaultSpace;
  const gone = engine.spaceNamed("gone");
  engine.dropSpace("gone");
  for (let length = 100_000; length < 100_016; length++) {
    const write = (key: string): void => engine.insert(space, key, "v".repeat(length), 0);
    expect(() =>
      engine.writeBatch([
        { space, key: "longer", value: "w".repeat(length + 100), expiresAtMs: 0 },
        { space: gone, key: "k", value: "v", expiresAtMs: 0 },
      ]),
    ).toThrow();
    write(`key ${length}`);
  }
  compactBeside(opened, () => {}, 0);
  expect(engine.count(space)).toBe(16);
  opened.leave();
});

const key = new Uint8Array(32).fill(9);
const ways: readonly (readonly [string, Partial<Config>])[] = [
  ["a file", {}],
  ["memory with ranges", { rangeScans: true }],
  ["an encrypted file with ranges", { encryption: { key }, cipher: "aes-256-gcm", rangeScans: true }],
];
const SEEDS = process.env["EMDB_SOAK"] !== undefined ? 200 : 1;
const FIRST = Number(process.env["EMDB_TEST_SEED"] ?? 1);

test.each(ways)(
  "a life of a few keys in %s loses, revives and changes nothing",
  (name, config) => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      using folder = temporaryFolder();
      const path = name.startsWith("memory") ? undefined : folder.file("data.emdb");
      const life = new Life(path, seed, config, { keyCount: 12 });
      for (let round = 0; round < 2; round++) {
        for (let change = life.random.below(400); change > 0; change--) life.one();
        expect(life.compact(60)).toBeGreaterThan(0);
        life.check();
        life.reopen({ hasImage: false });
        life.check();
      }
      life.end();
    }
  },
  300_000,
);
