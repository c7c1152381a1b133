/** What kernel32 is asked, over calls that answer by a script: it runs wherever the tests do. */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { ioError } from "../../src/ffi/io-error.ts";
import { copy } from "../../src/ffi/memory.ts";
import type { WindowsCalls } from "../../src/ffi/symbols-win32.ts";
import { openFile, renameFile } from "../../src/ffi/win32-files.ts";
import { isThreadRunning, threadName } from "../../src/ffi/win32-threads.ts";

const ACCESS_DENIED = 5;
const SHARING_VIOLATION = 32;
const DISK_FULL = 112;
const HANDLE = 64;

interface Machine {
  readonly calls: WindowsCalls;
  /** The calls so far, by name. */
  readonly asked: string[];
}

type Answers = Partial<Record<keyof WindowsCalls, () => number>>;

/** Every call succeeds but those that have an answer of their own. */
function machine(answers: Answers): Machine {
  const asked: string[] = [];
  const calls = new Proxy({} as WindowsCalls, {
    get: (_, name: keyof WindowsCalls) => (): number => {
      asked.push(name);
      return answers[name]?.() ?? 1;
    },
  });
  return { calls, asked };
}

/** A file that so many looks at it find held, with an error. */
function heldFor(looks: number, code: number): Machine {
  let left = looks;
  return machine({
    CreateFileW: () => (left-- > 0 ? -1 : HANDLE),
    MoveFileExW: () => 0,
    GetLastError: () => code,
  });
}

const opens = ({ asked }: Machine): number => asked.filter((name) => name === "CreateFileW").length;

test("a file that a virus scanner has in hand for a moment is opened and renamed all the same", () => {
  for (const looks of [1, 2, 3]) {
    const opened = heldFor(looks, SHARING_VIOLATION);
    expect(openFile(opened.calls, "/a", "write")).toBe(HANDLE);
    expect(opens(opened)).toBe(looks + 1);
    const renamed = heldFor(looks, SHARING_VIOLATION);
    expect(renameFile(renamed.calls, "/a", "/b")).toBe(0);
    expect(opens(renamed)).toBe(looks + 1);
    expect(renamed.asked.at(-1)).toBe("CloseHandle");
  }
});

test("who holds a file for good is told of, and any other refusal at once", () => {
  expect(openFile(heldFor(Infinity, SHARING_VIOLATION).calls, "/a", "read")).toBe(-Errno.EBUSY);
  expect(renameFile(heldFor(Infinity, SHARING_VIOLATION).calls, "/a", "/b")).toBe(-Errno.EBUSY);
  const { message } = ioError(-Errno.EBUSY, { syscall: "open", path: "/a" });
  expect(message).toContain("another program");
  const full = heldFor(1, DISK_FULL);
  expect(renameFile(full.calls, "/a", "/b")).toBe(-Errno.ENOSPC);
  expect(opens(full)).toBe(1);
});

/** A machine that denies so many renames, by a handle and by name. */
function denying(renames: number): Machine {
  let left = renames;
  return machine({
    CreateFileW: () => HANDLE,
    SetFileInformationByHandle: () => (left-- > 0 ? 0 : 1),
    GetLastError: () => ACCESS_DENIED,
  });
}

const renames = ({ asked }: Machine): number => asked.filter((name) => name === "SetFileInformationByHandle").length;

test("a rename that is denied while a virus scanner looks at what it replaces is made again, as long as for who shares nothing", () => {
  for (const times of [1, 2, 8]) {
    const denied = denying(times);
    expect(renameFile(denied.calls, "/a", "/b")).toBe(0);
    expect(renames(denied)).toBe(times + 1);
    expect(denied.asked.filter((name) => name === "CloseHandle").length).toBe(times + 1);
  }
  const byName = machine({ CreateFileW: () => -1, MoveFileExW: () => 0, GetLastError: () => ACCESS_DENIED });
  expect(renameFile(byName.calls, "/a", "/b")).toBe(-Errno.EACCES);
  expect(byName.asked.filter((name) => name === "MoveFileExW").length).toBe(9);
});

