/**
 * A torn tail that cannot be cut off, because another process has the file mapped (Windows): zeros are written over it, which
 * end the log as well. The file stays as long as it is, as after a crash in reserved space.
 *
 * Zeros in front of sound frames could be taken for damage. A batch that lost its end may hold frames that were written when
 * its beginning was durable already, by a flush of another thread: with the beginning blank, one that is left would prove that
 * something durable is missing. And sectors reach the disk in any order. So there are steps, from the back, each durable
 * before the next one:
 *
 *     | sound |  the batch's beginning ...  | f1 ...      | f2 ...        | zeros
 *             |  third step                 | second step | first step    |
 *
 * f1 is the first frame that knows of a durable end behind the sound part, f2 the first that knows of a later end than f1.
 *
 * Invariant: a frame that may be left knows of no durable end behind the beginning of the step at hand, and the log stops no
 * earlier than there, or where it stopped before. So at every moment what is left is a torn tail, a shorter one.
 */

import { must } from "../../ffi/io-error.ts";
import { ZEROED_BYTES } from "../../limits.ts";
import { Scanner } from "../../log/scanner.ts";
import { zeros } from "../../log/tail.ts";
import type { Core, LogFile } from "../core.ts";

/** Writes zeros over `tornBytes` behind `soundEnd`, where nothing proves damage. The last of them are not durable yet. */
export function blankTail(
  core: Core,
  file: LogFile,
  { soundEnd, tornBytes }: { readonly soundEnd: number; readonly tornBytes: number },
): void {
  const { system } = core;
  const { handle, path } = file;
  let until = soundEnd + tornBytes;
  for (const start of stepsBehind(core, file, soundEnd).reverse()) {
    // Before the first one too: a process that died here may have left zeros behind the tail that are in the cache alone.
    must(system.sync(handle), { syscall: "fdatasync", path });
    for (let position = start; position < until; position += ZEROED_BYTES) {
      const bytes = Math.min(ZEROED_BYTES, until - position);
      must(system.write(handle, zeros().address, { position, bytes }), { syscall: "pwrite", path });
    }
    until = start;
  }
}

/** Where the steps begin, in the order of the file. */
function stepsBehind(core: Core, { handle: file, path }: LogFile, soundEnd: number): number[] {
  const { system, salts } = core;
  const end = must(system.size(file), { syscall: "fstat", path });
  const scanner = new Scanner({ system, file, path, salts, end }, soundEnd);
  const steps = [soundEnd];
  let durable = soundEnd;
  for (let from = soundEnd; ;) {
    const lsn = scanner.findSound(from, durable);
    if (lsn === undefined) break;
    steps.push(lsn);
    durable = scanner.facts.durable;
    from = lsn + 8;
  }
  scanner.release();
  return steps;
}
