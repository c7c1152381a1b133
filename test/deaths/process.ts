/**
 * A simulated process whose threads die: its system as each thread sees it, turns of threads, refused calls, and the ways the
 * process itself ends.
 */

import type { Environment, Opened } from "../../src/engine/assemble.ts";
import type { RecordSource } from "../../src/engine/contract.ts";
import type { System } from "../../src/ffi/system.ts";
import type { Draw } from "../sim/draw.ts";
import { plausibleErrors, type CallName, type Fault } from "../sim/faults.ts";
import { Machine, type MachineOptions } from "../sim/machine.ts";
import { mixSeed, Random } from "../sim/random.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { Death } from "../steps/baton.ts";
import { CommitWorkers } from "./commit-workers.ts";
import { Endless, type Outcome, type TurnPacer } from "./pacer.ts";
import { THREADS_MAX, type Refusals, type Step } from "./script.ts";

/** What was found wrong. */
export class Found extends Error {}

/** A walk that is held open: what it has given, and what its moment held for ever. */
interface HeldWalk {
  readonly source: RecordSource;
  readonly given: string[];
  readonly wanted: readonly string[];
}

/** What a flush finds when it is asked for, by which its refusal is judged. */
export interface FlushStart {
  /** How many calls had been refused. */
  readonly refusals: number;
  /** A refused sync has poisoned the database. */
  readonly isPoisoned: boolean;
  /** A commit Worker had been refused a sync, and had not told the database of it. */
  readonly isFailureUntold: boolean;
}

/** A flush whose promise nobody waits for: what had been begun before it, and what came of it. */
export interface OpenFlush {
  readonly issued: number;
  readonly start: FlushStart;
  outcome: "open" | "durable" | { readonly error: unknown };
}

export interface Thread {
  readonly index: number;
  /** By which the system knows it. */
  readonly name: number;
  opened: Opened;
  /** For the next turn of its event loop. */
  readonly deferred: (() => void)[];
  isDead: boolean;
  compaction: Iterator<number, void> | undefined;
  walk: HeldWalk | undefined;
  /** What it does after a while. */
  readonly timers: Set<() => void>;
  flushes: OpenFlush[];
}

const CALLS: ReadonlySet<string> = new Set<keyof System>([
  ...([
    "open",
    "close",
    "read",
    "write",
    "sync",
    "forgetCached",
    "syncFolder",
    "allocate",
    "truncate",
    "size",
  ] as const),
  ...([
    "status",
    "statusOf",
    "realPath",
    "rename",
    "link",
    "unlink",
    "makeFolder",
    "list",
    "lock",
    "probeLock",
  ] as const),
  ...(["unlock", "map", "mapPrivate", "unmap", "mapView", "reserve", "commit", "decommit", "release"] as const),
]);
/** What is refused here stays held, or stays in the folder. */
const GIVING_BACK: ReadonlySet<string> = new Set(["unmap", "release", "close", "decommit", "unlink", "list", "rename"]);

interface Refusing {
  left: number;
  readonly extent: Refusals["extent"];
  readonly random: Random;
}

export class DyingProcess {
  readonly log: string[] = [];
  readonly threads: (Thread | undefined)[] = [];
  readonly tally = { deaths: 0, refusals: 0, crashes: 0, holds: 0 };
  machine: Machine;
  system: SimulatedSystem;
  /** Stores in the turns in which a death was to come. */
  deadlyStores = 0;
  /** A call was refused since the process began; since the beginning. */
  isRefused = false;
  hasRefused = false;
  /** Undefined where there are none: no Worker can be started, and nothing is done in the background. */
  readonly workers: CommitWorkers | undefined;
  /** Two threads have synced one file at a time. */
  #clash: string | undefined;
  #nowTicks = 0;
  readonly #pacer: TurnPacer;
  readonly #seed: number;
  readonly #dead = new Set<number>();
  /** Something was refused to be taken back. */
  #isExcused = false;
  /** Deaths since the process began. */
  #deaths = 0;
  #names = 1;
  #faults: Fault[] = [];
  #refusing: Refusing | undefined;

  constructor(
    pacer: TurnPacer,
    seed: number,
    { machine, hasBackground }: { readonly machine: Partial<MachineOptions>; readonly hasBackground: boolean },
  ) {
    this.#pacer = pacer;
    this.#seed = seed;
    pacer.beside = undefined;
    this.workers = hasBackground ? this.#makeWorkers() : undefined;
    this.machine = new Machine(machine);
    this.system = this.#boot();
  }

