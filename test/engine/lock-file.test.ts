/** The lock file by itself, over a simulated machine: who has it, what its record says, and what whoever is refused leaves. */

import { afterEach, expect, test } from "bun:test";
import { LockFile, breakLock, isLockHeld, readHolder } from "../../src/engine/files/lock-file.ts";
import { lockPath } from "../../src/engine/files/siblings.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import type { System } from "../../src/ffi/system.ts";
import { openHandle, type SharedFile } from "../../src/log/shared-file.ts";
import { PACKAGE_VERSION } from "../../src/version.ts";
import { Machine } from "../sim/machine.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { faulty } from "./engine-fixture.ts";

const PATH = "/db/store";
const LOCK = lockPath(PATH);
const RECORD = { pid: 77, hostname: "elsewhere", acquiredAtMs: 5, packageVersion: "0.0.1" };
const RECORD_BYTES_MAX = 4096;
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

/** Two processes on one machine, with a file where the log would be. */
function two(): { readonly one: SimulatedSystem; readonly other: SimulatedSystem; readonly machine: Machine } {
  const machine = new Machine();
  machines.push(machine);
  const [one, other] = [machine.boot({ processId: 1 }), machine.boot({ processId: 2 })];
  put(one, PATH, "log");
  return { one, other, machine };
}

function put(system: System, path: string, content: string | Uint8Array): void {
  system.unlink(path);
  const handle = system.open(path, "create");
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  system.write(handle, bytes, { position: 0, bytes: bytes.length });
  system.close(handle);
}

/** What is at a path as text; undefined when there is nothing. */
function textAt(system: System, path: string): string | undefined {
  const handle = system.open(path, "read");
  if (handle < 0) return undefined;
  const bytes = new Uint8Array(2 * RECORD_BYTES_MAX);
  const count = system.read(handle, bytes, { position: 0, bytes: bytes.length });
  system.close(handle);
  return new TextDecoder().decode(bytes.subarray(0, count));
}

function refused(code: string, body: () => unknown): EmdbError {
  try {
    body();
  } catch (error) {
    if (error instanceof EmdbError && error.code === code) return error;
    throw error;
  }
  throw new Error(`it is not ${code}`);
}

test("who is refused the lock is told of its holder, in this process or another one, and holds nothing", () => {
  const { one, other } = two();
  const lock = LockFile.take(one, PATH);
  lock.record();
  const held = one.held();
  const elsewhere = refused("EMDB_LOCKED", () => LockFile.take(other, PATH));
  expect(elsewhere.message).toContain("process 1 on simulated");
  expect(elsewhere.holder).toMatchObject({
    pid: 1,
    hostname: "simulated",
    packageVersion: PACKAGE_VERSION,
    isHeld: true,
  });
  const here = refused("EMDB_LOCKED", () => LockFile.take(one, PATH));
  expect([here.message.includes("in this process"), here.path]).toEqual([true, PATH]);
  expect([other.held(), one.held()]).toEqual([[], held]);
  expect([isLockHeld(other, PATH), lock.isOurs]).toEqual([true, true]);
  lock.release(false);
  expect([isLockHeld(other, PATH), one.held(), readHolder(other, PATH)?.isHeld]).toEqual([false, [], false]);
  expect([other.held(), one.misuses, other.misuses]).toEqual([[], [], []]);
});

test("a record names a holder only with all of its parts, each of its kind", () => {
  const { one } = two();
  const holderOf = (content: string): unknown => {
    put(one, LOCK, content);
    return readHolder(one, PATH);
  };
  const whole = JSON.stringify(RECORD);
  for (const text of [whole, `${whole}\n`, `${whole}\n"rest of a longer one"}\n`])
    expect(holderOf(text)).toEqual({ ...RECORD, isHeld: false });
  for (const key of Object.keys(RECORD) as (keyof typeof RECORD)[]) {
    expect(holderOf(JSON.stringify({ ...RECORD, [key]: undefined }))).toBeUndefined();
    expect(holderOf(JSON.stringify({ ...RECORD, [key]: typeof RECORD[key] === "number" ? "5" : 5 }))).toBeUndefined();
  }
  for (const text of ["", "null", "5", "[]", '"text"', whole.slice(0, -1)]) expect(holderOf(text)).toBeUndefined();
  expect(one.held()).toEqual([]);
});

