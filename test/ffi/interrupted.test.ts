/**
 * What the loops around system calls do when a call is interrupted, moves less than asked, or moves nothing: the
 * real implementation over a kernel of which single calls answer by a script.
 */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import type { Kernel } from "../../src/ffi/kernel.ts";
import { linuxKernel } from "../../src/ffi/linux.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { PosixSystem } from "../../src/ffi/posix.ts";
import type { PosixCalls } from "../../src/ffi/symbols-posix.ts";
import { outcome, TemporaryFolder } from "./temporary-folder.ts";

const isLinux = process.platform === "linux";
const errno = pinned(4);

/** Answers the script's numbers in turn: a count, or a negative errno that is put where errno is looked for. */
function scripted(script: readonly number[], calls: number[][]): (...args: unknown[]) => number {
  let turn = 0;
  return (...args) => {
    calls.push(args.map((arg) => (typeof arg === "number" ? arg : -1)));
    const answer = script[turn];
    turn += 1;
    if (answer === undefined) throw new Error("called once more than the script has answers");
    if (answer >= 0) return answer;
    errno.i32[0] = -answer;
    return -1;
  };
}

function systemWith(fakes: { calls?: Partial<PosixCalls>; kernel?: Partial<Kernel> }): PosixSystem {
  const kernel = linuxKernel();
  return new PosixSystem({
    ...kernel,
    errnoAddress: errno.address,
    ...fakes.kernel,
    calls: { ...kernel.calls, ...fakes.calls },
  });
}

test.skipIf(!isLinux)("a write that is interrupted and short goes on where it stopped", () => {
  const calls: number[][] = [];
  const system = systemWith({ calls: { pwrite: scripted([-Errno.EINTR, 3, -Errno.EINTR, 1, 6], calls) } });
  expect(system.write(9, 1_000_000, { position: 500, bytes: 10 })).toBe(10);
  expect(calls).toEqual([
    [9, 1_000_000, 10, 500],
    [9, 1_000_000, 10, 500],
    [9, 1_000_003, 7, 503],
    [9, 1_000_003, 7, 503],
    [9, 1_000_004, 6, 504],
  ]);
});

test.skipIf(!isLinux)("a write that stops half-way on a full disk is the error and not a count", () => {
  const system = systemWith({ calls: { pwrite: scripted([4, -Errno.ENOSPC], []) } });
  expect(outcome(system.write(9, new Uint8Array(10), { position: 0, bytes: 10 }))).toBe("ENOSPC");
});

test.skipIf(!isLinux)("a write that moves nothing and gives no reason is EIO and not tried for ever", () => {
  const system = systemWith({ calls: { pwrite: scripted([4, 0], []) } });
  expect(outcome(system.write(9, new Uint8Array(10), { position: 0, bytes: 10 }))).toBe("EIO");
});

test.skipIf(!isLinux)("a read goes on after an interruption and a short count, until the end of the file", () => {
  const calls: number[][] = [];
  const system = systemWith({ calls: { pread: scripted([2, -Errno.EINTR, 5, 0], calls) } });
  expect(system.read(9, new Uint8Array(10), { position: 100, bytes: 10 })).toBe(7);
  expect(calls.map(([, , bytes, position]) => [bytes, position])).toEqual([
    [10, 100],
    [8, 102],
    [8, 102],
    [3, 107],
  ]);
});

test.skipIf(!isLinux)(
  "what a file is written from and read into a few bytes at a time arrives where it belongs",
  () => {
    using folder = new TemporaryFolder();
    const { pread, pwrite } = linuxKernel().calls;
    const system = systemWith({
      calls: {
        pread: (file, place, bytes, position) => pread(file, place, Math.min(bytes, 3), position),
        pwrite: (file, place, bytes, position) => pwrite(file, place, Math.min(bytes, 3), position),
      },
    });
    const file = folder.open("data", "create");
    const bytes = Uint8Array.from({ length: 10 }, (_, index) => index + 1);
    expect(system.write(file, bytes, { position: 5, bytes: 10 })).toBe(10);
    const found = new Uint8Array(15);
    expect(system.read(file, found, { position: 0, bytes: 15 })).toBe(15);
    expect([...found]).toEqual([0, 0, 0, 0, 0, ...bytes]);
    system.close(file);
  },
);

test.skipIf(!isLinux)("a transfer of more than 1 GiB is cut into calls that every system takes", () => {
  const calls: number[][] = [];
  const gibibyte = 2 ** 30;
  const system = systemWith({ calls: { pwrite: scripted([gibibyte, gibibyte, 5], calls) } });
  expect(system.write(9, 4096, { position: 2 ** 40, bytes: 2 * gibibyte + 5 })).toBe(2 * gibibyte + 5);
  expect(calls.map(([, , bytes]) => bytes)).toEqual([gibibyte, gibibyte, 5]);
  expect(calls[2]).toEqual([9, 4096 + 2 * gibibyte, 5, 2 ** 40 + 2 * gibibyte]);
});

test.skipIf(!isLinux)("sync, truncate, lock and allocate are made again when interrupted", () => {
  const again = (): ((...args: unknown[]) => number) => scripted([-Errno.EINTR, -Errno.EINTR, 0], []);
  const allocated = scripted([], []);
  const answers = [-Errno.EINTR, 0];
  const system = systemWith({
    calls: { ftruncate: again(), flock: again(), lseek: () => 0 },
    kernel: { sync: again(), allocate: () => answers.shift() ?? allocated() },
  });
  expect(system.sync(9)).toBe(0);
  expect(system.truncate(9, 1)).toBe(0);
  expect(system.lock(9)).toBe(0);
  expect(system.allocate(9, 4096)).toBe(0);
});

test.skipIf(!isLinux)("an interrupted close is a close, and is not made again", () => {
  const calls: number[][] = [];
  const system = systemWith({ calls: { close: scripted([-Errno.EINTR], calls) } });
  expect(system.close(9)).toBe(0);
  expect(calls).toHaveLength(1);
});

test.skipIf(!isLinux)("a failed sync is told, and the next one is not spared", () => {
  const system = systemWith({ kernel: { sync: scripted([-Errno.EIO, 0], []) } });
  expect(outcome(system.sync(9))).toBe("EIO");
  expect(system.sync(9)).toBe(0);
});

test.skipIf(!isLinux)("a folder that cannot be synced at all counts as synced, and one that was not does not", () => {
  const system = systemWith({ kernel: { syncFolder: scripted([-Errno.EINTR, -Errno.EINVAL, -Errno.EIO], []) } });
  expect(system.syncFolder("/", 9)).toBe(0);
  expect(outcome(system.syncFolder("/", 9))).toBe("EIO");
});

test.skipIf(!isLinux)("where no flag makes writes durable, the system says so", () => {
  expect(systemWith({ kernel: { openWriteThrough: 0 } }).lacksWriteThrough).toBe(true);
  expect(systemWith({}).lacksWriteThrough).toBe(false);
});

test.skipIf(!isLinux)("a failed allocation that had lengthened the file is undone", () => {
  const lengths: number[] = [];
  const sizes = [100, 5000];
  const system = systemWith({
    calls: {
      lseek: () => sizes.shift() ?? 100,
      ftruncate: (_file, bytes) => {
        lengths.push(bytes);
        return 0;
      },
    },
    kernel: { allocate: () => -Errno.ENOSPC },
  });
  expect(outcome(system.allocate(9, 9000))).toBe("ENOSPC");
  expect(lengths).toEqual([100]);
});
