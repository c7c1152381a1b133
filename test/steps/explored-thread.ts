/**
 * A thread of an `Explorer`: its code is run from its beginning, with the answers that its steps had so far, up to the one behind.
 * What it comes to follows from the answers alone, so nothing is run again that has had the same: the step is taken, and with
 * its answer the rest is known. One time in so many it is run all the same, and has to come to what is known.
 *
 * What it waits for with `await` is its event loop's: all promises are let go on as soon as nothing else runs on it, and an
 * answer then says which of those that it waits for comes next. Whoever notifies a word calls those who sleep for it and those who
 * wait for it in this way in one line. One who waits so is out of it when its time is up, and its event loop has come to that.
 */

import { drainMicrotasks } from "bun:jsc";
import { expectSame, newWays, type Answer, type Sleeper, type Standing } from "./standing.ts";

/** Thrown in a thread that stands before its next step. */
const STOP = Symbol("stop");

/** What a thread runs with. */
export interface Self {
  readonly index: number;
  /** A step of whoever judges; it sees and changes the notes. */
  note(change: (notes: number[]) => void): void;
  /** Between two calls: nothing of what was answered before is known to the thread, but for what is said. */
  forget(what: string): void;
  /** Resolves at any time, when its event loop has nothing else to do. */
  turn(): Promise<void>;
}

/** What stays the same from step to step. */
export interface Surroundings {
  readonly words: ReadonlySet<number>;
  readonly ignored: ReadonlySet<number>;
  readonly vain: { readonly word: number; readonly forMs: number };
  readonly turnsMax: number;
  readonly hasLeaps: boolean;
  readonly isAlive: (number: number) => boolean;
}

/** What is asked of it: the next step with whatever is answered, or what is behind an answer. */
export interface Step {
  readonly thread: number;
  readonly run: (self: Self) => void | Promise<void>;
  readonly before: Standing;
  readonly answer: Answer | undefined;
  readonly mayStep: boolean;
  readonly clockStep: number;
  readonly notes: number[];
  readonly sleepers: readonly Sleeper[];
}

/** Steps whose answers a thread looks at. */
const LOOKS: ReadonlySet<string> = new Set(["alive", "compareExchange", "load", "wait", "waitAsync"]);
const CLOCK = "clock";
/** So many of them it may still know. */
const KNOWN_MAX = 6;
/** One in so many of the ways that are known is gone again. */
const PROVEN_ONE_IN = 61;
const plain = pick();

function pick(): Record<string, (...args: never[]) => unknown> {
  const names = [
    "add",
    "compareExchange",
    "exchange",
    "load",
    "notify",
    "or",
    "store",
    "sub",
    "wait",
    "waitAsync",
  ] as const;
  return Object.fromEntries(names.map((name) => [name, Atomics[name] as (...args: never[]) => unknown]));
}

const timers = { setInterval, clearInterval };

const arrays = new WeakMap<object, Int32Array>();

/** The array behind one that is `watched`. */
function bare(array: Int32Array): Int32Array {
  return arrays.get(array) ?? array;
}

/** An array whose elements are steps also where no operation of `Atomics` takes them. */
export function watched<T extends Int32Array | Float64Array>(
  array: T,
  step: (what: string, operate: () => number) => number,
): T {
  const proxy = new Proxy(array, {
    get(target, name): unknown {
      if (typeof name !== "string" || name.charCodeAt(0) > 57) return Reflect.get(target, name, target);
      return step(`get ${name}`, () => target[Number(name)]!);
    },
    set(target, name, value: number): boolean {
      step(`set ${String(name)} ${value}`, () => (target[Number(name)] = value));
      return true;
    },
  });
  arrays.set(proxy, array as Int32Array);
  return proxy;
}

/** What an answer says that the event loop comes to. */
export function comesTo(outcome: "ok" | "timed-out", id: number): Answer {
  return `${outcome} ${id}`;
}

