/**
 * A thread dies in a sync that fails, and takes with it what the system said, once: the next sync succeeds. Who syncs then
 * has acknowledged nothing that is not on the disk.
 */

import { afterEach, describe, expect, test } from "bun:test";
import { EmdbError } from "../../src/index.ts";
import { SYNC_OWNER } from "../../src/engine/threads/control.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import type { System } from "../../src/ffi/system.ts";
import { LOG_DURABLE, LOG_WRITTEN } from "../../src/log/log-words.ts";
import { openFile, type OpenedEngine } from "./open-engine.ts";
import type { SyncFailure } from "../sim/inode.ts";
import { Machine } from "../sim/machine.ts";

const PATH = "/db/store";
const KEY = new Uint8Array(32).fill(5);
/** A row that nobody has, and a thread that there is not. */
const ROW = 7;
const THREAD = 8;
/** Another thread, which lives. */
const OTHER = 77;
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

const textsOf = ({ engine }: OpenedEngine): string[] =>
  [...engine.snapshot(engine.defaultSpace)].map(({ key }) => Buffer.from(key).toString()).sort();

/** Says that the thread of a row is in a sync; it is dead. */
function leaveInSync({ engine }: OpenedEngine): void {
  const { flags, reclaim } = engine.core.control;
  Atomics.store(reclaim, ROW_THREAD_AT + ROW, THREAD + 1);
  Atomics.store(flags, SYNC_OWNER, ROW + 1);
}

function removeRow({ engine }: OpenedEngine): void {
  Atomics.store(engine.core.control.reclaim, ROW_THREAD_AT + ROW, 0);
}

/** Some records are durable, more are in the file when a thread dies in a failing sync, and then somebody flushes and the power goes. */
function flushBehind(
  syncFailure: SyncFailure,
  seed: number,
  changes: Parameters<typeof openFile>[2],
  change: (system: System, machine: Machine) => void = () => undefined,
): { readonly isAcknowledged: boolean; readonly before: string[]; readonly after: string[] } {
  const machine = new Machine({ syncFailure, seed });
  machines.push(machine);
  const system = machine.boot();
  const opened = openFile(system, PATH, changes);
  const { engine } = opened;
  const before: string[] = [];
  const write = (key: string, bytes: number): void => {
    engine.insert(engine.defaultSpace, key, new Uint8Array(bytes).fill(seed + 1), 0);
    before.push(key);
  };
  write("durable", 700);
  opened.sync!.flush();
  for (let index = 0; index < 40; index++) write(`record ${index}`, index === 20 ? 100_000 : 9000);
  opened.sync!.spill();
  machine.failSync(machine.inodeAt(PATH)!);
  leaveInSync(opened);
  change(system, machine);
  let isAcknowledged = true;
  try {
    opened.sync!.flush();
  } catch (error) {
    if (!(error instanceof EmdbError) || error.code !== "EMDB_POISONED") throw error;
    isAcknowledged = false;
  }
  removeRow(opened);
  system.kill();
  const after = afterPowerLoss(machine, changes).split(",");
  return { isAcknowledged, before: before.sort(), after };
}

for (const [name, changes] of [
  ["plain", {}],
  ["encrypted", { encryption: { key: KEY } }],
] as const) {
  test(`${name}: what the kernel still has is written again, and then acknowledged`, () => {
    for (let seed = 0; seed < 8; seed++) {
      const { isAcknowledged, before, after } = flushBehind("clean", seed, changes);
      expect(isAcknowledged).toBe(true);
      expect(after).toEqual(before);
    }
  });

  test(`${name}: what the kernel has dropped is not acknowledged`, () => {
    for (let seed = 0; seed < 8; seed++) {
      const { isAcknowledged, before, after } = flushBehind("revert", seed, changes);
      if (isAcknowledged) expect(after).toEqual(before);
      expect(after).toContain("durable");
    }
  });

  test(`${name}: a disk that refuses the second time poisons`, () => {
    for (const call of ["read", "write"] as const) {
      const refuse = (system: System): void => void (system[call] = (() => -Errno.EIO) as never);
      expect(flushBehind("clean", 1, changes, refuse).isAcknowledged).toBe(false);
    }
  });
}

/** The system of another thread of the process, which lives. */
function ofAnotherThread(system: System): System {
  const seen = system.isThreadAlive.bind(system);
  system.isThreadAlive = (thread) => thread === OTHER || seen(thread);
  return new Proxy(system, {
    get: (target, name): unknown => {
      if (name === "threadId") return () => OTHER;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? (member.bind(target) as unknown) : member;
    },
  });
}

const ENVIRONMENT = { defer: () => undefined, hasWorkers: false };

