import { expect, spyOn, test } from "bun:test";
import { dlopen, type Pointer } from "bun:ffi";
import fs, { chmodSync, existsSync, readFileSync, statSync, statfsSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import type { FileStatus } from "../../src/ffi/system.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { linuxKernel } from "../../src/ffi/linux.ts";
import { copy, pinned } from "../../src/ffi/memory.ts";
import { PosixSystem } from "../../src/ffi/posix.ts";
import type { LinuxCalls } from "../../src/ffi/symbols-posix.ts";
import { emulator, namesOtherDevices } from "../support/platform.ts";
import { bytesOf, neverOpened, outcome, readText, system, TemporaryFolder } from "./temporary-folder.ts";

const isWindows = process.platform === "win32";
const isLinux = process.platform === "linux";

test("opening what is not there is ENOENT, unless it is to be created", () => {
  using folder = new TemporaryFolder();
  for (const mode of ["read", "write", "write-through"] as const) {
    expect(outcome(system.open(folder.at("none"), mode))).toBe("ENOENT");
  }
  folder.open("first", "write-or-create");
  folder.open("second", "create");
  expect(system.list(folder.path)).toHaveLength(2);
});

test.skipIf(isWindows)(
  "a file takes the mode of another one, and gives no group rights that its own group did not have",
  () => {
    using folder = new TemporaryFolder();
    const from = folder.opened("from", "");
    const modeOf = (name: string): number => statSync(folder.at(name)).mode & 0o7777;
    for (const [index, mode] of [0o600, 0o640, 0o664, 0o444].entries()) {
      chmodSync(folder.at("from"), mode);
      const name = `to ${index}`;
      expect(system.copyAccess!(from, folder.open(name, "create"))).toBe(0);
      expect(modeOf(name)).toBe(mode);
    }
    chmodSync(folder.at("from"), 0o664);
    const others = statSync(folder.at("from"));
    others.gid += 1;
    using refused = spyOn(fs, "fchownSync").mockImplementation(() => {
      throw Object.assign(new Error("not permitted"), { code: "EPERM" });
    });
    using told = spyOn(fs, "fstatSync").mockImplementationOnce((() => others) as never);
    expect(system.copyAccess!(from, folder.open("of another group", "create"))).toBe(0);
    expect(modeOf("of another group")).toBe(0o604);
    expect([refused, told].map((spy) => spy.mock.calls.length > 0)).toEqual([true, true]);
    expect(outcome(system.copyAccess!(neverOpened, from))).toBe("EBADF");
  },
);

// Under Wine `symlinkSync` makes nothing and says nothing.
test.skipIf(isWindows)("write-or-create follows no symbolic link", () => {
  using folder = new TemporaryFolder();
  symlinkSync(folder.at("nothing"), folder.at("link"));
  expect(outcome(system.open(folder.at("link"), "write-or-create"))).toBe("ELOOP");
  expect(existsSync(folder.at("nothing"))).toBe(false);
});

// As fs.protected_regular has it, for another user's file in a sticky folder.
test.skipIf(!isLinux)("write-or-create opens what is there also where the system refuses to create over it", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "kept");
  const calls = linuxKernel().calls as LinuxCalls;
  const errno = pinned(4);
  errno.i32[0] = Errno.EACCES;
  let asked = 0;
  const syscall: LinuxCalls["syscall"] = (number, ...rest) => {
    asked += 1;
    return (rest[2] & fs.constants.O_CREAT) === 0 ? calls.syscall(number, ...rest) : -1;
  };
  const refusing = new PosixSystem(linuxKernel({ ...calls, syscall, __errno_location: () => errno.address }));
  const opened = refusing.open(folder.at("a"), "write-or-create");
  expect(readText(opened, 0, 10)).toBe("kept");
  expect(refusing.close(opened)).toBe(0);
  expect(outcome(refusing.open(folder.at("none"), "write-or-create"))).toBe("EACCES");
  expect(outcome(refusing.open(folder.at("a"), "create"))).toBe("EACCES");
  expect(asked).toBe(5);
});

test("create refuses a file that exists, write-or-create keeps what is in it", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "kept");
  expect(outcome(system.open(folder.at("a"), "create"))).toBe("EEXIST");
  expect(readText(folder.open("a", "write-or-create"), 0, 10)).toBe("kept");
});

