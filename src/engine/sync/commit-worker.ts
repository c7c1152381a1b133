/**
 * The commit Worker: where it runs, and how it is asked. One serves the flushes of all threads of the process that have
 * the database open: a thread of its own for each would have all of them woken for each sync, and cost as much memory.
 *
 * It is the child of the thread that needed it first, the host, which says so in `COMMIT_HOST`; any thread asks it by
 * raising `COMMIT_REQUESTS`. Where each flush pays for a sync of its own, each thread has a Worker of its own and asks
 * that, since who shares one shares its syncs.
 *
 * It is started from text (see `log/commit-script.ts`), and is unreferenced. One that nobody asks for a while ends, so
 * that who has thousands of databases open has not as many threads; the next flush starts another.
 *
 * Invariants
 * 1. A request is never lost to one that ends in good order: the host gives its place up first, then the Worker makes one
 *    sync more, and who asks looks for a host once it has asked. To one that dies it may be: who waits then finds
 *    the host dead, and takes the place.
 * 2. A Worker speaks in the conversation of `sync.ts` under its host's name, so no host leaves before its Worker has ended.
 *    Nor is a host taken for dead before: the runtime ends a thread behind those that it has started, also where one is in a
 *    system call (`test/workers/parents.test.ts`). Two syncs of one open file at a time would be told of one failure once.
 * 3. Two Workers at a time, an old one and a new one, are one too many and do no harm: both speak by the rules of `sync.ts`.
 *    Under one name: nobody takes that back for one of them before the other has ended.
 */

import { syncRecipe } from "../../ffi/sync-recipe.ts";
import { COMMIT_SCRIPT, type CommitOrders } from "../../log/commit-script.ts";
import { LOG_DURABLE, LOG_FILE, LOG_WRITTEN } from "../../log/log-words.ts";
import {
  COMMIT_HOST,
  COMMIT_REQUESTS,
  STATE,
  STATE_POISONED,
  SYNC_DONE,
  SYNC_ERRNO,
  SYNC_JOINED,
  SYNC_OWNER,
} from "../threads/control.ts";
import type { Core } from "../core.ts";
import type { FlushPlan } from "../life.ts";
import type { Sync } from "./sync.ts";
import { hasRoomForWorkers, startFromText } from "../threads/text-worker.ts";

/** A Worker ends when nobody has asked it for so long, or up to twice as long. */
const IDLE_MS = 60_000;

// Indexes of the words of a Worker's own.
const OWN_REQUESTS = 0;
const OWN_STATE = 1;
const OWN_SERVED = 2;
const OWN_BYTES = 12;

// Its state.
const AT_WORK = 1;
const TOLD_TO_END = 2;

/** How long a thread waits for a Worker that was told to end, and so often: longer than any sync that ends. */
const END_TURN_MS = 100;
const END_TURNS_MAX = 600;

/** A Worker of this thread's. */
interface Started {
  readonly worker: Worker;
  readonly own: Int32Array;
}

export class CommitWorker {
  readonly #core: Core;
  readonly #sync: Sync;
  readonly #plan: FlushPlan;
  readonly #isEach: boolean;
  /** Called when this thread's Worker could not start, or has died. */
  readonly #onLost: () => void;
  #started: Started | undefined;
  #idleTimer: ReturnType<typeof setInterval> | undefined;
  /** What the count of requests was when the idle timer was there last. */
  #requestsAtRest = 0;
  /** Words of those that were told to end. */
  #ending: Int32Array[] = [];
  #canStart: boolean;

  constructor(
    core: Core,
    sync: Sync,
    options: { readonly plan: FlushPlan; readonly hasWorkers: boolean; readonly onLost: () => void },
  ) {
    this.#core = core;
    this.#sync = sync;
    this.#plan = options.plan;
    this.#isEach = options.plan.kind === "on-each-flush";
    this.#canStart = options.hasWorkers;
    this.#onLost = options.onLost;
  }

