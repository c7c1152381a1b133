/**
 * Threads that write, try, wait in turns, come, leave and die over one writer's lock, in all orders of their steps.
 *
 * Always: one is inside at most, and who comes behind one that died inside is told. Nobody sleeps for a lock that is free with
 * nobody else about to go on, nor for somebody to come who has come. One that has waited for long is passed by once for each of the others.
 */

import { expect } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import {
  AUDIT,
  CLOSING,
  COMMIT_HOST,
  Control,
  LONG_WORK,
  MUTEX,
  MUTEX_LONG,
  MUTEX_TURNS,
  MUTEX_WAITERS,
  MUTEX_WAITS,
  ROWS_USED,
  SYNC_JOINED,
  SYNC_OWNER,
} from "../../src/engine/threads/control.ts";
import { Mutex } from "../../src/engine/threads/mutex.ts";
import { inSlices } from "../../src/engine/threads/held-steps.ts";
import { claimRow, clearRow, reapDeadRows } from "../../src/engine/threads/rows.ts";
import { RECLAIM_ATTACHED, RECLAIM_ERA, ROW_ERA_AT, ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import type { System } from "../../src/ffi/system.ts";
import type { Self } from "./explored-thread.ts";
import { Explorer, type Moment, type Program } from "./explorer.ts";

/** Rows that anybody has; the last one is for who comes when all is over. */
const ROWS = [0, 1, 2, 3] as const;
const LAST_ROW = 3;
const THREADS = 3;
/** The number of the thread of a row. */
export const FIRST_NUMBER = 10;

// The notes: who is inside, whether somebody has died inside, how often one that let others by did so in vain, which threads have
// left or given up, and how often each thread was passed by that waits for long.
const INSIDE = 0;
const DIED_INSIDE = 1;
const VAIN = 2;
const LEFT = 3;
const PASSED = 4;
const NOBODY = -1;

interface Options {
  readonly deathsMax?: number;
  readonly timeoutsMax?: number;
  readonly clockStepsMs?: readonly number[];
  readonly turnsMax?: number;
  /** How often one may be passed by; then nobody who lets others by waits in vain while somebody could go on. */
  readonly passedMax?: number;
  /** Some who wait give up. */
  readonly hasTries?: boolean;
  /** The last thread has the lock before the others begin, and they wait for it, in their order, before it goes on. */
  readonly isHeldFirst?: boolean;
  readonly leapsMax?: number;
}

/** What an event loop has to do. */
type Task = (at: { readonly self: Self; readonly mutex: Mutex; readonly row: number }) => Promise<void>;

function isRefused(error: unknown): boolean {
  return error instanceof EmdbError && error.code === "EMDB_CLOSED";
}

export class Scene {
  readonly #control = Control.create();
  readonly #flagsAt = this.#control.flags.byteOffset / 4;
  readonly #rowsAt = this.#control.reclaim.byteOffset / 4;
  readonly #programs: Program[] = [];
  #explorer: Explorer | undefined;

  get #system(): System {
    return this.#explorer!.system as unknown as System;
  }

  #inside(self: Self): void {
    const { flags } = this.#control;
    self.note((notes) => {
      if (notes[INSIDE] !== NOBODY) throw new Error("two are inside");
      if (notes[DIED_INSIDE] === 1 && flags[AUDIT] === 0) throw new Error("nobody told of a death inside");
      notes[INSIDE] = self.index;
      for (let other = 0; other < THREADS; other += 1) {
        if (other === self.index) notes[PASSED + other] = 0;
        else if (flags[MUTEX_WAITS + other]! >= MUTEX_LONG) notes[PASSED + other]! += 1;
      }
    });
    if (Atomics.load(flags, AUDIT) !== 0) {
      self.note((notes) => void (notes[DIED_INSIDE] = 0));
      Atomics.store(flags, AUDIT, 0);
    }
    self.note((notes) => void (notes[INSIDE] = NOBODY));
  }

  #locked(mutex: Mutex, self: Self): void {
    mutex.lock();
    this.#inside(self);
    mutex.unlock();
  }

  #mutex(row: number): Mutex {
    const mutex = new Mutex(this.#control, row, this.#system);
    mutex.onNobodyCame = () => reapDeadRows(this.#control, this.#system);
    return mutex;
  }

  /** A thread that has a row from the beginning. */
  #add(program: (self: Self, mutex: Mutex, row: number) => void | Promise<void>, more: Partial<Program> = {}): this {
    const row = this.#programs.length;
    this.#control.reclaim[ROW_THREAD_AT + row] = FIRST_NUMBER + row + 1;
    const run = (self: Self): void | Promise<void> => program(self, this.#mutex(row), row);
    this.#programs.push({ number: FIRST_NUMBER + row, run, ...more });
    return this;
  }

  /** A thread whose event loop has all of this to do at once. */
  loops(tasks: readonly Task[], more: Partial<Program> = {}): this {
    const run = async (self: Self, mutex: Mutex, row: number): Promise<void> => {
      await Promise.all(tasks.map((task) => task({ self, mutex, row })));
    };
    return this.#add(run, more);
  }

  /** Waits in turns, and takes the lock or not when it has it. */
  readonly waits =
    ({ rounds = 1, takes = true } = {}): Task =>
    async ({ self, mutex }) => {
      for (let round = 0; round < rounds; round += 1) {
        await this.#untilLeft(() =>
          mutex.inTurns(
            () => undefined,
            () => {
              if (takes) this.#locked(mutex, self);
            },
          ),
        );
      }
    };

  /** Waits in turns, and gives up when it is asked whether it goes on. */
  readonly givesUp: Task = async ({ self, mutex }) => {
    const giveUp = (): never => {
      self.note((notes) => void (notes[LEFT]! |= 1 << self.index));
      throw new EmdbError("EMDB_CLOSED", "given up");
    };
    await this.#untilLeft(() => mutex.inTurns(giveUp, () => this.#locked(mutex, self)));
  };

  /** Does long work of some steps, each of which takes the lock. */
  readonly slices =
    (count: number): Task =>
    async ({ self, mutex }) => {
      let left = count;
      const step = (): boolean => {
        this.#locked(mutex, self);
        return --left > 0;
      };
      const turn = (): Promise<void> => {
        mutex.giveWay();
        return self.turn();
      };
      await this.#untilLeft(() => inSlices({ mutex }, { step, isTurnDue: () => true, turn, check: () => undefined }));
    };

  /** Writes when its event loop comes to that. */
  readonly writesLater: Task = async ({ self, mutex }) => {
    await self.turn();
    this.#locked(mutex, self);
  };

  /** Gives its row back when its event loop comes to that. */
  readonly leavesLater: Task = async ({ self, mutex, row }) => {
    await self.turn();
    self.note((notes) => void (notes[LEFT]! |= 1 << self.index));
    mutex.leave();
    clearRow(this.#control, row);
  };

  async #untilLeft(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isRefused(error)) throw error;
    }
  }

  writes(rounds: number, more: Partial<Program> = {}): this {
    return this.#add((self, mutex) => {
      for (let round = 0; round < rounds; round += 1) {
        this.#locked(mutex, self);
        self.forget(`${round}`);
      }
    }, more);
  }

  tries(turns: readonly number[]): this {
    return this.#add((self, mutex) => {
      for (const [index, most] of turns.entries()) {
        if (mutex.tryLock(most)) {
          this.#inside(self);
          mutex.unlock();
        }
        self.forget(`${index}`);
      }
    });
  }

  leaves(): this {
    const leave = (self: Self, mutex: Mutex, row: number): void => {
      this.#locked(mutex, self);
      mutex.leave();
      clearRow(this.#control, row);
    };
    return this.#add(leave, { isGoneAtEnd: true });
  }

  /** One that comes when the first thread is no more, takes a row that is free by then, writes and leaves. */
  comes(more: Partial<Program> = {}): this {
    const control = this.#control;
    const run = (self: Self): void => {
      const row = claimRow(control, this.#system);
      self.forget(`${row}`);
      const mutex = this.#mutex(row);
      this.#locked(mutex, self);
      mutex.leave();
      clearRow(control, row);
    };
    const comes = ({ threads: [first] }: Moment): boolean => ["over", "dead"].includes(first!.state);
    const number = FIRST_NUMBER + this.#programs.length;
    this.#programs.push({ number, run, comes, isGoneAtEnd: true, ...more });
    return this;
  }

  /** Goes through all orders. */
  expectFine(options: Options = {}): void {
    const { deathsMax = 0, timeoutsMax = 1, clockStepsMs = [0, 200], turnsMax = 0, passedMax } = options;
    const [flagsAt, rowsAt] = [this.#flagsAt, this.#rowsAt];
    this.#control.flags[ROWS_USED] = this.#programs.length;
    const explorer = new Explorer({
      programs: this.#programs,
      buffer: this.#control.buffer,
      words: [
        ...[MUTEX, MUTEX_WAITERS, AUDIT, MUTEX_TURNS].map((word) => flagsAt + word),
        ...ROWS.flatMap((row) => [flagsAt + MUTEX_WAITS + row, rowsAt + ROW_THREAD_AT + row]),
      ],
      ignored: [
        ...[SYNC_JOINED, SYNC_OWNER, COMMIT_HOST, CLOSING, LONG_WORK].map((word) => flagsAt + word),
        ...[RECLAIM_ERA, RECLAIM_ATTACHED, ...ROWS.map((row) => ROW_ERA_AT + row)].map((word) => rowsAt + word),
      ],
      notes: [NOBODY, 0, 0, 0, ...ROWS.map(() => 0)],
      clockStepsMs,
      vain: { word: flagsAt + MUTEX_TURNS, forMs: 200, isRare: passedMax !== undefined },
      timeoutsMax,
      turnsMax,
      deathsMax,
      ...(options.isHeldFirst === true ? { begins: (moment: Moment) => this.#begins(moment) } : {}),
      ...(options.leapsMax === undefined ? {} : { leapsMax: options.leapsMax }),
      onTimeout: (word, notes) => {
        if (word === flagsAt + MUTEX_TURNS) notes[VAIN]! += 1;
      },
      judge: (moment, isStill) => this.#judge(moment, { isStill, ...options }),
      judgeEnd: (moment) => this.#judgeEnd(moment),
      onDeath: (thread, notes) => {
        if (notes[INSIDE] !== thread) return;
        notes[INSIDE] = NOBODY;
        notes[DIED_INSIDE] = 1;
      },
    });
    this.#explorer = explorer;
    expect(explorer.explore()).toBeUndefined();
    console.log(`${explorer.moments} moments, ${explorer.ends} ends`);
    expect(explorer.ends).toBeGreaterThan(0);
  }

  #begins({ threads, notes }: Moment): number | undefined {
    const last = threads.length - 1;
    if (notes[INSIDE] !== last) return last;
    const next = threads.findIndex(({ state }) => state === "ready");
    return next === last ? undefined : next;
  }

  #judge({ words, sleepers, notes, deaths }: Moment, how: Options & { readonly isStill: boolean }): void {
    const [word, waiters] = words;
    // Who has left may be called once more.
    const asleep = sleepers.filter(({ thread }) => ((notes[LEFT]! >> thread) & 1) === 0);
    const sleeping = (what: number): number =>
      new Set(asleep.filter(({ word }) => word === this.#flagsAt + what).map(({ thread }) => thread)).size;
    if (waiters! % MUTEX_LONG < sleeping(MUTEX)) throw new Error("one who sleeps is not counted");
    // One that dies with the lock in hand may count as waiting until that is taken over.
    if (how.passedMax !== undefined && notes[VAIN]! > 2 * deaths)
      throw new Error("somebody is waited for in vain again");
    for (const count of notes.slice(PASSED)) {
      if (count > (how.passedMax ?? Infinity)) throw new Error("one who waits for long is passed by again");
    }
    if (!how.isStill || deaths > 0) return;
    if (word === 0 && sleeping(MUTEX) > 0) throw new Error("nobody is woken");
    const isForNobody = waiters === 0 && sleeping(MUTEX_TURNS) > 0;
    if (isForNobody) throw new Error("one lets another by who has been there");
  }

  /** One more thread comes and clears the rows of the dead. */
  #judgeEnd({ threads, notes, deaths }: Moment): void {
    const { flags, reclaim } = this.#control;
    const isLeft = (number: number): boolean =>
      this.#programs.some((one, index) => {
        return one.number === number && threads[index]!.state === "over" && one.isGoneAtEnd !== true;
      });
    const system = { threadId: () => 99, isThreadAlive: isLeft, monotonic: () => 0 } as unknown as System;
    if (deaths === 0 && flags[MUTEX] !== 0) throw new Error("the lock is not given back");
    reclaim[ROW_THREAD_AT + LAST_ROW] = 99 + 1;
    const last = new Mutex(this.#control, LAST_ROW, system);
    last.lock();
    if (notes[DIED_INSIDE] === 1 && flags[AUDIT] === 0) throw new Error("nobody told of a death inside");
    reapDeadRows(this.#control, { ...system, isThreadAlive: (number) => number === 99 || isLeft(number) });
    last.unlock();
    const waiters = flags[MUTEX_WAITERS]!;
    // Who dies between its two counts has counted too much.
    if (deaths === 0 ? waiters !== 0 : waiters < 0) throw new Error(`${waiters} are counted`);
    if (ROWS.some((row) => flags[MUTEX_WAITS + row] !== 0)) throw new Error("a row counts as waiting");
  }
}
