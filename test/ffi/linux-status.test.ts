import { expect, test } from "bun:test";
import fs from "node:fs";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { StatusCall } from "../../src/ffi/linux-status.ts";
import { identityOf, statusFromStats } from "../../src/ffi/surroundings.ts";
import type { LinuxCalls } from "../../src/ffi/symbols-posix.ts";

/** A system that answers statx with these errors, one after the other, and counts how often it was asked. */
function refusing(...errors: number[]): { readonly call: StatusCall; asked: number } {
  const state = { asked: 0 };
  const calls = { syscall: () => (state.asked++, -1) } as unknown as LinuxCalls;
  return Object.assign(state, { call: new StatusCall(calls, () => errors[state.asked - 1]!) });
}

test("a kernel or sandbox without statx is asked once, and node:fs from then on", () => {
  for (const error of [Errno.ENOSYS, Errno.EPERM]) {
    const system = refusing(error);
    expect(system.call.of("/")).toBeUndefined();
    expect(system.call.of(1)).toBeUndefined();
    expect(system.asked).toBe(1);
  }
});

test("an interrupted call is made again, and what it then says is passed on", () => {
  const system = refusing(Errno.EINTR, Errno.EINTR, Errno.EACCES);
  expect(system.call.of("/")).toBe(-Errno.EACCES);
  expect(system.asked).toBe(3);
});

test.skipIf(process.platform !== "linux")("a file is the same one whichever call tells of it", () => {
  for (const path of ["/", "/proc", import.meta.path]) {
    const told = hostSystem().status(path);
    expect(told).toMatchObject({ identity: statusFromStats(fs.statSync(path, { bigint: true })).identity });
  }
  // Numbers of devices and inodes that fill their fields: makedev(3).
  const stats = fs.statSync("/", { bigint: true });
  const far = Object.assign(stats, { dev: 0x1234_5678_9abc_def0n, ino: 0xfedc_ba98_7654_3210n });
  expect(statusFromStats(far).identity).toBe(
    identityOf({ major: 0x1234_5cde, minor: 0x6789_abf0, inode: [0xfedc_ba98, 0x7654_3210] }),
  );
});
