import { expect, test } from "bun:test";
import { read } from "bun:ffi";
import { existsSync, readFileSync } from "node:fs";
import { fill } from "../../src/ffi/memory.ts";
import type { Address } from "../../src/ffi/system.ts";
import { emulator } from "../support/platform.ts";
import { outcome, system } from "./temporary-folder.ts";

const page = system.pageBytes;
const chunkBytes = 2 ** 21;
/** Together more than the 128 TiB of address space; qemu-user and Wine take their time over each page. */
const reservation = emulator === undefined ? { count: 200, bytes: 2 ** 40 } : { count: 20, bytes: 2 ** 30 };

/** Linux with transparent huge pages; an emulator has the file too, and not the pages. */
const hasHugePages =
  process.platform === "linux" && emulator === undefined && existsSync("/sys/kernel/mm/transparent_hugepage/enabled");

class Reservation implements Disposable {
  readonly address: Address;
  readonly bytes: number;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.address = system.reserve(bytes);
    if (this.address <= 0) throw new Error(`reserve: ${outcome(this.address)}`);
  }

  [Symbol.dispose](): void {
    expect(system.release(this.address, this.bytes)).toBe(0);
  }
}

test("64 GiB of address space are reserved for nothing", () => {
  const before = process.memoryUsage.rss();
  using space = new Reservation(64 * 2 ** 30);
  expect(space.address % page).toBe(0);
  expect(process.memoryUsage.rss() - before).toBeLessThan(32 * 2 ** 20);
});

test("committed pages are zero, hold what is written, and are found at any place of the reservation", () => {
  using space = new Reservation(2 ** 30);
  for (const offset of [0, 7 * page, 2 ** 30 - page]) {
    expect(system.commit(space.address + offset, page)).toBe(0);
    expect(read.u8(space.address + offset, page - 1)).toBe(0);
    fill(space.address + offset, 9, page);
    expect(read.u8(space.address + offset, page - 1)).toBe(9);
  }
  expect(read.u8(space.address, 0)).toBe(9);
});

test("pages that were given back come again as zeros, and their neighbours keep what they hold", () => {
  using space = new Reservation(16 * page);
  expect(system.commit(space.address, 4 * page)).toBe(0);
  fill(space.address, 5, 4 * page);
  expect(system.decommit(space.address + page, 2 * page)).toBe(0);
  expect(system.commit(space.address + page, page)).toBe(0);
  expect(read.u8(space.address + page, 0)).toBe(0);
  expect(read.u8(space.address + page, page - 1)).toBe(0);
  expect([read.u8(space.address, page - 1), read.u8(space.address + 3 * page, 0)]).toEqual([5, 5]);
});

test.skipIf(process.platform !== "linux")("giving back every second page makes no map of each", () => {
  using space = new Reservation(2000 * page);
  expect(system.commit(space.address, 2000 * page)).toBe(0);
  fill(space.address, 5, 2000 * page);
  const maps = (): number => readFileSync("/proc/self/maps", "latin1").split("\n").length;
  const before = maps();
  for (let index = 0; index < 2000; index += 2) expect(system.decommit(space.address + index * page, page)).toBe(0);
  expect(maps() - before).toBeLessThan(20);
  expect([read.u8(space.address, 0), read.u8(space.address, page)]).toEqual([0, 5]);
});

test("committing what is committed keeps what it holds", () => {
  using space = new Reservation(16 * page);
  expect(system.commit(space.address, page)).toBe(0);
  fill(space.address, 5, page);
  expect(system.commit(space.address, 2 * page)).toBe(0);
  expect([read.u8(space.address, 0), read.u8(space.address + page, 0)]).toEqual([5, 0]);
});

// qemu-user reports no resident memory of its guest.
test.skipIf(emulator === "qemu")("giving pages back gives the memory back", () => {
  const bytes = 64 * 2 ** 20;
  using space = new Reservation(bytes);
  const before = process.memoryUsage.rss();
  expect(system.commit(space.address, bytes)).toBe(0);
  fill(space.address, 1, bytes);
  const filled = process.memoryUsage.rss();
  expect(system.decommit(space.address, bytes)).toBe(0);
  const after = process.memoryUsage.rss();
  expect(filled - before).toBeGreaterThan(bytes * 0.75);
  expect(filled - after).toBeGreaterThan(bytes * 0.75);
});

test("reservations made, used and released leave no address space behind", () => {
  for (let count = 0; count < reservation.count; count += 1) {
    using space = new Reservation(reservation.bytes);
    expect(system.commit(space.address, page)).toBe(0);
    fill(space.address, 1, page);
  }
});

test("a range that is not whole pages is a bug and is stopped before the system sees it", () => {
  using space = new Reservation(16 * page);
  expect(() => system.commit(space.address + 1, page)).toThrow("internal error");
  expect(() => system.commit(space.address, page + 1)).toThrow("internal error");
  expect(() => system.decommit(0, page)).toThrow("internal error");
  expect(() => system.reserve(page / 2)).toThrow("internal error");
  expect(() => system.release(Number.NaN, page)).toThrow("internal error");
});

test("reserving more than the address space has is ENOMEM or EINVAL", () => {
  expect(outcome(system.reserve(2 ** 52))).toMatch(/^(ENOMEM|EINVAL)$/);
});

test.skipIf(!hasHugePages)("commits of whole, aligned 2 MiB ask for huge pages, smaller ones do not", () => {
  using space = new Reservation(8 * chunkBytes);
  expect(space.address % chunkBytes).toBe(0);
  expect(system.commit(space.address, 2 * chunkBytes)).toBe(0);
  expect(system.commit(space.address + 4 * chunkBytes, page)).toBe(0);
  const hasHugePageFlag = (address: Address): boolean => {
    const areas = readFileSync("/proc/self/smaps", "utf8").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
    const area = areas.find((text) => text.startsWith(`${address.toString(16)}-`)) ?? "";
    return /VmFlags:.* hg/.test(area);
  };
  expect(hasHugePageFlag(space.address)).toBe(true);
  expect(hasHugePageFlag(space.address + 4 * chunkBytes)).toBe(false);
});
