/** What kernel32 is asked, over calls that answer by a script: it runs wherever the tests do. */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { ioError } from "../../src/ffi/io-error.ts";
import { copy } from "../../src/ffi/memory.ts";
import type { WindowsCalls } from "../../src/ffi/symbols-win32.ts";
import { openFile, renameFile, statusOfPath } from "../../src/ffi/win32-files.ts";
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
  // INVALID_FUNCTION, NOT_SUPPORTED, INVALID_PARAMETER, INVALID_LEVEL, FILE_SYSTEM_LIMITATION (exFAT), and no reason at all.
  for (const code of [1, 50, 87, 124, 665, 0]) {
    const byName = machine({
      CreateFileW: () => HANDLE,
      SetFileInformationByHandle: () => 0,
      GetLastError: () => code,
    });
    expect(renameFile(byName.calls, "/a", "/b")).toBe(0);
    expect(byName.asked.slice(-2)).toEqual(["CloseHandle", "MoveFileExW"]);
  }
  const unflushed = machine({ CreateFileW: () => HANDLE, FlushFileBuffers: () => 0, GetLastError: () => 1 });
  expect(renameFile(unflushed.calls, "/a", "/b")).toBe(-Errno.ENOSYS);
  expect(unflushed.asked).not.toContain("MoveFileExW");
});

/** What the records of a file say, in the words of each; undefined: the file system has no such record. */
interface Records {
  readonly tag?: readonly [attributes: number, tag: number];
  /** Of FILE_ID_INFO the volume and the id, six words. */
  readonly id?: readonly number[];
  readonly size: readonly [low: number, high: number];
  readonly isFolder?: boolean;
  /** The rename by handle as it was asked for. */
  renamed?: Uint8Array;
}

const [FILE_STANDARD_INFO, FILE_ATTRIBUTE_TAG_INFO, FILE_ID_INFO] = [1, 9, 18];
const [REPARSE_POINT, FOLDER] = [0x400, 0x10];

/** A machine with one file or folder, which counts the handles that are open. */
function machineWith(records: Records, answers: Answers = {}): Machine & { open: number } {
  const words = (at: number, values: readonly number[]): number => {
    const bytes = new Uint8Array(Uint32Array.from(values).buffer);
    copy(at, bytes, bytes.length);
    return 1;
  };
  const [low, high] = records.size;
  const asked: string[] = [];
  const answer = (name: keyof WindowsCalls, [, second = 0, third = 0, bytes = 0]: readonly number[]): number => {
    const own = answers[name];
    if (own !== undefined) return own();
    if (name === "CreateFileW") return HANDLE;
    if (name === "GetFileInformationByHandleEx") {
      if (second === FILE_ATTRIBUTE_TAG_INFO) return records.tag === undefined ? 0 : words(third, records.tag);
      if (second === FILE_ID_INFO) return records.id === undefined ? 0 : words(third, records.id);
      if (second === FILE_STANDARD_INFO)
        return words(third, [0, 0, low, high, 1, records.isFolder === true ? 0x100 : 0]);
    }
    if (name === "GetFileInformationByHandle")
      return words(second, [records.isFolder === true ? FOLDER : 0, 0, 0, 0, 0, 0, 0, 7, high, low, 1, 8, 9]);
    if (name === "SetFileInformationByHandle") copy((records.renamed = new Uint8Array(bytes)), third, bytes);
    return 1;
  };
  const found = {
    asked,
    open: 0,
    calls: new Proxy({} as WindowsCalls, {
      get:
        (_, name: keyof WindowsCalls) =>
        (...args: number[]) => {
          asked.push(name);
          const answered = answer(name, args);
          if (name === "CreateFileW" && answered !== -1) found.open += 1;
          if (name === "CloseHandle") found.open -= 1;
          return answered;
        },
    }),
  };
  return found;
}

test("a link is not followed to what is made, and what the system keeps elsewhere under its own name is opened", () => {
  const size = [0, 0] as const;
  const link = machineWith({ size, tag: [REPARSE_POINT, 0xa000_000c] });
  expect([openFile(link.calls, "/a", "write-or-create"), link.open]).toEqual([-Errno.ELOOP, 0]);
  for (const tag of [[REPARSE_POINT, 0x9000_001a], [0, 0xa000_000c], undefined] as const) {
    const file = machineWith({ size, ...(tag === undefined ? {} : { tag }) });
    expect([openFile(file.calls, "/a", "write-or-create"), file.open]).toEqual([HANDLE, 1]);
  }
});

test("what is no folder is not opened as one, nor a folder as a file, and no handle stays open", () => {
  const size = [0, 0] as const;
  const file = machineWith({ size });
  expect([openFile(file.calls, "/a", "folder"), file.open]).toEqual([-Errno.ENOTDIR, 0]);
  const folder = machineWith({ size, isFolder: true });
  expect([openFile(folder.calls, "/a", "folder"), folder.open]).toEqual([HANDLE, 1]);
  for (const isFolder of [true, false]) {
    // Denied as what it was asked for, and not to who only looks at it.
    let opened = 0;
    const CreateFileW = (): number => (opened++ === 0 ? -1 : HANDLE);
    const denied = machineWith({ size, isFolder }, { CreateFileW, GetLastError: () => ACCESS_DENIED });
    const result = openFile(denied.calls, "/a", "read");
    expect([result, denied.open]).toEqual([isFolder ? -Errno.EISDIR : -Errno.EACCES, 0]);
  }
});

