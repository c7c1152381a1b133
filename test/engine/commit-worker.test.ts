/** Which thread's commit Worker serves whose flushes, and what happens when it goes, dies or never comes. */

import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import type { Opened } from "../../src/engine/assemble.ts";
import {
  COMMIT_HOST,
  COMMIT_REQUESTS,
  SYNC_DONE,
  SYNC_ERRNO,
  SYNC_OWNER,
  SYNC_UNHEARD,
} from "../../src/engine/threads/control.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import { COMMIT_SCRIPT, type CommitOrders } from "../../src/log/commit-script.ts";
import { Subject } from "./flush-subject.ts";
import { until } from "../support/turns.ts";

/** A row that nobody here has. */
const OTHER_ROW = 7;
const OTHER_THREAD = 77_777_777;

const RealWorker = globalThis.Worker;
let started: Worker[] = [];
/** The words of the Workers' own, in their order. */
let own: Int32Array[] = [];
let isRefused = false;
/** What a started Worker does; the program that it is given unless told otherwise. */
let program: string | undefined;

beforeEach(() => {
  started = [];
  own = [];
  isRefused = false;
  program = undefined;
  globalThis.Worker = class extends RealWorker {
    constructor(url: string) {
      if (isRefused) throw new Error("no code from strings");
      super(program === undefined ? url : URL.createObjectURL(new Blob([program], { type: "text/javascript" })));
      started.push(this);
    }
    override postMessage(orders: CommitOrders): void {
      own.push(new Int32Array(orders.own));
      super.postMessage(orders);
    }
  } as typeof Worker;
});

afterEach(() => {
  globalThis.Worker = RealWorker;
});

/** One more thread's view of the database, in this thread. */
function attached(subject: Subject): Opened {
  subject.opened.engine.core.becomeShared();
  const defer = (work: () => void): void => void setImmediate(work);
  return attachTo({ system: hostSystem(), defer, hasWorkers: true }, subject.opened.base);
}

async function writeAndFlush({ engine, commit, sync }: Opened, key: string): Promise<void> {
  engine.insert(engine.defaultSpace, key, "value", 0);
  const target = engine.core.visible;
  await commit!.flush();
  expect(sync!.durable).toBeGreaterThanOrEqual(target);
}

/** Until the Worker that was started last is at work: where that takes long, its host syncs by itself meanwhile. */
const begun = async (): Promise<void> => until(() => Atomics.load(own.at(-1)!, 1) === 1);

const hostOf = ({ opened }: Subject): number => opened.engine.core.control.flags[COMMIT_HOST]!;

/** Says that another thread is the host, and whether that lives. */
function setOtherHost(subject: Subject, isAlive: boolean): void {
  const { flags, reclaim } = subject.opened.engine.core.control;
  subject.fault = (call, [thread]) =>
    call === "isThreadAlive" && thread === OTHER_THREAD ? Number(isAlive) : undefined;
  Atomics.store(reclaim, ROW_THREAD_AT + OTHER_ROW, OTHER_THREAD + 1);
  Atomics.store(flags, COMMIT_HOST, OTHER_ROW + 1);
}

/** The thread that was said to be there has left. */
function removeOther(subject: Subject): void {
  Atomics.store(subject.opened.engine.core.control.reclaim, ROW_THREAD_AT + OTHER_ROW, 0);
}

test("the first thread that flushes has a commit Worker, and it serves the others", async () => {
  using subject = new Subject({ hasWorkers: true });
  const other = attached(subject);
  for (let round = 0; round < 5; round += 1) {
    await writeAndFlush(other, `other ${round}`);
    await writeAndFlush(subject.opened, `own ${round}`);
    await Promise.all([writeAndFlush(other, "both"), writeAndFlush(subject.opened, "both")]);
  }
  expect(started).toHaveLength(1);
  expect(hostOf(subject)).toBe(other.sync!.name);
  other.leave();
});

test("where each flush pays for a sync of its own each thread has a commit Worker", async () => {
  using subject = new Subject({ hasWorkers: true }, { flushPlan: { kind: "on-each-flush" } });
  const other = attached(subject);
  await writeAndFlush(other, "other");
  await writeAndFlush(subject.opened, "own");
  expect(started).toHaveLength(2);
  expect(hostOf(subject)).toBe(0);
  other.leave();
});

test("when the host leaves, the next flush of another thread starts a commit Worker", async () => {
  using subject = new Subject({ hasWorkers: true });
  const other = attached(subject);
  await writeAndFlush(other, "other");
  other.leave();
  expect(hostOf(subject)).toBe(0);
  await writeAndFlush(subject.opened, "own");
  expect(started).toHaveLength(2);
  expect(hostOf(subject)).toBe(subject.opened.sync!.name);
});

test("a host that leaves while others flush leaves none of their flushes behind", async () => {
  using subject = new Subject({ hasWorkers: true });
  for (let round = 0; round < 30; round += 1) {
    const other = attached(subject);
    await writeAndFlush(other, "warm");
    const flushes = Array.from({ length: 8 }, async (_, index) => writeAndFlush(subject.opened, `${round} ${index}`));
    for (let turn = 0; turn < round % 4; turn += 1) await Promise.resolve();
    other.leave();
    await Promise.all(flushes);
    // So that the next one is the host again.
    subject.opened.commit!.rest();
    subject.opened.commit!.rest();
  }
});

