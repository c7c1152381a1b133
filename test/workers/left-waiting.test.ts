/** What a thread waited for when it died is counted as waited for no more once its row has been cleared. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import type { SharedBase } from "../../src/engine/threads/base.ts";
import { Control, MUTEX_LONG, MUTEX_WAITERS, SYNC_JOINED } from "../../src/engine/threads/control.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Thread } from "./thread.ts";
import { until } from "../support/turns.ts";

setDefaultTimeout(240_000);
/** The row of the first thread that attaches. */
const ROW = 1;
/** Of a thread that is not dead by then the test says that it has got the lock. */
const TURNS_MAX = 20_000;

async function guest(db: Emdb): Promise<Thread> {
  const thread = new Thread("guest-worker.ts", { do: "attach", share: db.share() });
  expect(await thread.said()).toBe("attached");
  return thread;
}

const wordsOf = (db: Emdb): Control => new Control((db.share() as SharedBase).buffer);

/** Lets a thread that attaches die while it waits for the writer's lock, once so much is counted. */
async function leaveWaiting(db: Emdb, waiters: number): Promise<void> {
  const { flags, reclaim } = wordsOf(db);
  const waiting = await guest(db);
  const name = Atomics.load(reclaim, ROW_THREAD_AT + ROW);
  db.transaction(() => {
    waiting.tell({ do: "insert", key: "never", value: "written" });
    const pause = new Int32Array(new SharedArrayBuffer(4));
    while (Atomics.load(flags, MUTEX_WAITERS) < waiters) Atomics.wait(pause, 0, 0, 1);
    waiting.worker.terminate();
    for (let turn = 0; turn < TURNS_MAX && hostSystem().isThreadAlive(name - 1); turn++) Atomics.wait(pause, 0, 0, 1);
  });
  await waiting.ended();
}

test("the writer's lock", async () => {
  using db = Emdb.openInMemory();
  const { flags } = wordsOf(db);
  await leaveWaiting(db, 1);
  const next = await guest(db);
  expect([db.len(), Atomics.load(flags, MUTEX_WAITERS)]).toEqual([0, 0]);
  await next.kill();
});

test("the writer's lock, for long: who writes waits for it in vain once, and not again as long as nobody attaches or leaves", async () => {
  using db = Emdb.openInMemory();
  const { flags } = wordsOf(db);
  await leaveWaiting(db, MUTEX_LONG);
  // The transaction has waited in vain, unless the other one had come for it late shortly before.
  const wait = spyOn(Atomics, "wait");
  while (Atomics.load(flags, MUTEX_WAITERS) !== 0 && wait.mock.calls.length < 2) db.insert("written", "again");
  wait.mockRestore();
  expect([db.getText("never"), Atomics.load(flags, MUTEX_WAITERS)]).toEqual([undefined, 0]);
});

test("a sync that more flushes are to share", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"), { flushPolicy: { group: { maxWaitMs: 60_000, maxBatch: 64 } } });
  const { flags } = wordsOf(db);
  const waiting = await guest(db);
  waiting.tell({ do: "insert", key: "not", value: "durable" });
  waiting.tell({ do: "flush" });
  await until(() => Atomics.load(flags, SYNC_JOINED) !== 0);
  await waiting.kill();
  const next = await guest(db);
  expect(Atomics.load(flags, SYNC_JOINED)).toBe(0);
  await next.kill();
});
