/**
 * What the loops and the records around kernel32's calls do when a transfer is short, a file is longer than 4 GiB or a call
 * fails: the real implementation over calls that answer by a script. It runs wherever the tests do.
 */

import { expect, spyOn, test } from "bun:test";
import fs from "node:fs";
import { basename, resolve } from "node:path";
import { Errno } from "../../src/ffi/errno.ts";
import { ioError } from "../../src/ffi/io-error.ts";
import { copy, pinned, type Place } from "../../src/ffi/memory.ts";
import type { WindowsCalls, WindowsRandomCalls } from "../../src/ffi/symbols-win32.ts";
import type { Result } from "../../src/ffi/system.ts";
import { WindowsSystem } from "../../src/ffi/win32.ts";

const [FILE, SECOND, MAPPING] = [64, 68, 72];
const [HANDLE_EOF, DISK_FULL, NO_MEMORY, INVALID_HANDLE] = [38, 112, 8, 6];
const GRANULARITY = 65_536;
const TWO_32 = 2 ** 32;

/** Reads so many words of memory. */
function wordsAt(address: number, count: number): number[] {
  const bytes = new Uint8Array(4 * count);
  copy(bytes, address, bytes.length);
  return [...new Uint32Array(bytes.buffer)];
}

function putWords(address: number, words: readonly number[]): number {
  copy(address, new Uint8Array(Uint32Array.from(words).buffer), 4 * words.length);
  return 1;
}

/** The position that an OVERLAPPED says, whose other words are zero. */
function positionOf(overlapped: number): number {
  const [one, two, three, four, low, high, event, eventHigh] = wordsAt(overlapped, 8);
  expect([one, two, three, four, event, eventHigh]).toEqual([0, 0, 0, 0, 0, 0]);
  return low! + high! * TWO_32;
}

type Answers = Partial<Record<keyof WindowsCalls, (...args: number[]) => number>>;

interface Machine {
  readonly system: WindowsSystem;
  /** The calls so far with their arguments; memory of the caller's is -1. */
  readonly asked: [name: string, ...args: number[]][];
  /** What the last call failed with: it is another one when a handle was closed behind that. */
  code: number;
}

/** Every call succeeds but those that have an answer of their own. */
function machine(answers: Answers): Machine {
  const asked: Machine["asked"] = [];
  const beginnings: Answers = {
    GetSystemInfo: (into) => putWords(into, [0, 4096, 0, 0, 0, 0, 0, 0, 0, 0, GRANULARITY]),
    QueryPerformanceFrequency: (into) => putWords(into, [1000, 0]),
    ReOpenFile: () => SECOND,
    CreateFileMappingW: () => MAPPING,
    GetLastError: () => one.code,
    CloseHandle: () => ((one.code = INVALID_HANDLE), 1),
  };
  const calls = new Proxy({} as WindowsCalls, {
    get: (_, name: keyof WindowsCalls) =>
      Object.assign(
        (...args: number[]): number => {
          asked.push([name, ...args.map((arg) => (typeof arg === "number" ? arg : -1))]);
          return (answers[name] ?? beginnings[name])?.(...args) ?? 1;
        },
        { ptr: 4096 },
      ),
  });
  const random = {} as WindowsRandomCalls;
  const one: Machine = { system: new WindowsSystem({ system: calls, random }), asked, code: 0 };
  asked.length = 0;
  return one;
}

const named = ({ asked }: Machine, name: keyof WindowsCalls): number[][] =>
  asked.filter(([other]) => other === name).map(([, ...args]) => args);

/** Transfers of a file whose bytes say where they are; each moves so many bytes as the script says, a negative one fails. */
function transfers(script: readonly number[], moved: { position: number; bytes: number[] }[]) {
  let turn = 0;
  return (isRead: boolean) =>
    (_: number, place: Place, bytes: number, into: number, overlapped: number): number => {
      const position = positionOf(overlapped);
      const count = script[turn++];
      if (count === undefined) throw new Error("called once more than the script has answers");
      if (count < 0) return 0;
      expect(count).toBeLessThanOrEqual(bytes);
      const content = Uint8Array.from({ length: count }, (__, index) => (position + index) % 251);
      const to = typeof place === "number" ? place : place;
      if (isRead && count > 0) copy(to, content, count);
      if (!isRead && count > 0) copy(content, to, count);
      moved.push({ position, bytes: [...content] });
      return putWords(into, [count]);
    };
}

