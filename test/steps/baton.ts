/**
 * One thread at a time: real threads over shared memory of which exactly one runs, and at each of its steps a seeded
 * draw says which one goes on. A seed gives the same order for ever.
 *
 * A step is whatever `instrument.ts` makes one: an access to shared memory, an atomic operation, a copy, a system call.
 *
 *     i32   0 who runs   1 steps   2 state of the draws   4 what went wrong
 *           8 words of each thread, see below
 */

export const THREADS_MAX = 4;
const CURRENT = 0;
const STEPS = 1;
const DRAWS = 2;
const VERDICT = 4;
const THREADS_AT = 8;
const THREAD_WORDS = 8;
const WORDS = THREADS_AT + THREADS_MAX * THREAD_WORDS;

// Words of a thread.
const STATE = 0;
const HAS_TIMEOUT = 1;
const OUTCOME = 2;
const WAITS_FOR = 3;
/** The own step at which it dies; 0: it does not. */
const DIES_AT = 4;
const OWN_STEPS = 5;
/** What it is called in `isThreadAlive`; 0: nobody. */
const NAME = 6;
/** How probable it is that somebody else comes before a step, of `CERTAIN`. */
const SWITCH_CHANCE = 7;
const CERTAIN = 2 ** 20;

const [ABSENT, RUNNABLE, BLOCKED, DONE] = [0, 1, 2, 3];
const NOBODY = -1;
const [WOKEN, TIMED_OUT] = [0, 1];

export const VERDICTS = { fine: 0, deadlock: 1, endless: 2 } as const;
const STEPS_MAX = 1_200_000;
/** A sleeper with a time limit may be over it although others could run: time passes. */
const TIME_PASSES = 1500;

/** Thrown in a thread that dies, and from then on by all that it does. */
export class Death extends Error {}

// Kept before anybody puts others in their places.
const { load, store, wait, waitAsync, notify, add } = Atomics;
const Words = Int32Array;

export class Baton {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #own: number;
  isDead = false;
  /** Between `join` and `leave`; what a thread does before and after is nobody's business. */
  #isIn = false;

  constructor(buffer: SharedArrayBuffer, own: number) {
    this.buffer = buffer;
    this.#words = new Words(buffer);
    this.#own = own;
  }

  static create(): Baton {
    return new Baton(new SharedArrayBuffer(WORDS * 4), NOBODY);
  }

