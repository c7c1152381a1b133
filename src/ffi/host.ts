/** The system we run on, looked up once per thread and tried out before anybody relies on it. */

import { availableParallelism } from "node:os";

import { EmdbError } from "../errors.ts";
import { freebsdKernel } from "./freebsd.ts";
import { hostPlatform } from "./library-names.ts";
import { requireBun } from "./library.ts";
import { linuxKernel } from "./linux.ts";
import { macosKernel } from "./macos.ts";
import { PosixSystem } from "./posix.ts";
import { selfTest } from "./self-test.ts";
import type { System } from "./system.ts";
import { WindowsSystem, windowsLibraries } from "./win32.ts";

let host: System | undefined;

/**
 * The operating system's files, memory and threads, for the calling thread.
 * @throws {EmdbError} EMDB_UNSUPPORTED when the platform is unknown, a call is missing, or one does not do what it should;
 * EMDB_IO where memory is too short to tell, and the next call tries again.
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
      return new WindowsSystem(windowsLibraries());
  }
}
