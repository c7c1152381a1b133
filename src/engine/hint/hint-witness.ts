/**
 * Whether a log is still the one that an image was made from: the last stretch of it before the image's end tells.
 *
 * A log that was put back from a copy and written on may be as long, and end alike. What it holds there is sound then. So a
 * stretch that is not what it was counts as the same log only if a frame in it has rotted: the image still says where
 * everything is, and that is worth more than to refuse the database for one record.
 */

import { must } from "../../ffi/io-error.ts";
import { passingScratch } from "../../ffi/memory.ts";
import type { System } from "../../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { crc32 } from "../../log/checksum.ts";
import { saltsOf } from "../../log/header.ts";
import { Scanner } from "../../log/scanner.ts";
import type { LogFile } from "../core.ts";
import { WITNESS_BYTES_MAX, witnessBefore, type HintHeader } from "./hint-format.ts";

const passingStretch = passingScratch(WITNESS_BYTES_MAX);

/** The checks of the stretch of a log that ends at a position, as it stands in the file. */
export function witnessChecks(system: System, log: LogFile, end: number): [number, number] {
  const position = witnessBefore(end);
  const memory = passingStretch().u8;
  const call = { syscall: "pread", path: log.path };
  const count = must(system.read(log.handle, memory, { position, bytes: Math.max(0, end - position) }), call);
  const stretch = memory.subarray(0, count);
  return [crc32(stretch, 0) >>> 0, Bun.hash.xxHash32(stretch)];
}

/** A log that is open, and its length. */
interface OpenLog {
  readonly file: LogFile;
  readonly bytes: number;
}

/** Whether a log that is at least as long as an image's end, and of its identity, did not go another way. */
export function isWitnessed(system: System, log: OpenLog, header: HintHeader): boolean {
  const checks = witnessChecks(system, log.file, header.end);
  if (checks.every((check, index) => check === header.witnessChecks[index])) return true;
  return isDamaged(system, log, header);
}

/**
 * Whether a frame of the stretch has rotted: its header still stands, or a sound one stands behind it. An end that is spoilt
 * is not taken for that, nor a stretch in which no frame can be told to begin.
 */
function isDamaged(system: System, { file, bytes }: OpenLog, { identity, end }: HintHeader): boolean {
  const { handle, path } = file;
  const scanner = new Scanner({ system, file: handle, path, salts: saltsOf(identity), end: bytes }, 0);
  try {
    const from = witnessBefore(end);
    let at = from === HEADER_PAGE_BYTES ? from : (scanner.findSound(from, -1, end) ?? end);
    let isRotten = false;
    while (at < end) {
      if (scanner.findSound(at, -1, at + 8) === at) {
        at += scanner.facts.frameBytes;
        continue;
      }
      isRotten = true;
      scanner.judge(at);
      const behind = scanner.soundReach || scanner.findSound(at + 8, -1, end);
      if (behind === undefined) return false;
      at = behind;
    }
    return isRotten;
  } finally {
    scanner.release();
  }
}
