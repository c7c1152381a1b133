/** The system we run on, looked up once per thread and tried out before anybody relies on it. */

import { availableParallelism } from "node:os";

import { EmdbError } from "../errors.ts";
import { Errno, errnoName } from "./errno.ts";
import { freebsdKernel } from "./freebsd.ts";
import { hostPlatform } from "./library-names.ts";
import { requireBun } from "./library.ts";
import { linuxKernel } from "./linux.ts";
import { macosKernel } from "./macos.ts";
import { compare, copy } from "./memory.ts";
import { PosixSystem } from "./posix.ts";
import type { System } from "./system.ts";
import { WindowsSystem } from "./win32.ts";

let host: System | undefined;

/**
 * The operating system's files, memory and threads, for the calling thread.
 * @throws {EmdbError} EMDB_UNSUPPORTED when the platform is unknown, a call is missing, or one does not do what it should.
 */
export function hostSystem(): System {
  if (host === undefined) {
    requireBun(Bun.version);
    const system = systemOfPlatform();
    const failure = selfTest(system);
    if (failure !== undefined) {
      throw new EmdbError(
        "EMDB_UNSUPPORTED",
        `native calls do not work here (Bun ${Bun.version}, ${process.platform} ${process.arch}): ${failure}`,
      );
    }
    host = system;
  }
  return host;
}

/** How many threads can run at a time here, 1 or more, as the system says. */
export function processors(): number {
  return availableParallelism();
}

function systemOfPlatform(): System {
  const platform = hostPlatform();
  switch (platform) {
    case "linux-glibc":
    case "linux-musl":
      return new PosixSystem(linuxKernel());
    case "macos":
      return new PosixSystem(macosKernel());
    case "freebsd":
      return new PosixSystem(freebsdKernel());
    case "windows":
      return new WindowsSystem();
  }
}

/** What does not hold, in words; undefined when all does. Touches no file. */
function selfTest(system: System): string | undefined {
  const { pageBytes } = system;
  if (!Number.isInteger(Math.log2(pageBytes)) || pageBytes < 4096) return `a page has ${pageBytes} bytes`;
  // An error has to arrive as what it is: no handle has this number.
  const closed = system.close(0x7fff_fff0);
  if (closed !== -Errno.EBADF) return `closing what is not open gave ${errnoName(closed)}`;
  const address = system.reserve(2 * pageBytes);
  if (address <= 0) return `reserving memory gave ${errnoName(address)}`;
  const committed = system.commit(address + pageBytes, pageBytes);
  if (committed !== 0) return `committing memory gave ${errnoName(committed)}`;
  const bytes = new Uint8Array([1, 2, 3]);
  copy(address + pageBytes, bytes, 3);
  if (compare(address + pageBytes, bytes, 3) !== 0) return "copied bytes are not equal";
  const released = system.release(address, 2 * pageBytes);
  if (released !== 0) return `releasing memory gave ${errnoName(released)}`;
  if (!system.isThreadAlive(system.threadId())) return "the calling thread is said not to run";
  return undefined;
}
