/** What long work and a flush do while another thread has the writer's lock: they wait, and the event loop turns. */

import { afterEach, expect, spyOn, test } from "bun:test";
import type { Opened } from "../../src/engine/assemble.ts";
import { EmdbError } from "../../src/errors.ts";
import { attachTo, openFile } from "../../src/engine/open/open.ts";
import { MUTEX, MUTEX_LONG, MUTEX_TURNS, MUTEX_WAITERS } from "../../src/engine/threads/control.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { turn } from "../support/turns.ts";
import { faulty, type Fault } from "./engine-fixture.ts";
import { CONFIG } from "./open-engine.ts";

const sleep = Atomics.wait.bind(Atomics);
const RECORDS = 3000;
const EXPIRED = 10;
/** Many more than any of it takes. */
const ROUNDS_MAX = 10_000;
const LONG_AGO = 1;
/** The number of a thread that there is not. */
const OTHER_THREAD = 2 ** 31 - 3;

/** A database with another thread's part of it, whose lock is had and given back by the test. */
class Beside implements Disposable {
  readonly folder: TemporaryFolder = temporaryFolder();
  readonly own: Opened;
  readonly #other: Opened;
  readonly #wait = spyOn(Atomics, "wait");

  constructor(fault: Fault = () => undefined, more: Partial<typeof CONFIG> = {}) {
    const config = {
      ...CONFIG,
      ...more,
      rangeScans: true,
      flushPlan: { kind: "group", waitMsMax: 0, batchMax: 1024 },
    } as const;
    const system = faulty(hostSystem(), (call, args) =>
      call === "isThreadAlive" && args[0] === OTHER_THREAD ? (true as never) : fault(call, args),
    );
    const others = faulty(system, (call) => (call === "threadId" ? OTHER_THREAD : undefined));
    const environment = { system, defer: (work: () => void) => void setImmediate(work) };
    const request = { path: this.folder.file("data.emdb"), createFolders: false, config };
    this.own = openFile({ ...environment, hasWorkers: true }, request);
    this.own.engine.core.becomeShared();
    this.#other = attachTo({ ...environment, system: others, hasWorkers: false }, this.own.base);
    this.#fill();
    this.#wait.mockImplementation(((words: Int32Array, word: number, value: number, ms?: number) => {
      if (words !== this.flags) return sleep(words, word, value, ms);
      if (word === MUTEX) throw new EmdbError("EMDB_IO", "the event loop would stand still");
      return word === MUTEX_TURNS ? "timed-out" : sleep(words, word, value, ms);
    }) as typeof Atomics.wait);
  }

  get flags(): Int32Array {
    return this.own.engine.core.control.flags;
  }

  #fill(): void {
    const { engine } = this.own;
    const keys = Array.from({ length: RECORDS }, (_, index) => `key ${index}`);
    for (const space of [engine.defaultSpace, engine.spaceNamed("other")]) {
      for (const value of ["old", "new"])
        engine.insertMany(
          space,
          keys,
          keys.map(() => value),
          0,
        );
      for (let index = 0; index < EXPIRED; index++) engine.insert(space, `expired ${index}`, "value", LONG_AGO);
    }
  }

  lock(): void {
    expect(this.#other.engine.core.mutex.tryLock()).toBe(true);
  }

  unlock(): void {
    this.#other.engine.core.mutex.unlock();
  }

  /** Gives the lock back for a turn of the event loop. */
  async letBy(): Promise<void> {
    this.unlock();
    await turn();
    this.lock();
    await turn();
    await turn();
  }

  [Symbol.dispose](): void {
    this.#wait.mockRestore();
    if (this.#other.engine.core.mutex.isHeld) this.unlock();
    this.#other.leave();
    if (!this.own.engine.core.isClosed) this.own.leave();
    this.folder[Symbol.dispose]();
  }
}

afterEach(() => spyOn(Atomics, "wait").mockRestore());

const WORK: Readonly<Record<string, (beside: Beside) => Promise<unknown>>> = {
  verify: ({ own }) => verifyDatabase(own, {}),
  checkpoint: async ({ own }) => own.checkpoint!.run(),
  backup: ({ own, folder }) => own.backup.run(folder.file("copy.emdb"), {}),
  compaction: ({ own }) => own.compaction.run({}),
  "a compaction behind another one": async ({ own }) => {
    for (const _ of own.compaction.copySteps());
    await own.compaction.run({});
  },
  flush: ({ own }) => {
    own.engine.insert(own.engine.defaultSpace, "key", "last", 0);
    return own.commit!.flush();
  },
};

test.each(Object.keys(WORK))("%s beside a thread that has the lock nearly always", async (name) => {
  using beside = new Beside();
  let isDone = false;
  const work = (): Promise<void> => WORK[name]!(beside).then(() => void (isDone = true));
  let working: Promise<void> | undefined;
  // What the work takes before it waits for the first time is the call's own.
  if (name === "flush" || name.includes("behind")) working = work();
  beside.lock();
  working ??= work();
  working.catch(() => (isDone = true));
  for (let count = 0; count < 20; count++) await turn();
  expect([isDone, beside.flags[MUTEX_WAITERS]]).toEqual([false, 1 + MUTEX_LONG]);
  let rounds = 0;
  for (; !isDone && rounds < ROUNDS_MAX; rounds++) await beside.letBy();
  beside.unlock();
  expect(isDone).toBe(true);
  await working;
  expect(rounds).toBeGreaterThan(0);
  expect([beside.flags[MUTEX], beside.flags[MUTEX_WAITERS]]).toEqual([0, 0]);
  const { engine } = beside.own;
  const expired = name.includes("compaction") ? 0 : EXPIRED;
  expect(engine.count(engine.defaultSpace)).toBe(RECORDS + expired + (name === "flush" ? 1 : 0));
});

test("a flush that waits for the lock while its database closes is decided by the close", async () => {
  using beside = new Beside();
  const { own } = beside;
  own.engine.insert(own.engine.defaultSpace, "key", "last", 0);
  let isFlushed = false;
  const flushed = own.commit!.flush().then(() => (isFlushed = true));
  beside.lock();
  for (let count = 0; count < 5; count++) await turn();
  expect([isFlushed, beside.flags[MUTEX_WAITERS]]).toEqual([false, 1 + MUTEX_LONG]);
  const { sync } = own;
  const end = own.engine.core.visible;
  beside.unlock();
  own.leave();
  expect(sync!.durable).toBeGreaterThanOrEqual(end);
  await flushed;
  // What waited goes on in vain.
  for (let count = 0; count < 5; count++) await turn();
  expect(beside.flags[MUTEX_WAITERS]).toBe(0);
});

/** Fewer pieces of an index than are written to its image at a time, and more than are copied where nobody is waited for. */
const PIECES = 20;

test("a checkpoint of a database that is closed right behind a step that it has waited for writes to no file any more", async () => {
  let nowMs = 1000;
  let isClosed = false;
  const strays: unknown[] = [];
  using beside = new Beside((call, [handle]) => {
    // The file's number may be another's by now.
    if (isClosed && call === "write") strays.push(handle);
    return call === "monotonic" ? (nowMs += 0.1) : undefined;
  });
  const { own } = beside;
  const { engine } = own;
  const keys = Array.from({ length: 120_000 }, (_, index) => `more ${index}`);
  engine.insertMany(engine.defaultSpace, keys, keys, 0);
  let pieces = 0;
  const close = (): void => {
    own.leave();
    isClosed = true;
  };
  const exclusively = engine.exclusively.bind(engine);
  spyOn(engine, "exclusively").mockImplementation((body) => {
    pieces += 1;
    // What waits for something else on this thread, and goes on before the work does.
    if (pieces === PIECES) queueMicrotask(close);
    return exclusively(body);
  });
  beside.lock();
  const outcome = own.checkpoint!.run().then(
    () => "done",
    (error: unknown) => (error as EmdbError).code,
  );
  while (!isClosed) {
    pieces = 0;
    nowMs += 100;
    await beside.letBy();
  }
  expect(await outcome).toBe("EMDB_CLOSED");
  expect(strays).toEqual([]);
  isClosed = false;
});

test("a verify of an encrypted database that is closed right behind the moment that it speaks about", async () => {
  using beside = new Beside(undefined, { encryption: { key: new Uint8Array(32).fill(7) } });
  const { own } = beside;
  const { snapshots } = own.engine;
  const hold = snapshots.hold.bind(snapshots);
  spyOn(snapshots, "hold").mockImplementation((space) => {
    queueMicrotask(() => queueMicrotask(() => own.leave()));
    return hold(space);
  });
  expect(await verifyDatabase(own, {}).catch((error: unknown) => (error as EmdbError).code)).toBe("EMDB_CLOSED");
});