test("an open that fails takes the lock file away that it has made, and leaves one that was there as it was", () => {
  const { one } = two();
  const first = LockFile.take(one, PATH);
  first.record();
  first.release(true);
  expect(textAt(one, LOCK)).toBeUndefined();
  for (const before of [`${JSON.stringify(RECORD)}\n`, "", "\0".repeat(300)]) {
    put(one, LOCK, before);
    const lock = LockFile.take(one, PATH);
    lock.record();
    expect(readHolder(one, PATH)).toMatchObject({ pid: 1, isHeld: true });
    lock.release(true);
    expect(textAt(one, LOCK)).toBe(before);
  }
  const last = LockFile.take(one, PATH);
  last.record();
  last.release(false);
  expect(readHolder(one, PATH)).toMatchObject({ pid: 1, isHeld: false });
  expect(one.held()).toEqual([]);
});

test("who was robbed of the lock by force knows it, and lets the robber's be", () => {
  const { one, other } = two();
  const robbed = LockFile.take(one, PATH);
  robbed.record();
  robbed.mustBeOurs();
  breakLock(other, PATH, true);
  expect(robbed.isOurs).toBe(false);
  refused("EMDB_LOCKED", () => robbed.mustBeOurs());
  const robber = LockFile.take(other, PATH);
  robber.record();
  expect(refused("EMDB_LOCKED", () => robbed.mustBeOurs()).holder).toMatchObject({ pid: 2, isHeld: true });
  robbed.release(true);
  expect([robber.isOurs, readHolder(one, PATH)?.pid, one.held()]).toEqual([true, 2, []]);
  robber.release(false);
  expect(other.held()).toEqual([]);
});

test("without force a lock is broken whose holder is dead, and no other one; where there is none, none is made", () => {
  const { one, other } = two();
  breakLock(other, PATH, false);
  breakLock(other, PATH, true);
  expect(textAt(one, LOCK)).toBeUndefined();
  const lock = LockFile.take(one, PATH);
  lock.record();
  expect(refused("EMDB_LOCKED", () => breakLock(other, PATH, false)).holder?.pid).toBe(1);
  expect([lock.isOurs, other.held()]).toEqual([true, []]);
  lock.release(false);
  breakLock(other, PATH, false);
  expect([textAt(one, LOCK), other.held()]).toEqual([undefined, []]);
  expect([readHolder(other, PATH), isLockHeld(other, PATH), other.misuses]).toEqual([undefined, false, []]);
});

test("a log that is locked under another name is refused, unless its lock was broken by force, which the next record says too", () => {
  const { one, other } = two();
  const claimed = (system: System, lock: LockFile): number => {
    const handle = system.open(PATH, "write");
    try {
      lock.claim(handle);
    } catch (error) {
      system.close(handle);
      throw error;
    }
    return handle;
  };
  const robbed = LockFile.take(one, PATH);
  robbed.record();
  const log = claimed(one, robbed);
  // The lock file was removed while it was held, by hand: the log's own lock stands.
  one.unlink(LOCK);
  const lock = LockFile.take(other, PATH);
  refused("EMDB_LOCKED", () => claimed(other, lock));
  lock.release(true);
  // It was not held when it was broken: whose lock on the log that is nobody has said.
  put(one, LOCK, "");
  breakLock(other, PATH, true);
  expect(textAt(one, LOCK)).toBeUndefined();
  const held = LockFile.take(one, PATH);
  breakLock(other, PATH, true);
  expect(textAt(one, LOCK)).toContain('{"pid":null,"broken":');
  const robber = LockFile.take(other, PATH);
  const own = claimed(other, robber);
  robber.record();
  expect([textAt(other, LOCK)?.includes('"broken"'), readHolder(one, PATH)?.pid]).toEqual([true, 2]);
  // Also when that one is robbed in turn, or has died.
  robber.release(false);
  breakLock(other, PATH, true);
  const last = LockFile.take(other, PATH);
  other.close(claimed(other, last));
  last.release(false);
  for (const file of [held, robbed]) file.release(false);
  for (const [system, handle] of [
    [one, log],
    [other, own],
  ] as const)
    system.close(handle);
  expect([one.held(), other.held()]).toEqual([[], []]);
  breakLock(other, PATH, true);
  expect(textAt(one, LOCK)).toBeUndefined();
});