  #at(thread: number, word: number): number {
    return THREADS_AT + thread * THREAD_WORDS + word;
  }

  get steps(): number {
    return load(this.#words, STEPS);
  }

  get verdict(): number {
    return load(this.#words, VERDICT);
  }

  // -- whoever directs ---------------------------------------------------------

  /** Before a run: nobody is there, and the draws begin. */
  reset(seed: number): void {
    this.#words.fill(0);
    store(this.#words, CURRENT, NOBODY);
    store(this.#words, DRAWS, seed);
  }

  setSwitchChance(thread: number, chance: number): void {
    store(this.#words, this.#at(thread, SWITCH_CHANCE), Math.round(chance * CERTAIN));
  }

  /** How probable it is that this thread is interrupted from now on; returns how probable it was. */
  interrupt(chance: number): number {
    const at = this.#at(this.#own, SWITCH_CHANCE);
    const before = load(this.#words, at) / CERTAIN;
    store(this.#words, at, Math.round(chance * CERTAIN));
    return before;
  }

  /** Lets this thread die so many steps from now. */
  dieIn(steps: number): void {
    this.setDeath(this.#own, load(this.#words, this.#at(this.#own, OWN_STEPS)) + steps);
  }

  setDeath(thread: number, diesAt: number): void {
    store(this.#words, this.#at(thread, DIES_AT), diesAt);
  }

  /** Lets so many threads run until all of them are done. */
  async direct(threadCount: number): Promise<void> {
    for (let thread = 0; thread < threadCount; thread += 1) {
      const at = this.#at(thread, STATE);
      while (load(this.#words, at) === ABSENT) await this.#change(at, ABSENT);
    }
    this.#handOver(this.#pick());
    for (let current = load(this.#words, CURRENT); current !== NOBODY; current = load(this.#words, CURRENT))
      await this.#change(CURRENT, current);
  }

  /** Whether a thread has been in this run; the commit Worker is not where nobody asks it. */
  hasJoined(thread: number): boolean {
    return load(this.#words, this.#at(thread, STATE)) !== ABSENT;
  }

  async #change(at: number, from: number): Promise<void> {
    const changed = waitAsync(this.#words, at, from, 20);
    if (changed.async) await changed.value;
  }

  /** A thread that could not even begin is taken for one that is done. */
  abandon(thread: number): void {
    store(this.#words, this.#at(thread, STATE), DONE);
    notify(this.#words, this.#at(thread, STATE));
  }

  // -- a thread ----------------------------------------------------------------

  /** Joins a run under a name, says so, and waits for its turn. */
  join(name: number, sayJoined: () => void = () => undefined): void {
    this.isDead = false;
    store(this.#words, this.#at(this.#own, OWN_STEPS), 0);
    store(this.#words, this.#at(this.#own, NAME), name);
    store(this.#words, this.#at(this.#own, STATE), RUNNABLE);
    notify(this.#words, this.#at(this.#own, STATE));
    sayJoined();
    this.#isIn = true;
    this.#awaitTurn();
  }

  /** The run is over for this thread; a dead one is not to be found any more. */
  leave(): void {
    this.#isIn = false;
    store(this.#words, this.#at(this.#own, NAME), 0);
    store(this.#words, this.#at(this.#own, STATE), DONE);
    this.#handOver(this.#pick());
  }

  isAlive(name: number): boolean {
    for (let thread = 0; thread < THREADS_MAX; thread += 1) {
      if (load(this.#words, this.#at(thread, NAME)) === name) return true;
    }
    return false;
  }

  /** One step: somebody else may come first. @throws Death, now and from then on, when this is where it dies. */
  step(): void {
    if (this.isDead) throw new Death();
    if (!this.#isIn) return;
    const words = this.#words;
    if (words[VERDICT] !== VERDICTS.fine) throw new Error(this.#complaint());
    words[STEPS]! += 1;
    if (words[STEPS]! > STEPS_MAX) this.#stop(VERDICTS.endless);
    const own = this.#at(this.#own, OWN_STEPS);
    words[own]! += 1;
    if (words[own] === words[this.#at(this.#own, DIES_AT)]) {
      this.isDead = true;
      throw new Death();
    }
    const chance = words[this.#at(this.#own, SWITCH_CHANCE)]!;
    if (this.#draw() % CERTAIN < chance) this.#yield();
  }

  /** As a step that found nothing to do but wait: somebody else comes first more often than not. */
  giveWay(): void {
    if (this.#isIn && this.#draw() % 3 !== 0) this.#yield();
  }

  /** Sleeps until it is woken for `what`; false when its time was up. */
  sleep(what: number, hasTimeout: boolean): boolean {
    const words = this.#words;
    words[this.#at(this.#own, HAS_TIMEOUT)] = hasTimeout ? 1 : 0;
    words[this.#at(this.#own, WAITS_FOR)] = what;
    words[this.#at(this.#own, OUTCOME)] = WOKEN;
    words[this.#at(this.#own, STATE)] = BLOCKED;
    this.#yield();
    return words[this.#at(this.#own, OUTCOME)] === WOKEN;
  }

  /** Wakes up to `count` of those who sleep for `what`. */
  wake(what: number, count: number): number {
    const words = this.#words;
    let woken = 0;
    const first = this.#draw() % THREADS_MAX;
    for (let index = 0; index < THREADS_MAX && woken < count; index += 1) {
      const thread = (first + index) % THREADS_MAX;
      if (words[this.#at(thread, STATE)] !== BLOCKED || words[this.#at(thread, WAITS_FOR)] !== what) continue;
      words[this.#at(thread, STATE)] = RUNNABLE;
      woken += 1;
    }
    return woken;
  }

  #yield(): void {
    const next = this.#pick();
    if (next === this.#own) return;
    this.#handOver(next);
    this.#awaitTurn();
  }

  #awaitTurn(): void {
    for (;;) {
      const current = load(this.#words, CURRENT);
      if (current === this.#own) break;
      wait(this.#words, CURRENT, current);
    }
    if (this.verdict !== VERDICTS.fine && !this.isDead) throw new Error(this.#complaint());
  }

  #handOver(thread: number): void {
    store(this.#words, CURRENT, thread);
    notify(this.#words, CURRENT);
  }

  /** Who goes on: anybody who can, and now and then a sleeper whose time is up. NOBODY when all are done. */
  #pick(): number {
    const words = this.#words;
    const able: number[] = [];
    const sleeping: number[] = [];
    let isAnyLeft = false;
    for (let thread = 0; thread < THREADS_MAX; thread += 1) {
      const state = words[this.#at(thread, STATE)];
      if (state === RUNNABLE) able.push(thread);
      if (state === BLOCKED && words[this.#at(thread, HAS_TIMEOUT)] === 1) sleeping.push(thread);
      if (state === RUNNABLE || state === BLOCKED) isAnyLeft = true;
    }
    if (!isAnyLeft) return NOBODY;
    const isTimeUp = sleeping.length > 0 && (able.length === 0 || (this.#draw() & 65_535) < TIME_PASSES);
    if (isTimeUp) {
      const thread = sleeping[this.#draw() % sleeping.length]!;
      words[this.#at(thread, STATE)] = RUNNABLE;
      words[this.#at(thread, OUTCOME)] = TIMED_OUT;
      return thread;
    }
    if (able.length > 0) return able[this.#draw() % able.length]!;
    return this.#wakeAll(VERDICTS.deadlock);
  }

  /** Everybody is told that the run is over, by a throw. */
  #wakeAll(verdict: number): number {
    store(this.#words, VERDICT, verdict);
    let first = NOBODY;
    for (let thread = THREADS_MAX - 1; thread >= 0; thread -= 1) {
      const at = this.#at(thread, STATE);
      if (load(this.#words, at) === BLOCKED) store(this.#words, at, RUNNABLE);
      if (load(this.#words, at) === RUNNABLE) first = thread;
    }
    return first;
  }

  #stop(verdict: number): never {
    this.#wakeAll(verdict);
    throw new Error(this.#complaint());
  }

  #complaint(): string {
    return this.verdict === VERDICTS.deadlock ? "everybody waits for somebody" : "the run does not end";
  }

  #draw(): number {
    const state = (add(this.#words, DRAWS, 0x6d2b79f5) + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }
}
