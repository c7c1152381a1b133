/**
 * Real memory for the simulated one: the engine reads mappings through raw pointers, so there must be
 * something behind them. The only file of the simulation that calls the operating system.
 *
 * mmap(2), mprotect(2), madvise(2), memfd_create(2); VirtualAlloc and VirtualFree. What the strict modes
 * need (`forbid`, memory files) is there on Linux only; the pooled modes run everywhere.
 */

import { toArrayBuffer, type Pointer } from "bun:ffi";
import { libraryNames } from "../../src/ffi/library-names.ts";
import { openLibrary } from "../../src/ffi/library.ts";
import { copy, fill } from "../../src/ffi/memory.ts";
import type { Address, ByteSource } from "../../src/ffi/system.ts";

interface UnixCalls {
  mmap(at: Address, bytes: number, protection: number, flags: number, file: number, position: number): Address;
  munmap(address: Address, bytes: number): number;
  mprotect(address: Address, bytes: number, protection: number): number;
  madvise(address: Address, bytes: number, advice: number): number;
}

interface MemoryFileCalls {
  memfd_create(name: Uint8Array, flags: number): number;
  ftruncate(file: number, bytes: number): number;
  close(file: number): number;
}

interface WindowsCalls {
  VirtualAlloc(at: Address, bytes: number, kind: number, protection: number): Address;
  VirtualFree(address: Address, bytes: number, kind: number): number;
}

/** So many bytes are cleared sooner than given back and touched anew. */
const CLEARED_BYTES_MAX = 256 * 1024;

/** Whether the strict modes can run here. */
export const hasStrictMemory = process.platform === "linux";

const isWindows = process.platform === "win32";
const names = libraryNames().system;

const unix = isWindows
  ? undefined
  : openLibrary<UnixCalls>(names, {
      mmap: { args: ["ptr", "ptr", "i32", "i32", "i32", "ptr"], returns: "i64_fast" },
      munmap: { args: ["ptr", "ptr"], returns: "i32" },
      mprotect: { args: ["ptr", "ptr", "i32"], returns: "i32" },
      madvise: { args: ["ptr", "ptr", "i32"], returns: "i32" },
    });
const windows = isWindows
  ? openLibrary<WindowsCalls>(names, {
      VirtualAlloc: { args: ["ptr", "ptr", "u32", "u32"], returns: "i64_fast" },
      VirtualFree: { args: ["ptr", "ptr", "u32"], returns: "i32" },
    })
  : undefined;
const memoryFiles = hasStrictMemory
  ? openLibrary<MemoryFileCalls>(names, {
      memfd_create: { args: ["ptr", "u32"], returns: "i32" },
      ftruncate: { args: ["i32", "ptr"], returns: "i32" },
      close: { args: ["i32"], returns: "i32" },
    })
  : undefined;

const PROTECT_NONE = 0;
const PROTECT_READ = 1;
const PROTECT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
/** MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE: address space is free, pages cost only when touched. */
const MAP_SPARSE = process.platform === "linux" ? 0x4022 : 0x1042;
const MADV_DONTNEED = 4;
const MEM_COMMIT_RESERVE = 0x3000;
const MEM_COMMIT = 0x1000;
const MEM_DECOMMIT = 0x4000;
const MEM_RELEASE = 0x8000;
const PAGE_READWRITE = 0x04;

let mappingCount = 0;

/** How many real mappings the simulation holds now: what tests of its own thrift look at. */
export function realMappingCount(): number {
  return mappingCount;
}

function must(isDone: boolean, call: string): void {
  if (!isDone) throw new Error(`the real ${call} failed`);
}

function mapPages(protection: number, { bytes, flags, file }: { bytes: number; flags: number; file: number }): Address {
  const address = unix?.mmap(0, bytes, protection, flags, file, 0) ?? -1;
  must(address > 0, "mmap");
  mappingCount += 1;
  return address;
}

/** Zeroed memory; with `isTouchable` false a touch is a fault until `allow`. */
export function mapAnonymous(bytes: number, { isTouchable }: { readonly isTouchable: boolean }): Address {
  if (windows !== undefined) {
    const address = windows.VirtualAlloc(0, bytes, MEM_COMMIT_RESERVE, PAGE_READWRITE);
    must(address > 0, "VirtualAlloc");
    mappingCount += 1;
    return address;
  }
  return mapPages(isTouchable ? PROTECT_READ_WRITE : PROTECT_NONE, { bytes, flags: MAP_SPARSE, file: -1 });
}