test("a host has left when its Worker has ended, which speaks under its name", async () => {
  // It is in the middle of something when it is told to end.
  program = `self.onmessage = ({ data }) => {
    const own = new Int32Array(data.own);
    Atomics.store(own, 1, 1);
    while (Atomics.load(own, 1) === 1) Atomics.wait(own, 1, 1, 5);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    Atomics.store(own, 1, 3);
    Atomics.notify(own, 1);
    process.exit(0);
  }`;
  using subject = new Subject({ hasWorkers: true });
  const other = attached(subject);
  await writeAndFlush(other, "other");
  await begun();
  other.leave();
  expect(own[0]![1]).toBe(3);
});

test("a Worker that cannot be started lets the one before it end its sync, which speaks under the same name", async () => {
  // It is in its last sync when the next one is asked for.
  program = `self.onmessage = ({ data: { own: bytes, flags, at, name } }) => {
    const own = new Int32Array(bytes);
    Atomics.store(own, 1, 1);
    while (Atomics.load(own, 1) === 1) Atomics.wait(own, 1, 1, 5);
    Atomics.store(flags, at.owner, name);
    Atomics.store(own, 2, 1);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    Atomics.store(own, 2, 2);
    Atomics.store(flags, at.owner, 0);
    Atomics.add(flags, at.done, 1);
    Atomics.store(own, 1, 3);
    Atomics.notify(own, 1);
    process.exit(0);
  }`;
  using subject = new Subject({ hasWorkers: true });
  await writeAndFlush(subject.opened, "first");
  await begun();
  for (let look = 0; look < 2; look += 1) subject.opened.commit!.rest();
  await until(() => Atomics.load(own[0]!, 2) === 1);
  isRefused = true;
  const ended: number[] = [];
  subject.fault = (call) => {
    if (call === "sync") ended.push(Atomics.load(own[0]!, 2));
    return undefined;
  };
  await writeAndFlush(subject.opened, "second");
  expect(ended).toEqual([2]);
});

test("a Worker that waits for the sync of a thread that died in it does not keep its host from leaving", async () => {
  using subject = new Subject({ hasWorkers: true });
  const { flags, reclaim } = subject.opened.engine.core.control;
  await writeAndFlush(subject.opened, "flushed");
  await begun();
  subject.fault = (call, [thread]) => (call === "isThreadAlive" && thread === OTHER_THREAD ? 0 : undefined);
  Atomics.store(reclaim, ROW_THREAD_AT + OTHER_ROW, OTHER_THREAD + 1);
  Atomics.store(flags, SYNC_OWNER, OTHER_ROW + 1);
  subject.insert("in the file");
  subject.opened.sync!.spill();
  Atomics.add(flags, COMMIT_REQUESTS, 1);
  Atomics.notify(flags, COMMIT_REQUESTS);
  subject.opened.commit!.close();
  expect(Atomics.load(flags, SYNC_OWNER)).toBe(0);
  removeOther(subject);
});

test("the program of a Worker that is told to end ends, however many ask it for more", async () => {
  using subject = new Subject({ hasWorkers: true });
  const { flags } = subject.opened.engine.core.control;
  const other = attached(subject);
  await writeAndFlush(other, "other");
  for (let request = 0; request < 50; request += 1) {
    Atomics.add(flags, COMMIT_REQUESTS, 1);
    Atomics.notify(flags, COMMIT_REQUESTS);
  }
  other.leave();
  expect(Atomics.load(flags, SYNC_OWNER)).toBe(0);
  expect(hostOf(subject)).toBe(0);
});

test("a Worker that has not begun when its host leaves is not waited for, and touches nothing", async () => {
  program = "setTimeout(() => undefined, 1000)";
  using subject = new Subject({ hasWorkers: true });
  const other = attached(subject);
  other.engine.insert(other.engine.defaultSpace, "other", "value", 0);
  const flush = other.commit!.flush();
  other.leave();
  await flush;
  expect(started).toHaveLength(1);
  for (const worker of started) worker.terminate();
});

test("with on-each-flush an end pays for no sync that nobody asked for", async () => {
  const subject = new Subject({ hasWorkers: true }, { flushPlan: { kind: "on-each-flush" } });
  const { flags } = subject.opened.engine.core.control;
  const other = attached(subject);
  await writeAndFlush(other, "other");
  const syncs = Atomics.load(flags, SYNC_DONE);
  other.leave();
  expect(Atomics.load(flags, SYNC_DONE)).toBe(syncs);
  subject[Symbol.dispose]();
});

test("a thread whose name a dead host of its row has left starts a commit Worker", async () => {
  using subject = new Subject({ hasWorkers: true });
  const { control } = subject.opened.engine.core;
  Atomics.store(control.flags, COMMIT_HOST, subject.opened.sync!.name);
  await writeAndFlush(subject.opened, "own");
  expect(started).toHaveLength(1);
});

