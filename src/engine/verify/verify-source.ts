/**
 * Where a check or a rescue reads a log from: a file on a disk that may be failing, or memory.
 *
 * A stretch that the disk cannot read (EIO) is read again in small pieces, and the pieces that fail count as
 * zeros: the frames in them are then bad like any others, and the rest of the file is still to be had.
 */

import { Errno } from "../../ffi/errno.ts";
import { copy } from "../../ffi/memory.ts";
import type { FileHandle, Result, System } from "../../ffi/system.ts";
import type { LogReader } from "../../log/log-words.ts";

/** What the system reads at a time where a longer read failed: a page, eight sectors. */
const PIECE_BYTES = 4096;

interface Span {
  readonly position: number;
  readonly bytes: number;
}

export interface Stretch {
  readonly offset: number;
  readonly bytes: number;
}

/** Reads of a file that go on where the disk fails. */
export class PatientReads implements Pick<System, "read"> {
  readonly #system: System;
  readonly #failed = new Set<number>();

  constructor(system: System) {
    this.#system = system;
  }

  read(file: FileHandle, into: Uint8Array, span: Span): Result {
    const result = this.#system.read(file, into, span);
    return result === -Errno.EIO ? this.#readPieces(file, into, span) : result;
  }

  #readPieces(file: FileHandle, into: Uint8Array, { position, bytes }: Span): Result {
    let done = 0;
    while (done < bytes) {
      const at = position + done;
      const want = Math.min(PIECE_BYTES - (at % PIECE_BYTES), bytes - done);
      const piece = into.subarray(done, done + want);
      const result = this.#system.read(file, piece, { position: at, bytes: want });
      if (result === -Errno.EIO) {
        piece.fill(0);
        this.#failed.add(Math.floor(at / PIECE_BYTES));
      } else if (result < 0) {
        return result;
      } else if (result < want) {
        return done + result;
      }
      done += want;
    }
    return done;
  }

  /** What could not be read so far, in ascending order. */
  get unreadable(): Stretch[] {
    const stretches: { offset: number; bytes: number }[] = [];
    for (const piece of [...this.#failed].sort((a, b) => a - b)) {
      const offset = piece * PIECE_BYTES;
      const last = stretches.at(-1);
      if (last !== undefined && last.offset + last.bytes === offset) last.bytes += PIECE_BYTES;
      else stretches.push({ offset, bytes: PIECE_BYTES });
    }
    return stretches;
  }
}

/** Reads of a log that is in memory only. */
export class MemoryReads implements Pick<System, "read"> {
  readonly #log: LogReader;
  readonly #base: number;

  constructor(log: LogReader, base: number) {
    this.#log = log;
    this.#base = base;
  }

  read(_file: FileHandle, into: Uint8Array, { position, bytes }: Span): Result {
    const inside = position % 8;
    const lsn = this.#base + position - inside;
    const address = this.#log.at(lsn);
    const count = address === 0 ? 0 : Math.max(0, Math.min(bytes, this.#log.limit - inside));
    if (count > 0) copy(into, address + inside, count);
    return count;
  }
}