const START = TWO_32 - 4;
const expected = (count: number): number[] => Array.from({ length: count }, (_, index) => (START + index) % 251);

test("a read that is short goes on where it stopped, behind 4 GiB too, and ends where the file does", () => {
  for (const [script, read] of [
    [[3, 2, 5], 10],
    [[3, 0], 3],
    [[3, 4, -1], 7],
    [[-1], 0],
  ] as const) {
    const reads = transfers(script, [])(true);
    const one = machine({ ReadFile: reads, GetLastError: () => HANDLE_EOF });
    const into = new Uint8Array(10);
    expect(one.system.read(FILE, into, { position: START, bytes: 10 })).toBe(read);
    expect([...into]).toEqual([...expected(read), ...new Uint8Array(10 - read)]);
  }
  const failing = machine({ ReadFile: transfers([3, -1], [])(true), GetLastError: () => NO_MEMORY });
  expect(failing.system.read(FILE, new Uint8Array(10), { position: 0, bytes: 10 })).toBe(-Errno.ENOMEM);
});

test("a write that is short goes on where it stopped, and one that moves nothing has failed", () => {
  const memory = pinned(10);
  memory.u8.set(expected(10));
  for (const from of [memory.u8.subarray(0, 10), memory.address]) {
    const moved: { position: number; bytes: number[] }[] = [];
    const one = machine({ WriteFile: transfers([3, 2, 5], moved)(false) });
    expect(one.system.write(FILE, from, { position: START, bytes: 10 })).toBe(10);
    expect(moved.map(({ position }) => position)).toEqual([START, START + 3, START + 5]);
    expect(moved.flatMap(({ bytes }) => bytes)).toEqual(expected(10));
  }
  const stuck = machine({ WriteFile: transfers([3, 0], [])(false) });
  expect(stuck.system.write(FILE, memory.address, { position: 0, bytes: 10 })).toBe(-Errno.EIO);
  const full = machine({ WriteFile: transfers([3, -1], [])(false), GetLastError: () => DISK_FULL });
  expect(full.system.write(FILE, memory.address, { position: 0, bytes: 10 })).toBe(-Errno.ENOSPC);
});

test("a sync tells how the flush went, not how its handle was closed, and closes that", () => {
  for (const isFlushed of [1, 0]) {
    const FlushFileBuffers = (): number => ((one.code = DISK_FULL), isFlushed);
    const one = machine({ FlushFileBuffers });
    expect(one.system.sync(FILE)).toBe(isFlushed === 1 ? 0 : -Errno.ENOSPC);
    expect([named(one, "FlushFileBuffers"), named(one, "CloseHandle")]).toEqual([[[SECOND]], [[SECOND]]]);
    // Where the file cannot be opened once more it is flushed by the handle at hand.
    const other = machine({ FlushFileBuffers: () => isFlushed, ReOpenFile: () => -1, GetLastError: () => DISK_FULL });
    expect(other.system.sync(FILE)).toBe(isFlushed === 1 ? 0 : -Errno.ENOSPC);
    expect([named(other, "FlushFileBuffers"), named(other, "CloseHandle")]).toEqual([[[FILE]], []]);
  }
});

test("an allocation lengthens a file, never shortens it, and lengths are told in both halves", () => {
  const lengths: number[] = [];
  const one = machine({
    GetFileSizeEx: (_, into) => putWords(into, [8, 1]),
    SetFileInformationByHandle: (_, __, from) => {
      const [low, high] = wordsAt(from, 2);
      return lengths.push(low! + high! * TWO_32);
    },
  });
  expect(one.system.size(FILE)).toBe(TWO_32 + 8);
  for (const bytes of [0, 8, TWO_32 + 8]) expect(one.system.allocate(FILE, bytes)).toBe(0);
  expect(lengths).toEqual([]);
  expect(one.system.allocate(FILE, TWO_32 + 9)).toBe(0);
  expect(one.system.truncate(FILE, 3 * TWO_32 + 1)).toBe(0);
  expect(lengths).toEqual([TWO_32 + 9, 3 * TWO_32 + 1]);
  const unknown = machine({ GetFileSizeEx: () => 0, GetLastError: () => INVALID_HANDLE });
  expect(unknown.system.allocate(FILE, 1)).toBe(-Errno.EBADF);
});

