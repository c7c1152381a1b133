/**
 * Flushes that do not block: promises over the shared conversation of `sync.ts`, with a commit Worker that runs
 * the syncs (`commit-worker.ts`). Where no Worker can be had, the sync runs on this thread.
 *
 * Invariants
 * 1. A promise resolves only when `durable` has reached what was written before its call, and rejects only when a write
 *    or a sync has failed or the database is closed. A sync that failed, whoever asked for it, rejects all that are open
 *    with its error, durable or not: the database is poisoned. Later ones are refused at once.
 * 2. While a promise is open, something keeps this thread's event loop alive; otherwise nothing does.
 */

import { EmdbError } from "../../errors.ts";
import { resultOfNumber } from "../../ffi/errno.ts";
import { syncRecipe } from "../../ffi/sync-recipe.ts";
import { LOG_WRITTEN } from "../../log/log-words.ts";
import { CommitWorker } from "./commit-worker.ts";
import {
  STATE,
  STATE_POISONED,
  SYNC_DONE,
  SYNC_ERRNO,
  SYNC_JOINED,
  SYNC_JOINS,
  SYNC_OWNER,
  countForRow,
} from "../threads/control.ts";
import { refusal, type Core } from "../core.ts";
import type { FlushPlan } from "../life.ts";
import { NEVER_MS } from "../../limits.ts";
import type { Sync } from "./sync.ts";

/** How long a thread sleeps on the conversation before it asks whether the owner still lives. */
const TURN_MS = 50;
/** After so many of them in which nobody syncs, beyond what a group may wait for others, a thread does it itself. */
const SILENT_TURNS_MAX = 4;

interface Waiting {
  readonly target: number;
  /** The request that it made, where each needs a sync of its own; undefined elsewhere. */
  readonly request: number | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class GroupCommit {
  readonly #core: Core;
  readonly #sync: Sync;
  readonly #plan: FlushPlan;
  readonly #worker: CommitWorker;
  /** How far it was asked to make the log durable. */
  #asked = 0;
  #waiting: Waiting[] = [];
  #isListening = false;
  #isBeginning = false;
  #isClosed = false;
  #keepAlive: ReturnType<typeof setInterval> | undefined;
  /** The flush before, where each pays for its own sync. */
  #last: Promise<void> = Promise.resolve();

  constructor(core: Core, sync: Sync, options: { readonly plan: FlushPlan; readonly hasWorkers: boolean }) {
    this.#core = core;
    this.#sync = sync;
    this.#plan = options.plan;
    this.#worker = new CommitWorker(core, sync, { ...options, onLost: () => this.finish() });
  }

  /** Resolves when everything written before the call is durable. One promise a call, since flushes come by the dozen. */
  flush(): Promise<void> {
    try {
      return this.#plan.kind === "on-each-flush" ? this.#flushInTurn() : this.#flushShared();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Each flush waits for the sync of the one before, and then needs one of its own. */
  #flushInTurn(): Promise<void> {
    const target = this.#target();
    // By its turn the handle may have been closed, which flushes.
    const own = this.#last
      .catch(() => undefined)
      .then(() => (this.#core.isClosed && this.#sync.durable >= target ? undefined : this.#flushShared()));
    this.#last = own;
    return own;
  }

  /** What a flush that begins now has to make durable. */
  #target(): number {
    const core = this.#core;
    if (core.control.flags[STATE] !== 0 || core.isClosed) throw refusal(core);
    this.#sync.eraseRefused();
    return core.visible;
  }

  #flushShared(): Promise<void> {
    const target = this.#target();
    const isEach = this.#plan.kind === "on-each-flush";
    if (!isEach && this.#sync.durable >= target) return Promise.resolve();
    const hasWorker = this.#hasWorker;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ target, request: this.#worker.nextRequest, resolve, reject });
      this.#keepAlive ??= setInterval(() => undefined, NEVER_MS);
      this.#join(1);
      this.#beginSoon(hasWorker);
    });
  }

  get #hasWorker(): boolean {
    return !this.#isClosed && this.#worker.isThere;
  }

  /**
   * Begins when the callers that were woken together have all had their turn: one write and one request for all
   * of them. Without a Worker it waits for the turn of the event loop, since the sync will hold it.
   */
  #beginSoon(hasWorker: boolean): void {
    if (this.#isBeginning) return;
    this.#isBeginning = true;
    const begin = (): void => {
      if (this.#mustWait) void this.#beginInTurns();
      else this.#begin();
    };
    if (hasWorker) queueMicrotask(begin);
    else this.#core.defer(begin);
  }

  /** Whether the file has all that waits. */
  get #isWritten(): boolean {
    const written = this.#core.control.log.numbers[LOG_WRITTEN]!;
    return this.#waiting.every(({ target }) => target <= written);
  }

