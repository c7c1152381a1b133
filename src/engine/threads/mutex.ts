/**
 * The writer's lock: one word of shared memory, the row + 1 of the Worker that holds it.
 *
 * Taking it when it is free is one compare-and-swap (2 ns). A Worker that finds it taken sleeps on the word in
 * short turns, and between two of them asks whether the holder's thread still runs: a dead one's lock is
 * taken over, also by one who would not wait. Either way the new holder finds a half-done write by `tail !== visible`
 * and undoes it; after a take-over the counts are checked as well (`audit.ts`).
 *
 * The word is the holder's row + 1 in its lower bits, and in the others those of its thread's number: what was found of a
 * holder does not hold for who has its row next.
 *
 * Who takes it as it becomes free, without having waited, is faster than whoever is only woken then (barging), and a Worker
 * that writes without a pause would shut the others out for as long as it does so. So who has waited for a millisecond says
 * that, and whoever gives the lock back meanwhile lets one who waits have it. (A hand-over takes some 20 us: among
 * short writes there is one in a millisecond, among long ones one for each.)
 *
 * Long work of an event loop waits on the word as the others do, in line with them, and its loop turns meanwhile (`inTurns`).
 * Whoever gives the lock back calls the first one in the line, and one more for each loop in it that stands still.
 *
 * As long as nobody else can attach, the word is left alone: each change of it is a locked instruction, which waits
 * until all stores before it have reached the cache (40 to 75 ns right after a frame was written to cold memory).
 *
 * Invariants
 * 1. The lock nests within a Worker; only the outermost release gives it back.
 * 2. Who holds it waits for nothing else but system calls and the sync under way, whose owner never waits for the lock
 *    (`sync.ts`).
 * 3. Before another Worker can attach, the word says whether this one holds the lock.
 * 4. Who takes it has room on the stack to give it back, and for a write (`stack-room.ts`).
 * 5. Who has left takes it no more: its row, which the word would name, may be another's.
 */

import { EmdbError, assert } from "../../errors.ts";
import { ROW_THREAD_AT } from "../../ffi/reclaim.ts";
import { requireStack } from "../stack-room.ts";
import type { System } from "../../ffi/system.ts";
import { ATTACHED_MAX } from "../../limits.ts";
import { changed } from "./changed.ts";
import {
  AUDIT,
  MUTEX,
  MUTEX_LONG,
  MUTEX_TURNS,
  MUTEX_TWICE,
  MUTEX_WAITERS,
  MUTEX_WAITS,
  ROWS_USED,
  countForRow,
  type Control,
} from "./control.ts";

const TURN_MS = 10;
const SPINS = 200;
/** Longest wait for one who was woken to take the lock; waking takes some 20 us. */
const GIVE_WAY_MS = 1;
/** Who has waited for so long is let by, and waited for no longer than that: under an emulator waking may take milliseconds. */
const LONG_MS = 1;
const LET_BY_MS = 10;
/** Who waited in vain for somebody to come does not do so again for so long: the one who counts as waiting may be dead, or have no processor. */
const NOBODY_CAME_MS = 100;
/** Longest wait in turns: a loop that is busy meets others that are quicker whenever it comes. */
const IN_TURNS_MS_MAX = 2000;
/** For so long it counts that a thread has slept for the lock. */
const SLEPT_MS = 1000;
/** What one who waits in turns counts as; its thread may come to wait for the lock itself meanwhile. */
const IN_TURNS = 1 + MUTEX_LONG;
assert(2 * ATTACHED_MAX < MUTEX_LONG && 2 * ATTACHED_MAX * IN_TURNS < MUTEX_TWICE, "the counts have room");
assert((ATTACHED_MAX + 1) * MUTEX_TWICE < 2 ** 31, "and all of them together");

/** Bits of a name that are for the row; a name is positive. */
const ROW_BITS = 9;
const THREAD_BITS = 31 - ROW_BITS;
assert(ATTACHED_MAX < 1 << ROW_BITS, "every row has a name");

/** The row of the holder that the word names; negative for none. */
export function rowOfHolder(word: number): number {
  return (word & ((1 << ROW_BITS) - 1)) - 1;
}

