/** What macOS, FreeBSD and Linux are asked, over calls that answer by a script: it runs wherever the tests do. */

import { expect, test } from "bun:test";
import { freebsdKernel } from "../../src/ffi/freebsd.ts";
import { linuxKernel } from "../../src/ffi/linux.ts";
import { macosKernel } from "../../src/ffi/macos.ts";
import { pinned } from "../../src/ffi/memory.ts";
import type { FreebsdCalls, LinuxCalls, MacosCalls } from "../../src/ffi/symbols-posix.ts";
import { syncRecipe } from "../../src/ffi/sync-recipe.ts";
import { Errno, errnoName } from "../../src/ffi/errno.ts";
import { COMMIT_SCRIPT } from "../../src/log/commit-script.ts";
import { neverOpened } from "./temporary-folder.ts";

const errno = pinned(4);

function fails(number: number): number {
  errno.i32[0] = number;
  return -1;
}

function freebsd(calls: Partial<FreebsdCalls>): ReturnType<typeof freebsdKernel> {
  return freebsdKernel({ __error: () => errno.address, ...calls } as FreebsdCalls);
}

function macos(calls: Partial<MacosCalls>): ReturnType<typeof macosKernel> {
  return macosKernel({ __error: () => errno.address, ...calls } as MacosCalls);
}

test("FreeBSD reserves what is behind the end of a file, and does not write the file itself anew", () => {
  const asked: number[][] = [];
  const kernel = freebsd({ posix_fallocate: (...args) => (asked.push(args), 0) });
  expect(kernel.allocate(7, { size: 1000, bytes: 5000 })).toBe(0);
  expect(kernel.allocate(7, { size: 5000, bytes: 5000 })).toBe(0);
  expect(kernel.allocate(7, { size: 9000, bytes: 5000 })).toBe(0);
  expect(asked).toEqual([[7, 1000, 4000]]);
});

test("who cannot reserve space on Linux says so in one way, whatever the file system or a sandbox calls it; a full disk is one", () => {
  let error = 0;
  const calls = { __errno_location: () => errno.address, fallocate: () => fails(error) };
  const kernel = linuxKernel(calls as unknown as LinuxCalls);
  const allocated = (name: keyof typeof Errno): string => {
    error = Errno[name];
    return errnoName(kernel.allocate(7, { size: 0, bytes: 4096 }));
  };
  for (const name of ["EOPNOTSUPP", "ENOSYS", "EINVAL", "ENODEV", "EPERM"] as const)
    expect(allocated(name)).toBe("EOPNOTSUPP");
  for (const name of ["ENOSPC", "EDQUOT", "EFBIG", "EIO", "EINTR", "EBADF"] as const)
    expect(allocated(name)).toBe(name);
});

test("macOS says in a value, as of any call, that the file to reserve space for cannot be looked at", () => {
  const kernel = macos({});
  expect(kernel.allocate(neverOpened, { size: 0, bytes: 4096 })).toBe(-Errno.EBADF);
});

test("on macOS the commit Worker takes the same errors for a file system without a full sync as every other sync does", () => {
  const { fallbackOn, fallback } = syncRecipe("macos");
  expect(fallback).toBe("fsync");
  let number = 0;
  let synced = 0;
  const kernel = macos({ fcntl: () => fails(number), fsync: () => (synced++, 0) });
  const found: number[] = [];
  for (number = 1; number < 256; number++) {
    synced = 0;
    expect(kernel.sync(7)).toBe(synced - 1);
    if (synced > 0) found.push(number);
  }
  expect(found.length).toBeGreaterThan(3);
  expect([...fallbackOn].sort((a, b) => a - b)).toEqual(found);
});

test("a second descriptor of a file is asked for by each system's own number, from the third one on", () => {
  const asked: unknown[][] = [];
  // At both places where a variadic argument is looked for: see symbols-posix.ts.
  freebsd({ fcntl: (...args) => asked.push(args) }).duplicate(7, 3);
  macos({ fcntl: (...args) => asked.push(args) }).duplicate(7, 3);
  expect(asked).toEqual([
    [7, 17, 3, 0, 0, 0, 0, 0, 3],
    [7, 67, 3, 0, 0, 0, 0, 0, 3],
  ]);
});

/** The sync of a commit Worker on macOS, where each call answers 0 or an error in turn. */
function commitSync(fcntl: number[], fsync: number[]): (file: number) => number {
  const answer = (script: number[]) => (): number => {
    const number = script.shift();
    if (number === undefined) throw new Error("called once more than the script has answers");
    return number === 0 ? 0 : fails(number);
  };
  const symbols = { fcntl: answer(fcntl), fsync: answer(fsync), __error: () => errno.address };
  const text = `${COMMIT_SCRIPT.replace(/^import .*$/m, "")}; return makeSync;`;
  // oxlint-disable-next-line typescript/no-implied-eval -- The package starts this very text as a Worker.
  const program = new Function("dlopen", "read", "self", text) as (
    ...names: unknown[]
  ) => (recipe: unknown) => (file: number) => number;
  return program(() => ({ symbols }), { i32: () => errno.i32[0] }, {})(syncRecipe("macos"));
}

test("a commit Worker makes an interrupted sync again, the plain one as well, and tells the error of the one that failed", () => {
  const [EINTR, EIO, ENOTSUP] = [4, 5, 45];
  expect(commitSync([EINTR, 0], [])(7)).toBe(0);
  expect(commitSync([ENOTSUP], [0])(7)).toBe(0);
  expect(commitSync([EIO], [])(7)).toBe(EIO);
  expect(commitSync([ENOTSUP, ENOTSUP], [EINTR, 0])(7)).toBe(0);
  expect(commitSync([ENOTSUP], [EIO])(7)).toBe(EIO);
});

test("the number of a thread fits its place in a row however many threads macOS has had, and still names it alone", () => {
  const ESRCH = 3;
  const PERIOD = 2 ** 31 - 1;
  for (const first of [100, PERIOD - 2, 2 ** 31 + 5, 2 ** 33 - 3, 5 * PERIOD - 1]) {
    const threads = [first, first + 1, first + 4];
    let own = first;
    const kernel = macos({
      pthread_threadid_np(_, into) {
        new DataView(into.buffer).setBigUint64(0, BigInt(own), true);
        return 0;
      },
      proc_pidinfo: (_process, _flavor, thread) => (threads.includes(thread) ? 112 : fails(ESRCH) + 1),
    });
    const numbers = threads.map((thread) => {
      own = thread;
      return kernel.threadId();
    });
    expect(numbers.every((number) => number >= 0 && number + 1 < 2 ** 31)).toBe(true);
    expect(new Set(numbers).size).toBe(3);
    for (own of threads) {
      expect(numbers.map((number) => kernel.isThreadAlive(number))).toEqual([true, true, true]);
      expect(kernel.isThreadAlive((numbers[1]! + 1) % PERIOD)).toBe(false);
    }
  }
});
