/**
 * What a simulated file looks like to reads and mappings, in real memory with an address that never moves.
 *
 * Two kinds. The pooled one is for speed: a big sparse reservation taken from a pool, so that setting up a
 * machine costs the bytes of its files and not an mmap; every mapping of the file is the same address. The
 * strict one is a memory file with true mappings: touching pages beyond the end or after the last unmap
 * kills the process, which then is the finding.
 *
 * Invariants
 * 1. Bytes at or behind `bytes` are never part of the file; the pooled image holds POISON there for at
 *    least one whole page, so that a reader without a limit gets nonsense instead of the zeros that mean the end.
 * 2. A pooled reservation that goes back is all zeros again: `#dirty` names every page that may not be.
 */

import {
  closeMemoryFile,
  copyAcross,
  copyIn,
  discard,
  discardUsed,
  fillMemory,
  mapAnonymous,
  mapMemoryFile,
  openMemoryFile,
  resizeMemoryFile,
  unmapReal,
} from "./real-memory.ts";
import type { Address } from "../../src/ffi/system.ts";

export const PAGE_BYTES = 4096;
/** How far a file may grow. Test logs are small; the bound keeps a runaway from eating the machine. */
export const IMAGE_BYTES_MAX = 64 * 1024 * 1024;
/** Address space per image: a mapping may reach this far, backed or not. */
export const RESERVATION_BYTES = 256 * 1024 * 1024;
export const POISON = 0xa5;
/** Above this many dirty pages, asking the kernel for fresh ones is cheaper than clearing them. */
const CLEAR_PAGES_MAX = 1024;
const POOL_COUNT_MAX = 64;

export interface Image {
  /** Where the bytes are; good for reading up to `bytes`. */
  readonly address: Address;
  readonly bytes: number;
  /** Bytes that lie inside the file. */
  write(position: number, from: Uint8Array): void;
  /** What lay behind a smaller size is gone, what a greater one adds is zeros. */
  resize(bytes: number): void;
  map(bytes: number): Address;
  unmap(address: Address, bytes: number): void;
  /** A copy that may be written and never reaches the file; zeros behind the end. */
  mapPrivate(bytes: number): Address;
  unmapPrivate(address: Address, bytes: number): void;
  dispose(): void;
}

function pageUp(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}

const pool: Address[] = [];

function takeReservation(): Address {
  return pool.pop() ?? mapAnonymous(RESERVATION_BYTES, { isTouchable: true });
}

function giveReservation(address: Address, usedBytes: number): void {
  if (pool.length >= POOL_COUNT_MAX) {
    unmapReal(address, RESERVATION_BYTES);
    return;
  }
  discardUsed(address, pageUp(usedBytes));
  pool.push(address);
}

export class PooledImage implements Image {
  readonly address: Address = takeReservation();
  bytes = 0;
  #poisonEnd = 0;
  readonly #dirty = new Set<number>();

  write(position: number, from: Uint8Array): void {
    copyIn(this.address + position, from);
    this.#soil(position, from.length);
  }

  resize(bytes: number): void {
    if (bytes >= this.bytes) {
      const clean = Math.min(bytes, this.#poisonEnd);
      if (clean > this.bytes) fillMemory(this.address + this.bytes, { value: 0, bytes: clean - this.bytes });
    } else {
      this.#clearFrom(bytes);
    }
    this.bytes = bytes;
    this.#poison();
  }

  map(): Address {
    return this.address;
  }

  unmap(): void {
    // All mappings of a pooled image are the image; the inode counts them.
  }

  mapPrivate(bytes: number): Address {
    const address = takeReservation();
    copyAcross(this.address, { to: address, bytes: Math.min(bytes, this.bytes) });
    return address;
  }

  unmapPrivate(address: Address, bytes: number): void {
    giveReservation(address, bytes);
  }

  dispose(): void {
    if (pool.length >= POOL_COUNT_MAX) {
      unmapReal(this.address, RESERVATION_BYTES);
      return;
    }
    if (this.#dirty.size > CLEAR_PAGES_MAX) {
      discard(this.address, IMAGE_BYTES_MAX + 2 * PAGE_BYTES);
    } else {
      for (const page of this.#dirty) fillMemory(this.address + page * PAGE_BYTES, { value: 0, bytes: PAGE_BYTES });
    }
    pool.push(this.address);
  }

  #soil(position: number, bytes: number): void {
    if (bytes === 0) return;
    const last = Math.floor((position + bytes - 1) / PAGE_BYTES);
    for (let page = Math.floor(position / PAGE_BYTES); page <= last; page += 1) this.#dirty.add(page);
  }

  /** Zeros from a position on, touching only pages that were ever written. */
  #clearFrom(position: number): void {
    for (const page of this.#dirty) {
      const from = Math.max(position, page * PAGE_BYTES);
      const until = (page + 1) * PAGE_BYTES;
      if (until > from) fillMemory(this.address + from, { value: 0, bytes: until - from });
    }
    this.#poisonEnd = position;
  }

  #poison(): void {
    const end = pageUp(this.bytes) + PAGE_BYTES;
    const from = Math.max(this.bytes, this.#poisonEnd);
    if (end <= from) return;
    fillMemory(this.address + from, { value: POISON, bytes: end - from });
    this.#soil(from, end - from);
    this.#poisonEnd = end;
  }
}

export class StrictImage implements Image {
  readonly address: Address;
  bytes = 0;
  readonly #file: number;

  constructor() {
    this.#file = openMemoryFile();
    this.address = mapMemoryFile(this.#file, { bytes: RESERVATION_BYTES, access: "read-write" });
  }

  write(position: number, from: Uint8Array): void {
    copyIn(this.address + position, from);
  }

  resize(bytes: number): void {
    resizeMemoryFile(this.#file, bytes);
    this.bytes = bytes;
  }

  map(bytes: number): Address {
    return mapMemoryFile(this.#file, { bytes, access: "read" });
  }

  unmap(address: Address, bytes: number): void {
    unmapReal(address, bytes);
  }

  mapPrivate(bytes: number): Address {
    return mapMemoryFile(this.#file, { bytes, access: "private" });
  }

  unmapPrivate(address: Address, bytes: number): void {
    unmapReal(address, bytes);
  }

  dispose(): void {
    unmapReal(this.address, RESERVATION_BYTES);
    closeMemoryFile(this.#file);
  }
}
