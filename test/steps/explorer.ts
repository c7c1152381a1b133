/**
 * All orders of the steps of a few threads, for code that only knows `Atomics` and a small system.
 *
 * A thread is a function. To take its next step it is run from its beginning, with the answers that its steps had so far, up to
 * the one behind: so the code is the package's own, as it is, and a moment of a run is a few numbers that can be kept and come
 * back to. Two runs that have come to the same moment go on as one.
 *
 * A step is an operation on a shared word, or a question whether a thread lives. In any order with those a sleeper's time is up,
 * a clock goes on, and a thread dies. A clock is each thread's own, and goes on as it is asked. A compare-and-swap that
 * has just failed fails again at once: to spin for longer is to come later.
 */

/** Thrown in a thread that stands before its next step. */
const STOP = Symbol("stop");

type Answer = number | string | boolean;

/** What is known of a thread at a moment. */
interface Standing {
  readonly state: "ready" | "asleep" | "over" | "dead" | "absent";
  /** The answers that its steps had. */
  readonly answers: readonly Answer[];
  /** What it knows of them, and what it is about to do. */
  readonly known: string;
  /** How long it has waited in vain ago, as far as that matters. */
  readonly sinceVainMs: number;
  /** The word it sleeps for, or its next step is about. */
  readonly word: number;
  readonly isAtClock: boolean;
  readonly timeouts: number;
}

/** A moment of a run. */
export interface Moment {
  readonly words: readonly number[];
  /** Whoever sleeps, in the order in which they began. */
  readonly sleepers: readonly number[];
  readonly threads: readonly Standing[];
  /** Of whoever judges. */
  readonly notes: readonly number[];
  readonly deaths: number;
  readonly rescues: number;
}

/** What a thread runs with. */
export interface Self {
  readonly index: number;
  /** A step of whoever judges; it sees and changes the notes. */
  note(change: (notes: number[]) => void): void;
  /** Between two calls: nothing of what was answered before is known to the thread, but for what is said. */
  forget(what: string): void;
}

export interface Program {
  /** By which the system knows it. */
  readonly number: number;
  readonly run: (self: Self) => void;
  /** Not from the beginning. */
  readonly comes?: (moment: Moment) => boolean;
  readonly isImmortal?: boolean;
  /** Its thread ends with it. */
  readonly isGoneAtEnd?: boolean;
}

export interface Plan {
  readonly programs: readonly Program[];
  /** The block in which all words are, those that change, and those that do not matter; all others stay as they are. */
  readonly buffer: SharedArrayBuffer;
  readonly words: readonly number[];
  readonly ignored: readonly number[];
  readonly notes: readonly number[];
  /** By how much a clock may have gone on. */
  readonly clockStepsMs: readonly number[];
  /** Of who waits for this word in vain it matters when that was, for so long; where it is rare nobody does while others could go on. */
  readonly vain: { readonly word: number; readonly forMs: number; readonly isRare: boolean };
  /** How often a thread's time may be up while others could go on. */
  readonly timeoutsMax: number;
  /** So many turns of waiting a thread tells apart. */
  readonly turnsMax: number;
  readonly deathsMax: number;
  /** Called in each moment; throws what is wrong. */
  readonly judge: (moment: Moment, isStill: boolean) => void;
  /** With the words of a run that is over in their places. */
  readonly judgeEnd: (moment: Moment) => void;
  /** What happens to the notes when a thread dies. */
  readonly onDeath: (thread: number, notes: number[]) => void;
}

/** Steps whose answers a thread looks at. */
const LOOKS: ReadonlySet<string> = new Set(["alive", "compareExchange", "load", "wait"]);
const CLOCK = "clock";
/** So many of them it may still know. */
const KNOWN_MAX = 6;
/** How often in a run a sleeper's time is up while nobody else can go on. */
const RESCUES_MAX = 12;
const plain = pick();

function pick(): Record<string, (...args: never[]) => unknown> {
  const names = ["add", "compareExchange", "exchange", "load", "notify", "or", "store", "sub", "wait"] as const;
  return Object.fromEntries(names.map((name) => [name, Atomics[name] as (...args: never[]) => unknown]));
}

export class Explorer {
  readonly #plan: Plan;
  readonly #all: Int32Array;
  readonly #words: ReadonlyMap<number, number>;
  readonly #ignored: ReadonlySet<number>;
  moments = 0;
  ends = 0;

