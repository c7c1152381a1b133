/** Compactions while Workers write and read, and Workers that die while they compact or back up. */

import { tmpdir } from "node:os";
import { expect, test } from "bun:test";
import { readdirSync, truncateSync, writeFileSync } from "node:fs";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { emulator, namesOtherDevices } from "../support/platform.ts";
import { baseBefore, wrapAt } from "../support/far-positions.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineWords } from "./engine-words.ts";
import { canCount, resourcesIn } from "./resources.ts";
import { RECORDS, dieAt, expectWhole, fill } from "./die-at.ts";
import { KEYS_EACH, nameOf } from "./steady-worker.ts";
import { expectSoon } from "./soon.ts";
import { Thread } from "./thread.ts";

const TIMEOUT_MS = 600_000;
const isSoak = process.env["EMDB_SOAK"] !== undefined;
const COMPACTIONS = isSoak ? 500 : emulator === undefined ? 8 : 2;
/** Between two compactions, so that there is something to compact and somebody to be in the way of. */
const OPERATIONS_BETWEEN = emulator === undefined ? 1500 : 100;

/** What an open database keeps open. */
const OPEN = ["data.emdb", "data.emdb.lock"];

/** What is in a folder, without what Wine still shows of files that are removed and that a dead thread has open for good. */
function namesIn(folder: string): string[] {
  const names = readdirSync(folder).sort();
  return emulator === "wine" ? names.filter((name) => !name.includes("-gone")) : names;
}

const ways: readonly (readonly [string, number, OpenOptions])[] = [
  ["2 Workers", 2, {}],
  ["3 Workers with ranges", 3, { rangeScans: true }],
  ["2 Workers, encrypted", 2, { encryption: { key: new Uint8Array(32).fill(5) } }],
];

test.each(ways)(
  "compactions beside %s lose no acknowledged write, miss no record and show no part of a batch",
  async (_, threads, options) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const fresh = (): OpenOptions =>
      options.encryption === undefined ? options : { ...options, encryption: { key: new Uint8Array(32).fill(5) } };
    const db = Emdb.open(path, fresh());
    // What an index stores for positions begins anew while they work.
    await new EngineWords(db).leapTo(db, baseBefore(wrapAt(1), 1));
    const words = new Int32Array(new SharedArrayBuffer(12));
    const acknowledged = new Int32Array(new SharedArrayBuffer(4 * KEYS_EACH * threads));
    const shared = { acknowledged: acknowledged.buffer, words: words.buffer, hasRanges: options.rangeScans === true };
    const people = Array.from(
      { length: threads },
      (_unused, index) => new Thread("steady-worker.ts", { share: db.share(), index, threads, ...shared }),
    );
    const healthy = (): void => expect(people.map(({ failure }) => failure)).toEqual(people.map(() => undefined));
    const until = async (isDone: () => boolean): Promise<void> => {
      while (!isDone()) {
        healthy();
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await until(() => words[1] === threads);
    for (let count = 0; count < COMPACTIONS; count++) {
      const done = Atomics.load(words, 2);
      await until(() => Atomics.load(words, 2) >= done + OPERATIONS_BETWEEN);
      await db.compact({ inKeyOrder: options.rangeScans === true && count % 2 === 1 });
      healthy();
    }
    Atomics.store(words, 0, 1);
    for (const thread of people) expect(await thread.said()).toBe("done");
    const numbers = (now: Emdb): number[] =>
      Array.from({ length: acknowledged.length }, (_unused, key) =>
        Number.parseInt(now.getText(nameOf(key)) ?? "0", 10),
      );
    expect(numbers(db)).toEqual([...acknowledged]);
    expect((await db.verify()).problems).toEqual([]);
    for (const thread of people) await thread.kill();
    await db.compact();
    if (canCount) expect(resourcesIn(folder.path).fileNames).toEqual(OPEN);
    expect((await db.verify()).problems).toEqual([]);
    db.closeSync();
    expect(namesIn(folder.path)).toEqual(["data.emdb", "data.emdb.hint", "data.emdb.lock"]);
    using again = Emdb.open(path, fresh());
    expect(numbers(again)).toEqual([...acknowledged]);
    expect(again.len()).toBe(acknowledged.length);
  },
  TIMEOUT_MS,
);

const DEATHS = Number(process.env["EMDB_DEATHS"] ?? (isSoak ? 2000 : emulator === undefined ? 30 : 3));

interface Death {
  readonly step: number;
  readonly isOfFiles: boolean;
}

/** Every step of files, and others evenly spread. */
function deathsOf(steps: number, fileSteps: number): Death[] {
  const ofFiles = Array.from({ length: emulator === undefined ? fileSteps : 0 }, (_, index) => index + 1);
  const spread = Array.from({ length: DEATHS }, (_, index) => 1 + Math.floor(((index + 0.5) * steps) / DEATHS));
  return [...spread.map((step) => ({ step, isOfFiles: false })), ...ofFiles.map((step) => ({ step, isOfFiles: true }))];
}

test("what a dead thread left is not in the way of a verify of a poisoned database, and the close gives it back", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"), { rangeScans: true });
  fill(db, 0);
  await dieAt(db, { step: 1, call: "rename" });
  new EngineWords(db).poison();
  expect((await db.verify()).problems).toEqual([]);
  expect(() => db.closeSync()).toThrow("a sync failed");
  expect(namesIn(folder.path)).toEqual(["data.emdb", "data.emdb.lock"]);
  if (canCount) expect(resourcesIn(folder.path).fileNames).toEqual([]);
});

