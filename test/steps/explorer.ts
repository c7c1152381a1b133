/**
 * All orders of the steps of a few threads, for code that only knows `Atomics` and a small system.
 *
 * A thread is a function. To take its next step it is run from its beginning, with the answers that its steps had so far, up to
 * the one behind (`explored-thread.ts`): so the code is the package's own, as it is, and a moment of a run is a few numbers that
 * can be kept and come back to. Two runs that have come to the same moment go on as one.
 *
 * A step is an operation on a shared word, or a question whether a thread lives. In any order with those a sleeper's time is up,
 * an event loop turns, a clock goes on, and a thread dies. A clock is each thread's own, and goes on as it is asked. A
 * compare-and-swap that has just failed fails again at once, and a load finds what it has just found: to spin for longer is to
 * come later.
 */

import { ExploredThread, comesTo, type Self } from "./explored-thread.ts";
import { newWays, type Answer, type Sleeper, type Standing } from "./standing.ts";

/** A moment of a run. */
export interface Moment {
  readonly words: readonly number[];
  readonly sleepers: readonly Sleeper[];
  readonly threads: readonly Standing[];
  /** Of whoever judges. */
  readonly notes: readonly number[];
  readonly deaths: number;
  readonly rescues: number;
}

export interface Program {
  /** By which the system knows it. */
  readonly number: number;
  /** What its event loop has to do is done when its promise is. */
  readonly run: (self: Self) => void | Promise<void>;
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
  /** Who goes on at a moment of the beginning; all orders are gone through from where it names nobody. */
  readonly begins?: (moment: Moment) => number | undefined;
  /** By how much a clock may have gone on, and how often it does that. */
  readonly clockStepsMs: readonly number[];
  readonly leapsMax?: number;
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
  /** What happens to them when the time of one who sleeps is up. */
  readonly onTimeout?: (word: number, notes: number[]) => void;
}

/** How often in a run a sleeper's time is up while nobody else can go on. */
const RESCUES_MAX = 12;

/** Whether a thread can go on by itself. */
function canGoOn({ state, turns }: Standing): boolean {
  return state === "ready" || (state === "idle" && turns.length > 0);
}

function isOver({ state }: Standing): boolean {
  return !["ready", "asleep", "idle"].includes(state);
}

/** In one piece: whom it is about, and which of the answers it gets. */
interface Next {
  readonly thread: number;
  readonly answer?: Answer | undefined;
  readonly clockStep?: number;
}

export class Explorer {
  readonly #plan: Plan;
  readonly #all: Int32Array;
  readonly #thread: ExploredThread;
  #alive: readonly boolean[] = [];
  moments = 0;
  ends = 0;

