/**
 * The commit Workers of a simulated process: the very program that the package starts from text, made to stop before each of its
 * accesses to shared memory and round its sync, and to go on when somebody lets it.
 *
 * A Worker has turns between the steps of a script, in the middle of somebody's step, and while a thread sleeps; one that nobody lets go on is
 * held. It dies before any of its steps, by itself or with the thread that started it. In the middle of a sync it outlives that thread for a
 * while, and the system takes the thread for alive as long; the sync has happened, and nobody hears how it went.
 */

import { COMMIT_SCRIPT, type CommitOrders } from "../../src/log/commit-script.ts";
import { mixSeed, Random } from "../sim/random.ts";
import { placeOf } from "../steps/instrument.ts";

interface Sleep {
  readonly place: number;
  readonly hasTimeout: boolean;
  isOver: boolean;
}

/** A program that stops before each step, and where it sleeps. */
type Program = Generator<Sleep | undefined, void, void>;

/** What the program finds in place of its globals. */
interface Surroundings {
  sync: (handle: number) => Generator<undefined, number, void>;
  wait: typeof sleepOn;
  onmessage?: (event: { readonly data: CommitOrders }) => Program;
}

/** The functions of the program, which stop in the middle. */
const STOPPING = "gather|lead|serve|work|isDone|sync";
const REWRITES: readonly (readonly [from: RegExp, to: string])[] = [
  [/makeSync\(orders\.recipe\)/g, "self.sync"],
  [new RegExp(`(?<!function )\\b(${STOPPING})\\(([^()]*)\\)`, "g"), "(yield* $1($2))"],
  [/^function /gm, "function* "],
  [/const isDone = \(\) => \{/g, "const isDone = function* () {"],
  [/self\.onmessage = \(event\) => \{/g, "self.onmessage = function* (event) {"],
  [/Atomics\.wait\(/g, "yield* self.wait("],
  [/\bAtomics\./g, "(yield, Atomics)."],
  [/\bnumbers\[/g, "(yield, numbers)["],
];

/** The program's text behind what opens the system's libraries, with a stop before each step. */
function stoppingText(): string {
  let text = COMMIT_SCRIPT.slice(COMMIT_SCRIPT.indexOf("function gather"));
  for (const [from, to] of REWRITES) {
    if (text.search(from) < 0) throw new Error(`the commit Worker's program has no ${from.source}`);
    text = text.replace(from, to);
  }
  return text;
}

function* sleepOn(array: Int32Array, index: number, value: number, timeoutMs = Infinity): Generator<Sleep | undefined> {
  yield;
  if (Atomics.load(array, index) !== value) return;
  yield { place: placeOf(array, index) | 0, hasTimeout: timeoutMs !== Infinity, isOver: false };
}

/** What a process does for its commit Workers. */
export interface Host {
  /** Syncs a file; 0, or the errno. */
  sync(handle: number): number;
  /** A moment of a clock that goes on by itself. */
  now(): number;
}

interface Started {
  /** The thread that started it, by its name. */
  readonly host: number;
  readonly orders: CommitOrders;
  /** Tells that thread that it has died. */
  readonly onDeath: () => void;
}

export class CommitWorker {
  readonly started: Started;
  /** The program has come to its end. */
  isOver = false;
  #hasBegun = false;
  /** What it syncs just now. */
  syncing: number | undefined;
  /** The disk has refused a sync of its. */
  hasFailed = false;
  #sleep: Sleep | undefined;
  #stepsBehindSync = Infinity;
  readonly #program: Program;
  readonly #own: Int32Array;

  constructor(started: Started, host: Host) {
    this.started = started;
    this.#own = new Int32Array(started.orders.own);
    const self: Surroundings = { sync: (handle) => this.#sync(host, handle), wait: sleepOn };
    const exit = (): void => void (this.isOver = true);
    // oxlint-disable-next-line typescript/no-implied-eval -- The package starts this very text as a Worker.
    const make = new Function("self", "postMessage", "process", "performance", stoppingText()) as (
      ...globals: unknown[]
    ) => void;
    make(self, () => undefined, { exit }, host);
    this.#program = self.onmessage!({ data: started.orders });
  }

  *#sync(host: Host, handle: number): Generator<undefined, number, void> {
    yield;
    const errno = host.sync(handle);
    this.hasFailed ||= errno !== 0;
    this.syncing = handle;
    yield;
    this.syncing = undefined;
    this.#stepsBehindSync = 0;
    return errno;
  }

  /** Whether it may touch something: one that has not begun finds that it was told to end, and does not. */
  get isAtWork(): boolean {
    return this.#hasBegun && Atomics.load(this.#own, OWN_STATE) !== HAS_ENDED;
  }

  /** Nothing but its host's death ends one that leads. */
  get canDieAlone(): boolean {
    const { flags, at, name } = this.started.orders;
    return !this.isOver && Atomics.load(flags, at.owner) !== name;
  }

  /** So many steps, or up to where it sleeps or waits for a disk; whether it can go on at once. */
  goOn(steps: number, random: Random): boolean {
    let made = 0;
    for (; made < steps && !this.isOver; made += 1) {
      const sleep = this.#sleep;
      if (sleep !== undefined && !sleep.isOver && !(sleep.hasTimeout && random.chance(0.2))) break;
      const { value, done } = this.#program.next();
      this.#hasBegun ||= Atomics.load(this.#own, OWN_STATE) === AT_WORK;
      this.#sleep = value === undefined || done === true ? undefined : value;
      // A disk takes its time: much else happens meanwhile. Behind that each step is one that others wait for.
      if (this.syncing !== undefined && random.chance(0.6)) return false;
      this.#stepsBehindSync += 1;
      if (this.#stepsBehindSync < STEPS_BEHIND_SYNC && random.chance(0.3)) return false;
    }
    return made > 0;
  }

  /** Wakes it if it sleeps for `place`. */
  wake(place: number): boolean {
    if (this.#sleep?.place !== place || this.#sleep.isOver) return false;
    this.#sleep.isOver = true;
    return true;
  }
}

/** How many steps one goes on by itself, at most: none to speak of, or to the end of what it was asked for. */
const STEPS_MAX = [4, 40, 300] as const;
/** Up to where it has told all of what the disk said. */
const STEPS_BEHIND_SYNC = 10;
// See `log/commit-script.ts`.
const OWN_STATE = 1;
const AT_WORK = 1;
const HAS_ENDED = 3;

export class CommitWorkers {
  #all: CommitWorker[] = [];
  /** Threads that have died, and are taken for alive for so many questions more: their Workers are in the middle of a sync. */
  readonly #lingering = new Map<number, { left: number; readonly syncing: number }>();
  readonly #random: Random;
  readonly #host: Host;
  /** A thread that dies is not taken for alive: who asks now asks once. */
  areDeathsAtOnce = false;

  constructor(seed: number, host: Host) {
    this.#random = new Random(mixSeed(seed, 31));
    this.#host = host;
  }

  start(started: Started): void {
    this.#all.push(new CommitWorker(started, this.#host));
  }

  /** Those of a thread. */
  of(thread: number): CommitWorker[] {
    return this.#all.filter(({ started, isOver }) => started.host === thread && !isOver);
  }

  get all(): readonly CommitWorker[] {
    return this.#all;
  }

  /** One ends in the middle of something. */
  remove(worker: CommitWorker): void {
    this.#all = this.#all.filter((one) => one !== worker);
  }

  /** A thread dies, and its Workers with it; whether it is dead at once. */
  bury(thread: number): boolean {
    const syncing = this.of(thread).find((worker) => worker.syncing !== undefined)?.syncing;
    this.#all = this.#all.filter(({ started }) => started.host !== thread);
    if (syncing === undefined || this.areDeathsAtOnce) return true;
    this.#lingering.set(thread, { left: this.#random.below(3), syncing });
    return false;
  }

  /** Whether a thread that has died is taken for alive once more. */
  lingers(thread: number): boolean {
    const one = this.#lingering.get(thread);
    if (one === undefined) return false;
    if (one.left === 0 || this.areDeathsAtOnce) return !this.#lingering.delete(thread);
    one.left -= 1;
    return true;
  }

  /** Whether one syncs a file. */
  isSyncing(handle: number): boolean {
    const all = [...this.#all, ...this.#lingering.values()];
    return all.some(({ syncing }) => syncing === handle);
  }

  /** Whoever can goes on for a while, until `isOver` says so. */
  goOn(isOver: () => boolean): void {
    for (const worker of this.#all) {
      for (let left = this.#random.below(this.#random.pick(STEPS_MAX)); left > 0 && !isOver(); left -= 1) {
        if (!worker.goOn(1, this.#random)) break;
      }
    }
    this.#all = this.#all.filter(({ isOver: isEnded }) => !isEnded);
  }

  wake(place: number): number {
    return this.#all.filter((worker) => worker.wake(place)).length;
  }

  clear(): void {
    this.#all = [];
    this.#lingering.clear();
  }
}
