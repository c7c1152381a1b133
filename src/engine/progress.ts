/**
 * Long work in short steps: it asks now and then whether a pause is due, tells how far it is, and lets the event
 * loop turn.
 *
 * Invariants
 * 1. Between two pauses lie about `STEP_MS`, of what asks by itself no more than `STEP_BYTES` of work. Where the others took
 *    longer for the turn before, it is as long, at most `STEP_MS_MAX`: a step of one length for each
 *    turn of a busy loop would never catch up with what is written in the turns.
 * 2. What is told never goes back, and the last word, and no other, is `done === total`: all is in place by then.
 * 3. Once the signal is aborted no more work is done.
 */

import { EmdbError } from "../errors.ts";
import type { System } from "../ffi/system.ts";
import type { ProgressOptions } from "../api/types.ts";
import type { Core, Defer } from "./core.ts";
import { inSlices, type Slices } from "./threads/held-steps.ts";

const STEP_BYTES = 1024 * 1024;
const STEP_MS = 5;
const STEP_MS_MAX = 500;
/** The clock is read once in so many questions: it costs as much as the smallest step. */
const QUESTIONS_PER_LOOK = 32;

/** What the time and the turns of the event loop are taken from. */
export interface Turns {
  readonly system: Pick<System, "monotonic">;
  readonly defer: Defer;
}

/** Work in slices; see `Slices`. */
interface Paced extends Pick<Slices, "step" | "needsLock"> {
  /** How far it is. */
  readonly done?: () => number;
  /** Runs whenever the event loop has turned, and throws to give the work up. */
  readonly check: () => void;
}

export class Pace {
  readonly #turns: Turns;
  readonly #options: ProgressOptions;
  /** Whether the signal still counts. */
  #canAbort = true;
  readonly #total: number;
  #told = 0;
  #lastDone = 0;
  #lastMs: number;
  /** How long the step at hand may take. */
  #stepMs = STEP_MS;
  #questions = 0;

  /** @throws {EmdbError} EMDB_ABORTED when the signal is aborted already */
  constructor(turns: Turns, options: ProgressOptions, total: number) {
    this.#turns = turns;
    this.#options = options;
    this.#total = total;
    this.#lastMs = turns.system.monotonic();
    this.#refuseAborted();
  }

  /** Says that nothing has been done yet, and lets the event loop turn: however short the work is, it can be ended before. */
  async begin(): Promise<void> {
    await this.pause(0);
  }

  /** Whether the step has been long enough; `done` is in the unit of the total. */
  isDue(done: number): boolean {
    if (Math.abs(done - this.#lastDone) >= (STEP_BYTES / STEP_MS) * this.#stepMs) return true;
    this.#questions += 1;
    return this.#questions % QUESTIONS_PER_LOOK === 0 && this.isLate;
  }

  /** Whether the step has taken its time; to be asked after every piece of work that is long by itself. */
  get isLate(): boolean {
    return this.#turns.system.monotonic() - this.#lastMs >= this.#stepMs;
  }

  /**
   * Tells how far the work is and lets the event loop turn.
   *
   * @throws {EmdbError} EMDB_ABORTED when the signal was aborted
   */
  async pause(done = this.#lastDone): Promise<void> {
    this.#tell(Math.min(done, Math.max(this.#total - 1, 0)));
    this.#refuseAborted();
    const { system, defer } = this.#turns;
    const beganMs = system.monotonic();
    const { promise, resolve } = Promise.withResolvers<void>();
    defer(resolve);
    await promise;
    this.#refuseAborted();
    this.#lastDone = done;
    this.#lastMs = system.monotonic();
    this.#stepMs = Math.min(Math.max(this.#lastMs - beganMs, STEP_MS), STEP_MS_MAX);
  }

  /** Work with a pause after each `STEP_MS`. */
  slices(work: Paced): Slices {
    const { step, done, needsLock } = work;
    const check = (): void => {
      this.#refuseAborted();
      work.check();
    };
    return { step, needsLock, isTurnDue: () => this.isLate, turn: () => this.pause(done?.()), check };
  }

  /**
   * Runs the steps of a generator that yields how far it is, in such slices; when one throws, the generator ends there.
   * What it has passed over counts for nothing: a step that ended by that would do less than others write meanwhile.
   */
  async drive(
    core: Pick<Core, "mutex">,
    steps: Iterable<number>,
    work: Pick<Paced, "check" | "needsLock">,
  ): Promise<void> {
    const iterator = steps[Symbol.iterator]();
    let done = 0;
    const step = (): boolean => {
      const next = iterator.next();
      if (next.done === true) return false;
      done = next.value;
      return true;
    };
    try {
      await inSlices(core, this.slices({ ...work, step, done: () => done }));
    } finally {
      iterator.return?.();
    }
  }

  /** What has been done cannot be taken back: from now on the signal is not looked at. */
  commit(): void {
    this.#canAbort = false;
  }

  /** Tells that all is done. */
  finish(): void {
    this.#tell(this.#total);
  }

  #tell(done: number): void {
    this.#told = Math.min(Math.max(this.#told, done), this.#total);
    this.#options.onProgress?.({ done: this.#told, total: this.#total });
  }

  #refuseAborted(): void {
    if (this.#canAbort) refuseAborted(this.#options);
  }
}

/** @throws {EmdbError} EMDB_ABORTED when the signal was aborted */
export function refuseAborted({ signal }: ProgressOptions): void {
  if (signal?.aborted === true) throw new EmdbError("EMDB_ABORTED", "the call was aborted", { cause: signal.reason });
}
