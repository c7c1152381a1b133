/**
 * Bytes behind raw pointers: copy, compare, and memory whose address stays good.
 *
 * `copy`, `compare` and `fill` are the bare symbols of the C library, with nothing around them: a call costs
 * about 4 ns. Nothing is checked here. Whoever calls has checked that both places are good for all the bytes,
 * and that the count is whole and not negative.
 *
 * Two traps of addresses in Bun:
 * - a small typed array lives inside the garbage collector's heap until its `.buffer` is first touched, and
 *   then moves. An address taken before that is stale. `pinned` is for memory whose address is kept.
 * - an address does not keep its array alive: hold the array as long as the address.
 */

import { ptr } from "bun:ffi";
import { libraryNames } from "./library-names.ts";
import { openLibrary } from "./library.ts";
import type { Address } from "./system.ts";

/** Where bytes are: a raw pointer, or the memory of a view. */
export type Place = Address | Uint8Array;

interface MemoryCalls {
  memcpy(to: Place, from: Place, bytes: number): void;
  memcmp(a: Place, b: Place, bytes: number): number;
  memset(to: Place, byte: number, bytes: number): void;
}

const calls = openLibrary<MemoryCalls>(libraryNames().memory, {
  memcpy: { args: ["ptr", "ptr", "ptr"], returns: "void" },
  memcmp: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  memset: { args: ["ptr", "i32", "ptr"], returns: "void" },
});

/** Copies bytes between places that do not overlap (memcpy). */
export const copy: (to: Place, from: Place, bytes: number) => void = calls.memcpy;

/** Below, at or above 0 as `a` sorts before, with or after `b`, byte by byte, unsigned (memcmp). */
export const compare: (a: Place, b: Place, bytes: number) => number = calls.memcmp;

/** Sets every byte to the low eight bits of `byte` (memset). */
export const fill: (to: Place, byte: number, bytes: number) => void = calls.memset;

/** Where the first byte of a view is now; see the traps above before keeping it. */
export function addressOf(view: Uint8Array): Address {
  return ptr(view);
}

/** Memory with an address that is good as long as the object is held; the arrays are views of the same bytes. */
export interface Pinned {
  readonly address: Address;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
}

/** From here on filling with zeros, which the copy overwrites, is a fifth of the work. */
const UNZEROED_BYTES_MIN = 128 * 1024;

/** A new array that holds a copy of `bytes` at an address. */
export function copyOut(from: Address, bytes: number): Uint8Array {
  const isLong = bytes >= UNZEROED_BYTES_MIN;
  const copied = isLong ? new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer) : new Uint8Array(bytes);
  if (bytes > 0) copy(copied, from, bytes);
  return copied;
}

/**
 * Scratch memory that all of a thread's databases share, made when it is first asked for: opening one then costs
 * no allocation. What is in it counts within one call of the engine only, never across an `await` or a callback.
 */
export function sharedScratch(bytes: number): () => Pinned {
  let memory: Pinned | undefined;
  return () => (memory ??= pinned(bytes));
}

/**
 * Scratch memory for what is done now and then, an open or a check: who takes it holds it for as long as it is in use, and
 * the collector has it back when nobody does. Arrays that stay make room for a multiple of them in garbage.
 */
export function passingScratch(bytes: number): () => Pinned {
  const memory = wideningScratch();
  return () => memory(bytes);
}

/**
 * The same, with at least as many bytes as each time are asked for: pages that are new to the process cost more than most
 * of what is done with them.
 */
export function wideningScratch(): (bytes: number) => Pinned {
  let last: WeakRef<Pinned> | undefined;
  return (bytes) => {
    const held = last?.deref();
    if (held !== undefined && held.u8.length >= bytes) return held;
    const memory = pinned(bytes);
    last = new WeakRef(memory);
    return memory;
  };
}

/** Has what nobody can reach any more found: finalizers run in one of the next turns. Takes as long as the heap is large. */
export function collectGarbage(): void {
  Bun.gc(true);
}

/** Zeroed memory of at least `bytes`, rounded up to whole 4 KiB, so that it never lies inside the collector's heap. */
export function pinned(bytes: number): Pinned {
  const buffer = new ArrayBuffer(Math.max(1, Math.ceil(bytes / 4096)) * 4096);
  return arraysOf(buffer, addressOf(new Uint8Array(buffer)));
}

/** All arrays of a buffer whose bytes are at an address for good. */
export function arraysOf(buffer: ArrayBuffer, address: Address): Pinned {
  return {
    address,
    u8: new Uint8Array(buffer),
    i32: new Int32Array(buffer),
    u32: new Uint32Array(buffer),
    f64: new Float64Array(buffer),
  };
}