test("opening a folder for writing is EISDIR, a path through a file is an error, a zero byte in a path is EINVAL", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "");
  expect(outcome(system.open(folder.path, "write"))).toBe("EISDIR");
  expect(outcome(system.open(folder.at("a/b"), "create"))).toMatch(/^(ENOTDIR|ENOENT)$/);
  expect(outcome(system.open(folder.at("a\0b"), "create"))).toBe("EINVAL");
  expect(system.list(folder.path)).toEqual(["a"]);
});

test.skipIf(isWindows)("a created file is for its owner only, and no child process inherits it", () => {
  using folder = new TemporaryFolder();
  const file = folder.open("a", "create");
  expect(statSync(folder.at("a")).mode & 0o777).toBe(0o600);
  if (isLinux) {
    const flags = /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${file}`, "utf8"))?.[1] ?? "";
    expect(Number.parseInt(flags, 8) & 0o2000000).toBe(0o2000000);
  }
});

test.skipIf(!isLinux)("write-through opens with O_DSYNC, and no other mode does", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "");
  for (const mode of ["write", "write-through"] as const) {
    const flags = /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${folder.open("a", mode)}`, "utf8"))?.[1];
    expect((Number.parseInt(flags ?? "", 8) & 0o10000) !== 0).toBe(mode === "write-through");
  }
});

test("only where opening as write-through empties the drive's cache as well does the system not ask for a sync", () => {
  const empties = { linux: true, freebsd: true, darwin: false, win32: false } as Record<string, boolean>;
  expect(system.lacksWriteThrough !== true).toBe(empties[process.platform]!);
});

test("what was written through is there for a second handle", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "");
  const file = folder.open("a", "write-through");
  expect(system.write(file, bytesOf("through"), { position: 3, bytes: 7 })).toBe(7);
  expect(readText(folder.open("a", "read"), 3, 7)).toBe("through");
  expect(system.sync(file)).toBe(0);
});

test("a write lands at its position, from a view and from an address, and leaves the rest", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  expect(system.write(file, bytesOf("AB--"), { position: 2, bytes: 2 })).toBe(2);
  const memory = pinned(10);
  memory.u8.set(bytesOf("xyz"));
  expect(system.write(file, memory.address + 1, { position: 7, bytes: 2 })).toBe(2);
  expect(readText(file, 0, 20)).toBe("01AB456yz9");
});

test("a write behind the end leaves zeros between", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "a");
  expect(system.write(file, bytesOf("z"), { position: 4, bytes: 1 })).toBe(1);
  expect(readText(file, 0, 9)).toBe("a\0\0\0z");
});

test("a write of nothing is 0 and touches nothing", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "a");
  expect(system.write(file, new Uint8Array(0), { position: 100, bytes: 0 })).toBe(0);
  expect(system.size(file)).toBe(1);
});

test("positions beyond 4 GiB reach the file as they are", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "");
  const position = 5 * 2 ** 32 + 12_345;
  expect(system.write(file, bytesOf("far"), { position, bytes: 3 })).toBe(3);
  expect(system.size(file)).toBe(position + 3);
  expect(readText(file, position - 1, 9)).toBe("\0far");
  expect(system.truncate(file, 2 ** 32 + 1)).toBe(0);
  expect(system.size(file)).toBe(2 ** 32 + 1);
});

test("a read is short at the end of the file and 0 behind it", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const into = new Uint8Array(8).fill(1);
  expect(system.read(file, into, { position: 6, bytes: 8 })).toBe(4);
  expect(new TextDecoder().decode(into)).toBe("6789\u0001\u0001\u0001\u0001");
  expect(system.read(file, into, { position: 10, bytes: 8 })).toBe(0);
  expect(system.read(file, into, { position: 2 ** 40, bytes: 8 })).toBe(0);
  expect(system.read(file, into, { position: 0, bytes: 0 })).toBe(0);
});

test("errors of a transfer come back as values", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "0123456789");
  const reader = folder.open("a", "read");
  expect(outcome(system.write(reader, bytesOf("x"), { position: 0, bytes: 1 }))).toBe(isWindows ? "EACCES" : "EBADF");
  const into = new Uint8Array(1);
  expect(outcome(system.read(neverOpened, into, { position: 0, bytes: 1 }))).toBe("EBADF");
  expect(outcome(system.write(neverOpened, into, { position: 0, bytes: 1 }))).toBe("EBADF");
  expect(outcome(system.sync(neverOpened))).toBe("EBADF");
  expect(outcome(system.size(neverOpened))).toBe("EBADF");
  expect(outcome(system.truncate(neverOpened, 0))).toBe("EBADF");
  expect(outcome(system.allocate(neverOpened, 1))).toBe("EBADF");
  expect(outcome(system.statusOf(neverOpened))).toBe("EBADF");
  expect(outcome(system.lock(neverOpened))).toBe("EBADF");
  expect(outcome(system.close(neverOpened))).toBe("EBADF");
});