test("a file is as long as both halves of its length say, and known by its volume and its number on it", () => {
  const size = [5, 3] as const;
  const bytes = 3 * 2 ** 32 + 5;
  const ids = [undefined, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7], [9, 2, 3, 4, 5, 6]];
  const seen = new Set<string>();
  for (const id of ids) {
    for (const isFolder of [false, true]) {
      const one = machineWith({ size, isFolder, ...(id === undefined ? {} : { id }) });
      const status = statusOfPath(one.calls, "/a");
      expect(status).toMatchObject({ kind: isFolder ? "folder" : "file", bytes });
      expect(one.open).toBe(0);
      if (typeof status !== "number") seen.add(status.identity);
    }
  }
  expect(seen.size).toBe(ids.length);
  expect(seen).toContain("7:8:9");
});

test("a file of which the system has no memory to tell does not pass for another one", () => {
  for (const [code, expected] of [
    [8, -Errno.ENOMEM],
    [1450, -Errno.ENOMEM],
    [50, { kind: "file", bytes: 5, identity: "7:8:9" }],
    [87, { kind: "file", bytes: 5, identity: "7:8:9" }],
  ] as const) {
    const one = machineWith({ size: [5, 0] }, { GetLastError: () => code });
    expect([statusOfPath(one.calls, "/a"), one.open]).toEqual([expected, 0]);
  }
});

test("a rename by handle replaces what is there, and its name ends without a zero", () => {
  const records: Records = { size: [0, 0] };
  const one = machineWith(records);
  expect([renameFile(one.calls, "/a", "/bcd"), one.open]).toEqual([0, 0]);
  const info = new DataView(records.renamed!.buffer);
  const name = Buffer.from(records.renamed!.subarray(20)).toString("utf16le");
  expect(name.endsWith("bcd\0")).toBe(true);
  // The flags, no folder that the name would be relative to, and the bytes of the name.
  const read = [0, 8, 12, 16].map((at) => info.getUint32(at, true));
  expect(read).toEqual([0x43, 0, 0, 2 * (name.length - 1)]);
});

test("a file is opened for what it is asked for, shared with everybody, and a rename by name replaces and is durable", () => {
  const asked: number[][] = [];
  const note = (...args: unknown[]): number => {
    asked.push(args.filter((arg) => typeof arg === "number"));
    return -1;
  };
  const calls = new Proxy({} as WindowsCalls, {
    get: (_, name: keyof WindowsCalls) =>
      name === "CreateFileW" ? note : name === "MoveFileExW" ? (...args: unknown[]) => -note(...args) : () => DISK_FULL,
  });
  for (const mode of ["read", "write", "write-through", "create", "write-or-create", "folder"] as const)
    expect(openFile(calls, "/a", mode)).toBe(-Errno.ENOSPC);
  const [READ, WRITE, ATTRIBUTES] = [0x8000_0000, 0x4000_0000, 0x80];
  const [NEW, EXISTING, ALWAYS] = [1, 3, 4];
  expect(asked.map(([access, share, , disposition]) => [access, share, disposition])).toEqual([
    [READ, 7, EXISTING],
    [READ + WRITE, 7, EXISTING],
    [READ + WRITE, 7, EXISTING],
    [READ + WRITE, 7, NEW],
    [READ + WRITE, 7, ALWAYS],
    [ATTRIBUTES, 7, EXISTING],
  ]);
  asked.length = 0;
  expect([renameFile(calls, "/a", "/b"), asked.at(-1)]).toEqual([0, [9]]);
});

test("a file that Windows does not let this program make is not one that is missing", () => {
  const [FILE_NOT_FOUND, PATH_NOT_FOUND] = [2, 3];
  const refused = (code: number): WindowsCalls => machine({ CreateFileW: () => -1, GetLastError: () => code }).calls;
  for (const mode of ["create", "write-or-create"] as const) {
    expect(openFile(refused(FILE_NOT_FOUND), "/a", mode)).toBe(-Errno.EPERM);
    expect(openFile(refused(PATH_NOT_FOUND), "/a", mode)).toBe(-Errno.ENOENT);
  }
  for (const mode of ["read", "write", "folder"] as const)
    expect(openFile(refused(FILE_NOT_FOUND), "/a", mode)).toBe(-Errno.ENOENT);
});

test("a name with a zero in it is refused before the system sees half of it", () => {
  const { calls, asked } = machine({});
  expect([openFile(calls, "/a\0b", "read"), statusOfPath(calls, "/a\0b")]).toEqual([-Errno.EINVAL, -Errno.EINVAL]);
  expect(renameFile(calls, "/a\0b", "/c")).toBe(-Errno.EINVAL);
  expect(renameFile(calls, "/a", "/c\0d")).toBe(-Errno.EINVAL);
  expect(asked).toEqual([]);
});

test("a call that fails without a reason has failed", () => {
  const silent = machine({ CreateFileW: () => -1, GetLastError: () => 0, MoveFileExW: () => 0 });
  expect(openFile(silent.calls, "/a", "read")).toBeLessThan(0);
  expect(renameFile(silent.calls, "/a", "/b")).toBeLessThan(0);
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
  // 0: the system does not tell whose it is.
  expect(runs(opened(0, TIMEOUT))).toBe(true);
});

test("whoever is asked about a thread leaves no handle of it", () => {
  for (const answers of [{}, { GetThreadTimes: () => 0 }, { GetProcessIdOfThread: () => process.pid + 4 }]) {
    const one = machine({ OpenThread: () => HANDLE, ...answers });
    threadName(one.calls, 8);
    isThreadRunning(one.calls, 8);
    const counts = ["OpenThread", "CloseHandle"].map((call) => one.asked.filter((name) => name === call).length);
    expect(counts).toEqual([2, 2]);
  }
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