test("a rename for whose denial there is another way is denied at once, and waits for who shares nothing", () => {
  const denied = denying(1);
  expect(renameFile(denied.calls, "/a", "/b", "at once")).toBe(-Errno.EACCES);
  expect(renames(denied)).toBe(1);
  const held = heldFor(1, SHARING_VIOLATION);
  expect(renameFile(held.calls, "/a", "/b", "at once")).toBe(0);
});

test("a rename that was done is not made again when the flush behind it is denied", () => {
  const unflushed = machine({
    CreateFileW: () => HANDLE,
    FlushFileBuffers: () => 0,
    GetLastError: () => ACCESS_DENIED,
  });
  expect(renameFile(unflushed.calls, "/a", "/b")).toBe(-Errno.EACCES);
  expect(renames(unflushed)).toBe(1);
});

test("where a file cannot be renamed by its handle it is by its name, and not where only the flush behind it fails", () => {
  const byName = machine({ CreateFileW: () => HANDLE, SetFileInformationByHandle: () => 0, GetLastError: () => 87 });
  expect(renameFile(byName.calls, "/a", "/b")).toBe(0);
  expect(byName.asked.at(-1)).toBe("MoveFileExW");
  const unflushed = machine({ CreateFileW: () => HANDLE, FlushFileBuffers: () => 0, GetLastError: () => 1 });
  expect(renameFile(unflushed.calls, "/a", "/b")).toBe(-Errno.ENOSYS);
  expect(unflushed.asked).not.toContain("MoveFileExW");
});

test("a thread has ended when the system says so, and not when it is too short of memory to tell", () => {
  const runs = (answers: Answers): boolean =>
    isThreadRunning(machine({ GetThreadTimes: () => 0, ...answers }).calls, 8);
  const [INVALID_PARAMETER, NOT_ENOUGH_MEMORY, NO_SYSTEM_RESOURCES, TIMEOUT, ENDED] = [87, 8, 1450, 258, 0];
  const refused = (code: number): Answers => ({ OpenThread: () => 0, GetLastError: () => code });
  for (const code of [INVALID_PARAMETER, ACCESS_DENIED]) expect(runs(refused(code))).toBe(false);
  for (const code of [NOT_ENOUGH_MEMORY, NO_SYSTEM_RESOURCES]) expect(runs(refused(code))).toBe(true);
  const opened = (owner: number, waited: number): Answers => ({
    OpenThread: () => HANDLE,
    GetProcessIdOfThread: () => owner,
    WaitForSingleObject: () => waited,
  });
  expect(runs(opened(process.pid, TIMEOUT))).toBe(true);
  expect(runs(opened(process.pid, ENDED))).toBe(false);
  expect(runs(opened(process.pid + 4, TIMEOUT))).toBe(false);
});

test("a thread that has the number of a dead one is another one, and a name fits its place in a row", () => {
  let born = 0n;
  const opened: number[] = [];
  const calls = new Proxy({} as WindowsCalls, {
    get: (_, name: keyof WindowsCalls) => (first: number, at: number, number: number) => {
      if (name === "OpenThread") opened.push(number);
      if (name === "GetThreadTimes") copy(at, new Uint8Array(new BigUint64Array([born]).buffer), 8);
      return name === "GetProcessIdOfThread" ? process.pid : name === "WaitForSingleObject" ? 258 : first + 1;
    },
  });
  for (const number of [4, 1234 * 4, 2 ** 26 - 4]) {
    // In October 2026, on a clock of 1/64 s and on one of 1 ms.
    for (const tick of [156_250n, 10_000n]) {
      born = 134_370_000_000_000_000n;
      const name = threadName(calls, number);
      expect(name >= 0 && name + 1 < 2 ** 31).toBe(true);
      expect(isThreadRunning(calls, name)).toBe(true);
      expect(opened.at(-1)).toBe(number);
      for (let ticks = 1n; ticks < 100n; ticks++) {
        born += tick;
        expect(isThreadRunning(calls, name)).toBe(false);
      }
    }
  }
});
