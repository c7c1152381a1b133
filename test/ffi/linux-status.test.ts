import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { StatusCall } from "../../src/ffi/linux-status.ts";
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