  /** Whether something is to be written first, and another thread has the lock, for a long batch maybe. */
  get #mustWait(): boolean {
    const { mutex } = this.#core;
    return this.#hasWorker && !mutex.isFree && !mutex.sleepsAnyway && !this.#isWritten;
  }

  async #beginInTurns(): Promise<void> {
    try {
      await this.#core.inTurns(() => this.#begin());
    } catch (error) {
      // A close has decided all flushes.
      if (!(error instanceof EmdbError) || error.code !== "EMDB_CLOSED") throw error;
      this.#isBeginning = false;
    }
  }

  #begin(): void {
    this.#isBeginning = false;
    if (!this.#hasWorker) {
      this.finish();
      return;
    }
    try {
      // Also what others have written, where that has to wait for nobody.
      if (this.#core.mutex.isFree || !this.#isWritten) this.#sync.spill();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      this.#rejectUnwritten(error);
    }
    if (this.#waiting.length === 0) return;
    this.#ask();
    if (!this.#isListening) void this.#listen();
  }

  /** After a failed write: what is in the file already can still become durable. */
  #rejectUnwritten(error: EmdbError): void {
    const written = this.#core.control.log.numbers[LOG_WRITTEN]!;
    const left = this.#waiting.filter((flush) => flush.target <= written);
    for (const flush of this.#waiting) if (flush.target > written) flush.reject(error);
    this.#replaceWaiting(left);
  }

  #replaceWaiting(left: Waiting[]): void {
    this.#join(left.length - this.#waiting.length);
    this.#waiting = left;
    if (left.length === 0) this.#letGo();
  }

  #join(count: number): void {
    const flags = this.#core.control.flags;
    countForRow(this.#core.control, { total: SYNC_JOINED, rows: SYNC_JOINS, row: this.#core.row }, count);
    if (count > 0 && this.#plan.kind === "group" && this.#plan.waitMsMax > 0) Atomics.notify(flags, SYNC_JOINED);
  }

  /** Asks for all that waits. */
  #ask(): void {
    let target = 0;
    for (const flush of this.#waiting) target = Math.max(target, flush.target);
    if (this.#asked >= target && this.#plan.kind !== "on-each-flush") return;
    this.#asked = target;
    if (!this.#worker.ask()) this.finish();
  }

  /** Waits for syncs to be done until no flush is left. */
  async #listen(): Promise<void> {
    this.#isListening = true;
    const flags = this.#core.control.flags;
    let silentTurns = 0;
    while (this.#waiting.length > 0) {
      const done = Atomics.load(flags, SYNC_DONE);
      this.#settle(false);
      if (this.#waiting.length === 0) break;
      const outcome = Atomics.waitAsync(flags, SYNC_DONE, done, TURN_MS);
      const woken = outcome.async ? await outcome.value : outcome.value;
      silentTurns = woken === "timed-out" ? this.#afterSilence(silentTurns + 1) : 0;
    }
    this.#isListening = false;
  }

  /** After so many turns in which no sync was done; returns how many count. */
  #afterSilence(turns: number): number {
    const canFollow = this.#sync.releaseDeadOwner();
    const isSyncing = Atomics.load(this.#core.control.flags, SYNC_OWNER) !== 0;
    // Why a dead one cannot be followed the flush on this thread tells.
    if (isSyncing && canFollow) return 0;
    const waitMsMax = this.#plan.kind === "group" ? this.#plan.waitMsMax : 0;
    // Where a Worker takes long to start, or has died although its host lives.
    const isLate = turns * TURN_MS >= waitMsMax + SILENT_TURNS_MAX * TURN_MS;
    if (isLate || !this.#worker.replaceDead()) this.finish();
    return isLate ? 0 : turns;
  }

  /** Answers the flushes that the last sync has decided; unless `isOwn`, of those that need a sync of their own the ones that got it. */
  #settle(isOwn: boolean): void {
    const durable = this.#sync.durable;
    const isPoisoned = (this.#core.control.flags[STATE]! & STATE_POISONED) !== 0;
    const failure = isPoisoned ? this.#failure() : undefined;
    const left: Waiting[] = [];
    let newest = 0;
    for (const flush of this.#waiting) {
      if (failure !== undefined) flush.reject(failure);
      else if (flush.target <= durable && (isOwn || this.#worker.hasServed(flush.request))) {
        newest = Math.max(newest, flush.target);
        flush.resolve();
      } else left.push(flush);
    }
    this.#replaceWaiting(left);
    if (newest > 0) this.#sync.markSoon(newest);
  }

  #failure(): EmdbError {
    const number = Atomics.load(this.#core.control.flags, SYNC_ERRNO);
    if (number === 0) return refusal(this.#core);
    return this.#sync.failure(resultOfNumber(syncRecipe().dialect, number));
  }

  #letGo(): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }

  /** Decides every open flush on this thread. */
  finish(): void {
    if (this.#waiting.length === 0) return;
    try {
      this.#sync.flush();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      for (const flush of this.#waiting) flush.reject(error);
      this.#replaceWaiting([]);
      return;
    }
    this.#settle(true);
  }

  /** Lets the Worker end if nobody has asked for anything since the last time. */
  rest(): void {
    if (this.#waiting.length === 0) this.#worker.rest();
  }

  /** Ends the Worker, and goes on without. */
  close(): void {
    this.#isClosed = true;
    this.#worker.endNow();
  }
}
