/**
 * Flushes that do not block: promises over the shared conversation of `sync.ts`, with a commit Worker that runs
 * the syncs.
 *
 * The Worker is started by the first flush of a thread, from text (see `log/commit-script.ts`), is unreferenced,
 * and sleeps on a word of its own between requests. One that nobody asks for a while ends, so that who has thousands of
 * databases open has not as many threads; the next flush starts another. Where no Worker can be had, the sync runs on this
 * thread.
 *
 * Invariants
 * 1. A promise resolves only when `durable` has reached what was written before its call, and rejects only when
 *    a sync has failed or the database is closed.
 * 2. While a promise is open, something keeps this thread's event loop alive; otherwise nothing does.
 */

import { EmdbError } from "../errors.ts";
import { resultOfNumber } from "../ffi/errno.ts";
import { syncRecipe } from "../ffi/sync-recipe.ts";
import { COMMIT_SCRIPT, type CommitOrders } from "../log/commit-script.ts";
import { LOG_DURABLE, LOG_FILE, LOG_WRITTEN } from "../log/log-words.ts";
import { STATE, STATE_POISONED, SYNC_DONE, SYNC_ERRNO, SYNC_JOINED, SYNC_OWNER } from "./control.ts";
import { refusal, type Core } from "./core.ts";
import type { FlushPlan } from "./life.ts";
import { NEVER_MS } from "../limits.ts";
import type { Sync } from "./sync.ts";

/** How long a thread sleeps on the conversation before it asks whether the owner still lives. */
const TURN_MS = 50;
/** A Worker ends when nobody has asked it for so long, or up to twice as long. */
const IDLE_MS = 60_000;
/** Index of the word of a commit Worker's own that counts what it has served. */
const SERVED = 4;

interface Waiting {
  readonly target: number;
  /** The request that it made, where each needs a sync of its own; undefined elsewhere. */
  readonly request: number | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** A started commit Worker. */
interface CommitWorker {
  readonly worker: Worker;
  readonly request: Int32Array;
  readonly wanted: Float64Array;
}

/** Whether a flush has got the sync of its own that it asked for, if it did. The count of requests wraps. */
function hasServed(worker: CommitWorker, { request }: Waiting): boolean {
  return request === undefined || ((Atomics.load(worker.request, SERVED) - request) | 0) >= 0;
}

export class GroupCommit {
  readonly #core: Core;
  readonly #sync: Sync;
  readonly #plan: FlushPlan;
  #worker: CommitWorker | undefined;
  #idleTimer: ReturnType<typeof setInterval> | undefined;
  /** Whether it has been asked for anything since the timer was there last. */
  #wasAsked = false;
  #hasNoWorker: boolean;
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
    this.#hasNoWorker = !options.hasWorkers;
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
    return core.visible;
  }

  #flushShared(): Promise<void> {
    const target = this.#target();
    const isEach = this.#plan.kind === "on-each-flush";
    if (!isEach && this.#sync.durable >= target) return Promise.resolve();
    const worker = this.#ensureWorker();
    return new Promise((resolve, reject) => {
      const request = isEach && worker !== undefined ? (Atomics.load(worker.request, 0) + 1) | 0 : undefined;
      this.#waiting.push({ target, request, resolve, reject });
      this.#keepAlive ??= setInterval(() => undefined, NEVER_MS);
      this.#join(1);
      this.#beginSoon(worker !== undefined);
    });
  }

  /**
   * Begins when the callers that were woken together have all had their turn: one write and one request for all
   * of them. Without a Worker it waits for the turn of the event loop, since the sync will hold it.
   */
  #beginSoon(hasWorker: boolean): void {
    if (this.#isBeginning) return;
    this.#isBeginning = true;
    const begin = (): void => {
      this.#isBeginning = false;
      this.#begin();
    };
    if (hasWorker) queueMicrotask(begin);
    else this.#core.defer(begin);
  }