test("a host that has died is replaced, and what it was asked for is done", async () => {
  using subject = new Subject({ hasWorkers: true });
  setOtherHost(subject, false);
  await writeAndFlush(subject.opened, "own");
  expect(started).toHaveLength(1);
  expect(hostOf(subject)).toBe(subject.opened.sync!.name);
  removeOther(subject);
});

test("a reaped row is the host no more", async () => {
  using subject = new Subject({ hasWorkers: true });
  setOtherHost(subject, false);
  const other = attached(subject);
  expect(hostOf(subject)).toBe(0);
  other.leave();
});

test("a thread whose host lives and serves nobody syncs by itself, and starts no Worker", async () => {
  using subject = new Subject({ hasWorkers: true });
  setOtherHost(subject, true);
  await writeAndFlush(subject.opened, "own");
  expect(started).toHaveLength(0);
  removeOther(subject);
});

test("so does one whose own Worker never begins", async () => {
  program = "setInterval(() => undefined, 1000)";
  using subject = new Subject({ hasWorkers: true });
  await writeAndFlush(subject.opened, "own");
  expect(started).toHaveLength(1);
  for (const worker of started) worker.terminate();
});

test("where nobody can follow a thread that died in a sync, the flush is told why, and the next one tries again", async () => {
  using subject = new Subject({ hasWorkers: true });
  await writeAndFlush(subject.opened, "first");
  const { opened } = subject;
  const { flags } = opened.engine.core.control;
  subject.insert("second");
  opened.sync!.spill();
  Atomics.store(flags, SYNC_OWNER, SYNC_UNHEARD);
  // Whether the lock is still ours.
  subject.fault = (call) => (call === "status" ? -Errno.EIO : undefined);
  expect(await opened.commit!.flush().catch((error: unknown) => error)).toMatchObject({
    code: "EMDB_IO",
    syscall: "stat",
  });
  subject.fault = () => undefined;
  await writeAndFlush(opened, "third");
  expect(flags[SYNC_OWNER]).toBe(0);
});

test("a thread that can start no Worker gives the place back, uses another's and else syncs by itself", async () => {
  using subject = new Subject({ hasWorkers: true });
  isRefused = true;
  await writeAndFlush(subject.opened, "first");
  expect(hostOf(subject)).toBe(0);
  isRefused = false;
  const other = attached(subject);
  await writeAndFlush(other, "other");
  await begun();
  const { flags } = subject.opened.engine.core.control;
  const requests = flags[COMMIT_REQUESTS]!;
  const flush = spyOn(subject.opened.sync!, "flush");
  await writeAndFlush(subject.opened, "second");
  expect(flush).not.toHaveBeenCalled();
  expect(flags[COMMIT_REQUESTS]!).toBeGreaterThan(requests);
  other.leave();
  await writeAndFlush(subject.opened, "third");
  expect(flush).toHaveBeenCalled();
  expect(started).toHaveLength(1);
});

test("a thread whose Worker dies with an error goes on without, and is the host no more", async () => {
  program = "self.onmessage = () => { throw new Error('broken') }";
  using subject = new Subject({ hasWorkers: true });
  await writeAndFlush(subject.opened, "first");
  // Where that takes long the flush was answered before.
  await until(() => hostOf(subject) === 0);
  await writeAndFlush(subject.opened, "second");
  expect(started).toHaveLength(1);
});

test("a sync that fails in a Worker rejects all that wait for it with its error, and later flushes are refused", async () => {
  const sync = "sync(numbers[at.logFile])";
  expect(COMMIT_SCRIPT.split(sync)).toHaveLength(2);
  program = COMMIT_SCRIPT.replace(sync, `Atomics.load(flags, at.errno) || ${sync}`);
  using subject = new Subject({ hasWorkers: true });
  const other = attached(subject);
  await writeAndFlush(other, "before");
  await begun();
  // Every system has an error of that number. Where the Worker is late a thread syncs by itself.
  Atomics.store(other.engine.core.control.flags, SYNC_ERRNO, 5);
  subject.fault = (call) => (call === "sync" ? -Errno.EIO : undefined);
  const flushes = [subject.opened, other, other].map(async (of, index) => writeAndFlush(of, `key ${index}`));
  for (const outcome of await Promise.allSettled(flushes))
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "EMDB_IO" } });
  const poisoned = expect.objectContaining({ code: "EMDB_POISONED" });
  for (const of of [subject.opened, other])
    expect(await of.commit!.flush().catch((error: unknown) => error)).toEqual(poisoned);
  expect(() => other.leave()).toThrow(poisoned);
});

test("a tuned group is gathered over all threads", async () => {
  using subject = new Subject({ hasWorkers: true }, { flushPlan: { kind: "group", waitMsMax: 60_000, batchMax: 3 } });
  const { flags } = subject.opened.engine.core.control;
  const other = attached(subject);
  const flushes = [writeAndFlush(other, "one"), writeAndFlush(other, "two")];
  while (flags[COMMIT_REQUESTS] === 0) await Promise.resolve();
  await Promise.all([...flushes, writeAndFlush(subject.opened, "three")]);
  expect(started).toHaveLength(1);
  other.leave();
});