export class ExploredThread {
  readonly #around: Surroundings;
  #isIn = false;
  #thread = 0;
  #answers: Answer[] = [];
  #cursor = 0;
  /** The step that it has come to. */
  #operate: (() => Answer) | undefined;
  #hasStopped = false;
  #clockMs = 0;
  #clockStep = 0;
  #leaps = 0;
  /** When it has last begun to sleep, and to wait. */
  #sleptMs = -1;
  #waitedMs = -1;
  #vainMs: number | undefined;
  #isVain = false;
  #word = 0;
  #isAtClock = false;
  /** What is in the word for which it sleeps. */
  #asleep: number | undefined;
  #taken = 0;
  /** The answers by which a thread may go on in one way or another, since it was told to forget. */
  #known: Answer[] = [];
  /** How often in a row it has asked its clock. */
  #clocks = 0;
  #carried = "";
  #about = "";
  #turns = 0;
  #failed: readonly [word: number, expected: number, found: number] | undefined;
  #loaded: readonly [word: number, found: number] | undefined;
  #notes: number[] = [];
  #pending = new Map<number, (outcome: string) => void>();
  #ids = 0;
  #anyTime = new Set<number>();
  #called: number[] = [];
  #sleepers: Sleeper[] = [];
  #woken: Sleeper[] = [];

  constructor(around: Surroundings) {
    this.#around = around;
  }

  /** What has changed behind the step: the notes, who sleeps, and who was woken. */
  get notes(): number[] {
    return this.#notes;
  }

  get sleepers(): readonly Sleeper[] {
    return this.#sleepers;
  }

  get woken(): readonly Sleeper[] {
    return this.#woken;
  }

  get thread(): number {
    return this.#thread;
  }

  /** What a thread sees of the system, but for its own number. */
  readonly isThreadAlive = (number: number): boolean =>
    this.#step("alive", 0, () => this.#around.isAlive(number), number);