  // Of the step that is taken.
  #thread = 0;
  #isIn = false;
  #answers: Answer[] = [];
  #cursor = 0;
  #mayStep = false;
  #hasStopped = false;
  #clockMs = 0;
  #clockStep = 0;
  #vainMs: number | undefined;
  #isVain = false;
  #word = 0;
  #isAtClock = false;
  #hasSlept = false;
  /** The answers by which a thread may go on in one way or another, since it was told to forget. */
  #known: Answer[] = [];
  #carried = "";
  #about = "";
  #turns = 0;
  #failed: readonly [word: number, expected: number, found: number] | undefined;
  #notes: number[] = [];
  #sleepers: number[] = [];
  #woken: number[] = [];
  #isRescue = false;
  #sleepsFor: readonly number[] = [];
  #alive: readonly boolean[] = [];

  constructor(plan: Plan) {
    this.#plan = plan;
    this.#all = new Int32Array(plan.buffer);
    this.#words = new Map(plan.words.map((word, index) => [word, index]));
    this.#ignored = new Set(plan.ignored);
  }

  /** What a thread sees of the system. */
  readonly system = {
    threadId: (): number => this.#plan.programs[this.#thread]!.number,
    isThreadAlive: (number: number): boolean =>
      this.#step(
        "alive",
        0,
        () => this.#plan.programs.some((one, index) => one.number === number && this.#alive[index]),
        number,
      ),
    monotonic: (): number => {
      this.#clockMs += this.#step(CLOCK, -1, () => this.#clockStep);
      if (this.#isVain) this.#vainMs = this.#clockMs;
      this.#isVain = false;
      return this.#clockMs;
    },
  };

  #step<T extends Answer>(what: string, word: number, operate: () => T, first = 0, second = 0): T {
    if (this.#hasStopped) throw STOP;
    this.#failed = undefined;
    let answer: T;
    if (this.#cursor < this.#answers.length) answer = this.#answers[this.#cursor++] as T;
    else {
      if (!this.#mayStep) {
        this.#word = word;
        this.#isAtClock = what === CLOCK;
        this.#about = `${what} ${word} ${first} ${second}`;
        return this.#stop();
      }
      this.#mayStep = false;
      answer = operate();
      this.#answers.push(answer);
      this.#cursor += 1;
    }
    if (LOOKS.has(what)) this.#known.push(answer);
    if (typeof answer === "string") this.#turns += 1;
    return answer;
  }

  #stop(): never {
    this.#hasStopped = true;
    throw STOP;
  }