  get living(): Thread[] {
    return this.threads.filter((thread) => thread !== undefined);
  }

  /** How much may be held, or lie about, until this process ends. */
  get lostMax(): number {
    if (this.#isExcused) return Infinity;
    // Where a mapped file keeps its name, that is lost with the mapping.
    return this.#deaths * (this.machine.options.isWindows ? 2 : 1);
  }

  say(text: string): void {
    this.log.push(text);
  }

  /** A thread that has no part of the database yet. */
  makeThread(index: number): Thread {
    this.#names += 1;
    const opened = undefined as unknown as Opened;
    const nothing = {
      compaction: undefined,
      walk: undefined,
      deferred: [],
      timers: new Set<() => void>(),
      flushes: [],
    };
    return { index, name: this.#names, opened, isDead: false, ...nothing };
  }

  environment(thread: Thread): Environment {
    const system = this.#systemOf(thread.name);
    const defer = (work: () => void): void => void thread.deferred.push(work);
    if (this.workers === undefined) return { system, defer, hasWorkers: false };
    const later = (work: () => void): (() => void) => {
      thread.timers.add(work);
      return () => void thread.timers.delete(work);
    };
    return { system, defer, later, hasWorkers: true };
  }

  #makeWorkers(): CommitWorkers {
    const workers = new CommitWorkers(this.#seed, {
      sync: (handle) => Math.max(0, -this.#systemOf(0).sync(handle)),
      // Some twenty looks of one who waits are a millisecond.
      now: () => (this.#nowTicks += 0.05),
    });
    const aside = (body: () => void): void => this.#pacer.aside(THREADS_MAX + 1, body);
    this.#pacer.beside = {
      goOn: (isOver) => aside(() => workers.goOn(isOver)),
      wake: (place) => workers.wake(place),
    };
    return workers;
  }

  /** Commit Workers go on for a while; the calls of theirs that a step refuses are refused. */
  goOnBeside(refusals: Refusals | undefined, body: (workers: CommitWorkers) => void): void {
    const { workers } = this;
    if (workers === undefined) return;
    const outer = this.#refusing;
    if (refusals !== undefined)
      this.#refusing = { left: refusals.at, extent: refusals.extent, random: new Random(refusals.seed) };
    this.#pacer.aside(THREADS_MAX + 1, () => body(workers));
    this.#refusing = outer;
    this.#judgeClash();
  }

  /** Does something in which no thread that has died is taken for alive, as one is whose commit Worker is in a call. */
  withoutLingering<T>(body: () => T): T {
    const { workers } = this;
    if (workers === undefined) return body();
    const before = workers.areDeathsAtOnce;
    workers.areDeathsAtOnce = true;
    try {
      return body();
    } finally {
      workers.areDeathsAtOnce = before;
    }
  }

  #judgeClash(): void {
    if (this.#clash !== undefined) throw new Found(this.#clash);
  }

  /** What a thread makes of its turn; `between` is another one's. */
  take<T>(
    thread: Thread,
    step: Step | undefined,
    body: () => T,
    between?: () => void,
  ): Outcome<T> & { readonly isRefused: boolean } {
    const { diesAt = 0, diesAtCall = 0, refusals } = step ?? {};
    const outer = this.#refusing;
    const refused = this.tally.refusals;
    this.#refusing = refusals && { left: refusals.at, extent: refusals.extent, random: new Random(refusals.seed) };
    const outerDefer = this.#pacer.defer;
    this.#pacer.defer = (work) => void thread.deferred.push(work);
    const outerStart = this.#pacer.startWorker;
    this.#pacer.startWorker = (orders, onDeath) => this.workers?.start({ host: thread.name, orders, onDeath });
    const at = step?.between?.at;
    const held = at === undefined || between === undefined ? undefined : { at, turn: between };
    const onDeath = (): void => this.#bury(thread);
    const outcome = this.#pacer.take({ owner: thread.index, diesAt, diesAtCall, between: held, onDeath }, body);
    if (diesAt > 0) this.deadlyStores += outcome.stores;
    this.#refusing = outer;
    this.#pacer.defer = outerDefer;
    this.#pacer.startWorker = outerStart;
    if (outcome.error instanceof Endless || outcome.error instanceof Death) throw new Found(outcome.error.stack);
    this.#judgeClash();
    return { ...outcome, isRefused: this.tally.refusals > refused };
  }

  /** A thread ends that has no turn. */
  endThread(thread: Thread): void {
    this.#bury(thread);
  }

  #bury(thread: Thread): void {
    thread.isDead = true;
    thread.deferred.length = 0;
    thread.timers.clear();
    thread.flushes = [];
    this.#dead.add(thread.name);
    this.workers?.bury(thread.name);
    if (this.threads[thread.index] === thread) this.threads[thread.index] = undefined;
    this.tally.deaths += 1;
    this.#deaths += 1;
    this.say(`    thread ${thread.index} dies`);
  }