export function unmapReal(address: Address, bytes: number): void {
  if (windows === undefined) must(unix?.munmap(address, bytes) === 0, "munmap");
  else must(windows.VirtualFree(address, 0, MEM_RELEASE) !== 0, "VirtualFree");
  mappingCount -= 1;
}

/** Makes pages readable and writable. */
export function allow(address: Address, bytes: number): void {
  must(unix?.mprotect(address, bytes, PROTECT_READ_WRITE) === 0, "mprotect");
}

/** Makes any touch of the pages a fault, and their content zeros. */
export function forbid(address: Address, bytes: number): void {
  must(unix?.mmap(address, bytes, PROTECT_NONE, MAP_SPARSE | MAP_FIXED, -1, 0) === address, "mmap");
}

/** Turns pages into zeros and gives the memory back. */
export function discard(address: Address, bytes: number): void {
  if (windows !== undefined) {
    must(windows.VirtualFree(address, bytes, MEM_DECOMMIT) !== 0, "VirtualFree");
    must(windows.VirtualAlloc(address, bytes, MEM_COMMIT, PAGE_READWRITE) === address, "VirtualAlloc");
  } else if (process.platform === "linux") {
    must(unix?.madvise(address, bytes, MADV_DONTNEED) === 0, "madvise");
  } else {
    // Elsewhere the advice does not promise zeros.
    const protection = PROTECT_READ_WRITE;
    must(unix?.mmap(address, bytes, protection, MAP_SPARSE | MAP_FIXED, -1, 0) === address, "mmap");
  }
}

/** Turns the first pages of a reservation, up to where all is zero anyway, into zeros. */
export function discardUsed(address: Address, bytes: number): void {
  if (bytes > CLEARED_BYTES_MAX) discard(address, bytes);
  else fill(address, 0, bytes);
}

export function copyOut(into: Uint8Array, from: Address): void {
  if (into.length > 0) copy(into, from, into.length);
}

/** A copy of so many bytes of what is to be written. */
export function takeBytes(from: ByteSource, bytes: number): Uint8Array {
  if (typeof from !== "number") return from.slice(0, bytes);
  const taken = new Uint8Array(bytes);
  copyOut(taken, from);
  return taken;
}

/** A number is what a pointer is at run time; the type only marks it. */
function pointerTo(address: Address): Pointer {
  return address as Pointer;
}

/** Memory as it is there. */
export function viewOf(address: Address, bytes: number): ArrayBuffer {
  return toArrayBuffer(pointerTo(address), 0, bytes);
}

export function copyIn(to: Address, from: Uint8Array): void {
  if (from.length > 0) copy(to, from, from.length);
}

export function copyAcross(from: Address, { to, bytes }: { readonly to: Address; readonly bytes: number }): void {
  if (bytes > 0) copy(to, from, bytes);
}

export function fillMemory(at: Address, { value, bytes }: { readonly value: number; readonly bytes: number }): void {
  if (bytes > 0) fill(at, value, bytes);
}

// -- files that are only memory: true mappings, for the strict images ---------

/** A file of the real system that has no name; Linux only. */
export function openMemoryFile(): number {
  const file = memoryFiles?.memfd_create(new Uint8Array([0x73, 0x69, 0x6d, 0]), 1) ?? -1;
  must(file >= 0, "memfd_create");
  return file;
}

export function closeMemoryFile(file: number): void {
  must(memoryFiles?.close(file) === 0, "close");
}

export function resizeMemoryFile(file: number, bytes: number): void {
  must(memoryFiles?.ftruncate(file, bytes) === 0, "ftruncate");
}

const ACCESS = {
  read: { protection: PROTECT_READ, flags: MAP_SHARED },
  "read-write": { protection: PROTECT_READ_WRITE, flags: MAP_SHARED },
  private: { protection: PROTECT_READ_WRITE, flags: MAP_PRIVATE },
} as const;

/** A true mapping of a memory file, from its start. */
export function mapMemoryFile(
  file: number,
  { bytes, access }: { readonly bytes: number; readonly access: keyof typeof ACCESS },
): Address {
  const { protection, flags } = ACCESS[access];
  return mapPages(protection, { bytes, flags, file });
}
