/**
 * The room on the disk that a log's file has reserved behind what is in it.
 *
 * Invariants
 * 1. `LOG_RESERVED` is no further than the disk has granted, but where a file system reserves nothing at all.
 * 2. Where the disk grants no generous step it is asked for the least one, then for what is needed, and the steps grow
 *    again from there: otherwise the last 64 MiB of a disk would be taken in blocks of 4 KiB, with a refusal for each.
 * 3. Where each step costs a map of its own (Windows) there are maps left for a log of any length, whatever the disk refuses.
 * 4. What is given back lies behind every frame that was placed or may be in the file. Nobody reads there: what readers
 *    take from the map is before `written`.
 */

import { EmdbError } from "../errors.ts";
import { Errno } from "../ffi/errno.ts";
import { ioError, lacksRoom } from "../ffi/io-error.ts";
import type { FileHandle, Result, System } from "../ffi/system.ts";
import { GROWTH_BYTES_MAX, GROWTH_BYTES_MIN, LOG_BYTES_MAX, POSITIONS_END_MAX } from "../limits.ts";
import {
  LOG_BASE,
  LOG_RESERVED,
  LOG_TAIL,
  LOG_TOUCHED,
  LOG_ZEROED,
  freeMaps,
  positionsInUse,
  type LogWords,
} from "./log-words.ts";

const BLOCK_BYTES = 4096;
/** From this length on a log grows by eighths where maps are short; below it by an eighth of this. */
const EIGHTHS_FROM_BYTES = 512 * 1024;
/** What stays reserved behind the end: a mark has its place there. */
const KEPT_BYTES = 128;

/** Whether something has given room back to a disk that is full. */
export type MakeRoom = () => boolean;

/** Makes a call that takes room on a disk, and where that is refused once more if room can be made. */
export function withRoom(makeRoom: MakeRoom, call: () => Result): Result {
  const result = call();
  return lacksRoom(result) && makeRoom() ? call() : result;
}

/** A log file as it is now: after a compaction its handle is another one. */
export interface OpenLogFile {
  readonly handle: FileHandle;
  readonly path: string;
}

/** Where the words of a log's file are beside it, and who is asked before it is touched. */
export interface ReservationPlan {
  readonly file: OpenLogFile;
  readonly words: LogWords;
  /** Throws when the file is not ours to write to. */
  readonly look: () => void;
  /** Asked where the disk has not even the room that is needed. */
  readonly makeRoom: MakeRoom;
}

/** How long the current file may become. */
function fileBytesMax(words: LogWords): number {
  return Math.min(LOG_BYTES_MAX, positionsInUse(words).end - words.numbers[LOG_BASE]!);
}

/** Refuses what no log may become. @throws {EmdbError} EMDB_FULL */
export function refuseBeyondMax(words: LogWords, end: number, path: string | undefined): void {
  const bytes = end - words.numbers[LOG_BASE]!;
  if (bytes <= fileBytesMax(words)) return;
  const { origin } = positionsInUse(words);
  const message =
    bytes > LOG_BYTES_MAX
      ? `the log would grow to ${bytes} bytes; its limit is ${LOG_BYTES_MAX}`
      : end > POSITIONS_END_MAX
        ? `more than ${POSITIONS_END_MAX} bytes have been written since the open; reopen the database`
        : `the log and the files before it that are still read would span ${end - origin} bytes; the limit is ` +
          `${LOG_BYTES_MAX}: end the iterators that began before the last compaction`;
  throw new EmdbError("EMDB_FULL", message, { path });
}

export class Reservation {
  readonly #system: System;
  readonly #plan: ReservationPlan;
  readonly #numbers: Float64Array;
  /** Longest step that is asked for: the disk has refused twice as much, or there was not so much in the steps since. */
  #stepMax = Infinity;

  constructor(system: System, plan: ReservationPlan) {
    this.#system = system;
    this.#plan = plan;
    this.#numbers = plan.words.numbers;
  }