  readonly monotonic = (): number => {
    const step = this.#step(CLOCK, -1, () => this.#clockStep);
    this.#clockMs += step;
    if (step > 0) this.#leaps += 1;
    if (this.#isVain) this.#vainMs = this.#clockMs;
    this.#isVain = false;
    return this.#clockMs;
  };

  /** A step that is not one of `Atomics`; its answer is looked at. */
  step<T extends Answer>(what: string, operate: (notes: number[]) => T): T {
    const answer = this.#step(what, 0, () => operate(this.#notes));
    this.#known.push(answer);
    return answer;
  }

  #step<T extends Answer>(what: string, word: number, operate: () => T, first = 0, second = 0): T {
    if (this.#hasStopped) throw STOP;
    [this.#failed, this.#loaded] = [undefined, undefined];
    let answer: T;
    if (this.#cursor < this.#answers.length) answer = this.#answers[this.#cursor++] as T;
    else {
      this.#word = word;
      this.#isAtClock = what === CLOCK;
      this.#about = `${what} ${word} ${first} ${second} ${this.#clocks}`;
      this.#operate = operate;
      return this.#stop();
    }
    this.#clocks = what === CLOCK ? this.#clocks + 1 : 0;
    if (LOOKS.has(what)) this.#known.push(answer);
    if (what === "wait") this.#turns += 1;
    return answer;
  }

  #stop(): never {
    this.#hasStopped = true;
    throw STOP;
  }

  #place(array: Int32Array, index: number): number {
    return bare(array).byteOffset / 4 + index;
  }

  install(): void {
    const atomics = Atomics as unknown as Record<string, unknown>;
    for (const name of ["add", "compareExchange", "exchange", "load", "or", "store", "sub"]) {
      const operate = plain[name] as unknown as (array: Int32Array, index: number, a?: number, b?: number) => number;
      atomics[name] = (given: Int32Array, index: number, a?: number, b?: number): number => {
        const array = bare(given);
        if (!this.#isIn) return operate(array, index, a, b);
        const word = this.#place(array, index);
        if (this.#around.words.has(word)) return this.#step(name, word, () => operate(array, index, a, b), a, b);
        if (this.#around.ignored.has(word)) return 0;
        if (this.#hasStopped) throw STOP;
        if (name !== "load") throw new Error(`word ${word} changes`);
        return operate(array, index);
      };
    }
    const load = atomics["load"] as (array: Int32Array, index: number) => number;
    atomics["load"] = (array: Int32Array, index: number): number => {
      const loaded = this.#loaded;
      const word = this.#place(array, index);
      if (this.#isIn && !this.#hasStopped && loaded?.[0] === word) return loaded[1];
      const found = load(array, index);
      if (this.#isIn && this.#around.words.has(word)) this.#loaded = [word, found];
      return found;
    };
    const swap = atomics["compareExchange"] as (array: Int32Array, index: number, from: number, to: number) => number;
    atomics["compareExchange"] = (array: Int32Array, index: number, from: number, to: number): number => {
      const failed = this.#failed;
      const word = this.#place(array, index);
      if (this.#isIn && !this.#hasStopped && failed?.[0] === word && failed[1] === from) return failed[2];
      const found = swap(array, index, from, to);
      if (this.#isIn && found !== from) this.#failed = [word, from, found];
      return found;
    };
    atomics["wait"] = (array: Int32Array, index: number, value: number, timeoutMs = Infinity): string => {
      if (!this.#isIn) return "timed-out";
      return this.#wait(array, index, value, timeoutMs);
    };
    atomics["waitAsync"] = (array: Int32Array, index: number, value: number): unknown => {
      if (!this.#isIn) throw new Error("nobody is there to wait");
      return this.#waitAsync(array, index, value);
    };
    atomics["notify"] = (array: Int32Array, index: number, count = Infinity): number => {
      if (!this.#isIn) return 0;
      const word = this.#place(array, index);
      return this.#step("notify", word, () => this.#wake(word, count), count);
    };
    // What keeps a process alive.
    const setTimer = (...args: Parameters<typeof setInterval>): unknown =>
      this.#isIn ? undefined : timers.setInterval(...args);
    Object.assign(globalThis, { setInterval: setTimer });
  }

  uninstall(): void {
    Object.assign(Atomics, plain);
    Object.assign(globalThis, timers);
  }

  #wait(given: Int32Array, index: number, value: number, timeoutMs: number): string {
    const array = bare(given);
    const word = this.#place(array, index);
    if (timeoutMs === Infinity) throw new Error("a thread sleeps for ever");
    this.#sleptMs = this.#clockMs;
    const outcome = this.#step<"not-equal" | "timed-out">(
      "wait",
      word,
      () => {
        if (array[index] !== value) return "not-equal";
        this.#asleep = value;
        this.#sleepers.push({ thread: this.#thread, word, id: 0 });
        return this.#stop();
      },
      value,
    );
    if (word === this.#around.vain.word && outcome === "timed-out") this.#isVain = true;
    return outcome;
  }

  #waitAsync(array: Int32Array, index: number, value: number): unknown {
    const word = this.#place(array, index);
    const id = this.#ids + 1;
    this.#waitedMs = this.#clockMs;
    const begin = (): string => {
      if (array[index] !== value) return "not-equal";
      this.#sleepers.push({ thread: this.#thread, word, id });
      return "waits";
    };
    const answer = this.#step("waitAsync", word, begin, value);
    if (answer === "not-equal") return { async: false, value: answer };
    return { async: true, value: this.#promise() };
  }

  /** What the event loop may come to. */
  #promise(): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    this.#pending.set(++this.#ids, resolve);
    return promise;
  }

  #turn(): Promise<void> {
    if (this.#hasStopped) throw STOP;
    const promise = this.#promise();
    this.#anyTime.add(this.#ids);
    return promise as unknown as Promise<void>;
  }

  #wake(word: number, count: number): number {
    const woken = this.#sleepers.filter((one) => one.word === word).slice(0, count);
    this.#sleepers = this.#sleepers.filter((one) => !woken.includes(one));
    this.#woken = woken;
    for (const { thread, id } of woken) if (thread === this.#thread) this.#called.push(id);
    return woken.length;
  }

  /** Takes a thread's step, and lets it come to the next one. */
  run(step: Step): Standing {
    const { before } = step;
    [this.#thread, this.#clockStep] = [step.thread, step.clockStep];
    [this.#notes, this.#sleepers, this.#woken] = [[...step.notes], [...step.sleepers], []];
    this.#called = [...before.called];
    this.#asleep = undefined;
    const answer = step.mayStep ? this.#take(before.ways.operate!) : step.answer;
    const way = `${typeof answer} ${answer} ${this.#asleep} ${this.#called.join()}`;
    const known = before.ways.known.get(way);
    this.#taken += 1;
    if (known === undefined || this.#taken % PROVEN_ONE_IN === 0) {
      const after = this.#comeOn(step, answer);
      if (known === undefined) {
        before.ways.known.set(way, after);
        return after;
      }
      expectSame(after, known);
    }
    return known.timeouts === before.timeouts ? known : { ...known, timeouts: before.timeouts };
  }

  /** Undefined when it sleeps. */
  #take(operate: () => Answer): Answer | undefined {
    try {
      return operate();
    } catch (error) {
      if (error !== STOP) throw error;
      return undefined;
    }
  }

  /** Runs a thread from its beginning to behind an answer. */
  #comeOn({ before, run }: Step, answer: Answer | undefined): Standing {
    this.#answers = answer === undefined ? [...before.answers] : [...before.answers, answer];
    [this.#cursor, this.#hasStopped, this.#clockMs, this.#leaps] = [0, false, 0, 0];
    [this.#sleptMs, this.#waitedMs] = [-1, -1];
    [this.#vainMs, this.#isVain] = [undefined, false];
    [this.#isAtClock, this.#failed, this.#turns, this.#carried] = [false, undefined, 0, ""];
    [this.#pending, this.#anyTime, this.#ids] = [new Map(), new Set(), 0];
    [this.#known, this.#clocks, this.#loaded] = [[], 0, undefined];
    [this.#operate, this.#word] = [undefined, 0];
    const isOver = this.#runToStop(run);
    const state = this.#asleep !== undefined ? "asleep" : isOver ? "over" : this.#hasStopped ? "ready" : "idle";
    return {
      state,
      answers: this.#answers,
      known: this.#tell(isOver),
      turns: [...this.#anyTime],
      called: this.#called,
      sinceVainMs: this.#vainMs === undefined ? -1 : Math.min(this.#clockMs - this.#vainMs, this.#around.vain.forMs),
      word: this.#word,
      isAtClock: this.#isAtClock,
      leaps: this.#leaps,
      timeouts: before.timeouts,
      ways: { ...newWays(), operate: this.#operate },
    };
  }

  #tell(isOver: boolean): string {
    const { turnsMax, hasLeaps } = this.#around;
    const first = Math.min(...this.#pending.keys());
    const pending = [...this.#pending.keys()].map((id) => `${id - first}${this.#anyTime.has(id) ? "*" : ""}`);
    const clock = hasLeaps ? `${this.#clockMs} ${this.#sleptMs} ${this.#waitedMs}` : "";
    const known = this.#known.slice(-KNOWN_MAX).join();
    const about = this.#asleep === undefined ? this.#about : `asleep ${this.#asleep}`;
    const next = isOver ? "" : this.#hasStopped ? about : "idle";
    return `${this.#carried}|${known}|${next}|${Math.min(this.#turns, turnsMax)}|${pending.join()}|${clock}`;
  }

  /** Whether it has come to its end. */
  #runToStop(run: Step["run"]): boolean {
    const self: Self = {
      index: this.#thread,
      note: (change) =>
        void this.#step("note", 0, () => {
          change(this.#notes);
          return 0;
        }),
      forget: (what) => {
        if (this.#hasStopped) throw STOP;
        this.#known = [];
        this.#turns = 0;
        this.#carried = what;
      },
      turn: () => this.#turn(),
    };
    this.#isIn = true;
    try {
      const running = run(self);
      return running === undefined || this.#runLoop(running);
    } catch (error) {
      if (!this.#hasStopped) throw error;
      return false;
    } finally {
      this.#isIn = false;
    }
  }

  #runLoop(running: Promise<void>): boolean {
    let isOver = false;
    let failure: { readonly error: unknown } | undefined;
    running.then(
      () => (isOver = true),
      (error: unknown) => (failure = { error }),
    );
    for (;;) {
      drainMicrotasks();
      if (this.#hasStopped) return false;
      if (failure !== undefined) throw failure.error;
      if (isOver) return true;
      if (!this.#comeTo()) return false;
    }
  }

  /** Whether the event loop has something to go on with. */
  #comeTo(): boolean {
    if (this.#cursor === this.#answers.length) {
      const id = this.#called.shift();
      if (id === undefined) {
        if (this.#pending.size === 0) throw new Error("an event loop waits for nothing");
        return false;
      }
      this.#answers.push(comesTo("ok", id));
    }
    const [outcome, id] = (this.#answers[this.#cursor++] as string).split(" ") as [string, string];
    const resolve = this.#pending.get(Number(id))!;
    const place = [...this.#pending.keys()].indexOf(Number(id));
    this.#pending.delete(Number(id));
    this.#anyTime.delete(Number(id));
    this.#known.push(`${outcome} ${place}`);
    [this.#failed, this.#loaded] = [undefined, undefined];
    resolve(outcome);
    return true;
  }
}
