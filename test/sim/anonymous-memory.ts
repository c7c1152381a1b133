/**
 * The memory of a simulated process that no file backs: reserve, commit, decommit, release.
 *
 * The addresses are real. Reservations of a size are pooled, since an engine makes the same ones each time
 * it opens; in strict mode they are fresh, and touching a page that is not committed kills the process.
 *
 * Invariants
 * 1. A page is zeros when it is committed.
 * 2. Every reservation is known until it is released; what is left at the end is a leak.
 */

import { Errno } from "../../src/ffi/errno.ts";
import { PAGE_BYTES } from "./image.ts";
import { allow, discardUsed, discard, forbid, mapAnonymous, unmapReal } from "./real-memory.ts";
import type { Address, Result } from "../../src/ffi/system.ts";
import type { MemoryMode } from "./inode.ts";

const POOL_COUNT_MAX = 32;
const pools = new Map<number, Address[]>();

interface Reservation {
  readonly address: Address;
  readonly bytes: number;
  /** Behind so many bytes all is zero. */
  usedBytes: number;
}

interface Span {
  readonly address: Address;
  readonly bytes: number;
}

export class AnonymousMemory {
  /** A call that no correct caller makes: an address that is not reserved, a length that is no multiple of a page. */
  onMisuse: (what: string) => void = () => {};
  /** How much has been committed so far; never goes back. */
  committedBytes = 0;
  readonly #mode: MemoryMode;
  readonly #reservations = new Map<Address, Reservation>();

  constructor(mode: MemoryMode) {
    this.#mode = mode;
  }

  get count(): number {
    return this.#reservations.size;
  }

  reserve(bytes: number): Address | Result {
    if (!(bytes > 0)) return -Errno.EINVAL;
    const isPooled = this.#mode === "pooled";
    const pooled = isPooled ? pools.get(bytes)?.pop() : undefined;
    const address = pooled ?? mapAnonymous(bytes, { isTouchable: isPooled });
    this.#reservations.set(address, { address, bytes, usedBytes: 0 });
    return address;
  }

  commit(address: Address, bytes: number): Result {
    const reservation = this.#find({ address, bytes }, "commit");
    if (reservation === undefined) return -Errno.EINVAL;
    reservation.usedBytes = Math.max(reservation.usedBytes, address + bytes - reservation.address);
    this.committedBytes += bytes;
    if (this.#mode === "strict") allow(address, bytes);
    return 0;
  }

  decommit(address: Address, bytes: number): Result {
    if (this.#find({ address, bytes }, "decommit") === undefined) return -Errno.EINVAL;
    if (this.#mode === "strict") forbid(address, bytes);
    else discard(address, bytes);
    return 0;
  }

  release(address: Address, bytes: number): Result {
    const reservation = this.#reservations.get(address);
    if (reservation === undefined || reservation.bytes !== bytes) {
      this.onMisuse(`release of ${bytes} bytes that were not reserved`);
      return -Errno.EINVAL;
    }
    this.#reservations.delete(address);
    this.#giveBack(address, reservation);
    return 0;
  }

  /** The end of the process. */
  dispose(): void {
    for (const [address, reservation] of this.#reservations) this.#giveBack(address, reservation);
    this.#reservations.clear();
  }

  #giveBack(address: Address, { bytes, usedBytes }: Reservation): void {
    const pool = pools.get(bytes) ?? [];
    if (this.#mode === "strict" || pool.length >= POOL_COUNT_MAX) {
      unmapReal(address, bytes);
      return;
    }
    discardUsed(address, usedBytes);
    pool.push(address);
    pools.set(bytes, pool);
  }

  /** The reservation that the pages lie in; a misuse when there is none. */
  #find({ address, bytes }: Span, what: string): Reservation | undefined {
    if (bytes > 0 && bytes % PAGE_BYTES === 0) {
      for (const [start, reservation] of this.#reservations) {
        const isInside = address >= start && address + bytes <= start + reservation.bytes;
        if (isInside && (address - start) % PAGE_BYTES === 0) return reservation;
      }
    }
    this.onMisuse(`${what} of ${bytes} bytes outside a reservation or off the pages`);
    return undefined;
  }
}