  /** Reserves a generous step behind an end, or when the disk is too full for that, less, or just what is needed. */
  take(end: number): void {
    const { words, file, look, makeRoom } = this.#plan;
    const base = this.#numbers[LOG_BASE]!;
    refuseBeyondMax(words, end, file.path);
    look();
    const bytes = end - base;
    // Where the map ends with the file, each step is a map more: by shares they are few.
    const stepMax = this.#system.canMapPastEnd ? GROWTH_BYTES_MAX : Math.max(GROWTH_BYTES_MAX, bytes / 8);
    const wanted = Math.min(Math.max(bytes / 2, GROWTH_BYTES_MIN), stepMax);
    const shortest = this.#shortestStep(bytes);
    const least = Math.max(shortest, GROWTH_BYTES_MIN);
    const step = Math.max(shortest, Math.min(wanted, this.#stepMax));
    let result = this.#allocate(bytes, step);
    if (lacksRoom(result)) {
      this.#stepMax = GROWTH_BYTES_MIN;
      if (step > least) result = this.#allocate(bytes, least);
    } else if (step < wanted) this.#stepMax = 2 * step;
    if (lacksRoom(result)) result = withRoom(makeRoom, () => this.#allocate(bytes, shortest));
    if (result < 0) throw ioError(result, { syscall: "fallocate", path: file.path });
  }

  /** Reserves up to an end, for who knows what will come. @throws {EmdbError} EMDB_FULL */
  takeAll(end: number): void {
    const { words, file, look, makeRoom } = this.#plan;
    refuseBeyondMax(words, end, file.path);
    if (end <= this.#numbers[LOG_RESERVED]!) return;
    look();
    const result = withRoom(makeRoom, () => this.#allocate(end - this.#numbers[LOG_BASE]!, 0));
    if (result < 0) throw ioError(result, { syscall: "fallocate", path: file.path });
  }

  /**
   * The least step that may be taken. Where the map ends with the file each one costs a map, and those are counted: there
   * have to be as many left as a log needs that grows by eighths to its limit. Otherwise a disk that was full once, and
   * has room again, would leave a log that cannot grow until it is opened anew.
   */
  #shortestStep(bytes: number): number {
    if (this.#system.canMapPastEnd) return 0;
    const needed = Math.log(LOG_BYTES_MAX / Math.max(bytes, EIGHTHS_FROM_BYTES)) / Math.log(9 / 8);
    return freeMaps(this.#plan.words) > needed ? 0 : Math.max(bytes / 8, EIGHTHS_FROM_BYTES / 8);
  }

  /** Makes the file so much longer than it has to be, at most. */
  #allocate(bytes: number, step: number): Result {
    const { words, file } = this.#plan;
    const numbers = this.#numbers;
    const bytesMax = fileBytesMax(words);
    let target = Math.min(Math.ceil((bytes + step) / BLOCK_BYTES) * BLOCK_BYTES, bytesMax);
    let result = this.#system.allocate(file.handle, target);
    if (result === -Errno.EOPNOTSUPP || result === -Errno.ENOSYS) {
      target = bytesMax;
      // Zeros would make the file longer.
      numbers[LOG_ZEROED] = Infinity;
      result = 0;
    }
    if (result >= 0) numbers[LOG_RESERVED] = numbers[LOG_BASE]! + target;
    return result;
  }

  /** Gives back what is reserved behind everything; false when that is nothing, or cannot be had. */
  giveBack(): boolean {
    const { file, look } = this.#plan;
    const numbers = this.#numbers;
    // What is mapped cannot be cut there.
    if (!this.#system.canMapPastEnd) return false;
    const base = numbers[LOG_BASE]!;
    const used = Math.max(numbers[LOG_TAIL]!, numbers[LOG_TOUCHED]!) - base;
    const kept = Math.ceil((used + KEPT_BYTES) / BLOCK_BYTES) * BLOCK_BYTES;
    // Where nothing is reserved the file ends before, and would become longer.
    if (base + kept >= numbers[LOG_RESERVED]! || this.#system.size(file.handle) <= kept) return false;
    look();
    this.#stepMax = GROWTH_BYTES_MIN;
    // First: who dies in between leaves a file that is longer than the word says, as a system does that cuts nothing.
    numbers[LOG_RESERVED] = base + kept;
    if (numbers[LOG_ZEROED] !== Infinity) numbers[LOG_ZEROED] = Math.min(numbers[LOG_ZEROED]!, base + kept);
    return this.#system.truncate(file.handle, kept) >= 0;
  }
}
