/**
 * Whether a file that has lost its name may be cut: fcntl(2), F_SETLEASE. A write lease is given only while no other open
 * file is this one, in any process; a mapping of another's keeps that one's file open, and this process's own are listed.
 * It is given back at once.
 *
 * Only on file systems for which the kernel that answers has seen every open: not on overlays and network file systems.
 */

import { mappingsOf } from "./linux-maps.ts";
import type { StatusCall } from "./linux-status.ts";
import { nodeFs } from "./node-fs.ts";
import { attempt } from "./surroundings.ts";
import type { LinuxCalls } from "./symbols-posix.ts";
import type { FileHandle } from "./system.ts";

const FCNTL = process.arch === "arm64" ? 25 : 72;
const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** What is sent to a lease's holder when somebody opens the file: one that is ignored by default, on every architecture. */
const SIGURG = 23;
/** Two milliseconds of freeing blocks on a solid-state disk that is told of each. */
const CUT_BYTES = 8 * 1024 * 1024;

/** As `System.cutBytes`, for a file on a file system that is known to be this kernel's alone. */
export function cutBytesOf(calls: LinuxCalls, statusCall: StatusCall, file: FileHandle): number {
  const status = statusCall.of(file);
  if (typeof status !== "object" || status.bytes <= CUT_BYTES) return 0;
  if (attempt(() => nodeFs().fstatSync(file).nlink) !== 0) return 0;
  const control = (command: number, argument: number): boolean =>
    calls.syscall(FCNTL, file, command, argument, 0, 0) === 0;
  const isAlone = control(F_SETSIG, SIGURG) && control(F_SETLEASE, F_WRLCK);
  if (isAlone) control(F_SETLEASE, F_UNLCK);
  // Last, since it takes the longest where much is mapped.
  return isAlone && mappingsOf(status.identity)?.length === 0 ? CUT_BYTES : 0;
}