/** What the lock asks of the system: whether a holder's thread still runs, and a clock for those who wait. */
export type LockSystem = Pick<System, "isThreadAlive" | "monotonic">;

export class Mutex {
  readonly #control: Control;
  readonly #flags: Int32Array;
  readonly #rows: Int32Array;
  readonly #row: number;
  readonly #own: number;
  readonly #system: LockSystem;
  #depth = 0;
  #isAlone = false;
  #hasLeft = false;
  /** Where the lock is lent: how long it was waited for. This thread has it, and nothing has taken it yet. */
  #lentMs: number | undefined;
  /** By the monotonic clock: when this thread last began to sleep for the lock, but for long work. */
  #sleptMs = -Infinity;
  /** Whether a step of long work is under way. */
  #isStep = false;
  /** How many wait in turns on this thread, which counts as one of those who wait, and is in the line once for all of them. */
  #inTurns = 0;
  #inLine: Promise<void> | undefined;
  /** By the monotonic clock: until then nobody is let by. */
  #nobodyUntilMs = 0;
  /** Called when somebody was waited for in vain, who may be dead. The lock is not held. */
  onNobodyCame: () => void = () => undefined;

  constructor(control: Control, row: number, system: LockSystem) {
    this.#control = control;
    this.#flags = control.flags;
    this.#rows = control.reclaim;
    this.#row = row;
    const thread = Atomics.load(this.#rows, ROW_THREAD_AT + row);
    this.#own = row + 1 + ((thread & ((1 << THREAD_BITS) - 1)) << ROW_BITS);
    this.#system = system;
  }

  get isHeld(): boolean {
    return this.#depth > 0;
  }

  /** This thread is about to give its row back. */
  leave(): void {
    if (this.#inTurns > 0) this.#countWaiting(-IN_TURNS);
    this.#inTurns = 0;
    this.#hasLeft = true;
  }

  /** Nobody else can attach until `share` is called. */
  beAlone(): void {
    this.#isAlone = true;
  }

  /** Others may attach from now on. */
  share(): void {
    if (this.#isAlone && this.#depth > 0) Atomics.store(this.#flags, MUTEX, this.#own);
    this.#isAlone = false;
  }

  /** Whether no other thread has it, or gives it back within some microseconds. */
  get isFree(): boolean {
    if (this.#depth > 0 || this.#isAlone || this.#lentMs !== undefined) return true;
    for (let spin = 0; spin < SPINS; spin++) if (Atomics.load(this.#flags, MUTEX) === 0) return true;
    return false;
  }

  /**
   * Whether this thread has slept for the lock lately, for writes of its own: its event loop stands still for others as it is,
   * and comes back to what waits in turns when one of them has the lock again.
   */
  get sleepsAnyway(): boolean {
    return this.#system.monotonic() - this.#sleptMs < SLEPT_MS;
  }

  /**
   * Runs something that takes the lock, as soon as that can be had, and lets the event loop turn until then: the lock is lent
   * to whoever asks for it first within `body`, and given back with that. Nothing else runs on this thread in between.
   * `check` is asked before each try, and throws to give up. Where the loop comes too late again and again, the lock is waited
   * for as others wait: when this thread `sleepsAnyway`, or after two seconds.
   *
   * @throws {EmdbError} EMDB_CLOSED when this thread has left, and what `check` throws
   */
  async inTurns<T>(check: () => void, body: () => T): Promise<T> {
    this.#refuseLeft();
    const askedMs = this.#system.monotonic();
    if (!this.isFree || !this.tryLock()) {
      if (this.#inTurns++ === 0) this.#countWaiting(IN_TURNS);
      try {
        await this.#takeInTurns(check, askedMs);
      } finally {
        // Who has left is not counted any more.
        if (this.#inTurns > 0 && --this.#inTurns === 0) this.#countWaiting(-IN_TURNS);
        this.#noteTurn();
        // Of who gives up: it may have been called, and not those who wait behind it.
        if (this.#depth === 0 && Atomics.load(this.#flags, MUTEX) === 0) Atomics.notify(this.#flags, MUTEX, 1);
      }
    }
    this.#lend(this.#system.monotonic() - askedMs);
    try {
      return body();
    } finally {
      this.endStep();
    }
  }

  async #takeInTurns(check: () => void, askedMs: number): Promise<void> {
    do {
      await this.#givenBack();
      this.#refuseLeft();
      check();
      if (this.sleepsAnyway || this.#system.monotonic() - askedMs >= IN_TURNS_MS_MAX) {
        this.lock();
        return;
      }
    } while (!this.tryLock());
  }

  /**
   * A step of long work begins: one that takes the lock has it lent in the same way, if it can be had now. False: it cannot, and
   * the step is to be taken by `inTurns`.
   */
  beginStep({ needsLock }: { readonly needsLock: boolean }): boolean {
    if (needsLock) {
      if (this.isFree && this.tryLock()) this.#lend(0);
      else if (!this.sleepsAnyway) return false;
    }
    this.#isStep = true;
    return true;
  }

  /** The step is done, whatever became of it. */
  endStep(): void {
    this.#isStep = false;
    if (this.#takeLent()) this.unlock();
  }

  /** What has just been taken is for who asks next. */
  #lend(waitedMs: number): void {
    this.#isStep = true;
    this.#depth -= 1;
    if (this.#depth === 0 && !this.#isAlone) this.#lentMs = waitedMs;
  }

  /** @throws {EmdbError} EMDB_CLOSED when this thread has left; RangeError where the stack has no room for who holds it */
  lock(): void {
    requireStack();
    this.#refuseLeft();
    if (this.#takeLent()) return;
    if (this.#depth === 0 && !this.#isAlone && Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own) !== 0)
      this.#wait(Infinity);
    this.#depth += 1;
  }

  /** Resolves when the lock is given back, or after a turn. */
  async #givenBack(): Promise<void> {
    const holder = Atomics.load(this.#flags, MUTEX);
    if (holder === 0) return;
    this.#inLine ??= changed(this.#flags, { word: MUTEX, value: holder, waitMs: TURN_MS }).finally(() => {
      this.#inLine = undefined;
    });
    await this.#inLine;
  }

  /** How long it was waited for, where it is lent. */
  get lentMs(): number {
    return this.#lentMs ?? 0;
  }

  #takeLent(): boolean {
    if (this.#lentMs === undefined) return false;
    this.#lentMs = undefined;
    this.#depth = 1;
    return true;
  }

  #refuseLeft(): void {
    if (this.#hasLeft) throw new EmdbError("EMDB_CLOSED", "the database is closed");
  }

  /** Takes the lock if it is free or a dead one's, or comes to be so in that many turns of 10 ms at most. */
  tryLock(turnsMax = 0): boolean {
    requireStack();
    if (this.#hasLeft) return false;
    if (this.#takeLent()) return true;
    const isFree = this.#depth > 0 || this.#isAlone;
    if (!isFree && Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own) !== 0 && !this.#wait(turnsMax))
      return false;
    this.#depth += 1;
    return true;
  }

  unlock(): void {
    // Who has left was refused it, and gives it back all the same.
    if (this.#hasLeft && this.#depth === 0) return;
    assert(this.#depth > 0, "only a held lock is released");
    this.#depth -= 1;
    if (this.#depth > 0 || this.#isAlone) return;
    Atomics.store(this.#flags, MUTEX, 0);
    const waiters = this.#waiters;
    if (waiters <= 0) return;
    // Event loops in the line that stand still, this one among them: who is behind them must not sleep on for that.
    const still = Math.floor(waiters / MUTEX_TWICE) + (this.#inLine === undefined ? 0 : 1);
    Atomics.notify(this.#flags, MUTEX, 1 + still);
    if (waiters >= MUTEX_LONG) this.#letLongBy();
  }

  /** Called while the lock is not held, between two turns of long work: lets one who waits for it have it. */
  giveWay(): void {
    if (this.#depth > 0 || this.#waiters <= 0) return;
    this.#letBy(GIVE_WAY_MS, 1);
  }

  /** Those who wait on other threads. */
  get #waiters(): number {
    const all = Atomics.load(this.#flags, MUTEX_WAITERS);
    return this.#inTurns === 0 ? all : all - IN_TURNS;
  }

  /** The same behind each turn, for one who has waited for long. */
  #letLongBy(): void {
    if (this.#system.monotonic() < this.#nobodyUntilMs || this.#letBy(LET_BY_MS, MUTEX_LONG)) return;
    this.#nobodyUntilMs = this.#system.monotonic() + NOBODY_CAME_MS;
    this.onNobodyCame();
  }

  /** Waits until one of those who count for `waitersMin` has the lock, which has just become free; false: nobody came for it. */
  #letBy(waitMs: number, waitersMin: number): boolean {
    const turns = Atomics.load(this.#flags, MUTEX_TURNS);
    // Who has it by now may have been counted already, and so may who had it, who waits no more then.
    if (Atomics.load(this.#flags, MUTEX) !== 0) return true;
    if (this.#waiters < waitersMin || !this.#isAnyWaiting(waitersMin)) return true;
    return Atomics.wait(this.#flags, MUTEX_TURNS, turns, waitMs) !== "timed-out";
  }

  /** Whether a row of another thread says so: who died between its two counts is in the sum alone, for good. */
  #isAnyWaiting(waitersMin: number): boolean {
    const used = Atomics.load(this.#flags, ROWS_USED);
    for (let row = 0; row < used; row++) {
      if (row !== this.#row && Atomics.load(this.#flags, MUTEX_WAITS + row) >= waitersMin) return true;
    }
    return false;
  }

  /** Returns whether it has got the lock. */
  #wait(turnsMax: number): boolean {
    const spins = turnsMax === 0 ? 0 : SPINS;
    for (let spin = 0; spin < spins; spin++) {
      if (Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own) === 0) return true;
    }
    let counted = this.#inLine === undefined ? 1 : 1 + MUTEX_TWICE;
    this.#countWaiting(counted);
    // One who would not wait does not ask for the time either.
    const askedMs = turnsMax === 0 ? 0 : this.#system.monotonic();
    if (turnsMax > 0 && !this.#isStep) this.#sleptMs = askedMs;
    const longAtMs = askedMs + LONG_MS;
    try {
      for (let turn = 0; ; turn++) {
        const holder = Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own);
        if (holder === 0) return true;
        if (turn === turnsMax) return this.#takeOver(holder);
        if (counted % MUTEX_TWICE === 1 && this.#system.monotonic() >= longAtMs) {
          this.#countWaiting(MUTEX_LONG);
          counted += MUTEX_LONG;
        }
        const outcome = Atomics.wait(this.#flags, MUTEX, holder, TURN_MS);
        if (outcome === "timed-out" && this.#takeOver(holder)) return true;
      }
    } finally {
      this.#countWaiting(-counted);
      this.#noteTurn();
    }
  }

  /** For those who let one who waits have the lock: it has come, or does not wait any more. */
  #noteTurn(): void {
    Atomics.add(this.#flags, MUTEX_TURNS, 1);
    Atomics.notify(this.#flags, MUTEX_TURNS);
  }

  #countWaiting(change: number): void {
    countForRow(this.#control, { total: MUTEX_WAITERS, rows: MUTEX_WAITS, row: this.#row }, change);
  }

  /** Takes a dead holder's place. */
  #takeOver(holder: number): boolean {
    const thread = Atomics.load(this.#rows, ROW_THREAD_AT + rowOfHolder(holder));
    // A holder's row is not given back: this one holds the lock no more, and the next who has that row may by now.
    if (thread <= 0) return false;
    // Systems give the number of a dead thread to a new one, and who waits here holds nothing.
    const isOwn = thread === Atomics.load(this.#rows, ROW_THREAD_AT + this.#row);
    if (!isOwn && this.#system.isThreadAlive(thread - 1)) return false;
    // First the word that says so: whoever gets the lock next has to find it.
    Atomics.store(this.#flags, AUDIT, 1);
    return Atomics.compareExchange(this.#flags, MUTEX, holder, this.#own) === holder;
  }
}