  #begin(): void {
    const worker = this.#worker;
    if (worker === undefined) {
      this.finish();
      return;
    }
    try {
      this.#sync.spill();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      this.#rejectUnwritten(error);
    }
    if (this.#waiting.length === 0) return;
    this.#ask(worker);
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
    Atomics.add(flags, SYNC_JOINED, count);
    if (count > 0 && this.#plan.kind === "group" && this.#plan.waitMsMax > 0) Atomics.notify(flags, SYNC_JOINED);
  }

  /** Asks for all that waits. */
  #ask(worker: CommitWorker): void {
    let target = 0;
    for (const flush of this.#waiting) target = Math.max(target, flush.target);
    if (worker.wanted[1]! >= target && this.#plan.kind !== "on-each-flush") return;
    worker.wanted[1] = target;
    this.#wasAsked = true;
    Atomics.add(worker.request, 0, 1);
    Atomics.notify(worker.request, 0);
  }

  /** Waits for syncs to be done until no flush is left. */
  async #listen(): Promise<void> {
    this.#isListening = true;
    const flags = this.#core.control.flags;
    while (this.#waiting.length > 0) {
      const done = Atomics.load(flags, SYNC_DONE);
      this.#settle(this.#worker);
      if (this.#waiting.length === 0) break;
      const outcome = Atomics.waitAsync(flags, SYNC_DONE, done, TURN_MS);
      const woken = outcome.async ? await outcome.value : outcome.value;
      if (woken === "timed-out") this.#sync.releaseDeadOwner();
    }
    this.#isListening = false;
  }

  /** Answers the flushes that the last sync has decided, of those whose requests a commit Worker has served if there is one. */
  #settle(worker: CommitWorker | undefined): void {
    const durable = this.#sync.durable;
    const isPoisoned = (this.#core.control.flags[STATE]! & STATE_POISONED) !== 0;
    const failure = isPoisoned ? this.#failure() : undefined;
    const left: Waiting[] = [];
    let newest = 0;
    for (const flush of this.#waiting) {
      if (failure !== undefined) flush.reject(failure);
      else if (flush.target <= durable && (worker === undefined || hasServed(worker, flush))) {
        newest = Math.max(newest, flush.target);
        flush.resolve();
      } else left.push(flush);
    }
    this.#replaceWaiting(left);
    // Who has been answered may write at once: then the next frames say what was durable, and no mark is needed.
    if (newest > 0) queueMicrotask(() => this.#sync.mark(newest));
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

  #ensureWorker(): CommitWorker | undefined {
    if (this.#hasNoWorker || this.#isClosed) return undefined;
    if (this.#worker !== undefined) return this.#worker;
    try {
      this.#worker = this.#startWorker();
    } catch {
      // Some runtimes forbid code from strings; a Worker only ever speeds things up.
      this.#hasNoWorker = true;
    }
    return this.#worker;
  }

  #startWorker(): CommitWorker {
    const url = URL.createObjectURL(new Blob([COMMIT_SCRIPT], { type: "text/javascript" }));
    const worker = new Worker(url);
    const own = new SharedArrayBuffer(24);
    const started = { worker, request: new Int32Array(own), wanted: new Float64Array(own) };
    worker.addEventListener("message", () => URL.revokeObjectURL(url), { once: true });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      if (this.#worker === started) this.#goOnWithout();
    });
    (worker as { unref?: () => void }).unref?.();
    worker.postMessage(this.#orders(own));
    this.#idleTimer = setInterval(() => this.rest(), IDLE_MS);
    this.#idleTimer.unref();
    return started;
  }

  #orders(own: SharedArrayBuffer): CommitOrders {
    const { control } = this.#core;
    const plan = this.#plan;
    return {
      recipe: syncRecipe(),
      own,
      flags: control.flags,
      numbers: control.log.numbers,
      waitMsMax: plan.kind === "group" ? plan.waitMsMax : 0,
      batchMax: plan.kind === "group" ? plan.batchMax : 1,
      isEach: plan.kind === "on-each-flush",
      at: {
        owner: SYNC_OWNER,
        done: SYNC_DONE,
        errno: SYNC_ERRNO,
        joined: SYNC_JOINED,
        state: STATE,
        poisoned: STATE_POISONED,
        logWritten: LOG_WRITTEN,
        logDurable: LOG_DURABLE,
        logFile: LOG_FILE,
      },
      name: this.#sync.name,
    };
  }

  /** The Worker could not start, or died: what is waiting is synced here. */
  #goOnWithout(): void {
    this.#hasNoWorker = true;
    this.#worker = undefined;
    clearInterval(this.#idleTimer);
    this.#sync.releaseOwn();
    if (this.#waiting.length > 0) this.finish();
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
    this.#settle(undefined);
  }

  /** Lets the Worker end if nobody has asked it for anything since the last time. */
  rest(): void {
    if (this.#waiting.length > 0) return;
    if (!this.#wasAsked) this.#endWorker();
    this.#wasAsked = false;
  }

  /** Lets the Worker end. */
  close(): void {
    this.#isClosed = true;
    this.#endWorker();
  }

  #endWorker(): void {
    const worker = this.#worker;
    if (worker === undefined) return;
    this.#worker = undefined;
    clearInterval(this.#idleTimer);
    worker.request[1] = 1;
    Atomics.add(worker.request, 0, 1);
    Atomics.notify(worker.request, 0);
  }
}
