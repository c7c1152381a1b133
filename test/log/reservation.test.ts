/** How much room a log asks a disk for, what it does where that is refused, and what it gives back. */

import { expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import type { System } from "../../src/ffi/system.ts";
import { GROWTH_BYTES_MAX, GROWTH_BYTES_MIN, LOG_BYTES_MAX, POSITIONS_END_MAX } from "../../src/limits.ts";
import {
  LOG_BASE,
  LOG_NUMBERS,
  LOG_ORIGIN,
  LOG_RESERVED,
  LOG_TAIL,
  LOG_TOUCHED,
  LOG_ZEROED,
  addMap,
  freeMaps,
  type LogWords,
} from "../../src/log/log-words.ts";
import { Reservation } from "../../src/log/reservation.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const BLOCK = 4 * KIB;
const BASE = 64 * MIB;

/** A log of a file that begins at a base, on a disk that grants a file of so many bytes. */
class Subject {
  readonly words: LogWords = { numbers: new Float64Array(LOG_NUMBERS), flags: new Int32Array(64) };
  readonly numbers = this.words.numbers;
  diskBytes = Infinity;
  /** What is granted once room was made; none can be where that is undefined. */
  madeBytes: number | undefined;
  fileBytes = 0;
  /** How far each call would have had the file reach, and every look and cut, in order. */
  readonly calls: string[] = [];
  answer: number | undefined;
  readonly reservation: Reservation;

  constructor(canMapPastEnd = true) {
    this.numbers[LOG_BASE] = this.numbers[LOG_ORIGIN] = BASE;
    const system = {
      canMapPastEnd,
      allocate: (_: number, bytes: number) => {
        this.calls.push(`${bytes}`);
        if (this.answer !== undefined) return this.answer;
        if (bytes > this.diskBytes) return -Errno.ENOSPC;
        this.fileBytes = Math.max(this.fileBytes, bytes);
        return 0;
      },
      size: () => this.fileBytes,
      truncate: (_: number, bytes: number) => {
        this.calls.push(`cut ${bytes}`);
        expect(this.numbers[LOG_RESERVED]).toBe(BASE + bytes);
        if (this.answer !== undefined) return this.answer;
        this.fileBytes = bytes;
        return 0;
      },
    } as unknown as System;
    this.reservation = new Reservation(system, {
      file: { handle: 3, path: "/log" },
      words: this.words,
      look: () => void this.calls.push("look"),
      makeRoom: () => {
        this.calls.push("room");
        if (this.madeBytes === undefined) return false;
        this.diskBytes = this.madeBytes;
        return true;
      },
    });
  }

  /** Reserves behind a file of so many bytes; the calls that it took. */
  take(bytes: number): string[] {
    this.calls.length = 0;
    this.reservation.take(BASE + bytes);
    return this.calls;
  }

  refused(bytes: number): EmdbError {
    try {
      this.take(bytes);
    } catch (error) {
      if (error instanceof EmdbError) return error;
      throw error;
    }
    throw new Error("it was granted");
  }

  get reserved(): number {
    return this.numbers[LOG_RESERVED]! - BASE;
  }
}

test("a step is half of the log, between a least and a longest one, and ends with a block", () => {
  const subject = new Subject();
  for (const [bytes, step] of [
    [BLOCK, GROWTH_BYTES_MIN],
    [2 * GROWTH_BYTES_MIN, GROWTH_BYTES_MIN],
    [20 * MIB, 10 * MIB],
    [2 * GROWTH_BYTES_MAX, GROWTH_BYTES_MAX],
    [4096 * MIB, GROWTH_BYTES_MAX],
  ] as const) {
    expect(subject.take(bytes)).toEqual(["look", `${bytes + step}`]);
    expect(subject.reserved).toBe(bytes + step);
  }
  expect(subject.take(20 * MIB + 8)).toEqual(["look", `${30 * MIB + BLOCK}`]);
});

test("where each step is a map more it may be an eighth of the log", () => {
  const subject = new Subject(false);
  expect(subject.take(4096 * MIB)).toEqual(["look", `${(4096 + 512) * MIB}`]);
  expect(subject.take(256 * MIB)).toEqual(["look", `${(256 + 64) * MIB}`]);
});

test("a disk that refuses is asked for the least step and then for what is needed, and the steps double from there", () => {
  const subject = new Subject();
  const bytes = 40 * MIB;
  subject.diskBytes = bytes + MIB;
  expect(subject.take(bytes)).toEqual(["look", `${60 * MIB}`, `${bytes + GROWTH_BYTES_MIN}`]);
  for (const step of [1, 2, 4]) {
    subject.diskBytes = Infinity;
    expect(subject.take(bytes)).toEqual(["look", `${bytes + step * GROWTH_BYTES_MIN}`]);
  }
  subject.diskBytes = bytes + 8;
  const needed = subject.refused(bytes + 16);
  expect([needed.code, needed.syscall, needed.errno, needed.path]).toEqual([
    "EMDB_FULL",
    "fallocate",
    "ENOSPC",
    "/log",
  ]);
  subject.diskBytes = bytes + BLOCK;
  // The step that was refused last is the least one: it is not asked for twice.
  const least = `${bytes + BLOCK + GROWTH_BYTES_MIN}`;
  expect(subject.take(bytes + 16)).toEqual(["look", least, `${bytes + BLOCK}`]);
  expect(subject.reserved).toBe(bytes + BLOCK);
});

test("where not even what is needed is there, and room can be made, it is asked for once more", () => {
  const subject = new Subject();
  subject.diskBytes = 0;
  expect(subject.refused(8).code).toBe("EMDB_FULL");
  expect([subject.calls.slice(-2), subject.reserved]).toEqual([[`${BLOCK}`, "room"], -BASE]);
  subject.madeBytes = BLOCK;
  expect(subject.take(8).slice(-3)).toEqual([`${BLOCK}`, "room", `${BLOCK}`]);
  expect(subject.reserved).toBe(BLOCK);
  subject.answer = -Errno.EIO;
  const error = subject.refused(BLOCK + 8);
  expect([error.code, error.syscall, subject.calls.length, subject.reserved]).toEqual([
    "EMDB_IO",
    "fallocate",
    2,
    BLOCK,
  ]);
});

test("a log may be as long as its limit and not a byte longer, whatever the files before it take of that", () => {
  const subject = new Subject();
  expect(subject.take(LOG_BYTES_MAX)).toEqual(["look", `${LOG_BYTES_MAX}`]);
  const beyond = subject.refused(LOG_BYTES_MAX + 8);
  expect([beyond.code, beyond.message.includes("would grow to"), subject.calls]).toEqual(["EMDB_FULL", true, []]);
  subject.numbers[LOG_ORIGIN] = BASE - 8 * MIB;
  expect(subject.take(LOG_BYTES_MAX - 8 * MIB).length).toBe(2);
  expect(subject.refused(LOG_BYTES_MAX - 8 * MIB + 8).message).toContain("end the iterators");
  subject.numbers[LOG_ORIGIN] = subject.numbers[LOG_BASE] = POSITIONS_END_MAX - MIB;
  subject.reservation.take(POSITIONS_END_MAX);
  expect(() => subject.reservation.take(POSITIONS_END_MAX + 8)).toThrow("reopen the database");
});

test("a file system that reserves nothing is asked no more, and no zeros are written ahead there", () => {
  for (const answer of [-Errno.EOPNOTSUPP, -Errno.ENOSYS]) {
    const subject = new Subject();
    subject.answer = answer;
    subject.take(BLOCK);
    expect([subject.reserved, subject.numbers[LOG_ZEROED]]).toEqual([LOG_BYTES_MAX, Infinity]);
    // The file ends where it was written to, and giving back must not make it longer.
    subject.fileBytes = BLOCK;
    subject.numbers[LOG_TAIL] = BASE + BLOCK;
    expect([subject.reservation.giveBack(), subject.reserved]).toEqual([false, LOG_BYTES_MAX]);
  }
});

test("who knows what will come has it reserved, that and no more", () => {
  const subject = new Subject();
  subject.reservation.takeAll(BASE + 3 * MIB - 8);
  expect([subject.calls, subject.reserved]).toEqual([["look", `${3 * MIB}`], 3 * MIB]);
  subject.reservation.takeAll(BASE + 3 * MIB);
  expect(subject.calls.length).toBe(2);
  subject.diskBytes = 3 * MIB;
  expect(() => subject.reservation.takeAll(BASE + 3 * MIB + 8)).toThrow("fallocate");
  expect(() => subject.reservation.takeAll(BASE + LOG_BYTES_MAX + 8)).toThrow("would grow to");
  subject.madeBytes = 4 * MIB;
  subject.reservation.takeAll(BASE + 3 * MIB + 8);
  expect(subject.reserved).toBe(3 * MIB + BLOCK);
});

test("what is given back lies behind all that was placed or may be in the file, and the next step is a small one", () => {
  for (const [tail, touched, kept] of [
    [20 * MIB, 0, 20 * MIB + BLOCK],
    [20 * MIB - 128, 0, 20 * MIB],
    [20 * MIB - 120, 0, 20 * MIB + BLOCK],
    [MIB, 20 * MIB - 128, 20 * MIB],
  ] as const) {
    const subject = new Subject();
    subject.take(20 * MIB);
    subject.numbers[LOG_TAIL] = BASE + tail;
    subject.numbers[LOG_TOUCHED] = BASE + touched;
    subject.numbers[LOG_ZEROED] = BASE + kept + 8;
    subject.calls.length = 0;
    expect([subject.reservation.giveBack(), subject.calls]).toEqual([true, ["look", `cut ${kept}`]]);
    expect([subject.reserved, subject.numbers[LOG_ZEROED]]).toEqual([kept, BASE + kept]);
    expect([subject.reservation.giveBack(), subject.calls.length]).toEqual([false, 2]);
    expect(subject.take(20 * MIB)).toEqual(["look", `${20 * MIB + GROWTH_BYTES_MIN}`]);
  }
});

test("zeros that were written before what is kept count on, none are begun by giving back, and a refused cut is told", () => {
  for (const zeroed of [BASE + MIB, Infinity]) {
    const subject = new Subject();
    subject.take(20 * MIB);
    subject.numbers[LOG_TAIL] = BASE + 20 * MIB;
    subject.numbers[LOG_ZEROED] = zeroed;
    subject.answer = zeroed === Infinity ? -Errno.EIO : undefined;
    expect([subject.reservation.giveBack(), subject.numbers[LOG_ZEROED]]).toEqual([zeroed !== Infinity, zeroed]);
  }
  // Somebody died before the cut: the file is longer than is known to be reserved.
  const longer = new Subject();
  longer.take(20 * MIB);
  longer.fileBytes = 40 * MIB;
  longer.numbers[LOG_TAIL] = BASE + 30 * MIB - 8;
  expect([longer.reservation.giveBack(), longer.reserved, longer.fileBytes]).toEqual([false, 30 * MIB, 40 * MIB]);
  const fixed = new Subject(false);
  fixed.take(20 * MIB);
  fixed.numbers[LOG_TAIL] = BASE + MIB;
  expect([fixed.reservation.giveBack(), fixed.calls.length]).toEqual([false, 2]);
});

test("where maps are few no step is taken that leaves too few of them for a log that grows by eighths to its limit", () => {
  const bytes = 64 * MIB;
  for (const canMapPastEnd of [true, false]) {
    const subject = new Subject(canMapPastEnd);
    const needed = Math.log(LOG_BYTES_MAX / bytes) / Math.log(9 / 8);
    const addMaps = (left: number): void => {
      while (freeMaps(subject.words) > left) addMap(subject.words, { address: 1, bytes: BLOCK });
    };
    addMaps(Math.floor(needed) + 1);
    subject.diskBytes = bytes;
    expect(subject.take(bytes).at(-1)).toBe(`${bytes}`);
    addMaps(Math.floor(needed));
    subject.diskBytes = bytes + bytes / 8 - BLOCK;
    if (canMapPastEnd) expect(subject.take(bytes).at(-1)).toBe(`${bytes + GROWTH_BYTES_MIN}`);
    else expect(subject.refused(bytes).code).toBe("EMDB_FULL");
    subject.diskBytes = bytes + bytes / 8;
    subject.take(bytes);
    expect(subject.reserved).toBe(canMapPastEnd ? bytes + 2 * GROWTH_BYTES_MIN : bytes + bytes / 8);
  }
});
