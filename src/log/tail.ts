/**
 * The growing end of the log: where the next frame goes, and how it gets into the file.
 *
 * Two implementations. `FileTail` fills the ring (see `log-words.ts`) and writes it to the file a megabyte
 * at a time, when asked, or frame by frame for frames that are too long for the ring. `MemoryTail` is a log
 * with no file: frames go straight to where readers find them.
 *
 * Invariants
 * 1. All of it runs under the writer's lock.
 * 2. Space is reserved before a frame is placed: a full disk refuses the write while nothing has changed.
 * 3. A failed write changes no word: what is pending stays in the ring and is written again later, at the
 *    same place. Only a failed sync is final (the engine poisons itself).
 * 4. What a frame is placed over, in the ring or behind the end of the file, is never part of the log.
 */

import { EmdbError, assert } from "../errors.ts";
import { Errno } from "../ffi/errno.ts";
import { ioError, must } from "../ffi/io-error.ts";
import { copy, type Pinned } from "../ffi/memory.ts";
import type { Address, FileHandle, System } from "../ffi/system.ts";
import { GROWTH_BYTES_MAX, GROWTH_BYTES_MIN, LOG_BYTES_MAX, RING_BYTES, RING_FRAME_BYTES_MAX } from "../limits.ts";
import {
  LOG_CLAIMED,
  LOG_FENCE,
  LOG_RESERVED,
  LOG_RETREATS,
  LOG_RING,
  LOG_TAIL,
  LOG_WRAP,
  LOG_WRITTEN,
  addMap,
  mappedBytes,
  type LogWords,
} from "./log-words.ts";

/** Where the writer puts frames. */
export interface Tail {
  /** Position of the next frame. */
  readonly end: number;
  /** Reserves room for a frame at the end and says where to put its bytes; throws with nothing changed. The frame must fit the ring. */
  place(bytes: number): Address;
  /** The frame, or the frames, placed there are whole; the log ends behind them. */
  advance(bytes: number): void;
  /** Appends a frame too long for the ring: head (header, key, extension), then value, then padding. */
  appendLong(
    head: Pinned,
    sizes: { readonly headBytes: number; readonly value: Uint8Array; readonly frameBytes: number },
  ): void;
  /** Takes back frames behind `end` that nobody has seen; false when some are in the file already. */
  retreat(end: number): boolean;
  /** Bytes that are not in the file yet. */
  readonly pendingBytes: number;
  /** Writes them to the file. */
  spill(): void;
  /** After the death of a writer: its words agree again. A frame that it was about to count is kept or dropped whole. */
  mend(): void;
}

/** Longest single run of frames that `place` may be asked for. */
const PLACE_BYTES_MAX = RING_FRAME_BYTES_MAX;

function refuseBeyondMax(end: number, path: string | undefined): void {
  if (end <= LOG_BYTES_MAX) return;
  throw new EmdbError("EMDB_FULL", `the log would grow to ${end} bytes; its limit is ${LOG_BYTES_MAX}`, { path });
}

const PADDING = new Uint8Array(8);

/** How far the ring is claimed at a time, to need a memory barrier only now and then. */
const CLAIM_AHEAD_BYTES = 65_536;

export class FileTail implements Tail {
  readonly #system: System;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #words: LogWords;
  readonly #numbers: Float64Array;
  readonly #ring: Address;

  constructor(system: System, file: { readonly handle: FileHandle; readonly path: string }, words: LogWords) {
    this.#system = system;
    this.#file = file.handle;
    this.#path = file.path;
    this.#words = words;
    this.#numbers = words.numbers;
    this.#ring = words.numbers[LOG_RING]!;
  }

  get end(): number {
    return this.#numbers[LOG_TAIL]!;
  }

  get pendingBytes(): number {
    return this.#numbers[LOG_TAIL]! - this.#numbers[LOG_WRITTEN]!;
  }

