import { expect, test } from "bun:test";
import { constants } from "node:os";
import { Errno, errnoName, resultOfNumber, resultOfThrown } from "../../src/ffi/errno.ts";
import { emulator } from "../support/platform.ts";
import { neverOpened, outcome, system, TemporaryFolder } from "./temporary-folder.ts";

const isLinux = process.platform === "linux";
const isWindows = process.platform === "win32";

test.skipIf(!isLinux)("the numbers are Linux's own", () => {
  const theirs = constants.errno as unknown as Record<string, number | undefined>;
  for (const [name, number] of Object.entries(Errno)) {
    expect(`${name} ${theirs[name] ?? number}`).toBe(`${name} ${number}`);
  }
});

test("every error has a name, and a number without one is still told", () => {
  for (const [name, number] of Object.entries(Errno)) {
    expect(errnoName(-number)).toBe(name === "EWOULDBLOCK" ? "EAGAIN" : name);
  }
  expect(errnoName(-4000)).toBe("E4000");
});

test("errors of macOS and FreeBSD arrive under Linux's numbers", () => {
  for (const dialect of ["darwin", "freebsd"] as const) {
    const cases: [number, number][] = [
      [2, Errno.ENOENT],
      [11, Errno.EDEADLK],
      [28, Errno.ENOSPC],
      [35, Errno.EAGAIN],
      [45, Errno.EOPNOTSUPP],
      [62, Errno.ELOOP],
      [63, Errno.ENAMETOOLONG],
      [65, Errno.EHOSTUNREACH],
      [69, Errno.EDQUOT],
      [78, Errno.ENOSYS],
      [9999, Errno.EIO],
    ];
    for (const [theirs, ours] of cases) expect(resultOfNumber(dialect, theirs)).toBe(-ours);
  }
  expect(resultOfNumber("darwin", 102)).toBe(-Errno.EOPNOTSUPP);
  expect(resultOfNumber("freebsd", 85)).toBe(-Errno.ECANCELED);
});

test("errors of Windows arrive as the nearest of Linux's", () => {
  const cases: [number, number][] = [
    [2, Errno.ENOENT],
    [5, Errno.EACCES],
    [32, Errno.EBUSY],
    [33, Errno.EAGAIN],
    [39, Errno.ENOSPC],
    [53, Errno.EHOSTUNREACH],
    [67, Errno.EHOSTUNREACH],
    [80, Errno.EEXIST],
    [112, Errno.ENOSPC],
    [1224, Errno.EBUSY],
    [31, Errno.EIO],
    [0, Errno.EIO],
  ];
  for (const [theirs, ours] of cases) expect(resultOfNumber("windows", theirs)).toBe(-ours);
});

test("a result is an error whatever the number was", () => {
  for (const dialect of ["linux", "darwin", "freebsd", "windows"] as const) {
    for (let number = -2; number < 2000; number += 1) expect(resultOfNumber(dialect, number)).toBeLessThan(0);
  }
});

test("what node:fs throws becomes the number of its code", () => {
  const thrown = (code: string): Error => Object.assign(new Error(code), { code });
  expect(resultOfThrown(thrown("ENOSPC"))).toBe(-Errno.ENOSPC);
  expect(resultOfThrown(thrown("ENOTSUP"))).toBe(-Errno.EOPNOTSUPP);
  expect(resultOfThrown(thrown("ERR_INVALID_ARG_VALUE"))).toBe(-Errno.EINVAL);
  expect(resultOfThrown(thrown("toString"))).toBe(-Errno.EIO);
  expect(resultOfThrown("no error at all")).toBe(-Errno.EIO);
});

test("native errors keep their number over thousands of calls in hot code", () => {
  using folder = new TemporaryFolder();
  folder.file("a", "");
  const bytes = new Uint8Array(1);
  // Under an emulator each call takes much longer.
  const rounds = emulator === undefined ? 10_000 : 1000;
  const reader = folder.open("a", "read");
  const seen = new Set<string>();
  let garbage: unknown[] = [];
  for (let round = 0; round < rounds; round += 1) {
    garbage = [round, `${round}`, garbage.length];
    seen.add(outcome(system.close(neverOpened)));
    seen.add(outcome(isWindows ? system.write(reader, bytes, { position: 0, bytes: 1 }) : system.map(reader, 0)));
    if (system.size(reader) !== 0) seen.add("grew");
  }
  // mmap(2) says EINVAL for a length of 0; Windows denies access to a handle that is not for writing.
  expect([...seen].toSorted()).toEqual(isWindows ? ["EACCES", "EBADF"] : ["EBADF", "EINVAL"]);
});
