/**
 * Whose turn it is, and how it ends: every access to shared memory and every system call of a thread's turn is counted here.
 *
 * All threads are this one, a turn each. A turn may end in the thread's death, before any store or call; nothing of it happens from
 * then on. It may also be held at a store while another thread has a turn of its own: if that one then waits for the thread
 * that is held, the held one dies, as it may at any moment.
 */

import { drainMicrotasks } from "bun:jsc";
import type { CommitOrders } from "../../src/log/commit-script.ts";
import { Death } from "../steps/baton.ts";
import type { Pacer } from "../steps/instrument.ts";
import { THREADS_MAX } from "./script.ts";

/** Thrown where a turn does not end, or nobody would wake who sleeps. */
export class Endless extends Error {}

export interface TurnPlan {
  /** Whose scratch memory is used: each thread of a process has its own. */
  readonly owner: number;
  /** The store before which the thread dies, counted from 1; 0: before none. */
  readonly diesAt: number;
  /** The same of its system calls. */
  readonly diesAtCall: number;
  /** Somebody else's turn, before that store. */
  readonly between?: { readonly at: number; readonly turn: () => void } | undefined;
  /** Is told of a death before anybody else goes on. */
  readonly onDeath: () => void;
}

export interface Outcome<T> {
  readonly isDead: boolean;
  readonly stores: number;
  readonly calls: number;
  readonly value?: T;
  /** Of a thread that lives. */
  readonly error?: unknown;
}

/** What is looked at between turns has scratch memory of its own. */
const NOBODY = THREADS_MAX + 1;
const STEPS_MAX = 2_000_000;
/** How often one waits for a thread that is held before that one dies. */
const PATIENCE = 3;

/** Who has turns of its own while a thread sleeps. */
export interface Beside {
  /** Lets them go on, until `isOver` says so. */
  goOn(isOver: () => boolean): void;
  /** Wakes those who sleep for a place; how many. */
  wake(place: number): number;
}

/** Somebody who sleeps, and what comes of it. */
interface Sleeper {
  readonly place: number;
  outcome: "ok" | "timed-out";
}

class Turn {
  steps = 0;
  stores = 0;
  calls = 0;
  sleeps = 0;
  isDead = false;
  wasHeld = false;
  readonly plan: TurnPlan;

  constructor(plan: TurnPlan) {
    this.plan = plan;
  }

  die(): void {
    this.isDead = true;
    this.plan.onDeath();
  }
}

export class TurnPacer implements Pacer {
  /** Each system call of a turn is told. */
  tellsCalls = false;
  /** Takes work for the next turn of the event loop of whoever has the turn. */
  defer: (work: () => void) => void = () => undefined;
  /** Starts a commit Worker of whoever has the turn. */
  startWorker: (orders: CommitOrders, onDeath: () => void) => void = () => undefined;
  /** Nobody, unless a process has somebody. */
  beside: Beside | undefined;
  readonly #sleepers = new Set<Sleeper>();
  #turn: Turn | undefined;
  #held: Turn | undefined;
  #isInSystem = false;

  step(to?: number | "word"): void {
    const turn = this.#turn;
    if (this.#isInSystem || turn === undefined) return;
    if (turn.isDead) throw new Death();
    turn.steps += 1;
    if (turn.steps > STEPS_MAX) throw new Endless("an operation does not end");
    if (to === undefined) return;
    turn.stores += 1;
    const { between, diesAt } = turn.plan;
    // Behind the store that is asked for, at the next one outside of what the index keeps: there others only look.
    const isDue = between !== undefined && turn.stores >= between.at && to === "word";
    if (isDue && !turn.wasHeld && this.#held === undefined) this.#hold(turn, between.turn);
    if (turn.stores === diesAt) turn.die();
    if (turn.isDead) throw new Death();
  }

  #hold(turn: Turn, body: () => void): void {
    turn.wasHeld = true;
    this.#held = turn;
    this.#turn = undefined;
    try {
      body();
    } finally {
      this.#turn = turn;
      this.#held = undefined;
    }
  }

  /** Makes a system call of whoever has the turn; `before` may refuse it. */
  call<T>(before: () => void, make: () => T): T {
    const turn = this.#turn;
    if (this.#isInSystem || turn === undefined) return make();
    this.step("word");
    turn.calls += 1;
    if (turn.calls === turn.plan.diesAtCall) {
      turn.die();
      throw new Death();
    }
    before();
    this.#isInSystem = true;
    try {
      return make();
    } finally {
      this.#isInSystem = false;
    }
  }

  /** Whose scratch memory is used now. */
  get owner(): number {
    return this.#turn?.plan.owner ?? NOBODY;
  }

  giveWay(): void {}

  sleep(place: number, hasTimeout: boolean): boolean {
    if (this.#isWokenBeside(place)) return true;
    const turn = this.#turn;
    const held = this.#held;
    if (turn !== undefined) turn.sleeps += 1;
    if (held !== undefined && !held.isDead && (!hasTimeout || turn!.sleeps > PATIENCE)) held.die();
    else if (!hasTimeout) throw new Endless("a thread waits for ever");
    return false;
  }

  /** Lets those go on who have turns of their own; whether they have woken the thread that sleeps. */
  #isWokenBeside(place: number): boolean {
    const { beside } = this;
    if (beside === undefined) return false;
    const sleeper: Sleeper = { place, outcome: "timed-out" };
    this.#sleepers.add(sleeper);
    const isWoken = (): boolean => sleeper.outcome === "ok";
    beside.goOn(isWoken);
    this.#sleepers.delete(sleeper);
    return isWoken();
  }

  /** One who waits in an event loop: for what wakes it, or for the next turn of that. */
  sleepLater(place: number): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const sleeper: Sleeper = { place, outcome: "timed-out" };
    this.#sleepers.add(sleeper);
    this.defer(() => {
      this.#sleepers.delete(sleeper);
      resolve(sleeper.outcome);
    });
    return promise;
  }

  wake(place: number): number {
    for (const sleeper of this.#sleepers) if (sleeper.place === place) sleeper.outcome = "ok";
    return this.beside?.wake(place) ?? 0;
  }

  /** Whoever sleeps is gone. */
  forget(): void {
    this.#sleepers.clear();
  }

  /** A turn in the middle of another's, or of nobody's; nobody dies or is held in it. */
  aside(owner: number, body: () => void): void {
    const [turn, isInSystem] = [this.#turn, this.#isInSystem];
    this.#isInSystem = false;
    this.#turn = new Turn({ owner, diesAt: 0, diesAtCall: 0, onDeath: () => undefined });
    try {
      body();
    } finally {
      this.#turn = turn;
      this.#isInSystem = isInSystem;
    }
  }

  /** A turn, with all that its microtasks lead to; that of a thread held meanwhile goes on behind it. */
  take<T>(plan: TurnPlan, body: () => T): Outcome<T> {
    const isHeld = this.#held !== undefined;
    const turn = new Turn(plan);
    this.#turn = turn;
    let [value, error]: [T | undefined, unknown] = [undefined, undefined];
    try {
      value = body();
      if (!isHeld) drainMicrotasks();
    } catch (thrown) {
      error = thrown;
    }
    try {
      // What a dead thread still has queued dies as well.
      if (!isHeld) drainMicrotasks();
    } catch (thrown) {
      error ??= thrown;
    }
    this.#turn = undefined;
    const { isDead, stores, calls } = turn;
    const outcome = { isDead, stores, calls };
    if (isDead) return outcome;
    if (error !== undefined) return { ...outcome, error };
    return { ...outcome, value: value as T };
  }
}