test.skipIf(!isLinux)("a full disk is ENOSPC", () => {
  const file = system.open("/dev/full", "write");
  expect(outcome(system.write(file, bytesOf("x"), { position: 0, bytes: 1 }))).toBe("ENOSPC");
  expect(system.close(file)).toBe(0);
});

test.skipIf(isWindows)("opening a named pipe does not wait for its other end", () => {
  using folder = new TemporaryFolder();
  expect(Bun.spawnSync(["mkfifo", folder.at("pipe")]).exitCode).toBe(0);
  const file = folder.open("pipe", "read");
  expect(system.statusOf(file)).toMatchObject({ kind: "other" });
});

test("numbers that are not whole bytes never reach the system", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const into = new Uint8Array(8);
  for (const number of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
    expect(() => system.read(file, into, { position: number, bytes: 1 })).toThrow("internal error");
    expect(() => system.read(file, into, { position: 0, bytes: number })).toThrow("internal error");
    expect(() => system.write(file, into, { position: number, bytes: 1 })).toThrow("internal error");
    expect(() => system.write(number, into, { position: 0, bytes: 1 })).toThrow("internal error");
    expect(() => system.truncate(file, number)).toThrow("internal error");
    expect(() => system.allocate(file, number)).toThrow("internal error");
    expect(() => system.map(file, number)).toThrow("internal error");
  }
  expect(() => system.read(file, into, { position: 0, bytes: 9 })).toThrow("internal error");
  expect(() => system.write(file, 0, { position: 0, bytes: 1 })).toThrow("internal error");
});

test("allocate makes the file as long as asked, with zeros, keeps what it held, and never shortens it", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  expect(outcome(system.allocate(file, 0))).toBe("ok");
  const result = system.allocate(file, 1_000_000);
  if (outcome(result) === "EOPNOTSUPP") {
    expect(system.size(file)).toBe(10);
    return;
  }
  expect(result).toBe(0);
  expect(system.size(file)).toBe(1_000_000);
  expect(readText(file, 0, 11)).toBe("0123456789\0");
  if (isLinux) expect(statSync(folder.at("a")).blocks * 512).toBeGreaterThanOrEqual(1_000_000);
  expect(system.allocate(file, 5000)).toBe(0);
  expect(system.size(file)).toBe(1_000_000);
});

test("allocating more than any disk has fails and leaves the file as long as it was", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  expect(outcome(system.allocate(file, 2 ** 52))).toMatch(/^(ENOSPC|EFBIG|EOPNOTSUPP|EINVAL|ENOMEM)$/);
  expect(system.size(file)).toBe(10);
  expect(readText(file, 0, 20)).toBe("0123456789");
});

test("truncate cuts, and lengthens with zeros", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  expect(system.truncate(file, 4)).toBe(0);
  expect(readText(file, 0, 10)).toBe("0123");
  expect(system.truncate(file, 6)).toBe(0);
  expect(readText(file, 0, 10)).toBe("0123\0\0");
});

test("sync answers 0 for a file and a folder, and says what is wrong with a folder that is none", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0");
  expect(system.sync(file)).toBe(0);
  expect(system.syncFolder(folder.path)).toBe(0);
  expect(outcome(system.syncFolder(folder.at("none")))).toBe("ENOENT");
  expect(outcome(system.syncFolder(folder.at("a")))).toBe("ENOTDIR");
});

/** How many pages of a file the kernel holds in its cache, by mincore(2). */
function cachedPages(file: number, bytes: number): number {
  const { symbols } = dlopen("libc.so.6", { mincore: { args: ["ptr", "ptr", "ptr"], returns: "i32" } });
  const pages = pinned(4096);
  const address = system.map(file, bytes);
  expect(symbols.mincore(address as Pointer, bytes as Pointer, pages.address as Pointer)).toBe(0);
  expect(system.unmap(address, bytes)).toBe(0);
  return pages.u8.subarray(0, Math.ceil(bytes / system.pageBytes)).filter((page) => (page & 1) === 1).length;
}

// Where the temporary folder is memory itself, there is nothing to let go of. qemu-user has no mincore of its own.
const isOnDisk = isLinux && emulator === undefined && statfsSync(tmpdir()).type !== 0x01021994;