  #systemOf(name: number): System {
    const real = this.system;
    const made = new Map<PropertyKey, unknown>();
    return new Proxy(real, {
      get: (_, call): unknown => {
        if (call === "threadId") return () => name;
        if (call === "isThreadAlive")
          return (thread: number) => !this.#dead.has(thread) || this.workers?.lingers(thread) === true;
        if (made.has(call)) return made.get(call);
        const member: unknown = Reflect.get(real, call, real);
        const isCall = typeof member === "function";
        const bound = isCall ? (member as (...args: unknown[]) => unknown).bind(real) : member;
        const wrapped =
          isCall && CALLS.has(String(call))
            ? this.#counted(String(call), bound as (...args: unknown[]) => unknown)
            : bound;
        made.set(call, wrapped);
        return wrapped;
      },
    });
  }

  #counted(name: string, make: (...args: unknown[]) => unknown): (...args: unknown[]) => unknown {
    const before = (): void => this.#refuse(name === "probeLock" ? "lock" : (name as CallName));
    return (...args) => {
      if (this.#pacer.tellsCalls) {
        const told = args.map((arg) => JSON.stringify(arg).slice(0, 50));
        this.say(`      ${name} ${told.join(" ")}`);
      }
      return this.#pacer.call(before, () => {
        if (name === "sync" && this.workers?.isSyncing(args[0] as number) === true)
          this.#clash ??= "a file is synced while another thread syncs it";
        return make(...args);
      });
    };
  }

  /** Lets the system fail the call that is about to be made, if it is its turn. */
  #refuse(name: CallName): void {
    const refusing = this.#refusing;
    if (refusing === undefined) return;
    refusing.left -= 1;
    if (refusing.left >= 0) return;
    const { extent, random } = refusing;
    if (extent === "room" && name !== "write" && name !== "allocate") return;
    const errno = extent === "room" ? "ENOSPC" : random.pick(plausibleErrors(name));
    const partial = name === "write" && random.chance(0.5) ? { partial: random.pick([0.6, 1]) } : {};
    this.#faults.push({ atCall: this.system.callCount, errno, repeat: "once", ...partial });
    // Each call looks at all of them.
    if (this.#faults.length > 50) this.#faults.splice(0, 25);
    this.tally.refusals += 1;
    this.isRefused = true;
    this.hasRefused = true;
    if (GIVING_BACK.has(name)) this.#isExcused = true;
    this.say(`    ${name} is refused: ${errno}`);
    if (extent === "one" || (extent === "some" && random.chance(0.3))) this.#refusing = undefined;
  }

  #boot(): SimulatedSystem {
    this.#faults = [];
    this.#dead.clear();
    this.workers?.clear();
    this.#pacer.forget();
    this.threads.length = 0;
    this.#isExcused = false;
    this.#deaths = 0;
    this.isRefused = false;
    return this.machine.boot({ faults: this.#faults });
  }

  /** The process ends, or the machine with it, and another one begins. */
  crash(draw: Draw): void {
    this.tally.crashes += 1;
    this.say(`  crash: ${draw.kind}`);
    const point = this.machine.capture();
    this.end();
    this.machine = Machine.restore(point, draw, { seed: mixSeed(this.#seed, this.tally.crashes, 9) });
    this.system = this.#boot();
  }

  end(): void {
    this.system.kill();
    this.machine.dispose();
  }
}

/** How much of what was pending a loss of power leaves; or the process alone ends. */
export function someDraw(random: Random): Draw {
  const kind = random.pick(["all", "none", "metadata", "kill", "random", "random", "random"] as const);
  return kind === "random" ? { kind, seed: random.word() } : { kind };
}