  #place(array: Int32Array, index: number): number {
    return array.byteOffset / 4 + index;
  }

  #install(): void {
    const atomics = Atomics as unknown as Record<string, unknown>;
    const shared = (name: string): void => {
      const operate = plain[name] as unknown as (array: Int32Array, index: number, a?: number, b?: number) => number;
      atomics[name] = (array: Int32Array, index: number, a?: number, b?: number): number => {
        if (!this.#isIn) return operate(array, index, a, b);
        const word = this.#place(array, index);
        if (this.#words.has(word)) {
          return this.#step(name, word, () => operate(array, index, a, b), a, b);
        }
        if (this.#ignored.has(word)) return 0;
        if (this.#hasStopped) throw STOP;
        if (name !== "load") throw new Error(`word ${word} changes`);
        return operate(array, index);
      };
    };
    for (const name of ["add", "compareExchange", "exchange", "load", "or", "store", "sub"]) shared(name);
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
      const word = this.#place(array, index);
      if (timeoutMs === Infinity) throw new Error("a thread sleeps for ever");
      const outcome = this.#step<"not-equal" | "timed-out">(
        "wait",
        word,
        () => {
          if (array[index] !== value) return "not-equal";
          this.#hasSlept = true;
          this.#word = word;
          this.#about = `asleep ${value}`;
          this.#sleepers.push(this.#thread);
          return this.#stop();
        },
        value,
      );
      if (word === this.#plan.vain.word && outcome === "timed-out") this.#isVain = true;
      return outcome;
    };
    atomics["notify"] = (array: Int32Array, index: number, count = Infinity): number => {
      if (!this.#isIn) return 0;
      const word = this.#place(array, index);
      return this.#step("notify", word, () => this.#wake(word, count));
    };
  }

  #wake(word: number, count: number): number {
    const woken = this.#sleepers.filter((thread) => this.#sleepsFor[thread] === word).slice(0, count);
    this.#sleepers = this.#sleepers.filter((thread) => !woken.includes(thread));
    this.#woken = woken;
    return woken.length;
  }

  /** The moment behind a step of a thread, or behind an answer that it sleeps for. */
  #goOn(moment: Moment, thread: number, answer?: Answer, clockStep = 0): Moment {
    const before = moment.threads[thread]!;
    this.#put(moment);
    this.#thread = thread;
    this.#answers = answer === undefined ? [...before.answers] : [...before.answers, answer];
    this.#mayStep = answer === undefined && before.state !== "absent";
    [this.#cursor, this.#hasStopped, this.#clockMs, this.#clockStep] = [0, false, 0, clockStep];
    [this.#vainMs, this.#isVain] = [undefined, false];
    [this.#hasSlept, this.#isAtClock, this.#failed, this.#turns, this.#carried] = [false, false, undefined, 0, ""];
    this.#known = [];
    const self: Self = {
      index: thread,
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
    };
    let isOver = true;
    this.#isIn = true;
    try {
      this.#plan.programs[thread]!.run(self);
    } catch (error) {
      if (!this.#hasStopped) throw error;
      isOver = false;
    } finally {
      this.#isIn = false;
    }
    const after: Standing = {
      state: this.#hasSlept ? "asleep" : isOver ? "over" : "ready",
      answers: this.#answers,
      known: `${this.#carried}|${this.#known.slice(-KNOWN_MAX).join()}|${isOver ? "" : this.#about}|${Math.min(this.#turns, this.#plan.turnsMax)}`,
      sinceVainMs: this.#vainMs === undefined ? -1 : Math.min(this.#clockMs - this.#vainMs, this.#plan.vain.forMs),
      word: this.#word,
      isAtClock: this.#isAtClock,
      timeouts: before.timeouts + (answer === "timed-out" && !this.#isRescue ? 1 : 0),
    };
    const threads = moment.threads.map((one, index) => {
      if (index === thread) return after;
      if (!this.#woken.includes(index)) return one;
      return { ...one, answers: [...one.answers, "ok"], state: "ready" as const, word: 0 };
    });
    return this.#take(moment, threads);
  }

  /** A sleeper that was woken: it goes on up to its next step, which is nobody's business. */
  #settle(moment: Moment): Moment {
    let settled = moment;
    for (const thread of this.#woken) {
      const one = settled.threads[thread]!;
      const asleep = {
        ...settled,
        threads: settled.threads.with(thread, { ...one, answers: one.answers.slice(0, -1) }),
      };
      settled = this.#goOn(asleep, thread, "ok");
    }
    return settled;
  }

  #put(moment: Moment): void {
    for (const [index, word] of this.#plan.words.entries()) this.#all[word] = moment.words[index]!;
    this.#notes = [...moment.notes];
    this.#sleepers = [...moment.sleepers];
    this.#woken = [];
    this.#sleepsFor = moment.threads.map(({ word }) => word);
    this.#alive = moment.threads.map(({ state }, index) => {
      return !["dead", "absent"].includes(state) && !(state === "over" && this.#plan.programs[index]!.isGoneAtEnd);
    });
  }

  #take(moment: Moment, threads: readonly Standing[]): Moment {
    const words = this.#plan.words.map((word) => this.#all[word]!);
    return { ...moment, words, threads, notes: this.#notes, sleepers: this.#sleepers };
  }

  #advance(moment: Moment, thread: number, answer?: Answer, clockStep = 0): Moment {
    const sleepers = answer === undefined ? moment.sleepers : moment.sleepers.filter((one) => one !== thread);
    return this.#settle(this.#goOn({ ...moment, sleepers }, thread, answer, clockStep));
  }

  #die(moment: Moment, thread: number): Moment {
    const notes = [...moment.notes];
    this.#plan.onDeath(thread, notes);
    const threads = moment.threads.with(thread, { ...moment.threads[thread]!, state: "dead", answers: [], known: "" });
    const sleepers = moment.sleepers.filter((one) => one !== thread);
    return { ...moment, threads, notes, sleepers, deaths: moment.deaths + 1 };
  }

  /** All moments that may be next. */
  *#next(moment: Moment): Generator<readonly [what: string, Moment]> {
    const { threads } = moment;
    const { programs, clockStepsMs, deathsMax, timeoutsMax } = this.#plan;
    const atClock = threads.findIndex(({ state, isAtClock }) => state === "ready" && isAtClock);
    if (atClock >= 0) {
      for (const step of clockStepsMs)
        yield [`${atClock} clock +${step}`, this.#advance(moment, atClock, undefined, step)];
      return;
    }
    for (const [thread, { comes }] of programs.entries()) {
      if (threads[thread]!.state === "absent" && comes!(moment)) yield [`${thread} comes`, this.#goOn(moment, thread)];
    }
    const isStill = !threads.some(({ state }) => state === "ready");
    for (const [thread, { state, timeouts }] of threads.entries()) {
      if (state === "ready") yield [`${thread}`, this.#advance(moment, thread)];
      if (state !== "asleep") continue;
      // Whoever has slept for longest is the first whose time is up.
      const isRescue = isStill && moment.sleepers[0] === thread;
      const isEarly =
        timeouts < timeoutsMax && !(this.#plan.vain.isRare && threads[thread]!.word === this.#plan.vain.word);
      if (!isRescue && !isEarly) continue;
      const rescues = isRescue ? moment.rescues + 1 : moment.rescues;
      if (rescues > RESCUES_MAX) throw new Error("nobody goes on");
      this.#isRescue = isRescue;
      yield [`${thread} times out`, this.#advance({ ...moment, rescues }, thread, "timed-out")];
    }
    if (moment.deaths >= deathsMax) return;
    for (const [thread, { state }] of threads.entries()) {
      const isMortal = programs[thread]!.isImmortal !== true && (state === "ready" || state === "asleep");
      if (isMortal) yield [`${thread} dies`, this.#die(moment, thread)];
    }
  }

  #keyOf({ words, sleepers, threads, notes, deaths, rescues }: Moment): bigint {
    const parts = threads.map(
      ({ state, known, sinceVainMs, timeouts }) => `${state} ${known} ${sinceVainMs} ${timeouts}`,
    );
    return Bun.hash(`${words.join()};${sleepers.join()};${parts.join(";")};${notes.join()};${deaths};${rescues}`);
  }

  /** Goes to all moments, or to the first one in which something is wrong. */
  explore(): string | undefined {
    this.#install();
    try {
      return this.#exploreAll();
    } finally {
      Object.assign(Atomics, plain);
    }
  }

  #exploreAll(): string | undefined {
    const absent: Standing = {
      state: "absent",
      answers: [],
      known: "",
      sinceVainMs: -1,
      word: 0,
      isAtClock: false,
      timeouts: 0,
    };
    const { programs, words, notes } = this.#plan;
    let first: Moment = {
      words: words.map((word) => this.#all[word]!),
      sleepers: [],
      threads: programs.map(() => absent),
      notes,
      deaths: 0,
      rescues: 0,
    };
    for (const [thread, { comes }] of programs.entries()) if (comes === undefined) first = this.#goOn(first, thread);
    const seen = new Set<bigint>();
    const stack: { what: string; next: Iterator<readonly [string, Moment]> }[] = [
      { what: "", next: this.#next(first) },
    ];
    const trail = (): string => stack.map(({ what }) => what).join(", ");
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      try {
        const { value, done } = top.next.next();
        if (done === true) {
          stack.pop();
          continue;
        }
        const [what, moment] = value;
        const key = this.#keyOf(moment);
        if (seen.has(key)) continue;
        seen.add(key);
        stack.push({ what, next: this.#next(moment) });
        this.moments += 1;
        this.#look(moment);
      } catch (error) {
        return `${error instanceof Error ? error.message : String(error)}: ${trail()}`;
      }
    }
    return undefined;
  }

  #look(moment: Moment): void {
    const { threads } = moment;
    const isStill = !threads.some(({ state }) => state === "ready");
    this.#plan.judge(moment, isStill);
    if (threads.some(({ state }) => state === "ready" || state === "asleep")) return;
    if (threads.some(({ state }, index) => state === "absent" && this.#plan.programs[index]!.comes!(moment))) return;
    this.ends += 1;
    this.#put(moment);
    this.#plan.judgeEnd(moment);
  }
}
