/** Calls that a filter of the process (seccomp) refuses, with the errors that filters give, and what is asked instead. */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { linuxKernel } from "../../src/ffi/linux.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { PosixSystem } from "../../src/ffi/posix.ts";
import type { LinuxCalls } from "../../src/ffi/symbols-posix.ts";

const isLinux = process.platform === "linux";
const isArm = process.arch === "arm64";
const TGKILL = isArm ? 131 : 234;
const GETPRIORITY = isArm ? 141 : 140;
const errno = pinned(4);

function fails(number: number): number {
  errno.i32[0] = number;
  return -1;
}

test.skipIf(!isLinux)(
  "where no signal may be sent, a thread that has ended is known by its number, and one of which nothing is told lives",
  () => {
    const real = linuxKernel();
    const ended = 2 ** 22 + 1; // no number of a thread is as high (proc(5), pid_max)
    for (const refused of [[TGKILL], [TGKILL, GETPRIORITY]])
      for (const error of [Errno.EPERM, Errno.ENOSYS]) {
        const syscall: LinuxCalls["syscall"] = (number, ...rest) => {
          if (refused.includes(number)) return fails(error);
          const result = (real.calls as LinuxCalls).syscall(number, ...rest);
          return result < 0 ? fails(Errno.ESRCH) : result;
        };
        const calls = { ...(real.calls as LinuxCalls), syscall, __errno_location: () => errno.address };
        const kernel = linuxKernel(calls);
        expect(kernel.isThreadAlive(kernel.threadId())).toBe(true);
        expect(kernel.isThreadAlive(ended)).toBe(refused.length > 1);
      }
  },
);

test.skipIf(!isLinux)(
  "where the call for random bytes is refused the device gives them, and where that is not there EMDB_IO is said",
  () => {
    const real = linuxKernel();
    const asked: string[] = [];
    for (const error of [Errno.EPERM, Errno.ENOSYS]) {
      const random = (): number => fails(error);
      const system = new PosixSystem({ ...real, random, errnoAddress: errno.address });
      const [first, second] = [new Uint8Array(600), new Uint8Array(600)];
      system.random(first);
      system.random(second);
      // Of 600 random bytes some two are zero; that the last 300 all are is no chance.
      expect([first, second].map((bytes) => bytes.subarray(300).every((byte) => byte === 0))).toEqual([false, false]);
      expect(first).not.toEqual(second);
      const names = {
        ...real.names!,
        flags: real.names!.flags,
        open: (path: string) => (asked.push(path), -Errno.ENXIO),
      };
      const bare = new PosixSystem({ ...real, random, errnoAddress: errno.address, names });
      expect(() => bare.random(first)).toThrow(
        expect.objectContaining({ code: "EMDB_IO", syscall: "open", errno: "ENXIO", path: "/dev/urandom" }),
      );
      const cut = { ...real.calls, pread: () => 0 };
      const short = new PosixSystem({ ...real, random, errnoAddress: errno.address, calls: cut });
      expect(() => short.random(first)).toThrow(
        expect.objectContaining({ code: "EMDB_IO", syscall: "read", errno: "EIO" }),
      );
    }
    expect(asked).toEqual(["/dev/urandom", "/dev/urandom"]);
  },
);