  place(bytes: number): Address {
    const tail = this.#numbers[LOG_TAIL]!;
    const end = tail + bytes;
    assert(bytes <= PLACE_BYTES_MAX, "a run of frames fits the slack of the ring");
    if (end > this.#numbers[LOG_RESERVED]!) this.#reserve(end);
    if (end - this.#numbers[LOG_WRITTEN]! > RING_BYTES - RING_FRAME_BYTES_MAX) this.spill();
    if (end > this.#numbers[LOG_CLAIMED]!) {
      this.#numbers[LOG_CLAIMED] = end + CLAIM_AHEAD_BYTES;
      Atomics.add(this.#words.flags, LOG_FENCE, 1);
    }
    return this.#ring + (tail % RING_BYTES);
  }

  advance(bytes: number): void {
    const tail = this.#numbers[LOG_TAIL]!;
    const end = tail + bytes;
    if (tail % RING_BYTES >= RING_BYTES - bytes) this.#numbers[LOG_WRAP] = end;
    this.#numbers[LOG_TAIL] = end;
  }

  appendLong(
    head: Pinned,
    sizes: { readonly headBytes: number; readonly value: Uint8Array; readonly frameBytes: number },
  ): void {
    const start = this.#numbers[LOG_TAIL]!;
    const end = start + sizes.frameBytes;
    if (end > this.#numbers[LOG_RESERVED]!) this.#reserve(end);
    this.spill();
    const valueAt = start + sizes.headBytes;
    const paddingAt = valueAt + sizes.value.length;
    this.#write(head.address, start, sizes.headBytes);
    if (sizes.value.length > 0) this.#write(sizes.value, valueAt, sizes.value.length);
    if (end > paddingAt) this.#write(PADDING, paddingAt, end - paddingAt);
    this.#coverWithMap(end);
    this.#numbers[LOG_CLAIMED] = Math.max(end, this.#numbers[LOG_CLAIMED]!);
    // In this order: a writer that died in between would leave a frame to be read, and written, from the ring.
    Atomics.add(this.#words.flags, LOG_FENCE, 1);
    this.#numbers[LOG_WRITTEN] = end;
    this.#numbers[LOG_TAIL] = end;
  }

  retreat(end: number): boolean {
    if (this.#numbers[LOG_WRITTEN]! > end) return false;
    Atomics.add(this.#words.flags, LOG_RETREATS, 1);
    this.#numbers[LOG_TAIL] = end;
    return true;
  }

  mend(): void {
    this.#numbers[LOG_TAIL] = Math.max(this.#numbers[LOG_TAIL]!, this.#numbers[LOG_WRITTEN]!);
  }

  spill(): void {
    const written = this.#numbers[LOG_WRITTEN]!;
    const tail = this.#numbers[LOG_TAIL]!;
    if (written >= tail) return;
    const wrap = this.#numbers[LOG_WRAP]!;
    if (wrap > written && wrap < tail) {
      this.#write(this.#ring + (written % RING_BYTES), written, wrap - written);
      this.#write(this.#ring + (wrap % RING_BYTES), wrap, tail - wrap);
    } else {
      this.#write(this.#ring + (written % RING_BYTES), written, tail - written);
    }
    this.#coverWithMap(tail);
    Atomics.add(this.#words.flags, LOG_FENCE, 1);
    this.#numbers[LOG_WRITTEN] = tail;
  }

  #write(from: Address | Uint8Array, position: number, bytes: number): void {
    must(this.#system.write(this.#file, from, { position, bytes }), { syscall: "pwrite", path: this.#path });
  }

  #coverWithMap(end: number): void {
    ensureMapped(this.#system, { handle: this.#file, path: this.#path }, this.#words, end);
  }

  /** Reserves a generous step, or when the disk is too full for that, just what is needed. */
  #reserve(end: number): void {
    refuseBeyondMax(end, this.#path);
    const step = Math.min(Math.max(end / 2, GROWTH_BYTES_MIN), GROWTH_BYTES_MAX);
    const generous = Math.min(Math.ceil((end + step) / 4096) * 4096, LOG_BYTES_MAX);
    let target = generous;
    let result = this.#system.allocate(this.#file, target);
    if (result === -Errno.ENOSPC || result === -Errno.EDQUOT || result === -Errno.EFBIG) {
      target = Math.min(Math.ceil(end / 4096) * 4096, LOG_BYTES_MAX);
      result = this.#system.allocate(this.#file, target);
    }
    if (result === -Errno.EOPNOTSUPP || result === -Errno.ENOSYS) target = Infinity;
    else if (result < 0) throw ioError(result, { syscall: "fallocate", path: this.#path });
    this.#numbers[LOG_RESERVED] = target;
  }
}

/**
 * Sees to it that a map covers the file up to `end`. Where a map may reach beyond the file, the first one is
 * made for the largest log there can be, so that growing never maps again; where address space is short, or
 * the system maps no further than the file, a new map of at least double the length is added.
 */
export function ensureMapped(
  system: System,
  file: { readonly handle: FileHandle; readonly path: string },
  words: LogWords,
  end: number,
): void {
  const covered = mappedBytes(words);
  if (end <= covered) return;
  let bytes = system.canMapPastEnd
    ? LOG_BYTES_MAX
    : Math.max(end, must(system.size(file.handle), { syscall: "fstat", path: file.path }));
  for (;;) {
    const address = system.map(file.handle, bytes);
    if (address > 0) {
      addMap(words, { address, bytes });
      return;
    }
    const isLast = bytes <= end;
    if (isLast || !system.canMapPastEnd) throw ioError(address, { syscall: "mmap", path: file.path });
    bytes = Math.max(end, bytes / 2);
  }
}

/** A log in memory: the map is the log, committed as it grows. */
export class MemoryTail implements Tail {
  readonly #system: System;
  readonly #words: LogWords;
  readonly #numbers: Float64Array;
  readonly #base: Address;
  readonly #bytesMax: number;

  constructor(system: System, words: LogWords, region: { readonly address: Address; readonly bytes: number }) {
    this.#system = system;
    this.#words = words;
    this.#numbers = words.numbers;
    this.#base = region.address;
    this.#bytesMax = region.bytes;
  }

  get end(): number {
    return this.#numbers[LOG_TAIL]!;
  }

  get pendingBytes(): number {
    return 0;
  }

  place(bytes: number): Address {
    const tail = this.#numbers[LOG_TAIL]!;
    if (tail + bytes > this.#numbers[LOG_RESERVED]!) this.#commit(tail + bytes);
    return this.#base + tail;
  }

  advance(bytes: number): void {
    const end = this.#numbers[LOG_TAIL]! + bytes;
    this.#numbers[LOG_CLAIMED] = end;
    Atomics.add(this.#words.flags, LOG_FENCE, 1);
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

  #commit(end: number): void {
    const reserved = this.#numbers[LOG_RESERVED]!;
    const step = Math.min(Math.max(end / 2, GROWTH_BYTES_MIN), GROWTH_BYTES_MAX);
    const target = Math.min(Math.ceil((end + step) / 65536) * 65536, this.#bytesMax);
    if (end > target) {
      throw new EmdbError("EMDB_FULL", `the log in memory would grow to ${end} bytes; its limit is ${this.#bytesMax}`);
    }
    must(this.#system.commit(this.#base + reserved, target - reserved), { syscall: "mmap", path: undefined });
    this.#numbers[LOG_RESERVED] = target;
  }
}