  /** Whether there is one to ask; starts it if need be. */
  get isThere(): boolean {
    if (this.#started !== undefined || this.#isElsewhere) return true;
    if (!this.#canStart || !hasRoomForWorkers(this.#core.system, 1)) return false;
    if (!this.#takePlace()) return true;
    try {
      this.#started = this.#start();
    } catch {
      // Some runtimes forbid code from strings; a Worker only ever speeds things up.
      this.#giveUp();
    }
    return this.#canStart;
  }

  /** Whether another thread is the host. */
  get #isElsewhere(): boolean {
    const host = this.#isEach ? 0 : Atomics.load(this.#core.control.flags, COMMIT_HOST);
    return host !== 0 && host !== this.#sync.name;
  }

  /** Whether this thread is the one to start a Worker. */
  #takePlace(): boolean {
    if (this.#isEach) return true;
    const { flags } = this.#core.control;
    // A dead thread that had this row may have left its name.
    return [0, this.#sync.name].includes(Atomics.compareExchange(flags, COMMIT_HOST, 0, this.#sync.name));
  }

  /** Asks for a sync of all that is written; false when there is none to ask. */
  ask(): boolean {
    this.#raise();
    // Behind the request: one that has ended before sees no more of it.
    return this.isThere;
  }

  #raise(): void {
    const requests = this.#requests;
    if (requests === undefined) return;
    Atomics.add(requests.words, requests.index, 1);
    Atomics.notify(requests.words, requests.index);
  }

  get #requests(): { readonly words: Int32Array; readonly index: number } | undefined {
    if (!this.#isEach) return { words: this.#core.control.flags, index: COMMIT_REQUESTS };
    return this.#started === undefined ? undefined : { words: this.#started.own, index: OWN_REQUESTS };
  }

  /** The number that the next request gets, where each gets a sync of its own; undefined elsewhere. */
  get nextRequest(): number | undefined {
    if (!this.#isEach || this.#started === undefined) return undefined;
    return (Atomics.load(this.#started.own, OWN_REQUESTS) + 1) | 0;
  }

  /** Whether a request has got the sync of its own. The count of requests wraps. */
  hasServed(request: number | undefined): boolean {
    const { own } = this.#started ?? {};
    return request === undefined || own === undefined || ((Atomics.load(own, OWN_SERVED) - request) | 0) >= 0;
  }

  /** Asks another one if the host has died, and its Worker with it; false when there is none to ask. */
  replaceDead(): boolean {
    const { flags } = this.#core.control;
    const host = Atomics.load(flags, COMMIT_HOST);
    if (this.#isEach || (host !== 0 && !this.#sync.isDead(host))) return true;
    Atomics.compareExchange(flags, COMMIT_HOST, host, 0);
    return this.ask();
  }

  #start(): Started {
    const own = new Int32Array(new SharedArrayBuffer(OWN_BYTES));
    const started: Started = {
      own,
      worker: startFromText(COMMIT_SCRIPT, {
        message: this.#orders(own.buffer),
        onLost: () => {
          if (this.#started === started) this.#giveUp();
        },
      }),
    };
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
      isEach: this.#isEach,
      at: {
        owner: SYNC_OWNER,
        done: SYNC_DONE,
        requests: COMMIT_REQUESTS,
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

  /** It could not start, or died: this thread goes on without. */
  #giveUp(): void {
    this.#canStart = false;
    this.#started = undefined;
    clearInterval(this.#idleTimer);
    this.#givePlace();
    // One before it may be at its last sync, and speaks under the same name.
    this.#awaitEnds();
    this.#sync.releaseOwn();
    this.#onLost();
  }

  /** Lets another thread be the host. */
  #givePlace(): void {
    Atomics.compareExchange(this.#core.control.flags, COMMIT_HOST, this.#sync.name, 0);
  }

  /** Lets the Worker end if nobody has asked it for anything since the last time. */
  rest(): void {
    const requests = this.#requests;
    if (requests === undefined) return;
    const count = Atomics.load(requests.words, requests.index);
    if (count === this.#requestsAtRest) this.end();
    this.#requestsAtRest = count;
  }

  /** Lets this thread's Worker end. */
  end(): void {
    const started = this.#started;
    if (started === undefined) return;
    clearInterval(this.#idleTimer);
    this.#givePlace();
    // One that has not begun will find it so, and touch nothing.
    if (Atomics.exchange(started.own, OWN_STATE, TOLD_TO_END) === AT_WORK) this.#ending.push(started.own);
    this.#raise();
    this.#started = undefined;
  }

  /**
   * Lets it end, and waits until it has: it speaks under this thread's name, which another may have when this one has
   * left. That takes a sync or two, if it was at one.
   */
  endNow(): void {
    this.end();
    this.#awaitEnds();
    this.#sync.releaseOwn();
  }

  #awaitEnds(): void {
    for (const own of this.#ending)
      for (let turn = 0; turn < END_TURNS_MAX && Atomics.load(own, OWN_STATE) === TOLD_TO_END; turn++) {
        // It may itself wait for the sync of a thread that has died in it.
        if (Atomics.wait(own, OWN_STATE, TOLD_TO_END, END_TURN_MS) === "timed-out") this.#sync.releaseDeadOwner();
      }
    this.#ending = [];
  }
}
