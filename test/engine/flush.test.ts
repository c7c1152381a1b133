/** Flushes beside what else goes on: compactions, writes that fail, other threads that hold the writer's lock or died with it. */

import { expect, spyOn, test } from "bun:test";
import { STATE, STATE_POISONED, SYNC_OWNER } from "../../src/engine/control.ts";
import { openFile } from "../../src/engine/open.ts";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { CommitOrders } from "../../src/log/commit-script.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty, type Fault } from "./engine-fixture.ts";
import { CONFIG, type Config } from "./open-engine.ts";

const GROUP: Partial<Config> = { flushPlan: { kind: "group", waitMsMax: 0, batchMax: 1 } };

/** An open database in a folder of its own. */
class Subject implements Disposable {
  readonly #folder = temporaryFolder();
  readonly opened: Opened;
  /** What a call gives instead of being made. */
  fault: Fault = () => undefined;

  constructor(changes: Partial<Environment> = {}, config: Partial<Config> = GROUP) {
    const system = faulty(hostSystem(), (call, args) => this.fault(call, args));
    const defer = (work: () => void): void => void setImmediate(work);
    const environment = { system, defer, hasWorkers: false, ...changes };
    const path = this.#folder.file("data.emdb");
    this.opened = openFile(environment, { path, createFolders: false, config: { ...CONFIG, ...config } });
  }

  insert(key: string): void {
    this.opened.engine.insert(this.opened.engine.defaultSpace, key, "value", 0);
  }

  [Symbol.dispose](): void {
    try {
      this.opened.leave();
    } catch {
      // What a poisoned database says to that is of no interest here.
    }
    this.#folder[Symbol.dispose]();
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
  const calls: string[] = [];
  subject.fault = (call) => void calls.push(call);
  const alone = sync!.alone.bind(sync!);
  sync!.alone = (body) => {
    Atomics.or(engine.core.control.flags, STATE, STATE_POISONED);
    alone(body);
  };
  expect(() => compaction.runSync()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
  expect(calls).not.toContain("rename");
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
    const requests = new Int32Array((orders.mock.calls[0]![0] as CommitOrders).own);
    orders.mockRestore();
    // As if so many had been made; the commit Worker serves the last one.
    Atomics.store(requests, 0, 2 ** 31 - 3);
    Atomics.notify(requests, 0);
    for (let index = 0; index < 6; index += 1) {
      subject.insert(`${index}`);
      await commit!.flush();
      expect(sync!.durable).toBe(engine.core.visible);
    }
    expect(requests[0]!).toBeLessThan(0);
  },
);