/** What is there after a power loss, as names in one line, or why it does not open. */
function afterPowerLoss(machine: Machine, changes: Parameters<typeof openFile>[2] = {}): string {
  const next = Machine.restore(machine.capture(), { kind: "none" });
  machines.push(next);
  try {
    const again = openFile(next.boot(), PATH, changes);
    const texts = textsOf(again);
    again.leave();
    return texts.join();
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    return error.code;
  }
}

describe.each(["in the middle of a long value", "between two pieces"])("beside a writer %s", (where) => {
  test.each([0, 1, 2, 3, 4, 5])("what it has written so far is not taken for durable (seed %i)", (seed) => {
    const isLong = where.includes("long");
    const machine = new Machine({ syncFailure: "clean", seed, recordsFirstWrites: !isLong });
    machines.push(machine);
    const system = machine.boot();
    const changes = { flushPlan: { kind: "group", waitMsMax: 0, batchMax: 1 } } as const;
    const opened = openFile(system, PATH, changes);
    const { engine } = opened;
    engine.core.becomeShared();
    const other = attachTo({ ...ENVIRONMENT, system: ofAnotherThread(system) }, opened.base);
    const write = (key: string, bytes: number): void =>
      void engine.insert(engine.defaultSpace, key, new Uint8Array(bytes).fill(seed + 1), 0);
    write("durable", 700);
    opened.sync!.flush();
    write("written", 700);
    opened.sync!.spill();
    const real = system.write.bind(system);
    let calls = 0;
    const die = (): void => {
      system.write = real;
      machine.failSync(machine.inodeAt(PATH)!);
      leaveInSync(opened);
      other.sync!.releaseDeadOwner();
      removeRow(opened);
    };
    system.write = (...call) => {
      calls += 1;
      if (isLong && calls === 3) die();
      const result = real(...call);
      if (!isLong && calls === 1) die();
      return result;
    };
    let isAcknowledged = true;
    try {
      write("in flight", isLong ? 100_001 : 9000);
      opened.sync!.flush();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      isAcknowledged = false;
    }
    expect(calls).toBeGreaterThanOrEqual(isLong ? 3 : 1);
    system.kill();
    const after = afterPowerLoss(machine, changes);
    if (isAcknowledged) expect(after).toBe("durable,in flight,written");
  });
});

test.each([0, 1, 2, 3, 4, 5])("what the cache drops meanwhile is not acknowledged (seed %i)", (seed) => {
  let reads = 0;
  const dropAtSecondRead = (system: System, machine: Machine): void => {
    const real = system.read.bind(system);
    system.read = (...call) => {
      if (++reads === 2) machine.inodeAt(PATH)!.fail("revert", machine.random);
      return real(...call);
    };
  };
  const { isAcknowledged, before, after } = flushBehind("clean", seed, {}, dropAtSecondRead);
  expect(reads).toBeGreaterThan(1);
  if (isAcknowledged) expect(after).toEqual(before);
});

/** A database with a record that is in the file and not synced. */
function spilled() {
  const machine = new Machine({ syncFailure: "clean", seed: 1 });
  machines.push(machine);
  const system = machine.boot();
  const opened = openFile(system, PATH);
  opened.engine.insert(opened.engine.defaultSpace, "key", new Uint8Array(700), 0);
  opened.sync!.spill();
  return { machine, system, opened };
}

test("who cannot tell, for want of memory or of an answer about the lock, leaves it to the next one", () => {
  for (const refusal of [new RangeError("out of memory"), new EmdbError("EMDB_IO", "no answer", { syscall: "stat" })]) {
    const { machine, system, opened } = spilled();
    machine.failSync(machine.inodeAt(PATH)!);
    leaveInSync(opened);
    const real = system.read.bind(system);
    system.read = () => {
      throw refusal;
    };
    expect(() => opened.sync!.flush()).toThrow(refusal.message);
    if (refusal instanceof EmdbError) opened.sync!.releaseDeadOwner();
    else expect(() => opened.sync!.releaseDeadOwner()).toThrow(refusal.message);
    system.read = real;
    opened.sync!.flush();
    removeRow(opened);
    system.kill();
    expect(afterPowerLoss(machine)).toBe("key");
  }
});

test("what was not durable is written again from its beginning to its end, in order, and nothing else", () => {
  const { system, opened } = spilled();
  const { engine, sync } = opened;
  sync!.flush();
  const { numbers } = engine.core.control.log;
  const from = numbers[LOG_DURABLE]!;
  // Some frames go in several pieces.
  for (const bytes of [700, 300_000, 700])
    engine.insert(engine.defaultSpace, `${bytes}`, new Uint8Array(bytes).fill(1), 0);
  sync!.spill();
  const to = numbers[LOG_WRITTEN]!;
  expect(to - from).toBeGreaterThan(300_000);
  leaveInSync(opened);
  const write = system.write.bind(system);
  let at = from;
  system.write = (file, bytes, span) => {
    expect([span.position, span.bytes > 0]).toEqual([at, true]);
    at += span.bytes;
    return write(file, bytes, span);
  };
  sync!.releaseDeadOwner();
  system.write = write;
  expect(at).toBe(to);
  removeRow(opened);
  opened.leave();
});

