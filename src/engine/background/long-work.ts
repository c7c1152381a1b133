/**
 * The place of long work: making an image, compacting, backing up, verifying. There is one at a time, over all
 * Workers, since each of them goes over everything and counts on the file staying the file.
 *
 * Invariant: who does such work holds the word `LONG_WORK`, and with it the names and words that only such work
 * uses. A dead holder's place is taken by the next one, who gives back what it finds there.
 */

import type { ProgressOptions } from "../../api/types.ts";
import { EmdbError } from "../../errors.ts";
import { ROW_THREAD_AT } from "../../ffi/reclaim.ts";
import { changed } from "../threads/changed.ts";
import { LONG_WORK, WORK_LEFT } from "../threads/control.ts";
import { closedError, type Core } from "../core.ts";
import { giveBackDead } from "./dead-work.ts";
import { mustFit } from "../files/name-room.ts";
import { refuseAborted } from "../progress.ts";
import { requireLongStack } from "../stack-room.ts";
import { draftPaths } from "../files/siblings.ts";
import { discardDraft } from "../copy/swap.ts";

/** How long to wait for another's work before asking whether it still lives. */
const TURN_MS = 50;

/** Work that writes a draft. */
export interface Work {
  readonly draftPath: string | undefined;
  readonly options: ProgressOptions;
  /** Called once at its end, however that comes, while it still has the place. */
  readonly end?: () => void;
}

export class LongWork {
  readonly #core: Core;
  readonly #own: number;
  /** Runs something under the writer's lock, if there is one. */
  readonly #exclusively: (body: () => void) => void;
  /** The draft that this thread is writing. */
  #run: Work | undefined;
  /** How often this thread has taken the place. */
  #turns = 0;
  /**
   * The turn in which this thread has the place; undefined when it has it not. Who had it in an earlier one, before a
   * close, gives nothing back that is another's by now.
   */
  turn: number | undefined;
  /** Why what a dead one left is still there; undefined when it is not. */
  #left: EmdbError | undefined;

  constructor(core: Core, exclusively: (body: () => void) => void) {
    this.#core = core;
    this.#exclusively = exclusively;
    this.#own = core.row + 1;
  }

  /** Takes the place if nobody living has it. */
  tryTake(): boolean {
    const { flags, reclaim } = this.#core.control;
    // Who has the place and no room on the stack to give it back would keep it from all.
    requireLongStack();
    const holder = Atomics.compareExchange(flags, LONG_WORK, 0, this.#own);
    if (holder !== 0) {
      const thread = Atomics.load(reclaim, ROW_THREAD_AT + holder - 1);
      // Who has given its row back has given the place back before, and the next with that row may have it by now.
      if (thread === 0 || (thread > 0 && this.#core.system.isThreadAlive(thread - 1))) return false;
      if (Atomics.compareExchange(flags, LONG_WORK, holder, this.#own) !== holder) return false;
    }
    this.#turns += 1;
    this.turn = this.#turns;
    this.#left = undefined;
    // A dead one's row may have been cleared by somebody else, and the place with it.
    if (Atomics.exchange(flags, WORK_LEFT, 1) !== 0) this.#giveBackDead();
    return true;
  }

  #giveBackDead(): void {
    const { system, control, file, identity, isReadOnly } = this.#core;
    try {
      this.#exclusively(() => giveBackDead(system, control, { path: file?.path, fileId: identity.fileId, isReadOnly }));
    } catch (error) {
      // A database that is poisoned is still verified; what was left waits for the close, as nobody writes a draft.
      if (!(error instanceof EmdbError)) throw error;
      this.#left = error;
    }
  }

  /** Nobody writes a draft over what a dead one has left: its swap, if it was at one, needs that to be ended. */
  #refuseLeft(turn: number): void {
    const left = this.#left;
    if (left === undefined) return;
    this.give(turn);
    throw left;
  }

  /**
   * Takes the place when whoever has it is done; returns which turn of this thread it is.
   *
   * @throws {EmdbError} EMDB_CLOSED when the database is closed meanwhile, EMDB_ABORTED
   */
  async take(options: ProgressOptions): Promise<number> {
    for (;;) {
      this.#core.enter();
      refuseAborted(options);
      if (this.tryTake()) return this.#turns;
      await this.othersDone();
    }
  }

  /** Whether this thread has the place. */
  get isOurs(): boolean {
    return this.turn !== undefined;
  }

  /** Waits until the place is given back, or for a while. */
  async othersDone(): Promise<void> {
    const { flags } = this.#core.control;
    const holder = Atomics.load(flags, LONG_WORK);
    if (holder === 0) return;
    // Whoever has the place may die.
    await changed(flags, { word: LONG_WORK, value: holder, waitMs: TURN_MS });
  }

  /**
   * Runs work that writes a draft, with the place; `check` throws EMDB_CLOSED once the work has been cancelled. What
   * is left of the draft at the end is given up.
   */
  async run(work: Work, body: (check: () => void) => Promise<void>): Promise<void> {
    this.#mustFit(work);
    const turn = await this.take(work.options);
    if (this.turn !== turn) throw closedError(this.#core.file?.path);
    this.#refuseLeft(turn);
    const run = { ...work };
    this.#run = run;
    try {
      await body(() => {
        this.#core.enter();
        if (this.#run !== run) throw closedError(this.#core.file?.path);
      });
    } finally {
      if (this.#run === run) this.cancel();
    }
  }

  /** Beside a backup's target there is room: its name is new. */
  #mustFit({ draftPath }: Work): void {
    const { system, file } = this.#core;
    if (draftPath === undefined || file === undefined) return;
    mustFit(system, file.path, { names: draftPaths(system, draftPath), says: "the database is not compacted" });
  }

  /** Gives up the draft that this thread is writing, and the place: its part of the database closes, or it is done. */
  cancel(): void {
    const run = this.#run;
    if (run === undefined) return;
    this.#run = undefined;
    discardDraft(this.#core, run.draftPath);
    run.end?.();
    this.give();
  }

  /** Gives the place back, if the turn still has it; without one, whichever has. */
  give(turn = this.turn): void {
    if (turn === undefined || this.turn !== turn) return;
    const { flags } = this.#core.control;
    if (this.#left === undefined) Atomics.store(flags, WORK_LEFT, 0);
    this.turn = undefined;
    if (Atomics.compareExchange(flags, LONG_WORK, this.#own, 0) !== this.#own) return;
    Atomics.notify(flags, LONG_WORK);
  }
}