test("a file that a virus scanner has mapped for a moment is cut all the same, and who has another way is told at once", () => {
  const USER_MAPPED_FILE = 1224;
  const mapped = (times: number): Machine => {
    let left = times;
    const SetFileInformationByHandle = (): number => (left-- > 0 ? 0 : 1);
    return machine({ SetFileInformationByHandle, GetLastError: () => USER_MAPPED_FILE });
  };
  const cuts = (one: Machine): number => named(one, "SetFileInformationByHandle").length;
  for (const times of [0, 1, 3]) {
    const one = mapped(times);
    expect([one.system.truncate(FILE, 5), cuts(one)]).toEqual([0, times + 1]);
  }
  const atOnce = mapped(1);
  expect([atOnce.system.truncate(FILE, 5, "at once"), cuts(atOnce)]).toEqual([-Errno.EBUSY, 1]);
  const forGood = mapped(Infinity);
  expect([forGood.system.truncate(FILE, 5), cuts(forGood)]).toEqual([-Errno.EBUSY, 9]);
  const full = machine({ SetFileInformationByHandle: () => 0, GetLastError: () => DISK_FULL });
  expect([full.system.truncate(FILE, 5), cuts(full)]).toEqual([-Errno.ENOSPC, 1]);
});

/** Puts a script in the place of a call of `node:fs` for a while. */
function scripted<T>(
  name: "unlinkSync" | "realpathSync" | "readlinkSync" | "mkdirSync",
  script: (path: string) => string | undefined,
  body: () => T,
): T {
  const spy = name === "realpathSync" ? spyOn(fs.realpathSync, "native") : spyOn(fs, name as "unlinkSync");
  spy.mockImplementation(script as never);
  try {
    return body();
  } finally {
    spy.mockRestore();
  }
}

test("a file that a virus scanner has in hand for a moment is removed all the same, and any other refusal is told at once", () => {
  const { system } = machine({});
  const removal = (times: number, code: string): [Result, number] => {
    let asked = 0;
    const script = (): undefined => {
      if (asked++ < times) throw Object.assign(new Error(code), { code });
    };
    const result = scripted("unlinkSync", script, () => system.unlink("/a"));
    return [result, asked];
  };
  for (const times of [0, 1, 3]) expect(removal(times, "EBUSY")).toEqual([0, times + 1]);
  expect(removal(Infinity, "EBUSY")).toEqual([-Errno.EBUSY, 9]);
  for (const code of ["ENOENT", "EPERM", "EACCES"] as const) expect(removal(1, code)).toEqual([-Errno[code], 1]);
});

test("a path on a server that is not reached is not a path to nothing", () => {
  const [FILE_NOT_FOUND, BAD_NETPATH, BAD_NET_NAME] = [2, 53, 67];
  const script = (): undefined => {
    throw Object.assign(new Error("ENOENT"), { code: "ENOENT" });
  };
  for (const [code, expected] of [
    [FILE_NOT_FOUND, -Errno.ENOENT],
    [BAD_NETPATH, -Errno.EHOSTUNREACH],
    [BAD_NET_NAME, -Errno.EHOSTUNREACH],
  ] as const) {
    const one = machine({ CreateFileW: () => -1, GetLastError: () => code });
    expect(one.system.status("/a")).toBe(expected);
    expect(scripted("realpathSync", script, () => one.system.realPath("/a"))).toBe(expected);
  }
  const { code, message } = ioError(-Errno.EHOSTUNREACH, { syscall: "stat", path: "/a" });
  expect([code, message]).toEqual(["EMDB_IO", expect.stringContaining("the server")]);
});

