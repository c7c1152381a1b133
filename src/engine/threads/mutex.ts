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
 * As long as nobody else can attach, the word is left alone: each change of it is a locked instruction, which waits
 * until all stores before it have reached the cache (40 to 75 ns right after a frame was written to cold memory).
 *
 * Invariants
 * 1. The lock nests within a Worker; only the outermost release gives it back.
 * 2. Who holds it waits for nothing else but system calls and the sync under way, whose owner never waits for the lock
 *    (`sync.ts`).
 * 3. Before another Worker can attach, the word says whether this one holds the lock.
 * 4. Who has left takes it no more: its row, which the word would name, may be another's.
 */

import { EmdbError, assert } from "../../errors.ts";
import { ROW_THREAD_AT } from "../../ffi/reclaim.ts";
import { ATTACHED_MAX } from "../../limits.ts";
import { AUDIT, MUTEX, MUTEX_WAITERS, MUTEX_WAITS, countForRow, type Control } from "./control.ts";

const TURN_MS = 10;
const SPINS = 200;
/** Longest wait for one who was woken to take the lock; waking takes some 20 us. */
const GIVE_WAY_MS = 1;

/** Bits of a name that are for the row; a name is positive. */
const ROW_BITS = 9;
const THREAD_BITS = 31 - ROW_BITS;
assert(ATTACHED_MAX < 1 << ROW_BITS, "every row has a name");

/** The row of the holder that the word names; negative for none. */
export function rowOfHolder(word: number): number {
  return (word & ((1 << ROW_BITS) - 1)) - 1;
}

export class Mutex {
  readonly #control: Control;
  readonly #flags: Int32Array;
  readonly #rows: Int32Array;
  readonly #row: number;
  readonly #own: number;
  readonly #isAlive: (thread: number) => boolean;
  #depth = 0;
  #isAlone = false;
  #hasLeft = false;

  constructor(control: Control, row: number, isAlive: (thread: number) => boolean) {
    this.#control = control;
    this.#flags = control.flags;
    this.#rows = control.reclaim;
    this.#row = row;
    const thread = Atomics.load(this.#rows, ROW_THREAD_AT + row);
    this.#own = row + 1 + ((thread & ((1 << THREAD_BITS) - 1)) << ROW_BITS);
    this.#isAlive = isAlive;
  }

  get isHeld(): boolean {
    return this.#depth > 0;
  }

  /** This thread has given its row back. */
  leave(): void {
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

  /** @throws {EmdbError} EMDB_CLOSED when this thread has left */
  lock(): void {
    if (this.#hasLeft) throw new EmdbError("EMDB_CLOSED", "the database is closed");
    if (this.#depth === 0 && !this.#isAlone && Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own) !== 0)
      this.#wait(Infinity);
    this.#depth += 1;
  }

  /** Takes the lock if it is free or a dead one's, or comes to be so in that many turns of 10 ms at most. */
  tryLock(turnsMax = 0): boolean {
    if (this.#hasLeft) return false;
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
    if (Atomics.load(this.#flags, MUTEX_WAITERS) > 0) Atomics.notify(this.#flags, MUTEX, 1);
  }

  /** Called while the lock is not held, between two turns of long work: lets one who waits for it have it. */
  giveWay(): void {
    if (this.#depth > 0 || Atomics.load(this.#flags, MUTEX_WAITERS) === 0) return;
    Atomics.wait(this.#flags, MUTEX, 0, GIVE_WAY_MS);
  }

  /** Returns whether it has got the lock. */
  #wait(turnsMax: number): boolean {
    const spins = turnsMax === 0 ? 0 : SPINS;
    for (let spin = 0; spin < spins; spin++) {
      if (Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own) === 0) return true;
    }
    this.#countWaiting(1);
    try {
      for (let turn = 0; ; turn++) {
        const holder = Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own);
        if (holder === 0) return true;
        if (turn === turnsMax) return this.#takeOver(holder);
        const outcome = Atomics.wait(this.#flags, MUTEX, holder, TURN_MS);
        if (outcome === "timed-out" && this.#takeOver(holder)) return true;
      }
    } finally {
      this.#countWaiting(-1);
    }
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
    if (!isOwn && this.#isAlive(thread - 1)) return false;
    // First the word that says so: whoever gets the lock next has to find it.
    Atomics.store(this.#flags, AUDIT, 1);
    return Atomics.compareExchange(this.#flags, MUTEX, holder, this.#own) === holder;
  }
}
