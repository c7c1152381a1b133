/**
 * From the tail to the disk: spill, sync, and say so.
 *
 * Invariants
 * 1. `durable` grows only after a sync that began when everything before it had been written.
 * 2. A failed sync poisons: the kernel may have dropped the pages and report success the next time.
 * 3. After a sync that left nothing behind it, a mark is written behind the tail: it proves to recovery that
 *    what stands before it was durable, and the next frame overwrites it.
 */

import { ioError, must } from "../ffi/io-error.ts";
import { pinned } from "../ffi/memory.ts";
import { FrameEncoder } from "../log/encoder.ts";
import { FRAME_HEADER_BYTES, KIND_MARK, PLACE_ALONE, SHAPE_CLEAN } from "../log/frame.ts";
import { LOG_DURABLE, LOG_RESERVED, LOG_TAIL, LOG_WRITTEN } from "../log/log-words.ts";
import { STATE, STATE_POISONED } from "./control.ts";
import { refusal, type Core, type LogFile } from "./core.ts";

const NO_KEY = pinned(8);

export class Sync {
  readonly #core: Core;
  readonly #file: LogFile;
  readonly #checkLock: () => void;
  readonly #encoder: FrameEncoder;

  constructor(core: Core, file: LogFile, checkLock: () => void) {
    this.#core = core;
    this.#file = file;
    this.#checkLock = checkLock;
    this.#encoder = new FrameEncoder(core.salts);
  }

  /** Makes everything that was written before the call durable. */
  flush(): void {
    const target = this.spill();
    if (this.#core.control.log.numbers[LOG_DURABLE]! >= target) return;
    this.sync(target);
    this.#mark(target);
  }

  /** Writes what is pending to the file; returns how far the file then holds the log. */
  spill(): number {
    const core = this.#core;
    core.mutex.lock();
    try {
      if (core.control.flags[STATE] !== 0) throw refusal(core);
      const target = core.visible;
      if (core.tail.pendingBytes > 0) {
        this.#checkLock();
        core.tail.spill();
      }
      return target;
    } finally {
      core.mutex.unlock();
    }
  }

  /** Syncs the file, which holds the log up to `target`. */
  sync(target: number): void {
    const core = this.#core;
    const result = core.system.sync(this.#file.handle);
    if (result < 0) {
      Atomics.or(core.control.flags, STATE, STATE_POISONED);
      throw ioError(result, { syscall: "fdatasync", path: this.#file.path });
    }
    if ((core.control.flags[STATE]! & STATE_POISONED) !== 0) throw refusal(core);
    const numbers = core.control.log.numbers;
    if (numbers[LOG_DURABLE]! < target) numbers[LOG_DURABLE] = target;
  }

  /** Writes a mark behind the tail, if the log still ends at `target`. A failure costs nothing but the mark. */
  #mark(target: number): void {
    const core = this.#core;
    if (!core.mutex.tryLock()) return;
    try {
      const numbers = core.control.log.numbers;
      const isStill = numbers[LOG_TAIL] === target && numbers[LOG_WRITTEN] === target;
      if (isStill && target + FRAME_HEADER_BYTES <= numbers[LOG_RESERVED]!) this.#writeMark(target, 0);
    } finally {
      core.mutex.unlock();
    }
  }

  #writeMark(lsn: number, flags: number): number {
    const draft = this.#encoder;
    draft.kind = KIND_MARK;
    draft.place = PLACE_ALONE;
    draft.flags = flags;
    draft.durable = lsn;
    draft.loadNothing();
    const bytes = draft.measure(0, lsn);
    draft.encode(NO_KEY, 0, lsn);
    return this.#core.system.write(this.#file.handle, draft.stage.address, { position: lsn, bytes });
  }

  /** Ends the log in good order: all durable, a clean mark behind it, no reserved space. */
  finish(): void {
    const core = this.#core;
    const end = this.spill();
    if (core.control.log.numbers[LOG_DURABLE]! < end) this.sync(end);
    core.mutex.lock();
    try {
      this.#checkLock();
      const call = { path: this.#file.path };
      must(this.#writeMark(end, SHAPE_CLEAN), { syscall: "pwrite", ...call });
      must(core.system.truncate(this.#file.handle, end + FRAME_HEADER_BYTES), { syscall: "ftruncate", ...call });
      this.sync(end);
    } finally {
      core.mutex.unlock();
    }
  }
}
