/** Flushes beside what else goes on: compactions, writes that fail, other threads that hold the writer's lock or died with it. */

import { expect, spyOn, test } from "bun:test";
import { AUDIT, MUTEX, STATE, STATE_POISONED, SYNC_OWNER } from "../../src/engine/threads/control.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import type { CommitOrders } from "../../src/log/commit-script.ts";
import { GROUP, Subject } from "./flush-subject.ts";
import type { Config } from "./open-engine.ts";

/** Another thread that holds the writer's lock of an open database, as far as words and the system say. */
class OtherHolder implements Disposable {
  readonly #flags: Int32Array;
  readonly #row = 5;

  constructor(subject: Subject, { isAlive }: { readonly isAlive: () => boolean }) {
    const { control, system } = subject.opened.engine.core;
    const thread = system.threadId() + 1;
    subject.fault = (call, [asked]) => (call === "isThreadAlive" && asked === thread ? Number(isAlive()) : undefined);
    this.#flags = control.flags;
    subject.opened.engine.core.becomeShared();
    Atomics.store(control.reclaim, ROW_THREAD_AT + this.#row, thread + 1);
    Atomics.store(this.#flags, MUTEX, this.#row + 1);
  }

  [Symbol.dispose](): void {
    Atomics.store(this.#flags, MUTEX, 0);
  }
}

test("nobody waits for the writer's lock who keeps others from syncing, in a compaction and in a close", () => {
  const waits: number[] = [];
  {
    using subject = new Subject();
    const { mutex, control } = subject.opened.engine.core;
    const lock = mutex.lock.bind(mutex);
    mutex.lock = () => {
      if (!mutex.isHeld) waits.push(Atomics.load(control.flags, SYNC_OWNER));
      lock();
    };
    subject.insert("key");
    subject.opened.compaction.runSync();
    subject.insert("key");
  }
  expect(waits.length).toBeGreaterThan(5);
  expect(waits.filter((owner) => owner !== 0)).toEqual([]);
});

test("a swap that finds the database poisoned when it has waited for the sync under way changes no name", () => {
  using subject = new Subject();
  const { sync, engine, compaction } = subject.opened;
  subject.insert("key");
  const renames: unknown[] = [];
  subject.fault = (call, args) => void (call === "rename" && renames.push(...args.slice(0, 2)));
  const alone = sync!.alone.bind(sync!);
  sync!.alone = (body) => {
    Atomics.or(engine.core.control.flags, STATE, STATE_POISONED);
    alone(body);
  };
  expect(() => compaction.runSync()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
  expect(renames).not.toContain(subject.opened.base.path);
});

test("a swap whose new name cannot be made durable makes nothing durable, and every flush is refused", async () => {
  using subject = new Subject({ hasWorkers: true });
  const { sync, commit, engine, compaction } = subject.opened;
  subject.insert("before");
  await commit!.flush();
  subject.insert("acknowledged by nobody");
  const flush = commit!.flush();
  subject.fault = (call) => (call === "syncFolder" ? -Errno.EIO : undefined);
  expect(() => compaction.runSync()).toThrow(expect.objectContaining({ code: "EMDB_IO" }));
  expect(sync!.durable).toBeLessThan(engine.core.visible);
  const poisoned = expect.objectContaining({ code: "EMDB_POISONED" });
  expect(await flush.catch((error: unknown) => error)).toEqual(poisoned);
  expect(() => sync!.flush()).toThrow(poisoned);
});

test("a flush of what is in the file already resolves beside one whose write fails", async () => {
  using subject = new Subject({ hasWorkers: true });
  const { sync, commit } = subject.opened;
  subject.insert("warm");
  await commit!.flush();
  subject.insert("in the file");
  sync!.spill();
  const first = commit!.flush();
  subject.insert("not in the file");
  let failures = 1;
  subject.fault = (call) => (call === "write" && failures-- > 0 ? -Errno.ENOSPC : undefined);
  const second = commit!.flush();
  const refused = expect.objectContaining({ code: "EMDB_FULL" });
  expect(await second.catch((error: unknown) => error)).toEqual(refused);
  await first;
  expect(sync!.durable).toBeGreaterThan(0);
});

test.each<Config["flushPlan"]>([GROUP.flushPlan!, { kind: "on-each-flush" }])(
  "with %j, flushes go on when the count of requests begins anew with negative numbers",
  async (flushPlan) => {
    const orders = spyOn(Worker.prototype, "postMessage");
    using subject = new Subject({ hasWorkers: true }, { flushPlan });
    const { sync, commit, engine } = subject.opened;
    subject.insert("first");
    await commit!.flush();
    const { isEach, flags, own, at } = orders.mock.calls[0]![0] as CommitOrders;
    const [requests, index] = isEach ? [new Int32Array(own), 0] : [flags, at.requests];
    orders.mockRestore();
    // As if so many had been made; the commit Worker serves the last one.
    Atomics.store(requests, index, 2 ** 31 - 3);
    Atomics.notify(requests, index);
    for (let index = 0; index < 6; index += 1) {
      subject.insert(`${index}`);
      await commit!.flush();
      expect(sync!.durable).toBe(engine.core.visible);
    }
    expect(requests[index]!).toBeLessThan(0);
  },
);

/** Work that was put off, each with how long it was at least. */
class Deferred {
  #queue: { readonly work: () => void; readonly delayMs: number }[] = [];

  readonly defer = (work: () => void, delayMs = 0): void => void this.#queue.push({ work, delayMs });

  /** Runs what there is now; returns the delays. */
  turn(): number[] {
    const queue = this.#queue;
    this.#queue = [];
    for (const { work } of queue) work();
    return queue.map(({ delayMs }) => delayMs);
  }
}

test("what is pending beside a lock's holder is tried again less and less often, and written when the holder is dead", () => {
  const deferred = new Deferred();
  using subject = new Subject({ defer: deferred.defer });
  const { tail, control } = subject.opened.engine.core;
  let isAlive = true;
  subject.insert("key");
  using _ = new OtherHolder(subject, { isAlive: () => isAlive });
  const delays = Array.from({ length: 9 }, () => deferred.turn());
  expect(delays.flat()).toEqual([0, 1, 2, 4, 8, 16, 32, 64, 64]);
  expect(tail.pendingBytes).toBeGreaterThan(0);
  isAlive = false;
  expect(deferred.turn()).toEqual([64]);
  expect([tail.pendingBytes, control.flags[MUTEX], control.flags[AUDIT]]).toEqual([0, 0, 1]);
  expect(deferred.turn()).toEqual([]);
});

test("what was put off is left to the others once this thread has closed the database", () => {
  const deferred = new Deferred();
  using subject = new Subject();
  subject.opened.engine.core.becomeShared();
  const environment = { system: hostSystem(), defer: deferred.defer, hasWorkers: false };
  const other = attachTo(environment, subject.opened.base);
  const { tail, mutex } = other.engine.core;
  other.engine.insert(other.engine.defaultSpace, "other", "value", 0);
  other.leave();
  subject.insert("key");
  const tryLock = spyOn(mutex, "tryLock");
  deferred.turn();
  expect(tryLock).not.toHaveBeenCalled();
  expect(tail.pendingBytes).toBeGreaterThan(0);
});

test("with nothing pending a flush and the end of a process need no lock", () => {
  using subject = new Subject();
  const { sync, engine } = subject.opened;
  subject.insert("key");
  sync!.spill();
  using _ = new OtherHolder(subject, { isAlive: () => true });
  const lock = spyOn(engine.core.mutex, "lock").mockImplementation(() => {
    throw new Error("the lock is waited for");
  });
  try {
    sync!.flush();
    expect(sync!.durable).toBe(engine.core.visible);
    sync!.spillUntil(-Infinity);
  } finally {
    lock.mockRestore();
  }
});

test("a process that ends waits for the holder of the lock until a moment of the clock, and no longer", () => {
  using subject = new Subject();
  const { sync, engine } = subject.opened;
  subject.insert("key");
  using holder = new OtherHolder(subject, { isAlive: () => true });
  const { fault } = subject;
  let nowMs = 0;
  subject.fault = (call, args) => (call === "monotonic" ? (nowMs += 500) : fault(call, args));
  sync!.spillUntil(1000);
  // Whoever waits for the lock asks twice, to know when it has waited for long.
  expect(nowMs).toBe(1500);
  expect(engine.core.tail.pendingBytes).toBeGreaterThan(0);
  holder[Symbol.dispose]();
  sync!.spillUntil(1000);
  expect(engine.core.tail.pendingBytes).toBe(0);
});
