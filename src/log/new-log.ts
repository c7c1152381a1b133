/**
 * A log that is being written to take another one's place, or to be a copy of it: a file of its own, or memory.
 *
 * It has log words of its own (`LogWords`), in the block that all Workers share, so that the next one can give
 * back what a Worker that died has left: the file, the map, the ring. Frames go in through a `Tail`, as into any
 * log.
 *
 * Invariant: nobody reads it before it is whole and durable. Its base is 0 until it takes a log's place, since only then
 * is it known how far the positions of that one go.
 */

import { assert } from "../errors.ts";
import { ioError, must } from "../ffi/io-error.ts";
import type { Pinned } from "../ffi/memory.ts";
import type { System } from "../ffi/system.ts";
import { ADDRESS_SPACE_BYTES, HEADER_PAGE_BYTES, LOG_BYTES_MAX, RING_BYTES, RING_FRAME_BYTES_MAX } from "../limits.ts";
import { freeName } from "./free-name.ts";
import {
  LOG_CLAIMED,
  LOG_DURABLE,
  LOG_FILE,
  LOG_GENERATION,
  LOG_RESERVED,
  LOG_RING,
  LOG_TAIL,
  LOG_VISIBLE,
  LOG_WRITTEN,
  addMap,
  logFileOf,
  mapRelease,
  releaseMaps,
  type LogWords,
} from "./log-words.ts";
import { closeFile, nameFile } from "./shared-file.ts";
import { withRoom, type MakeRoom, type OpenLogFile } from "./reservation.ts";
import { writeBack } from "./write-back.ts";
import { FileTail, MemoryTail, type Tail } from "./tail.ts";

/** Address space of a ring and its slack. */
export const RING_SPACE = RING_BYTES + RING_FRAME_BYTES_MAX;

/** As what a log is begun. */
export interface NewLogPlan {
  readonly generation: number;
  /** The file to make, which must not be there, and its header page; undefined for a log in memory. */
  readonly file: { readonly path: string; readonly page: Pinned } | undefined;
  /** What may give room back where the disk is full. */
  readonly makeRoom: MakeRoom;
}

/** Address space for a log in memory. */
export function reserveMemoryLog(system: System): { readonly address: number; readonly bytes: number } {
  let failure = 0;
  for (const wanted of ADDRESS_SPACE_BYTES) {
    const bytes = Math.min(wanted, LOG_BYTES_MAX);
    const address = system.reserve(bytes);
    if (address > 0) return { address, bytes };
    failure = address;
  }
  throw ioError(failure, { syscall: "mmap", path: undefined });
}

export class NewLog {
  readonly tail: Tail;
  readonly #system: System;
  readonly #words: LogWords;
  readonly #path: string | undefined;

  private constructor(system: System, words: LogWords, { file: made, makeRoom }: NewLogPlan) {
    const path = made?.path;
    this.#system = system;
    this.#words = words;
    this.#path = path;
    const { numbers } = words;
    const file: OpenLogFile = {
      path: path ?? "",
      get handle() {
        return numbers[LOG_FILE]!;
      },
    };
    const plan = { look: () => undefined, isWriteThrough: false, isSyncedOften: false, makeRoom };
    this.tail = path === undefined ? new MemoryTail(system, words) : new FileTail(system, file, words, plan);
  }

  /** Begins a log in words that name nothing. When that fails nothing is left of it. */
  static begin(system: System, words: LogWords, plan: NewLogPlan): NewLog {
    const { numbers } = words;
    assert(numbers[LOG_GENERATION] === 0, "what the words named before has been let go of");
    numbers[LOG_GENERATION] = plan.generation;
    numbers[LOG_FILE] = -1;
    for (const word of [LOG_VISIBLE, LOG_TAIL, LOG_WRITTEN, LOG_CLAIMED, LOG_DURABLE, LOG_RESERVED])
      numbers[word] = HEADER_PAGE_BYTES;
    try {
      if (plan.file === undefined) {
        numbers[LOG_RESERVED] = 0;
        addMap(words, reserveMemoryLog(system));
      } else makeFile(system, words, { ...plan.file, makeRoom: plan.makeRoom });
      return new NewLog(system, words, plan);
    } catch (error) {
      releaseDraft(system, words);
      if (plan.file !== undefined) system.unlink(plan.file.path);
      throw error;
    }
  }

  /** Where the next frame goes, as a position in the file. */
  get end(): number {
    return this.tail.end;
  }

  /** Has room for so many bytes more, at once. @throws {EmdbError} EMDB_FULL */
  reserve(bytes: number): void {
    this.tail.reserve(bytes);
  }

  /** Bytes that were appended and not written to the file yet. */
  get pendingBytes(): number {
    return this.tail.pendingBytes;
  }

  /** Writes what is pending and begins to bring it to the disk, from a place that this returned before; see `writeBack`. */
  writeBack(from: number): number {
    this.tail.spill();
    const path = this.#path;
    if (path === undefined) return this.end;
    const numbers = this.#words.numbers;
    return writeBack(this.#system, { handle: numbers[LOG_FILE]!, path }, { from, end: numbers[LOG_WRITTEN]! });
  }

  /** Writes what is pending, and makes everything durable. */
  sync(): void {
    this.tail.spill();
    if (this.#path === undefined) return;
    must(this.#system.sync(this.#words.numbers[LOG_FILE]!), { syscall: "fdatasync", path: this.#path });
  }
}

function makeFile(
  system: System,
  words: LogWords,
  file: { readonly path: string; readonly page: Pinned; readonly makeRoom: MakeRoom },
): void {
  const { path, page, makeRoom } = file;
  must(freeName(system, path), { syscall: "unlink", path });
  const handle = must(system.open(path, "create"), { syscall: "open", path });
  nameFile(system, logFileOf(words), handle);
  const span = { position: 0, bytes: HEADER_PAGE_BYTES };
  const written = withRoom(makeRoom, () => system.write(handle, page.address, span));
  must(written, { syscall: "pwrite", path });
  const ring = must(system.reserve(RING_SPACE), { syscall: "mmap", path });
  words.numbers[LOG_RING] = ring;
  must(system.commit(ring, RING_SPACE), { syscall: "mprotect", path });
}

/** Gives the ring of a draft back, which has nothing pending any more. */
export function releaseRing(system: System, words: LogWords): void {
  const ring = words.numbers[LOG_RING]!;
  words.numbers[LOG_RING] = 0;
  if (ring > 0) system.release(ring, RING_SPACE);
}

/** Lets go of everything that the words of a draft name, a dead Worker's as well; its file keeps its name. */
export function releaseDraft(system: System, words: LogWords): void {
  const { numbers } = words;
  const hasFile = numbers[LOG_FILE]! > 0;
  releaseMaps(words, undefined, mapRelease(system, hasFile));
  releaseRing(system, words);
  closeFile(system, logFileOf(words));
  numbers.fill(0);
}
