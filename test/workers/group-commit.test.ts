/** Flushes of many callers and threads share syncs, and none resolves before what it covers is durable. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Emdb, type FlushPolicy } from "../../src/index.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { EngineWords } from "./engine-words.ts";
import { expectSoon } from "./soon.ts";
import { Thread } from "./thread.ts";
import { until } from "../support/turns.ts";

setDefaultTimeout(120_000);

function open(folder: TemporaryFolder, flushPolicy: FlushPolicy = "group"): { db: Emdb; words: EngineWords } {
  const db = Emdb.open(folder.file("data.emdb"), { flushPolicy });
  return { db, words: new EngineWords(db) };
}

/** Starts the commit Worker, which the first flush may miss. */
async function warm(db: Emdb): Promise<void> {
  db.insert("warm", "up");
  await db.flush();
}

test("64 callers on one event loop share syncs: at most one for eight flushes", async () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder);
  await warm(db);
  const before = words.syncs;
  const rounds = 20;
  await Promise.all(
    Array.from({ length: 64 }, async (_, caller) => {
      for (let round = 0; round < rounds; round += 1) {
        db.insert(`${caller} ${round}`, "value");
        await db.flush();
      }
    }),
  );
  expect(words.syncs - before).toBeLessThanOrEqual((64 * rounds) / 8);
  expect(words.durable).toBe(words.visible);
  await db.close();
});

test("flushes of several threads share syncs, and all that they flushed is there after a reopen", async () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder);
  const [threads, callers, writes] = emulator === undefined ? [4, 8, 20] : [2, 4, 5];
  const all = Array.from(
    { length: threads },
    (_, index) => new Thread("flush-worker.ts", { share: db.share(), index, callers, writes }),
  );
  for (const thread of all) expect(await thread.said()).toBe("ready");
  const before = words.syncs;
  for (const thread of all) thread.tell("begin");
  for (const thread of all) expect(await thread.said()).toBe("done");
  const flushes = threads * callers * writes;
  expect(words.syncs - before).toBeLessThan(flushes / 2);
  expect(words.durable).toBe(words.visible);
  for (const thread of all) await thread.kill();
  await db.close();
  using again = Emdb.open(folder.file("data.emdb"));
  expect(again.len()).toBe(flushes);
});

test.each<FlushPolicy>(["group", { group: { maxWaitMs: 5, maxBatch: 8 } }, "on-each-flush", "write-through"])(
  "with %j, what was written before a flush is durable when it resolves, whatever is written meanwhile",
  async (policy) => {
    using folder = temporaryFolder();
    const { db, words } = open(folder, policy);
    const flushes: Promise<void>[] = [];
    for (let write = 0; write < 60; write += 1) {
      db.insert(`key ${write}`, "x".repeat(write * 500));
      const covered = words.visible;
      flushes.push(
        db.flush().then(() => {
          expect(words.durable).toBeGreaterThanOrEqual(covered);
        }),
      );
      db.insert(`behind ${write}`, "not covered");
      if (write % 7 === 0) await flushes.at(-1);
      if (write % 11 === 0) {
        const here = words.visible;
        db.flushSync();
        expect(words.durable).toBeGreaterThanOrEqual(here);
      }
    }
    await Promise.all(flushes);
    await db.close();
  },
);

test("with on-each-flush every flush pays for a sync of its own", async () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder, "on-each-flush");
  await warm(db);
  const before = words.syncs;
  await Promise.all(
    Array.from({ length: 16 }, async (_, caller) => {
      db.insert(`${caller}`, "value");
      await db.flush();
    }),
  );
  expect(words.syncs - before).toBe(16);
  db.flushSync();
  expect(words.syncs - before).toBe(17);
  await db.close();
});

test("with write-through a write is durable when it returns", () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder, "write-through");
  for (let write = 0; write < 20; write += 1) {
    db.insert(`key ${write}`, "value");
    expect(words.durable).toBe(words.visible);
  }
  expect(words.syncs).toBe(0);
  db.closeSync();
});

/** A wait so long that a test which has to sit through it fails. */
const ENDLESS = { group: { maxWaitMs: 60_000, maxBatch: 3 } } as const;

test("a tuned group is synced once when its batch is full, however long it might wait", async () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder, ENDLESS);
  for (let round = 0; round < 5; round += 1) {
    const before = words.syncs;
    for (let caller = 0; caller < 3; caller += 1) db.insert(`${round} ${caller}`, "value");
    const flushes = Array.from({ length: 2 }, async () => db.flush());
    await new Promise((resolve) => setImmediate(resolve));
    expect(words.syncs).toBe(before);
    await Promise.all([...flushes, db.flush()]);
    expect(words.syncs - before).toBe(1);
  }
  await db.close();
});

test("a tuned group waits no longer than it may", async () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder, { group: { maxWaitMs: 20, maxBatch: 1000 } });
  db.insert("alone", "value");
  await db.flush();
  expect(words.durable).toBe(words.visible);
  await db.close();
});

test("a flush that blocks its thread, and a close, do not wait for others to join a tuned group", async () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder, ENDLESS);
  db.insert("one", "value");
  const flush = db.flush();
  // The commit Worker is up and gathering.
  for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  db.flushSync();
  expect(words.durable).toBe(words.visible);
  await flush;
  db.insert("two", "value");
  const last = db.flush();
  db.closeSync();
  await last;
});

test("a thread that was the host of the commit Worker, closes and ends leaves nobody's flush behind", async () => {
  for (let round = 1; round <= (emulator === undefined ? 20 : 2); round += 1) {
    using folder = temporaryFolder();
    const { db, words } = open(folder);
    const orders = { share: db.share(), index: 0, callers: 1, writes: 50 };
    const host = new Thread("flush-worker.ts", orders);
    // Loaded already, it takes the row that the first one leaves at once.
    const next = new Thread("flush-worker.ts");
    expect(await host.said()).toBe("ready");
    host.tell("begin");
    await until(() => words.syncs > 0);
    let isOver = false;
    const callers = Array.from({ length: 8 }, async (_, caller) => {
      for (let write = 0; !isOver; write += 1) {
        db.insert(`${caller} ${write}`, "v".repeat(200));
        await db.flush();
      }
    });
    expect(await host.said()).toBe("done");
    await host.kill();
    next.tell({ ...orders, index: 1 });
    expect(await next.said()).toBe("ready");
    for (let flush = 0; flush < 50; flush += 1) {
      db.insert("main", `${flush}`);
      await db.flush();
    }
    isOver = true;
    await Promise.all(callers);
    await next.kill();
    await db.close();
  }
});

test("threads that die with flushes pending do not keep the others' flushes waiting", async () => {
  using folder = temporaryFolder();
  const { db, words } = open(folder);
  for (let round = 0; round < (emulator === undefined ? 25 : 3); round += 1) {
    await expectSoon(async () => {
      const thread = new Thread("flush-worker.ts", { share: db.share(), index: round, callers: 16, writes: 1000 });
      expect(await thread.said()).toBe("ready");
      thread.tell("begin");
      const before = words.syncs;
      await until(() => words.syncs >= before + 2);
      await thread.kill();
      db.insert("after", `${round}`);
      const started = Bun.nanoseconds();
      await db.flush();
      return Bun.nanoseconds() - started;
    });
  }
  await db.close();
});