  constructor(plan: Plan) {
    this.#plan = plan;
    this.#all = new Int32Array(plan.buffer);
    this.#thread = new ExploredThread({
      words: new Set(plan.words),
      ignored: new Set(plan.ignored),
      vain: plan.vain,
      turnsMax: plan.turnsMax,
      hasLeaps: plan.leapsMax !== undefined,
      isAlive: (number) => plan.programs.some((one, index) => one.number === number && this.#alive[index]),
    });
  }

  /** What a thread sees of the system. */
  readonly system = {
    threadId: (): number => this.#plan.programs[this.#thread.thread]!.number,
    isThreadAlive: (number: number): boolean => this.#thread.isThreadAlive(number),
    monotonic: (): number => this.#thread.monotonic(),
  };

  /** A step of another kind, of the thread that runs: a system call. */
  step<T extends Answer>(what: string, operate: (notes: number[]) => T): T {
    return this.#thread.step(what, operate);
  }

  /** The moment behind a step of a thread, or behind an answer that it waits for. */
  #goOn(moment: Moment, { thread, answer, clockStep = 0 }: Next): Moment {
    const { programs } = this.#plan;
    const before = moment.threads[thread]!;
    this.#put(moment);
    const after = this.#thread.run({
      thread,
      run: programs[thread]!.run,
      before,
      answer,
      mayStep: answer === undefined && before.state !== "absent",
      clockStep,
      notes: [...moment.notes],
      sleepers: moment.sleepers,
    });
    const { woken, notes, sleepers } = this.#thread;
    let next: Moment = {
      ...moment,
      words: this.#plan.words.map((word) => this.#all[word]!),
      threads: moment.threads.with(thread, after),
      notes,
      sleepers,
    };
    for (const one of woken) if (one.thread !== thread || one.id === 0) next = this.#call(next, one);
    return next;
  }

  /** One that was woken goes on up to its next step, which is nobody's business. */
  #call(moment: Moment, { thread, id }: Sleeper): Moment {
    if (id === 0) return this.#goOn(moment, { thread, answer: "ok" });
    const one = moment.threads[thread]!;
    if (one.state === "idle") return this.#goOn(moment, { thread, answer: comesTo("ok", id) });
    return { ...moment, threads: moment.threads.with(thread, { ...one, called: [...one.called, id] }) };
  }

  #put(moment: Moment): void {
    const { words, programs } = this.#plan;
    for (let index = 0; index < words.length; index += 1) this.#all[words[index]!] = moment.words[index]!;
    this.#alive = moment.threads.map(({ state }, index) => {
      return state !== "dead" && state !== "absent" && !(state === "over" && programs[index]!.isGoneAtEnd);
    });
  }

  #die(moment: Moment, thread: number): Moment {
    const notes = [...moment.notes];
    this.#plan.onDeath(thread, notes);
    const dead = { ...moment.threads[thread]!, state: "dead", answers: [], known: "", turns: [], called: [] } as const;
    const threads = moment.threads.with(thread, dead);
    const sleepers = moment.sleepers.filter((one) => one.thread !== thread);
    return { ...moment, threads, notes, sleepers, deaths: moment.deaths + 1 };
  }

  /** The time of one that waits is up. */
  #timeOut(moment: Moment, sleeper: Sleeper, isRescue: boolean): Moment {
    const { thread, word, id } = sleeper;
    const one = moment.threads[thread]!;
    const notes = [...moment.notes];
    this.#plan.onTimeout?.(word, notes);
    const timeouts = one.timeouts + (isRescue ? 0 : 1);
    const rescues = moment.rescues + (isRescue ? 1 : 0);
    if (rescues > RESCUES_MAX) throw new Error("nobody goes on");
    const threads = moment.threads.with(thread, { ...one, timeouts });
    const sleepers = moment.sleepers.filter((other) => other !== sleeper);
    const answer = id === 0 ? "timed-out" : comesTo("timed-out", id);
    return this.#goOn({ ...moment, notes, rescues, threads, sleepers }, { thread, answer });
  }

  /** All moments that may be next. */
  *#next(moment: Moment): Generator<readonly [what: string, Moment]> {
    const { threads } = moment;
    const { programs, clockStepsMs, leapsMax = Infinity, deathsMax } = this.#plan;
    const atClock = threads.findIndex(({ state, isAtClock }) => state === "ready" && isAtClock);
    if (atClock >= 0) {
      for (const clockStep of clockStepsMs) {
        if (clockStep > 0 && threads[atClock]!.leaps >= leapsMax) continue;
        yield [`${atClock} clock +${clockStep}`, this.#goOn(moment, { thread: atClock, clockStep })];
      }
      return;
    }
    for (const [thread, { comes }] of programs.entries()) {
      if (threads[thread]!.state === "absent" && comes!(moment))
        yield [`${thread} comes`, this.#goOn(moment, { thread })];
    }
    for (const [thread, { state, turns }] of threads.entries()) {
      if (state === "ready") yield [`${thread}`, this.#goOn(moment, { thread })];
      if (state !== "idle") continue;
      for (const id of turns) yield [`${thread} turns`, this.#goOn(moment, { thread, answer: comesTo("ok", id) })];
    }
    yield* this.#timeouts(moment);
    if (moment.deaths >= deathsMax) return;
    for (const [thread, standing] of threads.entries()) {
      if (programs[thread]!.isImmortal !== true && !isOver(standing))
        yield [`${thread} dies`, this.#die(moment, thread)];
    }
  }

  *#timeouts(moment: Moment): Generator<readonly [what: string, Moment]> {
    const { threads } = moment;
    const { vain, timeoutsMax } = this.#plan;
    const isStill = !threads.some(canGoOn);
    // An event loop has to be there to find that its time is up.
    const able = moment.sleepers.filter(({ thread, id }) => id === 0 || threads[thread]!.state === "idle");
    for (const sleeper of able) {
      const { thread, word } = sleeper;
      // Whoever has slept for longest is the first whose time is up.
      const isRescue = isStill && able[0] === sleeper;
      const isEarly = threads[thread]!.timeouts < timeoutsMax && !(vain.isRare && word === vain.word);
      if (isRescue || isEarly) yield [`${thread} times out`, this.#timeOut(moment, sleeper, isRescue)];
    }
  }

  #keyOf({ words, sleepers, threads, notes, deaths, rescues }: Moment): bigint {
    const hasLeaps = this.#plan.leapsMax !== undefined;
    let key = `${words.join()};`;
    for (const { thread, word, id } of sleepers) key += `${thread} ${word} ${id === 0},`;
    for (const { state, known, called, sinceVainMs, timeouts, leaps } of threads)
      key += `;${state} ${known} ${called.length} ${sinceVainMs} ${timeouts} ${hasLeaps ? leaps : ""}`;
    return Bun.hash(`${key};${notes.join()};${deaths};${rescues}`);
  }

  /** Goes to all moments, or to the first one in which something is wrong. */
  explore(): string | undefined {
    this.#thread.install();
    try {
      return this.#exploreAll();
    } finally {
      this.#thread.uninstall();
    }
  }

  #first(): Moment {
    const absent = (): Standing => ({
      state: "absent",
      answers: [],
      known: "",
      turns: [],
      called: [],
      sinceVainMs: -1,
      word: 0,
      isAtClock: false,
      leaps: 0,
      timeouts: 0,
      ways: newWays(),
    });
    const { programs, words, notes } = this.#plan;
    let first: Moment = {
      words: words.map((word) => this.#all[word]!),
      sleepers: [],
      threads: programs.map(absent),
      notes,
      deaths: 0,
      rescues: 0,
    };
    for (const [thread, { comes }] of programs.entries())
      if (comes === undefined) first = this.#goOn(first, { thread });
    for (;;) {
      const thread = this.#plan.begins?.(first);
      if (thread === undefined) return first;
      first = this.#goOn(first, { thread });
    }
  }

  #exploreAll(): string | undefined {
    const seen = new Set<bigint>();
    const stack: { what: string; next: Iterator<readonly [string, Moment]> }[] = [
      { what: "", next: this.#next(this.#first()) },
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
    this.#plan.judge(moment, !threads.some(canGoOn));
    if (!threads.every(isOver)) return;
    if (threads.some(({ state }, index) => state === "absent" && this.#plan.programs[index]!.comes!(moment))) return;
    this.ends += 1;
    this.#put(moment);
    this.#plan.judgeEnd(moment);
  }
}