test("the draft that a thread leaves that dies in a backup of a database in memory goes with the next work, or the close", async () => {
  for (const next of ["verify", "close"]) {
    using folder = temporaryFolder();
    const target = folder.file("copy.emdb");
    using db = Emdb.openInMemory({ rangeScans: true });
    fill(db, 0);
    await dieAt(db, { target, step: 1, call: "sync" });
    expect(namesIn(folder.path).some((name) => name.includes("emdb-backup"))).toBe(true);
    if (next === "verify") await db.verify();
    else db.closeSync();
    expect(namesIn(folder.path)).toEqual(["copy.emdb.lock"]);
    if (canCount) expect(resourcesIn(folder.path).fileNames).toEqual([]);
  }
});

test.skipIf(!canCount || namesOtherDevices(tmpdir()))(
  "no map is left of a thread that dies right before or after it maps or unmaps a draft",
  async () => {
    using folder = temporaryFolder();
    using elsewhere = temporaryFolder();
    const target = elsewhere.file("copy.emdb");
    const db = Emdb.open(folder.file("data.emdb"), { rangeScans: true });
    fill(db, 0);
    // What a compaction unmaps is the file that has been replaced, which no draft's name leads to.
    const orders = [{ call: "map" }, { call: "map", target }, { call: "unmap", target }];
    for (const order of orders) {
      const [steps] = await dieAt(db, { ...order, step: 0 });
      expect(steps).toBeGreaterThanOrEqual(2);
      for (let step = 1; step <= steps; step++) {
        await dieAt(db, { ...order, step });
        await db.compact();
        const mapped = [folder, elsewhere].map(({ path }) => resourcesIn(path).mappingLines.length);
        expect([order, step, mapped]).toEqual([order, step, [1, 0]]);
      }
    }
    db.closeSync();
  },
);

test.skipIf(!canCount)(
  "a lock that a thread has taken that dies while it asks what file that is goes with the close",
  async () => {
    using folder = temporaryFolder();
    using elsewhere = temporaryFolder();
    const target = elsewhere.file("copy.emdb");
    const path = folder.file("data.emdb");
    let db = Emdb.open(path);
    fill(db, 0);
    const order = { target, call: "statusOf" };
    const [steps] = await dieAt(db, { ...order, step: 0 });
    expect(steps).toBeGreaterThan(2);
    for (let step = 1; step <= steps; step++) {
      await dieAt(db, { ...order, step });
      db.closeSync();
      const names = [folder, elsewhere].map((one) => resourcesIn(one.path).fileNames);
      expect([step, ...names.map((some) => some.filter((name) => name.endsWith(".lock")))]).toEqual([step, [], []]);
      db = Emdb.open(path);
    }
    db.closeSync();
  },
);

test.skipIf(!canCount)(
  "what a backup had replaced goes with the close where its thread died while it gave that back",
  async () => {
    using folder = temporaryFolder();
    using elsewhere = temporaryFolder();
    const target = elsewhere.file("copy.emdb");
    const path = folder.file("data.emdb");
    let db = Emdb.open(path);
    fill(db, 0);
    // The copy is cut to its length, and then, where the file system is one that can be asked, what it has replaced.
    for (let step = 1; ; step++) {
      writeFileSync(target, "");
      truncateSync(target, 30 * 2 ** 20);
      const [steps] = await dieAt(db, { target, call: "truncate", step });
      db.closeSync();
      expect([step, resourcesIn(elsewhere.path).fileNames]).toEqual([step, []]);
      db = Emdb.open(path);
      if (steps < step) break;
    }
    db.closeSync();
  },
);

test.each(["compaction", "backup"])(
  "a thread that dies at any step of a %s leaves the rest at work, and the next one works",
  async (name) => {
    using folder = temporaryFolder();
    using elsewhere = temporaryFolder();
    const path = folder.file("data.emdb");
    const order = name === "backup" ? { target: elsewhere.file("copy.emdb") } : {};
    let db = Emdb.open(path, { rangeScans: true });
    fill(db, 0);
    const [steps, fileSteps] = await dieAt(db, { ...order, step: 0, isOfFiles: false });
    expect(steps).toBeGreaterThan(50);
    expect(fileSteps).toBeGreaterThan(10);
    /** How many nanoseconds the next write and a flush took. */
    const dieAndGoOn = async (death: Death, round: number): Promise<number> => {
      fill(db, round);
      const held = db.iter();
      held.next();
      await dieAt(db, { ...order, ...death });
      const started = Bun.nanoseconds();
      db.insert("afterwards", `${round}`);
      await db.flush();
      const took = Bun.nanoseconds() - started;
      expectWhole(db, round);
      expect([...held].length).toBeGreaterThanOrEqual(RECORDS - 1);
      if (round % 3 !== 0) {
        if (name === "backup") await db.backupTo(elsewhere.file("copy.emdb"));
        else await db.compact();
        expectWhole(db, round);
        expect((await db.verify()).problems).toEqual([]);
      }
      if (round % 4 === 0 || round % 3 === 0) {
        db.closeSync();
        expect(namesIn(folder.path)).toEqual(["data.emdb", "data.emdb.hint", "data.emdb.lock"]);
        expect(namesIn(elsewhere.path).filter((file) => file.includes(".emdb-"))).toEqual([]);
        if (canCount)
          expect([resourcesIn(folder.path).fileNames, resourcesIn(elsewhere.path).fileNames]).toEqual([[], []]);
        db = Emdb.open(path, { rangeScans: true });
        expectWhole(db, round);
      }
      if (canCount) expect([death, resourcesIn(folder.path).fileNames]).toEqual([death, OPEN]);
      return took;
    };
    for (const [index, death] of deathsOf(steps, fileSteps).entries())
      await expectSoon(() => dieAndGoOn(death, index + 1));
    db.closeSync();
    if (canCount) expect([resourcesIn(folder.path).files, resourcesIn(folder.path).fileMappings]).toEqual([0, 0]);
  },
  TIMEOUT_MS,
);
