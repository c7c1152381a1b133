/** What a system is tried with before anybody relies on it: whether calls arrive as they were meant. */

import { Errno, errnoName } from "./errno.ts";
import { ioError } from "./io-error.ts";
import { compare, copy } from "./memory.ts";
import type { Address, Result, System } from "./system.ts";

/**
 * What does not hold, in words; undefined when all does. Touches no file, and leaves nothing behind.
 * @throws {EmdbError} EMDB_IO where memory or address space is short, which says nothing about the calls.
 */
export function selfTest(system: System): string | undefined {
  const { pageBytes } = system;
  if (!Number.isInteger(Math.log2(pageBytes)) || pageBytes < 4096) return `a page has ${pageBytes} bytes`;
  // An error has to arrive as what it is: no handle has this number.
  const closed = system.close(0x7fff_fff0);
  if (closed !== -Errno.EBADF) return `closing what is not open gave ${errnoName(closed)}`;
  const address = refusingShortage(system.reserve(2 * pageBytes));
  if (address <= 0) return `reserving memory gave ${errnoName(address)}`;
  const committed = system.commit(address + pageBytes, pageBytes);
  const copied = committed === 0 ? copiesAt(address + pageBytes) : undefined;
  const released = system.release(address, 2 * pageBytes);
  if (refusingShortage(committed) !== 0) return `committing memory gave ${errnoName(committed)}`;
  if (copied === false) return "copied bytes are not equal";
  if (refusingShortage(released) !== 0) return `releasing memory gave ${errnoName(released)}`;
  if (!system.isThreadAlive(system.threadId())) return "the calling thread is said not to run";
  return undefined;
}

function copiesAt(address: Address): boolean {
  const bytes = new Uint8Array([1, 2, 3]);
  copy(address, bytes, bytes.length);
  return compare(address, bytes, bytes.length) === 0;
}

function refusingShortage<T extends Address | Result>(result: T): T {
  if (result === -Errno.ENOMEM) throw ioError(result, { syscall: "mmap", path: undefined });
  return result;
}