test("what stands at the place of a lock and is none is refused, stays as it is, and is closed", () => {
  const { one } = two();
  const text = "notes of somebody\n";
  for (const content of [text, "x".repeat(RECORD_BYTES_MAX), "\0".repeat(RECORD_BYTES_MAX + 1)]) {
    put(one, LOCK, content);
    for (const body of [
      () => LockFile.take(one, PATH),
      () => breakLock(one, PATH, true),
      () => breakLock(one, PATH, false),
    ])
      expect(refused("EMDB_INVALID_CONFIG", body).message).toContain("choose another path");
    expect([textAt(one, LOCK), one.held()]).toEqual([content, []]);
  }
  put(one, LOCK, "\0".repeat(RECORD_BYTES_MAX));
  const lock = LockFile.take(one, PATH);
  lock.record();
  expect(readHolder(one, PATH)?.pid).toBe(1);
  lock.release(false);
  // Bytes that no text has, as a power loss may leave them, are locked and not written over.
  put(one, LOCK, Uint8Array.of(0, 255, 1, 254));
  const torn = LockFile.take(one, PATH);
  torn.record();
  torn.release(true);
  expect([textAt(one, LOCK)?.length, one.held()]).toEqual([4, []]);
});

test("a lock file that is another one by the time it is locked is tried again, a hundred times", () => {
  const { one } = two();
  for (const [times, code] of [
    [99, undefined],
    [100, "EMDB_LOCKED"],
  ] as const) {
    let count = 0;
    const system = faulty(one, (call) => {
      if (call === "lock" && count++ < times) one.unlink(LOCK);
      return undefined;
    });
    const take = (): LockFile => LockFile.take(system, PATH);
    if (code === undefined) take().release(true);
    else expect(refused(code, take).message).toContain("kept changing");
    expect([count, one.held()]).toEqual([100, []]);
  }
});

test("a disk without room for a record is no obstacle, unless the record is to say of a broken lock", () => {
  const { one, other } = two();
  put(one, LOCK, `${JSON.stringify(RECORD)}\n`);
  let errno: number = Errno.ENOSPC;
  const system = faulty(one, (call) => (call === "write" ? -errno : undefined));
  const lock = LockFile.take(system, PATH);
  lock.record();
  // Rather none than that of a dead one.
  expect([textAt(one, LOCK), lock.isOurs]).toEqual(["", true]);
  errno = Errno.EIO;
  refused("EMDB_IO", () => lock.record());
  errno = Errno.ENOSPC;
  const log = one.open(PATH, "write");
  lock.claim(log);
  breakLock(other, PATH, true);
  const full = faulty(other, (call) => (call === "write" ? -Errno.ENOSPC : undefined));
  const robber = LockFile.take(full, PATH);
  const own = other.open(PATH, "write");
  robber.claim(own);
  refused("EMDB_FULL", () => robber.record());
  // Nor can it be written back: then it goes on to say what it did.
  robber.release(true);
  lock.release(true);
  one.close(log);
  other.close(own);
  expect([textAt(one, LOCK)?.includes("broken"), one.held(), other.held()]).toEqual([true, [], []]);
});