test("nothing is written again where nobody syncs, or who does so is alive", () => {
  const { system, opened } = spilled();
  const { flags, reclaim } = opened.engine.core.control;
  const write = system.write.bind(system);
  let writes = 0;
  system.write = (...args) => ((writes += 1), write(...args));
  const seen = system.isThreadAlive.bind(system);
  system.isThreadAlive = (thread) => thread === OTHER || seen(thread);
  Atomics.store(reclaim, ROW_THREAD_AT + ROW, OTHER + 1);
  for (const owner of [0, ROW + 1]) {
    Atomics.store(flags, SYNC_OWNER, owner);
    expect([opened.sync!.releaseDeadOwner(), flags[SYNC_OWNER], writes]).toEqual([true, owner, 0]);
  }
  Atomics.store(flags, SYNC_OWNER, 0);
  removeRow(opened);
  system.write = write;
  opened.leave();
});

test("where the file is shorter by now nothing is written behind its end, and nothing is acknowledged", () => {
  const { system, opened } = spilled();
  leaveInSync(opened);
  const [read, write] = [system.read.bind(system), system.write.bind(system)];
  let writes = 0;
  system.read = (file, to, span) => read(file, to, { ...span, bytes: span.bytes - 8 });
  system.write = (...args) => ((writes += 1), write(...args));
  expect(() => opened.sync!.flush()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
  expect(writes).toBe(0);
  removeRow(opened);
  system.kill();
});

test("whose lock was broken meanwhile writes nothing again, and acknowledges nothing", () => {
  const { system, opened } = spilled();
  leaveInSync(opened);
  const [status, write] = [system.status.bind(system), system.write.bind(system)];
  let writes = 0;
  system.status = (path) => (path.endsWith(".lock") ? -Errno.ENOENT : status(path));
  system.write = (...args) => ((writes += 1), write(...args));
  // It was ours when this run of code began.
  expect(() => opened.sync!.flush()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
  expect(writes).toBe(0);
  removeRow(opened);
  system.kill();
});

/** A writer dies in the sync of a write, which fails; another one goes on. What that is told, and what is there after a power loss. */
function writeBehind(
  seed: number,
  change: (system: System) => void = () => undefined,
): { told: string; after: string } {
  const machine = new Machine({ syncFailure: "clean", seed });
  machines.push(machine);
  const system = Object.assign(machine.boot(), { lacksWriteThrough: true });
  const open = system.open.bind(system);
  system.open = (path, mode) => open(path, mode === "write-through" ? "write" : mode);
  const opened = openFile(system, PATH, { flushPlan: { kind: "write-through" } });
  const { engine } = opened;
  engine.core.becomeShared();
  const own = system.threadId();
  const other = attachTo({ ...ENVIRONMENT, system: ofAnotherThread(system) }, opened.base).engine;
  const put = (to: typeof engine, key: string): void =>
    void to.insert(to.defaultSpace, key, new Uint8Array(700).fill(1), 0);
  put(engine, "durable");
  const real = system.sync.bind(system);
  const result = { told: "", after: "" };
  system.sync = () => {
    system.sync = real;
    machine.failSync(machine.inodeAt(PATH)!);
    const seen = system.isThreadAlive.bind(system);
    system.isThreadAlive = (thread) => thread !== own && seen(thread);
    change(system);
    // This thread never hears of it. From here on another one is at work.
    for (let turn = 0; turn < 2; turn++) {
      try {
        put(other, "acknowledged");
        break;
      } catch (error) {
        result.told += `${error instanceof EmdbError ? error.code : String(error)} `;
      }
    }
    result.after = afterPowerLoss(machine);
    return -Errno.EIO;
  };
  expect(() => put(engine, "dying")).toThrow(EmdbError);
  return result;
}

test.each([0, 1, 2, 3, 4, 5, 6, 7])("the same where writing through is a sync by itself (seed %i)", (seed) => {
  expect(writeBehind(seed)).toEqual({ told: "", after: "acknowledged,durable,dying" });
});

test("where that cannot be written again nothing more is acknowledged, and where it cannot be told it is tried again", () => {
  const refuse = (system: System): void => void (system.read = () => -Errno.EIO);
  expect(writeBehind(1, refuse).told).toBe("EMDB_POISONED EMDB_POISONED ");
  const puzzle = (system: System): void => {
    const real = system.read.bind(system);
    system.read = () => {
      system.read = real;
      throw new EmdbError("EMDB_IO", "no answer", { syscall: "stat" });
    };
  };
  expect(writeBehind(1, puzzle)).toEqual({ told: "EMDB_IO ", after: "acknowledged,durable,dying" });
});
