/**
 * The growing end of the log: where the next frame goes, and how it gets into the file.
 *
 * Two implementations. `FileTail` fills the ring (see `log-words.ts`) and writes it to the file 2 MiB
 * at a time, when asked, or frame by frame for frames that are too long to be copied. `MemoryTail` is a log
 * with no file: frames go straight to where readers find them.
 *
 * Invariants
 * 1. All of it runs under the writer's lock.
 * 2. Space is reserved before a frame is placed: a full disk refuses the write while nothing has changed.
 * 3. A failed write changes no word: what is pending stays in the ring and is written again later, at the
 *    same place. Only a failed sync is final (the engine poisons itself).
 * 4. What a frame is placed over, in the ring or behind the end of the file, is never part of the log.
 * 5. Zeros are written ahead of the log only behind everything that was ever written to the file, and are no part of
 *    what a write promises: when they fail, nothing is lost.
 * 6. Every byte between `written` and `tail` is in the ring at its position modulo the ring's size; of a frame that
 *    reaches over the ring's end, the part behind it is there a second time, so that it can be read in one piece.
 */

import { EmdbError, assert } from "../errors.ts";
import { barrier } from "../ffi/barrier.ts";
import { ioError, must } from "../ffi/io-error.ts";
import { copy, sharedScratch, type Pinned } from "../ffi/memory.ts";
import { rawArrays } from "../ffi/raw-arrays.ts";
import type { Address, System } from "../ffi/system.ts";
import {
  COPIED_FRAME_BYTES_MAX,
  GROWTH_BYTES_MAX,
  GROWTH_BYTES_MIN,
  LOG_BYTES_MAX,
  RING_BYTES,
  RING_FRAME_BYTES_MAX,
  STRIDE_BYTES,
  ZEROED_BYTES,
  ZEROED_SYNC_BYTES_MAX,
} from "../limits.ts";
import {
  LOG_BASE,
  LOG_CLAIMED,
  LOG_DURABLE,
  LOG_FENCE,
  LOG_REFUSED,
  LOG_RESERVED,
  LOG_RETREATS,
  LOG_RING,
  LOG_STRIDE,
  LOG_TAIL,
  LOG_TOUCHED,
  LOG_WRITTEN,
  LOG_ZEROED,
  addMap,
  newestMap,
  positionsInUse,
  type LogWords,
} from "./log-words.ts";
import { Reservation, refuseBeyondMax, type MakeRoom, type OpenLogFile } from "./reservation.ts";

/** Where the writer puts frames. */
export interface Tail {
  /** Position of the next frame. */
  readonly end: number;
  /** Longest frame that is placed; a longer one is appended with its value from where that is. */
  readonly placedBytesMax: number;
  /** Reserves room for a frame at the end and says where to put its bytes; throws with nothing changed. The frame must fit the ring. */
  place(bytes: number): Address;
  /** The frame, or the frames, placed there are whole; the log ends behind them. */
  advance(bytes: number): void;
  /** The memory in which `place` finds places, as arrays, if it is always the same. */
  readonly ring: Pinned | undefined;
  /** Appends a frame that is not placed: head (header, key, extension), then value, then padding. */
  appendLong(
    head: Pinned,
    sizes: { readonly headBytes: number; readonly value: Uint8Array; readonly frameBytes: number },
  ): void;
  /**
   * Takes back frames behind `end` that nobody has seen; false when some are in the file already. Of those that only
   * may be there, none may begin behind `end` and before `touched`: it would be found again behind what comes to stand
   * at `end`.
   */
  retreat(end: number): boolean;
  /** Where each write is a sync: whether a frame that was taken back may be in the file, where the next open would find it. */
  readonly holdsRefused: boolean;
  /** Overwrites its beginning; without a sync behind that it may still come back. @throws {EmdbError} EMDB_FULL, EMDB_IO */
  eraseRefused(): void;
  /** It has been erased, or something else stands there, durably. */
  forgetRefused(): void;
  /** How far the file may hold frames, counted or not: a write that failed, or a thread that died in one, has left them. */
  readonly touched: number;
  /** Bytes that are not in the file yet. */
  readonly pendingBytes: number;
  /** Writes them to the file, those before `end`, a frame's beginning. */
  spill(end?: number): void;
  /** Writes those of them that fill the file up to a multiple of `STRIDE_BYTES`, and leaves the rest. */
  spillStrides(): void;
  /** Reserves room on the disk for so many bytes behind the end, and no more. @throws {EmdbError} EMDB_FULL */
  reserve(bytes: number): void;
  /** Gives the room on the disk back that is reserved for what is to come; false when there is none. */
  giveBack(): boolean;
  /** After the death of a writer: its words agree again. A frame that it was about to count is kept or dropped whole. */
  mend(): void;
}

