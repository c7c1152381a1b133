/**
 * After the death of a thread that synced: what the system said to it nobody heard.
 *
 * A failed sync is told once. The kernel takes the pages that it could not write for clean then, and the next sync
 * succeeds without them. So all that was not durable is written again, which makes its pages dirty, before anybody syncs
 * in that thread's place. The bytes come from the file: the pages that the kernel still has are what was written. If it
 * has given some up, the disk has given back something else, which the frames' checks tell. It takes a second for each
 * gigabyte that was not durable.
 *
 * Source: Rebello et al., "Can Applications Recover from fsync Failures?" (USENIX ATC 2020), on what ext4, XFS and btrfs
 * do with the pages.
 */

import { EmdbError } from "../../errors.ts";
import { must } from "../../ffi/io-error.ts";
import { passingScratch } from "../../ffi/memory.ts";
import { LOG_DURABLE, LOG_WRITTEN } from "../../log/log-words.ts";
import { Scanner } from "../../log/scanner.ts";
import { STATE, STATE_POISONED } from "../threads/control.ts";
import type { Core, LogFile } from "../core.ts";

const PIECE_BYTES = 256 * 1024;
const passingPiece = passingScratch(PIECE_BYTES);

/**
 * Writes again what is in the file and not durable. Poisons where that cannot be, since it may be lost. Under the writer's
 * lock, while nobody else syncs: what is on its way into the file must be there or come later.
 *
 * @throws nothing has been decided: whose the lock is could not be asked (EMDB_IO), or there was no memory
 */
export function writeAgain(core: Core, file: LogFile): void {
  let isAgain = false;
  try {
    isAgain = isWrittenAgain(core, file);
  } catch (error) {
    if (!(error instanceof EmdbError) || error.syscall === "stat") throw error;
  }
  if (!isAgain) Atomics.or(core.control.flags, STATE, STATE_POISONED);
}

/**
 * Whether what was written again is what had been written.
 *
 * @throws {EmdbError} EMDB_IO; EMDB_LOCKED when the file is not ours to write to any more
 */
function isWrittenAgain(core: Core, file: LogFile): boolean {
  const { numbers } = core.control.log;
  const from = numbers[LOG_DURABLE]! - core.base;
  const to = numbers[LOG_WRITTEN]! - core.base;
  const memory = passingPiece();
  for (let position = from; position < to; position += PIECE_BYTES) {
    const span = { position, bytes: Math.min(PIECE_BYTES, to - position) };
    const read = must(core.system.read(file.handle, memory.u8, span), { syscall: "pread", path: file.path });
    if (read < span.bytes) return false;
    core.lockWatch.look();
    must(core.system.write(file.handle, memory.address, span), { syscall: "pwrite", path: file.path });
  }
  // Only now: what was looked at before could be given up between the two, and other bytes be written.
  return isSound(core, file, { from, to });
}

/** Whether a stretch of the file is frames from its beginning to its end. */
function isSound(core: Core, file: LogFile, stretch: { readonly from: number; readonly to: number }): boolean {
  const { from, to } = stretch;
  if (from >= to) return true;
  const scanner = new Scanner(
    { system: core.system, file: file.handle, path: file.path, salts: core.salts, end: to },
    from,
  );
  try {
    let at = from;
    while (at < to && scanner.judgeClosed(at).kind === "frame") at += scanner.facts.frameBytes;
    return at === to;
  } finally {
    scanner.release();
  }
}