test("an error of the system is told as that, and what is not known is not taken for leave", () => {
  const { one, other } = two();
  let failing: keyof System | undefined;
  const system = faulty(other, (call) => (call === failing ? -Errno.EIO : undefined));
  const toldOf = (call: keyof System, body: () => unknown): unknown => {
    failing = call;
    try {
      const { syscall, errno } = refused("EMDB_IO", body);
      return [syscall, errno];
    } finally {
      failing = undefined;
    }
  };
  expect(toldOf("lock", () => LockFile.take(system, PATH))).toEqual(["flock", "EIO"]);
  expect(toldOf("unlink", () => breakLock(system, PATH, true))).toEqual(["unlink", "EIO"]);
  expect(toldOf("open", () => LockFile.take(system, PATH))).toEqual(["open", "EIO"]);
  expect(other.held()).toEqual([]);
  const lock = LockFile.take(system, PATH);
  const [theirs, log] = [one.open(PATH, "write"), other.open(PATH, "write")];
  expect(toldOf("lock", () => lock.claim(log))).toEqual(["flock", "EIO"]);
  one.lock(theirs);
  failing = "statusOf";
  refused("EMDB_LOCKED", () => lock.claim(log));
  failing = undefined;
  lock.release(true);
  other.close(log);
  one.close(theirs);
  expect([one.held(), other.held(), one.misuses, other.misuses]).toEqual([[], [], [], []]);
});

test("a lock is broken by force also where that cannot be noted, and what cannot be read is not written over", () => {
  const { one, other } = two();
  const system = faulty(other, (call, [, mode]) => (call === "open" && mode === "create" ? -Errno.ENOSPC : undefined));
  const lock = LockFile.take(one, PATH);
  const log = one.open(PATH, "write");
  lock.claim(log);
  breakLock(system, PATH, true);
  expect([textAt(one, LOCK), lock.isOurs]).toEqual([undefined, false]);
  one.close(log);
  lock.release(false);
  one.unlink(PATH);
  const last = LockFile.take(one, PATH);
  breakLock(other, PATH, true);
  expect([textAt(one, LOCK), readHolder(other, PATH)]).toEqual([undefined, undefined]);
  last.release(false);
  put(one, LOCK, "\0\0");
  const unread = LockFile.take(
    faulty(one, (call) => (call === "read" ? -Errno.EIO : undefined)),
    PATH,
  );
  unread.record();
  unread.release(false);
  expect(textAt(one, LOCK)).toBe("\0\0");
  expect([one.held(), other.held(), one.misuses, other.misuses]).toEqual([[], [], [], []]);
});

test("who only asks for a moment is waited for, five milliseconds and no longer", () => {
  const { one } = two();
  for (const busy of [5, 6]) {
    let count = 0;
    const system = faulty(one, (call) => (call === "lock" && count++ < busy ? -Errno.EAGAIN : undefined));
    if (busy === 5) LockFile.take(system, PATH).release(true);
    else refused("EMDB_LOCKED", () => LockFile.take(system, PATH));
    expect([count, one.held()]).toEqual([6, []]);
  }
});

test("a lock that others may have to let go of is named while it is had, and one that was adopted removes nothing", () => {
  const { one, other } = two();
  const words: SharedFile = { numbers: new Float64Array(2), handleAt: 0, stateAt: 1 };
  const lock = LockFile.take(one, PATH, words);
  expect(openHandle(words)).toBe(lock.token.handle);
  const others: SharedFile = { numbers: new Float64Array(2), handleAt: 0, stateAt: 1 };
  refused("EMDB_LOCKED", () => LockFile.take(other, PATH, others));
  expect([openHandle(others), other.held()]).toEqual([undefined, []]);
  const adopted = LockFile.adopt(one, PATH, lock.token);
  expect(adopted.isOurs).toBe(true);
  adopted.record();
  adopted.release(true, words);
  expect([textAt(one, LOCK), openHandle(words), one.held(), one.misuses]).toEqual(["", undefined, [], []]);
});