test("on a volume that the mount manager does not know, as a RAM disk, a path is real when it ends in no link", () => {
  const PATH_NOT_FOUND = 3;
  const refuse = (code: string) => (): undefined => {
    throw Object.assign(new Error(code), { code });
  };
  /** The real path, where a name is a link to what stands beside it. */
  const realOf = (path: string, links: Readonly<Record<string, string>>, code: string, answers: Answers = {}) => {
    const { system } = machine(answers);
    const readlink = (name: string): string => links[basename(name)] ?? refuse("EINVAL")()!;
    return scripted("readlinkSync", readlink, () =>
      scripted("realpathSync", refuse(code), () => system.realPath(resolve(path))),
    );
  };
  for (const code of ["EISDIR", "ENOENT", "EUNKNOWN"]) {
    expect(realOf("/r/a", {}, code)).toBe(resolve("/r/a"));
    expect(realOf("/r/one", { one: "two", two: "../s/three" }, code)).toBe(resolve("/s/three"));
  }
  expect(realOf("/r/one", { one: "one" }, "EISDIR")).toBe(-Errno.ELOOP);
  // What has come between the two looks has its real path all the same.
  let isThere = false;
  const late = (): string => {
    if (isThere) return "/real";
    isThere = true;
    return refuse("ENOENT")()!;
  };
  expect(scripted("realpathSync", late, () => machine({}).system.realPath("/link"))).toBe("/real");
  const none = { CreateFileW: () => -1, GetLastError: () => PATH_NOT_FOUND };
  expect(realOf("/r/a", {}, "ENOENT", none)).toBe(-Errno.ENOENT);
  expect(realOf("/r/a", {}, "EACCES", none)).toBe(-Errno.EACCES);
});

test("a folder that Windows does not let this program make is not one that is missing", () => {
  const script = (): undefined => {
    throw Object.assign(new Error("ENOENT"), { code: "ENOENT" });
  };
  const none = { CreateFileW: () => -1, GetLastError: () => 3 };
  for (const [answers, expected] of [
    [{}, -Errno.EPERM],
    [none, -Errno.ENOENT],
  ] as const) {
    const { system } = machine(answers);
    expect(scripted("mkdirSync", script, () => system.makeFolder("/a/b"))).toBe(expected);
  }
});

test("a lock is exclusive, waits for nobody, and lies where nobody reads; who asks whether it is held keeps none", () => {
  const places: number[] = [];
  const note = (at: number): number => places.push(positionOf(at));
  const locks: Answers = {
    LockFileEx: (_, __, ___, ____, _____, at) => note(at),
    UnlockFileEx: (_, __, ___, ____, at) => note(at),
  };
  const one = machine({ ...locks, ReadFile: transfers([0], [])(true) });
  one.system.read(FILE, new Uint8Array(1), { position: TWO_32 + 7, bytes: 1 });
  expect([one.system.lock(FILE), one.system.probeLock(FILE)]).toEqual([0, 0]);
  expect(named(one, "LockFileEx").map(([, flags]) => flags)).toEqual([3, 1]);
  expect(named(one, "UnlockFileEx").length).toBe(1);
  expect(new Set(places)).toEqual(new Set([0x4000_0000 * TWO_32]));
  const held = machine({ LockFileEx: () => 0, GetLastError: () => 33 });
  expect([held.system.probeLock(FILE), held.system.lock(FILE)]).toEqual([-Errno.EAGAIN, -Errno.EAGAIN]);
  expect(named(held, "UnlockFileEx")).toEqual([]);
});

test("a map ends where the file does, leaves no handle, and fails in the words of the call that failed", () => {
  const size = 3 * TWO_32;
  const GetFileSizeEx = (_?: number, into?: number): number => putWords(into!, [0, size / TWO_32]);
  const one = machine({ GetFileSizeEx, MapViewOfFile: () => ((one.code = NO_MEMORY), 0) });
  expect(one.system.map(FILE, size + 1)).toBe(-Errno.EINVAL);
  expect(one.system.map(FILE, 0)).toBe(-Errno.EINVAL);
  expect(one.asked.filter(([name]) => name !== "GetFileSizeEx")).toEqual([]);
  expect(one.system.map(FILE, size)).toBe(-Errno.ENOMEM);
  expect([named(one, "MapViewOfFile"), named(one, "CloseHandle")]).toEqual([[[MAPPING, 4, 0, 0, size]], [[MAPPING]]]);
  const mapped = machine({ GetFileSizeEx, MapViewOfFile: () => GRANULARITY });
  expect([mapped.system.map(FILE, 4096), named(mapped, "CloseHandle")]).toEqual([GRANULARITY, [[MAPPING]]]);
  // A view begins where one may, and whoever writes into it writes to a copy.
  const position = 2 * TWO_32 + GRANULARITY + 4097;
  expect(one.system.mapView(FILE, { position, bytes: 5 })).toBe(-Errno.ENOMEM);
  expect(named(one, "MapViewOfFile").at(-1)).toEqual([MAPPING, 1, 2, GRANULARITY, 4097 + 5]);
  expect(named(one, "CreateFileMappingW").at(-1)!.slice(2)).toEqual([8, 0, 0, 0]);
});
