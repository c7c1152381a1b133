/**
 * From the tail to the disk: spill, sync, and say so. Group commit's shared part.
 *
 * Whoever needs the log durable up to a position either leads (sets `SYNC_OWNER`, runs one sync that covers all
 * that was written when it began) or waits for the sync that is under way and looks again: all flushes that
 * come while one sync runs share the next. Leaders are threads in `flushSync` and the commit Workers.
 *
 * Invariants
 * 1. `durable` grows only after a sync that began when everything before it had been written.
 * 2. A failed sync poisons: the kernel may have dropped the pages and report success the next time.
 * 3. After a sync behind which nothing is written at once, a mark is written behind the tail: it proves to recovery that
 *    what stands before it was durable, and the next frame overwrites it.
 * 4. Who follows an owner that died writes again what was not durable (`write-again.ts`), before it or anybody syncs.
 * 5. Where each write is a sync nothing is left for a flush, but to take a write out of the file that was refused and arrived.
 * 6. Who needs both takes the writer's lock first and `SYNC_OWNER` then. An owner waits for nothing but the system, and for
 *    some milliseconds at most for one that it lets by as it gives the lock back, so
 *    whoever waits for it gets it, also with the lock in hand: inside a transaction, to swap files, to end the log.
 */

import { EmdbError, assert } from "../../errors.ts";
import { barrier } from "../../ffi/barrier.ts";
import { Errno } from "../../ffi/errno.ts";
import { lacksRoom, must, syncError } from "../../ffi/io-error.ts";
import { pinned } from "../../ffi/memory.ts";
import { requireStack } from "../stack-room.ts";
import type { Result } from "../../ffi/system.ts";
import { ROW_THREAD_AT } from "../../ffi/reclaim.ts";
import type { FrameEncoder } from "../../log/encoder.ts";
import { KIND_MARK, PLACE_ALONE, SHAPE_CLEAN } from "../../log/frame.ts";
import { LOG_DURABLE, LOG_FENCE, LOG_RESERVED, LOG_TAIL, LOG_WRITTEN } from "../../log/log-words.ts";
import {
  AUDIT,
  CLOSING,
  STATE,
  STATE_POISONED,
  SWAP,
  SWAP_NONE,
  SYNC_DONE,
  SYNC_JOINED,
  SYNC_OWNER,
  SYNC_UNHEARD,
} from "../threads/control.ts";
import { refusal, type Core, type LogFile } from "../core.ts";
import { afterThisRun, neverMind, type Waiting } from "../threads/this-run.ts";
import { writeAgain } from "./write-again.ts";

const NO_KEY = pinned(8);
/** A mark of either kind. */
const MARK_BYTES_MAX = 64;
/** How long a thread waits for another's sync before it asks whether that thread still lives. */
const TURN_MS = 100;

export class Sync implements Waiting {
  readonly #core: Core;
  readonly #file: LogFile;
  readonly #encoder: FrameEncoder;
  /** Whether every flush pays for a sync of its own. */
  readonly #isEach: boolean;
  /** Where the next mark is to be written. */
  #markAt = 0;
  /** This row's name in `SYNC_OWNER`. */
  readonly name: number;

  constructor(core: Core, file: LogFile, isEach = false) {
    this.#core = core;
    this.#file = file;
    this.#isEach = isEach;
    this.#encoder = core.makeEncoder();
    this.name = core.row + 1;
  }

  /** How far the log is durable. */
  get durable(): number {
    return this.#core.control.log.numbers[LOG_DURABLE]!;
  }

  /** Makes everything that was written before the call durable, on this thread or by the sync under way. */
  flush(): void {
    this.eraseRefused();
    this.#flush(!this.#isEach);
  }

  /** Before a flush tells that what is shown now is what a crash leaves. @throws {EmdbError} EMDB_FULL, EMDB_IO, EMDB_POISONED */
  eraseRefused(): void {
    const { tail, mutex, control } = this.#core;
    if (!tail.holdsRefused) return;
    mutex.lock();
    try {
      // In a swap that a dead writer has begun the base may not be the file's. The next write ends it.
      if (control.flags[SWAP] !== SWAP_NONE || !tail.holdsRefused) return;
      this.alone(() => {
        tail.eraseRefused();
        this.#sync(this.durable);
        tail.forgetRefused();
      });
    } finally {
      mutex.unlock();
    }
  }

  /** The same at the end, where nothing has to be paid for. */
  flushRest(): void {
    this.#flush(true);
  }