test.skipIf(!isOnDisk)(
  "what was written and synced leaves the cache, is read from the disk, and what is mapped stays",
  () => {
    using folder = new TemporaryFolder();
    const bytes = 64 * system.pageBytes;
    const file = folder.opened("a", "x".repeat(bytes));
    expect(system.sync(file)).toBe(0);
    expect(cachedPages(file, bytes)).toBe(64);
    expect(system.forgetCached(file)).toBe(0);
    expect(cachedPages(file, bytes)).toBe(0);
    expect(readText(file, 0, bytes)).toBe("x".repeat(bytes));
    const address = system.map(file, bytes);
    copy(pinned(4096).address, address, 4096);
    expect(system.forgetCached(file)).toBe(0);
    expect(cachedPages(file, bytes)).toBeGreaterThan(0);
    expect(system.unmap(address, bytes)).toBe(0);
  },
);

test("forgetting what is cached keeps what is not synced yet, and an empty file is no error", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "not synced");
  expect(system.forgetCached(file)).toBe(0);
  expect(readText(file, 0, 20)).toBe("not synced");
  expect(system.forgetCached(folder.opened("b", ""))).toBe(0);
  expect(outcome(system.forgetCached(neverOpened))).toBe(isWindows ? "ok" : "EBADF");
});

test("the handles that are a file are found by its identity, as long as they are open", () => {
  using folder = new TemporaryFolder();
  const first = folder.opened("a", "0");
  const second = folder.open("a", "read");
  folder.opened("b", "0");
  const status = system.status(folder.at("a"));
  const { identity } = status as FileStatus;
  const found = (): readonly number[] => [...system.openHandles(identity)].sort((one, other) => one - other);
  expect(found()).toEqual(isWindows ? [] : [first, second].sort((one, other) => one - other));
  folder.close(second);
  expect(found()).toEqual(isWindows ? [] : [first]);
  expect(system.openHandles("no such file")).toEqual([]);
});

test("what is mapped of a file is found by its identity, where the system tells", () => {
  using folder = new TemporaryFolder();
  const [first, other] = [folder.opened("a", "some text"), folder.opened("b", "some text")];
  const { identity } = system.statusOf(first) as FileStatus;
  const bytes = isWindows ? 9 : 2 ** 20;
  const [one, two] = [system.map(first, bytes), system.map(first, bytes)].sort((left, right) => left - right) as [
    number,
    number,
  ];
  const others = system.map(other, bytes);
  const found = (): number[] =>
    system
      .mappingsOf(identity)
      .map((map) => map.address)
      .sort((left, right) => left - right);
  // An overlay tells from Linux 6.8 on.
  const tells = isLinux && (!namesOtherDevices(folder.path) || found().length > 0);
  expect(found()).toEqual(tells ? [one, two] : []);
  if (tells) expect(system.mappingsOf(identity)[0]).toEqual({ address: expect.any(Number), bytes });
  folder.close(first);
  system.unlink(folder.at("a"));
  expect(found()).toEqual(tells ? [one, two] : []);
  system.unmap(one, bytes);
  expect(found()).toEqual(tells ? [two] : []);
  system.unmap(two, bytes);
  system.unmap(others, bytes);
  expect([found(), system.mappingsOf("no such file")]).toEqual([[], []]);
});

test("a folder is opened as one, synced through its handle, and stays open", () => {
  using folder = new TemporaryFolder();
  folder.close(folder.opened("a", "0"));
  const { identity } = system.status(folder.path) as FileStatus;
  const held = system.open(folder.path, "folder");
  expect(held).toBeGreaterThan(0);
  system.rename(folder.at("a"), folder.at("b"));
  expect(system.syncFolder(folder.path, held)).toBe(0);
  expect(system.statusOf(held)).toMatchObject({ kind: "folder", identity });
  expect(system.close(held)).toBe(0);
  expect(outcome(system.open(folder.at("none"), "folder"))).toBe("ENOENT");
  expect(outcome(system.open(folder.at("b"), "folder"))).toBe("ENOTDIR");
});

test.skipIf(!isLinux)("no call leaves a descriptor open", () => {
  const descriptors = (): number => (system.list("/proc/self/fd") as readonly string[]).length;
  const before = descriptors();
  {
    using folder = new TemporaryFolder();
    const file = folder.opened("a", "0");
    system.syncFolder(folder.path);
    system.mapView(file, { position: 0, bytes: 1 });
    system.status(folder.path);
    system.open(folder.at("none"), "read");
  }
  expect(descriptors()).toBe(before);
});