const PADDING = new Uint8Array(8);

// A position's place in the ring and in its stride; cheaper than the remainder of a floating-point number.
const RING_MASK = RING_BYTES - 1;
const STRIDE_MASK = STRIDE_BYTES - 1;

/** Zeros begin at a multiple of it: the block before has been written in part. */
const ZEROED_BLOCK_BYTES = 4096;
/** Never written to, so it takes no memory. */
export const zeros = sharedScratch(ZEROED_BYTES);

/** How far the ring is claimed at a time, to need a memory barrier only now and then. */
const CLAIM_AHEAD_BYTES = 65_536;

/** Address space of the first map of a log, where that may reach beyond the file. */
const FIRST_MAP_BYTES = 2 ** 34;

/** How much longer than needed a map is, where address space is short. */
const AMPLE_SHARE = 1.25;

export interface FileTailPlan {
  /** Throws when the file is not ours to write to; called before each stretch of writes. */
  readonly look: () => void;
  /** Whether each write is a sync: then a long frame is one write too. */
  readonly isWriteThrough: boolean;
  /** Whether syncs may come often: to a log that is made as a whole one comes at the end. */
  readonly isSyncedOften: boolean;
  /** What may give room back where the disk is full, besides the log itself. */
  readonly makeRoom?: MakeRoom | undefined;
}

export class FileTail implements Tail {
  readonly placedBytesMax: number;
  readonly #system: System;
  readonly #look: () => void;
  readonly #isWriteThrough: boolean;
  readonly #isSyncedOften: boolean;
  readonly #file: OpenLogFile;
  readonly #path: string;
  readonly #words: LogWords;
  readonly #numbers: Float64Array;
  readonly #ring: Address;
  readonly #ringArrays: () => Pinned;
  readonly #reservation: Reservation;

  constructor(system: System, file: OpenLogFile, words: LogWords, plan: FileTailPlan) {
    this.placedBytesMax = plan.isWriteThrough ? RING_FRAME_BYTES_MAX : COPIED_FRAME_BYTES_MAX;
    this.#system = system;
    this.#look = plan.look;
    this.#isWriteThrough = plan.isWriteThrough;
    this.#isSyncedOften = plan.isSyncedOften;
    this.#file = file;
    this.#path = file.path;
    this.#words = words;
    this.#numbers = words.numbers;
    this.#ring = words.numbers[LOG_RING]!;
    this.#ringArrays = rawArrays(this.#ring, RING_BYTES + RING_FRAME_BYTES_MAX);
    const { look, makeRoom = () => false } = plan;
    this.#reservation = new Reservation(system, { file, words, look, makeRoom });
  }

  get end(): number {
    return this.#numbers[LOG_TAIL]!;
  }

  get pendingBytes(): number {
    return this.#numbers[LOG_TAIL]! - this.#numbers[LOG_WRITTEN]!;
  }

  get touched(): number {
    return this.#numbers[LOG_TOUCHED]!;
  }