  #flush(hasPaid: boolean): void {
    // An owner that found no room on the stack to lead would be waited for for ever, by itself too.
    requireStack();
    const target = this.spill();
    let isPaid = hasPaid;
    for (;;) {
      const isDone = this.durable >= target && isPaid;
      this.refuseIfPoisoned();
      if (isDone) break;
      if (this.#takeOwner()) {
        this.#lead();
        isPaid = true;
      } else this.#awaitOwner();
    }
    this.markSoon(target);
  }

  /**
   * Writes what is visible to the file; returns how far the file then holds the log. What a dead writer has left behind
   * that stays in the ring, where it can be taken back. With nothing to write it waits for nobody.
   */
  spill(): number {
    const core = this.#core;
    const target = core.visible;
    if (this.#isWritten(target)) return target;
    core.mutex.lock();
    return this.#spillLocked();
  }

  /** The same, given up when the lock cannot be had before a moment of the monotonic clock. */
  spillUntil(untilMs: number): void {
    const { mutex, system } = this.#core;
    while (!this.#isWritten(this.#core.visible)) {
      if (mutex.tryLock(1)) {
        this.#spillLocked();
        return;
      }
      // Whoever has it may write what is pending here as well.
      if (system.monotonic() >= untilMs) return;
    }
  }

  /** Whether the file holds the log up to a position. */
  #isWritten(target: number): boolean {
    const core = this.#core;
    if (core.control.flags[STATE] !== 0) throw refusal(core);
    return core.control.log.numbers[LOG_WRITTEN]! >= target;
  }

  /** Writes and gives the lock back. */
  #spillLocked(): number {
    const core = this.#core;
    try {
      const target = core.visible;
      if (!this.#isWritten(target)) {
        core.tail.spill(target);
        core.onSpill();
      }
      return target;
    } finally {
      core.mutex.unlock();
    }
  }

  refuseIfPoisoned(): void {
    if ((this.#core.control.flags[STATE]! & STATE_POISONED) !== 0) throw refusal(this.#core);
  }

  #takeOwner(): boolean {
    const { flags } = this.#core.control;
    const before = Atomics.compareExchange(flags, SYNC_OWNER, 0, this.name);
    if (before !== SYNC_UNHEARD) return before === 0;
    // With the lock: what another thread is writing would be missing, and come into the file behind that sync as before it.
    const { mutex } = this.#core;
    if (!mutex.tryLock(1)) return false;
    try {
      if (Atomics.compareExchange(flags, SYNC_OWNER, SYNC_UNHEARD, this.name) !== SYNC_UNHEARD) return false;
      this.#followDead();
      return true;
    } finally {
      mutex.unlock();
    }
  }

  /** As the owner behind one that died. Where nothing can be decided the next one tries again. */
  #followDead(): void {
    // Who died in a swap had the log synced before, and its words are half exchanged.
    if (this.#core.control.flags[SWAP] !== SWAP_NONE) return;
    try {
      writeAgain(this.#core, this.#file);
    } catch (error) {
      this.#release(this.name);
      throw error;
    }
  }

  #giveOwner(): void {
    const flags = this.#core.control.flags;
    Atomics.store(flags, SYNC_OWNER, 0);
    Atomics.add(flags, SYNC_DONE, 1);
    // Whoever waits has joined before it looked at the count, or belongs to another Worker.
    if (this.#core.isShared || Atomics.load(flags, SYNC_JOINED) > 0) Atomics.notify(flags, SYNC_DONE);
  }

  /** One sync for all that has been written; this thread is the owner. */
  #lead(): void {
    try {
      barrier(this.#core.control.log.flags, LOG_FENCE);
      this.#sync(this.#core.control.log.numbers[LOG_WRITTEN]!);
    } finally {
      this.#giveOwner();
    }
  }

  /** Runs something while nobody syncs, and nobody begins to. Under the writer's lock. */
  alone(body: () => void): void {
    assert(this.#core.mutex.isHeld, "the lock is taken before the conversation");
    while (!this.#takeOwner()) this.#awaitOwner();
    try {
      this.refuseIfPoisoned();
      body();
    } finally {
      this.#giveOwner();
    }
  }

  /** Waits for the sync under way; a dead thread's is over. */
  #awaitOwner(): void {
    const flags = this.#core.control.flags;
    const done = Atomics.load(flags, SYNC_DONE);
    const owner = Atomics.load(flags, SYNC_OWNER);
    if (owner === 0 || owner === SYNC_UNHEARD) return;
    if (Atomics.wait(flags, SYNC_DONE, done, TURN_MS) === "timed-out") this.releaseDeadOwner();
  }

  /** Frees the conversation after the death of this thread's commit Worker, which spoke under the same name. */
  releaseOwn(): void {
    this.#release(this.name);
  }

  #release(owner: number): void {
    const { flags } = this.#core.control;
    if (Atomics.compareExchange(flags, SYNC_OWNER, owner, SYNC_UNHEARD) !== owner) return;
    Atomics.add(flags, SYNC_DONE, 1);
    Atomics.notify(flags, SYNC_DONE);
  }

  /** Frees the conversation of an owner whose thread has ended. False when nothing could be decided about one. */
  releaseDeadOwner(): boolean {
    const { flags } = this.#core.control;
    const owner = Atomics.load(flags, SYNC_OWNER);
    if (owner !== 0 && owner !== SYNC_UNHEARD && this.isDead(owner)) this.#release(owner);
    // A commit Worker cannot write again: whoever waits for one does.
    try {
      if (Atomics.load(flags, SYNC_OWNER) === SYNC_UNHEARD && this.#takeOwner()) this.#giveOwner();
      return true;
    } catch (error) {
      // It is asked again in a while.
      if (!(error instanceof EmdbError)) throw error;
      return false;
    }
  }

  /** Whether the thread that had a name has ended, and so its commit Worker, which syncs under the same name (`commit-worker.ts`). */
  isDead(name: number): boolean {
    const thread = Atomics.load(this.#core.control.reclaim, ROW_THREAD_AT + name - 1);
    return thread <= 0 || !this.#core.system.isThreadAlive(thread - 1);
  }

  /** Syncs the file, which holds the log up to `target`. */
  #sync(target: number): void {
    const core = this.#core;
    const result = core.system.sync(this.#file.handle);
    if (result < 0) {
      Atomics.or(core.control.flags, STATE, STATE_POISONED);
      throw this.failure(result);
    }
    this.refuseIfPoisoned();
    const numbers = core.control.log.numbers;
    if (numbers[LOG_DURABLE]! < target) numbers[LOG_DURABLE] = target;
  }

  /** The error of a sync that failed. */
  failure(result: Result): EmdbError {
    return syncError(result, this.#file.path);
  }

  /**
   * Writes a mark behind the tail, if the log still ends at `target` once the code that runs now has had its turn: who goes
   * on to write needs none, since the next frames say what was durable. A failure costs nothing but the mark.
   */
  markSoon(target: number): void {
    this.#markAt = Math.max(this.#markAt, target);
    afterThisRun(this);
  }

  afterRun(): void {
    try {
      this.#mark(this.#markAt);
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
  }

  /** Writes the mark that waits for its turn, if one does: there will be none. */
  markNow(): void {
    if (neverMind(this)) this.afterRun();
  }

  /** The log has ended in another way. */
  markNever(): void {
    neverMind(this);
  }

  #mark(target: number): void {
    const core = this.#core;
    const numbers = core.control.log.numbers;
    if (numbers[LOG_TAIL] !== target || !core.mutex.tryLock()) return;
    try {
      // A writer that died may have left the words half exchanged with those of another file: the next one sees to that.
      // The last one out, who says so under the lock, ends the log itself, and then closes the file.
      const isWhole = core.control.flags[AUDIT] === 0 && core.control.flags[CLOSING] === 0;
      const isStill = isWhole && numbers[LOG_TAIL] === target && numbers[LOG_WRITTEN] === target;
      const hasRoom = target + MARK_BYTES_MAX <= numbers[LOG_RESERVED]!;
      // Somebody who has broken the lock may have written there.
      if (isStill && hasRoom && this.#canMark && core.lockWatch.isOurs) this.#writeMark(target, 0);
    } finally {
      core.mutex.unlock();
    }
  }

  /** A sealed mark needs a session; without one nothing was written that it could prove. */
  get #canMark(): boolean {
    const { vault } = this.#core;
    return vault === undefined || vault.isActive;
  }

  /** Returns the bytes of the mark, or why it was not written. */
  #writeMark(lsn: number, flags: number): number {
    const draft = this.#encoder;
    draft.kind = KIND_MARK;
    draft.place = PLACE_ALONE;
    draft.flags = flags;
    const position = lsn - this.#core.base;
    draft.salts = this.#core.salts;
    draft.durable = position;
    draft.loadNothing();
    const bytes = draft.measure(0, position);
    draft.encode(NO_KEY, 0, position);
    const written = this.#core.system.write(this.#file.handle, draft.stage.address, { position, bytes });
    return written < 0 ? written : bytes;
  }

  /**
   * Ends the log in good order: all durable, a clean mark behind it, no reserved space. Nobody else uses it any more.
   * A disk that is full to the last byte has no room for the mark: all is durable without it, and the next open recovers.
   */
  finish(unmap: () => void): void {
    const core = this.#core;
    this.flushRest();
    core.mutex.lock();
    try {
      this.alone(() => this.#end(unmap));
    } finally {
      core.mutex.unlock();
    }
  }

  #end(unmap: () => void): void {
    const core = this.#core;
    const end = core.visible;
    core.lockWatch.look();
    const call = { path: this.#file.path };
    // Nor is there one where not even a session had room.
    const marked = this.#canMark ? this.#writeMark(end, SHAPE_CLEAN) : 0;
    const markBytes = lacksRoom(marked) ? 0 : must(marked, { syscall: "pwrite", ...call });
    unmap();
    // Windows refuses while another process has the file mapped: the reserved space then stays, all zeros.
    const cut = core.system.truncate(this.#file.handle, end - core.base + markBytes, "at once");
    if (cut !== -Errno.EBUSY) must(cut, { syscall: "ftruncate", ...call });
    this.#sync(end);
  }
}
