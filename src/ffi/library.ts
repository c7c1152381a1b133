/**
 * Opening a shared library by the first of its names that is there.
 *
 * The types that calls are declared with, measured on Bun 1.4.5 (a call in a hot loop, Linux x64): "ptr" and
 * "i32" 4 ns; "usize", "i64_fast" and "u64_fast" 7-9 ns; "u64" up to 10 ns. So pointers and `size_t` are
 * declared "ptr": the full register is set, from a number (whole doubles included) or from the memory of a
 * typed array. Whoever passes a number checks that it is whole first; fractions and NaN are cut silently.
 */

import { dlopen } from "bun:ffi";
import { assert, EmdbError } from "../errors.ts";

/** What a parameter or result may be declared as; no other `bun:ffi` type is used here. */
export type WireType = "ptr" | "i32" | "u32" | "i64_fast" | "void";

export interface Signature {
  readonly args: readonly WireType[];
  readonly returns: WireType;
}

/** Bun goes on without a JIT where it gets no memory for what it compiles, and calls no library then. */
const NO_JIT =
  "emdb needs Bun's JIT, which this process has not: it may not make memory that is both written and executed " +
  "(systemd's MemoryDenyWriteExecute), has less than some 4 GB of address space (ulimit -v, ulimit -d), or has the JIT switched off";

/** What was opened, for good: symbols must outlive whatever the runtime would free with the library. */
const opened: unknown[] = [];

/**
 * Every symbol of `calls` from the first library in `names` that has them all.
 * @throws {EmdbError} EMDB_UNSUPPORTED when none does; the message names the libraries and why each was refused, or the Bun (`version`) that is too old.
 */
export function openLibrary<Calls>(
  names: readonly string[],
  calls: Readonly<Record<string, Signature>>,
  version: string = Bun.version,
): Calls {
  const reasons: string[] = [];
  for (const name of names) {
    try {
      const library = dlopen(name, calls as Parameters<typeof dlopen>[1]);
      opened.push(library);
      return library.symbols as unknown as Calls;
    } catch (cause) {
      reasons.push(`${name}: ${cause instanceof Error ? cause.message : String(cause)}`);
    }
  }
  // A Bun that is too old may open no library at all, and does so before anything else has asked for its version.
  requireBun(version);
  const missing = `no system library offers ${Object.keys(calls).join(", ")} on ${process.platform} ${process.arch}`;
  const hasNoJit = reasons.some((reason) => reason.includes("requires the JIT"));
  throw new EmdbError("EMDB_UNSUPPORTED", hasNoJit ? NO_JIT : `${missing} (${reasons.join("; ")})`);
}

/**
 * What older ones lack shows as anything but that: a library that does not open, a symbol without an address, a Worker
 * that never starts.
 *
 * @throws {EmdbError} EMDB_UNSUPPORTED
 */
export function requireBun(version: string): void {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > 1 || (major === 1 && minor >= 4)) return;
  throw new EmdbError("EMDB_UNSUPPORTED", `emdb needs Bun 1.4 or later; this is Bun ${version}`);
}

/** The native address of a symbol, to be called back by the runtime. */
export function symbolAddress(symbol: unknown): number {
  const address = Number((symbol as { readonly ptr: number | bigint }).ptr);
  assert(Number.isSafeInteger(address) && address > 0, "a symbol has an address");
  return address;
}
