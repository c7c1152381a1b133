/**
 * Dependent random misses: a pointer chase through every cache line of a region, in one cycle.
 *
 * Three ways in: a typed array over anonymous memory; `read.u32` through a pointer into a shared file mapping (how a store
 * reads its log); and an FFI `memcpy` of 24 bytes from there (how a store fetches a record). The order is a full-period
 * linear congruence, cut to the region by cycle walking: written front to back, so that building costs little, and
 * without a pattern that a prefetcher knows.
 */

import { ptr, read } from "bun:ffi";
import type { Pointer } from "bun:ffi";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";

import { libc } from "./libc.ts";
import type { Libc } from "./libc.ts";

const lineBytes = 64;
const lineWords = lineBytes / 4;

/** PROT_READ, MAP_SHARED | MAP_POPULATE: the pages are in the page tables before the clock starts. */
const protRead = 1;
const mapSharedPopulate = 0x1 | 0x8000;

export interface ChaseResult {
  readonly regionBytes: number;
  readonly typedArrayNs: number;
  /** NaN where there is no C library to map with. */
  readonly pointerNs: number;
  readonly memcpyNs: number;
}

/** The line after `line` in one cycle over all `lines`. */
function follower(line: number, lines: number, mask: number): number {
  let next = line;
  do next = (Math.imul(next, 0x5851f42d) + 0x14057b7f) & mask;
  while (next >>> 0 >= lines);
  return next >>> 0;
}

function maskFor(lines: number): number {
  let mask = 1;
  while (mask < lines - 1) mask = mask * 2 + 1;
  return mask;
}

/** Fills `words` with the part of the chain that begins at line `first`. */
function fillChain(words: Uint32Array, first: number, lines: number): void {
  const mask = maskFor(lines);
  for (let at = 0; at < words.length; at += lineWords) words[at] = follower(first + at / lineWords, lines, mask);
}

/** Every chase goes on where the one before ended: a second walk over the same lines would find them in the cache. */
interface Walk {
  readonly line: number;
  readonly nanoseconds: number;
}

type Chase = (from: number, steps: number) => number;

function arrayChase(words: Uint32Array): Chase {
  return (from, steps) => {
    let line = from;
    for (let step = 0; step < steps; step++) line = words[line * lineWords] ?? 0;
    return line;
  };
}

function pointerChase(base: Pointer): Chase {
  return (from, steps) => {
    let line = from;
    for (let step = 0; step < steps; step++) line = read.u32(base, line * lineBytes);
    return line;
  };
}

function memcpyChase(base: number, memcpy: Libc["memcpy"]): Chase {
  const target = new Uint32Array(new ArrayBuffer(4096));
  const to = ptr(target);
  return (from, steps) => {
    let line = from;
    for (let step = 0; step < steps; step++) {
      memcpy(to, base + line * lineBytes, 24);
      line = target[0] ?? 0;
    }
    return line;
  };
}

/** Compiles the chase on a few lines, then times it. */
function walk(chaseFrom: Chase, from: number, steps: number): Walk {
  const warm = chaseFrom(from, Math.min(steps, 50_000));
  const start = Bun.nanoseconds();
  const line = chaseFrom(warm, steps);
  return { line, nanoseconds: (Bun.nanoseconds() - start) / steps };
}

/** Nanoseconds per dependent miss in a region of this size; the file at `path` is written and removed. */
export function chase(regionBytes: number, steps: number, path: string): ChaseResult {
  const lines = Math.max(2, Math.floor(regionBytes / lineBytes));
  const words = new Uint32Array(lines * lineWords);
  fillChain(words, 0, lines);
  const { nanoseconds } = walk(arrayChase(words), 0, steps);
  return { regionBytes: lines * lineBytes, typedArrayNs: nanoseconds, ...chaseMapped(lines, steps, path) };
}

function chaseMapped(lines: number, steps: number, path: string): { pointerNs: number; memcpyNs: number } {
  if (libc === undefined) return { pointerNs: Number.NaN, memcpyNs: Number.NaN };
  const { mmap, munmap, memcpy } = libc;
  const file = openSync(path, "w+", 0o600);
  const block = new Uint32Array(1 << 20);
  for (let first = 0; first < lines; first += block.length / lineWords) {
    fillChain(block, first, lines);
    writeSync(file, block, 0, Math.min(block.byteLength, (lines - first) * lineBytes));
  }
  const base = mmap(null, lines * lineBytes, protRead, mapSharedPopulate, file, 0);
  closeSync(file);
  rmSync(path);
  // A failed mmap comes back as a BigInt of all ones, which is no usable number.
  if (typeof base !== "number") throw new Error("mmap failed");
  const pointers = walk(pointerChase(base as Pointer), 0, steps);
  const copies = walk(memcpyChase(base, memcpy), pointers.line, steps);
  munmap(base, lines * lineBytes);
  return { pointerNs: pointers.nanoseconds, memcpyNs: copies.nanoseconds };
}