  place(bytes: number): Address {
    const tail = this.#numbers[LOG_TAIL]!;
    const end = tail + bytes;
    assert(bytes <= RING_FRAME_BYTES_MAX, "a frame fits the slack of the ring");
    if (end > this.#numbers[LOG_RESERVED]!) this.#reservation.take(end);
    if (end - this.#numbers[LOG_WRITTEN]! > RING_BYTES - RING_FRAME_BYTES_MAX) this.#makeRoom(end);
    if (end > this.#numbers[LOG_CLAIMED]!) {
      this.#numbers[LOG_CLAIMED] = end + CLAIM_AHEAD_BYTES;
      barrier(this.#words.flags, LOG_FENCE);
    }
    return this.#ring + (tail & RING_MASK);
  }

  get ring(): Pinned | undefined {
    return this.#ringArrays();
  }

  #makeRoom(end: number): void {
    this.spillStrides();
    // Where the last stride began is forgotten when frames are taken back.
    if (end - this.#numbers[LOG_WRITTEN]! > RING_BYTES - RING_FRAME_BYTES_MAX) this.spill();
  }

  advance(bytes: number): void {
    const tail = this.#numbers[LOG_TAIL]!;
    if ((tail & STRIDE_MASK) + bytes >= STRIDE_BYTES) this.#crossStride(tail, bytes);
    this.#numbers[LOG_TAIL] = tail + bytes;
  }

  #crossStride(tail: number, bytes: number): void {
    const behindRing = (tail & RING_MASK) + bytes - RING_BYTES;
    if (behindRing > 0) copy(this.#ring, this.#ring + RING_BYTES, behindRing);
    const end = tail + bytes;
    this.#numbers[LOG_STRIDE] = (end & STRIDE_MASK) === 0 ? end : tail;
  }

  appendLong(
    head: Pinned,
    sizes: { readonly headBytes: number; readonly value: Uint8Array; readonly frameBytes: number },
  ): void {
    const start = this.#numbers[LOG_TAIL]!;
    const end = start + sizes.frameBytes;
    if (end > this.#numbers[LOG_RESERVED]!) this.#reservation.take(end);
    if (this.pendingBytes > 0) this.spill();
    else this.#look();
    const valueAt = start + sizes.headBytes;
    const paddingAt = valueAt + sizes.value.length;
    this.#write(head.address, start, sizes.headBytes);
    if (sizes.value.length > 0) this.#write(sizes.value, valueAt, sizes.value.length);
    if (end > paddingAt) this.#write(PADDING, paddingAt, end - paddingAt);
    this.#coverWithMap(end);
    this.#numbers[LOG_CLAIMED] = Math.max(end, this.#numbers[LOG_CLAIMED]!);
    // In this order: a writer that died in between would leave a frame to be read, and written, from the ring.
    barrier(this.#words.flags, LOG_FENCE);
    this.#numbers[LOG_WRITTEN] = end;
    this.#numbers[LOG_TAIL] = end;
  }

  retreat(end: number): boolean {
    if (this.#numbers[LOG_WRITTEN]! > end) return false;
    Atomics.add(this.#words.flags, LOG_RETREATS, 1);
    // What will stand there may begin elsewhere.
    this.#numbers[LOG_STRIDE] = 0;
    this.#numbers[LOG_TAIL] = end;
    if (end < this.touched) this.#erase(end);
    return true;
  }

  /** The frame that a write may have left there is none any more, as far as the disk lets us: it was refused. */
  #erase(lsn: number): void {
    if (this.#isWriteThrough && this.#isWritten(lsn)) this.#numbers[LOG_REFUSED] = lsn;
    try {
      this.#eraseAt(lsn);
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      return;
    }
    if (this.#system.lacksWriteThrough !== true) this.forgetRefused();
  }

  #eraseAt(lsn: number): void {
    this.#look();
    this.#write(PADDING, lsn, PADDING.length);
  }

  /** Whether the file has something at a position, or cannot be asked: a full disk may have taken nothing. */
  #isWritten(lsn: number): boolean {
    const found = new Uint8Array(PADDING.length);
    const span = { position: lsn - this.#numbers[LOG_BASE]!, bytes: found.length };
    return this.#system.read(this.#file.handle, found, span) < 0 || found.some((byte) => byte !== 0);
  }

  get holdsRefused(): boolean {
    const lsn = this.#numbers[LOG_REFUSED]!;
    return lsn !== 0 && lsn >= this.#numbers[LOG_BASE]!;
  }

  eraseRefused(): void {
    this.#eraseAt(this.#numbers[LOG_REFUSED]!);
  }

  forgetRefused(): void {
    this.#numbers[LOG_REFUSED] = 0;
  }

  mend(): void {
    this.#numbers[LOG_TAIL] = Math.max(this.#numbers[LOG_TAIL]!, this.#numbers[LOG_WRITTEN]!);
  }

  spill(end = this.#numbers[LOG_TAIL]!): void {
    this.#writeOut(end, end);
  }

  spillStrides(): void {
    const frame = this.#numbers[LOG_STRIDE]!;
    const end = Math.ceil(frame / STRIDE_BYTES) * STRIDE_BYTES;
    if (end <= this.#numbers[LOG_TAIL]!) this.#writeOut(end, frame);
  }

  /** Writes up to `end`, and lets frames before `written` be read from the file. */
  #writeOut(end: number, written: number): void {
    const from = this.#numbers[LOG_WRITTEN]!;
    if (from >= written) return;
    this.#look();
    const at = from & RING_MASK;
    const bytes = end - from;
    const room = RING_BYTES - at;
    this.#numbers[LOG_TOUCHED] = Math.max(end, this.#numbers[LOG_TOUCHED]!);
    this.#write(this.#ring + at, from, Math.min(bytes, room));
    if (bytes > room) this.#write(this.#ring, from + room, bytes - room);
    this.#zeroAhead(end);
    this.#coverWithMap(end);
    barrier(this.#words.flags, LOG_FENCE);
    this.#numbers[LOG_WRITTEN] = written;
  }

  /** Behind what was just written up to `end`, while syncs come often. */
  #zeroAhead(end: number): void {
    const numbers = this.#numbers;
    if (!this.#isSyncedOften || end <= numbers[LOG_ZEROED]! || end - numbers[LOG_DURABLE]! > ZEROED_SYNC_BYTES_MAX)
      return;
    const base = numbers[LOG_BASE]!;
    const reserved = numbers[LOG_RESERVED]!;
    if (this.#system.recordsFirstWrites?.(this.#file.handle) !== true) {
      numbers[LOG_ZEROED] = Infinity;
      return;
    }
    const position = Math.ceil((Math.max(end, numbers[LOG_TOUCHED]!) - base) / ZEROED_BLOCK_BYTES) * ZEROED_BLOCK_BYTES;
    const bytes = Math.min(position + ZEROED_BYTES, reserved - base) - position;
    if (bytes <= 0) return;
    this.#system.write(this.#file.handle, zeros().address, { position, bytes });
    numbers[LOG_ZEROED] = base + position + bytes;
  }

  reserve(bytes: number): void {
    this.#reservation.takeAll(this.end + bytes);
  }

  giveBack(): boolean {
    return this.#reservation.giveBack();
  }

  #write(from: Address | Uint8Array, lsn: number, bytes: number): void {
    const span = { position: lsn - this.#numbers[LOG_BASE]!, bytes };
    must(this.#system.write(this.#file.handle, from, span), { syscall: "pwrite", path: this.#path });
  }

  #coverWithMap(end: number): void {
    ensureMapped(this.#system, this.#file, this.#words, end);
  }
}

/**
 * Sees to it that a map covers the file up to `end`. Where a map may reach beyond the file, the first one is longer
 * than most logs ever get, and any other twice as long as it needs to be, so that growing hardly ever maps again and a
 * process can have a thousand databases open; where address space is short, or the system maps no further than the
 * file, a new map is added that is longer by an eighth at least.
 */
export function ensureMapped(system: System, file: OpenLogFile, words: LogWords, end: number): void {
  if (end <= (newestMap(words)?.end ?? 0)) return;
  const base = words.numbers[LOG_BASE]!;
  const needed = end - base;
  let bytes = system.canMapPastEnd
    ? Math.min(Math.max(FIRST_MAP_BYTES, 2 ** Math.ceil(Math.log2(2 * needed))), LOG_BYTES_MAX)
    : Math.max(needed, must(system.size(file.handle), { syscall: "fstat", path: file.path }));
  for (;;) {
    const address = system.map(file.handle, bytes);
    if (address > 0) {
      addMap(words, { address, bytes });
      return;
    }
    const isLast = bytes <= needed;
    if (isLast || !system.canMapPastEnd) throw ioError(address, { syscall: "mmap", path: file.path });
    const ample = Math.ceil((needed * AMPLE_SHARE) / 4096) * 4096;
    bytes = bytes > ample ? Math.max(ample, bytes / 2) : needed;
  }
}

/** A log in memory: the newest map is the log, reserved for it and committed as it grows. */
export class MemoryTail implements Tail {
  readonly placedBytesMax = COPIED_FRAME_BYTES_MAX;
  readonly holdsRefused = false;
  readonly ring = undefined;
  readonly #system: System;
  readonly #words: LogWords;
  readonly #numbers: Float64Array;

  constructor(system: System, words: LogWords) {
    this.#system = system;
    this.#words = words;
    this.#numbers = words.numbers;
  }

  get end(): number {
    return this.#numbers[LOG_TAIL]!;
  }

  get pendingBytes(): number {
    return 0;
  }

  get touched(): number {
    return 0;
  }

  place(bytes: number): Address {
    const tail = this.#numbers[LOG_TAIL]!;
    if (tail + bytes > this.#numbers[LOG_RESERVED]!) this.#commit(tail + bytes);
    return this.#region.origin + tail;
  }

  advance(bytes: number): void {
    const end = this.#numbers[LOG_TAIL]! + bytes;
    this.#numbers[LOG_CLAIMED] = end;
    barrier(this.#words.flags, LOG_FENCE);
    // In this order: there is no ring in which a frame is found that counts and is not written.
    this.#numbers[LOG_WRITTEN] = end;
    this.#numbers[LOG_TAIL] = end;
  }

  appendLong(
    head: Pinned,
    sizes: { readonly headBytes: number; readonly value: Uint8Array; readonly frameBytes: number },
  ): void {
    const address = this.place(sizes.frameBytes);
    copy(address, head.address, sizes.headBytes);
    copy(address + sizes.headBytes, sizes.value, sizes.value.length);
    // A frame that was taken back may have stood there.
    const paddingAt = sizes.headBytes + sizes.value.length;
    copy(address + paddingAt, PADDING, sizes.frameBytes - paddingAt);
    this.advance(sizes.frameBytes);
  }

  retreat(end: number): boolean {
    Atomics.add(this.#words.flags, LOG_RETREATS, 1);
    this.#numbers[LOG_TAIL] = end;
    this.#numbers[LOG_WRITTEN] = end;
    return true;
  }

  mend(): void {
    this.#numbers[LOG_WRITTEN] = this.#numbers[LOG_TAIL]!;
  }

  spill(): void {}

  spillStrides(): void {}

  /** Memory is not short for good. */
  reserve(): void {}

  giveBack(): boolean {
    return false;
  }

  eraseRefused(): void {}

  forgetRefused(): void {}

  get #region(): { readonly origin: Address; readonly end: number } {
    const region = newestMap(this.#words);
    assert(region !== undefined, "a log in memory has its memory");
    return region;
  }

  #commit(end: number): void {
    const { origin, end: mapped } = this.#region;
    const base = this.#numbers[LOG_BASE]!;
    // While the log before it is read there may be memory for more than there are positions left for.
    const last = Math.min(mapped, positionsInUse(this.#words).end);
    const reserved = Math.max(this.#numbers[LOG_RESERVED]!, base);
    const step = Math.min(Math.max((end - base) / 2, GROWTH_BYTES_MIN), GROWTH_BYTES_MAX);
    const target = Math.min(base + Math.ceil((end - base + step) / 65536) * 65536, last);
    if (end > target) {
      refuseBeyondMax(this.#words, end, undefined);
      const [bytes, bytesMax] = [end - base, last - base];
      throw new EmdbError("EMDB_FULL", `the log in memory would grow to ${bytes} bytes; its limit is ${bytesMax}`);
    }
    must(this.#system.commit(origin + reserved, target - reserved), { syscall: "mmap", path: undefined });
    this.#numbers[LOG_RESERVED] = target;
  }
}
