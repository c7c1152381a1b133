/**
 * One script's run: threads come, work, die and go over one database, whose records are held against the oracle's after each step;
 * in between everybody leaves, the process ends or the power is lost, and the database is opened again.
 *
 * What a thread did that died may have happened or not. Where its process opens the database again after a close in good order
 * all of it is there; after a death of all, or a refusal at the close, what a crash may show.
 */

import { STATE, STATE_POISONED } from "../../src/engine/threads/control.ts";
import type { OpenConfig } from "../../src/engine/life.ts";
import { attachTo, openFile, openMemory } from "../../src/engine/open/open.ts";
import type { MachineOptions } from "../sim/machine.ts";
import type { SharedBase } from "../../src/engine/threads/base.ts";
import { Oracle, type Problem } from "../sim/oracle.ts";
import { mixSeed, Random } from "../sim/random.ts";
import { codeOf, errorText, type StoreRecord } from "../sim/store.ts";
import { checkEngine, isSettled, leftovers, recordsOf } from "./judge.ts";
import type { TurnPacer } from "./pacer.ts";
import { DyingProcess, Found, someDraw, type FlushStart, type Thread } from "./process.ts";
import type { DeathCase, Refusals, Step } from "./script.ts";

export const PATH = "/db/store";

/** On which machine a database is opened, and how. */
export interface World {
  readonly machine: Partial<MachineOptions>;
  readonly config: OpenConfig;
  readonly keyCount: number;
  readonly isInMemory: boolean;
  readonly isOnWindows: boolean;
  /** A file, and no Windows. */
  readonly isOnFile: boolean;
  /** How many records have a deadline. */
  readonly deadlineShare: number;
  /** Threads have commit Workers, and one of them sweeps by itself. */
  readonly hasBackground: boolean;
}

/** The same with what goes on in the background, on a file; flushes go through commit Workers. */
export function busyWorldOf(seed: number): World {
  const world = worldOf(seed);
  const random = new Random(mixSeed(seed, 6));
  const plans = [
    { kind: "on-each-flush" },
    { kind: "group", waitMsMax: 0, batchMax: 1 },
    { kind: "group", waitMsMax: 1, batchMax: 3 },
  ] as const;
  const config = { ...world.config, flushPlan: random.pick(plans), sweepIntervalMs: 1000 };
  const kind = { isInMemory: false, isOnFile: !world.isOnWindows, hasBackground: true };
  return { ...world, ...kind, config, deadlineShare: 0.4 };
}

/** The world of a seed. */
export function worldOf(seed: number): World {
  const random = new Random(mixSeed(seed, 5));
  const plans = [
    { kind: "write-through" },
    { kind: "on-each-flush" },
    { kind: "group", waitMsMax: 1, batchMax: 8 },
  ] as const;
  const config: OpenConfig = {
    defaultTtlMs: 0,
    rangeScans: random.chance(0.5),
    flushPlan: random.pick(plans),
    encryption: random.chance(0.5) ? { key: new Uint8Array(32).fill(7) } : undefined,
    cipher: undefined,
    verifyReads: random.chance(0.5),
    createIfMissing: true,
    lockTimeoutMs: 0,
    readOnly: false,
    autoCompact: random.chance(0.15) ? { ratio: 0.3, bytesMin: 2000 } : undefined,
  };
  const machine = {
    seed,
    journal: random.pick(["strict", "ordered"] as const),
    sectorBytes: random.pick([512, 4096] as const),
    canAllocate: !random.chance(0.2),
    recordsFirstWrites: random.chance(0.2),
    lacksWriteThrough: random.chance(0.15),
  };
  const [isWindows, isInMemory] = [random.chance(0.1), random.chance(0.07)];
  return {
    machine: isWindows ? { seed, isWindows } : machine,
    config,
    keyCount: random.pick([30, 30, 300]),
    isInMemory,
    isOnWindows: isWindows && !isInMemory,
    isOnFile: !isWindows && !isInMemory,
    deadlineShare: 0.12,
    hasBackground: false,
  };
}

export class Run {
  readonly world: World;
  readonly process: DyingProcess;
  oracle = new Oracle();
  /** The number of the step at hand. */
  step = 0;
  /** Who is held while somebody else has a turn. */
  held: Thread | undefined;
  /** The last close, or the last process, did not end in good order. */
  #isUnclean = false;
  #base: SharedBase | undefined;
  #leaving: Thread | undefined;
  /** Found while a thread was held. */
  #found: unknown;
  readonly #perform: (run: Run, step: Step) => void;

  constructor(
    pacer: TurnPacer,
    { seed, hasBackground = false }: Pick<DeathCase, "seed" | "hasBackground">,
    perform: (run: Run, step: Step) => void,
  ) {
    this.world = hasBackground ? busyWorldOf(seed) : worldOf(seed);
    this.process = new DyingProcess(pacer, seed, this.world);
    this.#perform = perform;
  }

  get nowMs(): number {
    return this.process.machine.nowMs;
  }

  get isWriteThrough(): boolean {
    return this.world.config.flushPlan.kind === "write-through";
  }

  /** Those who may have a turn. */
  get awake(): Thread[] {
    return this.process.living.filter((thread) => thread !== this.held);
  }

  /** @throws {Found} */
  run({ steps }: DeathCase): void {
    this.open(0);
    for (const step of steps) {
      this.step += 1;
      const { thread, kind, seed: _, ...how } = step;
      this.process.say(`${this.step} thread ${thread} ${kind} ${JSON.stringify(how)}`);
      this.#perform(this, step);
      this.hearFlushes();
      if (step.seed % 2 === 0) this.goOnBeside();
      this.#observe();
    }
    this.closeAll(new Random(1));
    this.open(0);
    this.#perform(this, { thread: 0, kind: "verify", seed: 1 });
    this.closeAll(new Random(1));
    this.process.end();
  }

  /** Whether nobody may have the database open: who is left may have closed it, or is about to. */
  get mayBeClosed(): boolean {
    return this.awake.length === 0 && (this.held === undefined || this.held === this.#leaving);
  }

  /** A turn of a thread; that of another in the middle of it follows from the step. */
  take<T>(thread: Thread, step: Step | undefined, body: () => T): ReturnType<typeof this.process.take<T>> {
    const inner = this.held === undefined ? step?.between?.step : undefined;
    const outcome = this.process.take(thread, step, body, inner && (() => this.#hold(thread, inner)));
    if (this.held === undefined && this.#found !== undefined) throw this.#found;
    return outcome;
  }

  /** Nothing may be thrown through the code of the thread that is held. */
  #hold(thread: Thread, inner: Step): void {
    this.held = thread;
    this.process.tally.holds += 1;
    this.process.say(`    thread ${thread.index} is held; thread ${inner.thread} ${inner.kind}`);
    try {
      this.#perform(this, inner);
    } catch (error) {
      this.#found ??= error;
    }
    this.held = undefined;
    this.process.say(`    thread ${thread.index} ${thread.isDead ? "is dead" : "goes on"}`);
  }

  /** Commit Workers have some time; the first sync of theirs may be refused as a step's calls are. */
  goOnBeside(refusals?: Refusals): void {
    this.process.goOnBeside(refusals && { ...refusals, at: 0 }, (workers) => workers.goOn(() => false));
  }

  /** What has come of flushes that nobody waits for. @throws {Found} */
  hearFlushes(): void {
    for (const thread of this.process.living) this.#hear(thread);
  }

  #hear(thread: Thread): void {
    const heard = thread.flushes.filter(({ outcome }) => outcome !== "open");
    thread.flushes = thread.flushes.filter(({ outcome }) => outcome === "open");
    for (const { issued, start, outcome } of heard) {
      if (outcome === "durable") this.oracle.acknowledge(issued);
      else if (outcome !== "open") this.judgeFlushError("an open flush", outcome.error, { thread, start });
    }
  }

  /** What a flush of a thread's finds that begins now. */
  flushStart(thread: Thread): FlushStart {
    const hasFailed = this.process.workers?.all.some((worker) => worker.hasFailed) ?? false;
    const isBehind = isPoisoned(thread);
    return { refusals: this.process.tally.refusals, isPoisoned: isBehind, isFailureUntold: hasFailed && !isBehind };
  }

  /**
   * A flush is told EMDB_IO of what was refused while it was open: by any thread's sync, since that poisons the database for all, also
   * where the disk had answered before and the database had not been told yet. Who begins behind that is told EMDB_POISONED. @throws {Found}
   */
  judgeFlushError(
    what: string,
    error: unknown,
    { thread, start }: { readonly thread: Thread; readonly start: FlushStart },
  ): void {
    const isIo = codeOf(error) === "EMDB_IO";
    if (isIo && start.isPoisoned) throw new Found(`${what} of a poisoned database: ${errorText(error)}`);
    const isToldLate = isIo && start.isFailureUntold && isPoisoned(thread);
    this.judgeError(what, error, this.process.tally.refusals > start.refusals || isToldLate);
  }

  /** Whether an error is one that a caller should see here. @throws {Found} */
  judgeError(what: string, error: unknown, isExplained: boolean): void {
    if (error instanceof Found) throw error;
    const code = codeOf(error);
    if (code === undefined) throw new Found(`${what} threw ${error instanceof Error ? error.stack : String(error)}`);
    const trace = (error as Error).stack;
    if (code === "EMDB_CORRUPTED") throw new Found(`${what}: ${errorText(error)} ${trace}`);
    this.process.say(`    ${what}: ${errorText(error).slice(0, 100)}`);
    const isBehindRefusal = this.process.isRefused && ["EMDB_POISONED", "EMDB_FULL"].includes(code);
    // Of compactions behind iterators that nobody ends, no more than eight.
    const isHeldUp = code === "EMDB_FULL" && errorText(error).includes("compactions replaced");
    if (isExplained || isBehindRefusal || isHeldUp) return;
    throw new Found(`${what}, and nothing was refused: ${errorText(error)} ${trace}`);
  }

  judge(when: string, problem: Problem | undefined): void {
    if (problem !== undefined) throw new Found(`${when}: property ${problem.property}: ${problem.detail}`);
  }

  /** Opens the database in a process that has it open no more; as often as deaths and refusals want it. */
  open(index: number, step?: Step): void {
    for (let attempt = 0; ; attempt += 1) {
      const thread = this.process.makeThread(index);
      const { value, error, isDead, isRefused } = this.take(
        thread,
        attempt === 0 ? step && whole(step) : undefined,
        () => this.#opened(thread),
      );
      if (isDead) {
        this.crash(new Random(step!.seed));
        continue;
      }
      if (value !== undefined) {
        thread.opened = value;
        this.process.threads[index] = thread;
        return this.#look(thread);
      }
      this.judgeError("open", error, isRefused);
      if (attempt > 1) throw new Found(`open fails again and again: ${errorText(error)}`);
      const found = this.process.system.held();
      if (found.length > this.process.lostMax) throw new Found(`an open that was refused holds ${found.join("; ")}`);
    }
  }

  #opened(thread: Thread): Thread["opened"] {
    const { config, isInMemory } = this.world;
    const environment = this.process.environment(thread);
    if (isInMemory) return openMemory(environment, config);
    return openFile(environment, { path: PATH, createFolders: false, config });
  }

  #look(thread: Thread): void {
    const { base, engine } = thread.opened;
    this.#base = base;
    engine.core.becomeShared();
    if (base.recovery.missingBytes > 0) throw new Found(`${base.recovery.missingBytes} bytes are said to be missing`);
    if (this.world.isInMemory) this.oracle = new Oracle();
    const { value, error } = this.take(thread, undefined, () => recordsOf(thread.opened));
    if (value === undefined) throw new Found(`a walk after an open: ${errorText(error)} ${(error as Error).stack}`);
    const { oracle, nowMs } = this;
    const how = this.#isUnclean ? "opened after an end" : "opened after a close";
    this.judge(how, this.#isUnclean ? oracle.recover(value, { nowMs, isVoid: false }) : oracle.observe(value, nowMs));
    this.#isUnclean = false;
    this.#observe();
  }

  /** One more thread; undefined where it died, or was refused. */
  attach(index: number, step?: Step): Thread | undefined {
    const thread = this.process.makeThread(index);
    const base = this.#base!;
    const { value, error, isDead, isRefused } = this.take(thread, step, () =>
      attachTo(this.process.environment(thread), base),
    );
    if (isDead) return undefined;
    if (value === undefined) {
      // The last one out has closed it, or was about to.
      const isOver = codeOf(error) === "EMDB_CLOSED" && (this.held !== undefined || this.process.living.length === 0);
      this.judgeError("attach", error, isRefused || isOver);
      return undefined;
    }
    thread.opened = value;
    this.process.threads[index] = thread;
    return thread;
  }

  /** Whose turn a step is: somebody's who lives. */
  someone(step: Step): Thread | undefined {
    const { awake } = this;
    const named = awake.find(({ index }) => index === step.thread);
    if (named !== undefined) return named;
    if (awake.length > 0) return awake[step.thread % awake.length];
    return this.attach(this.held?.index === step.thread ? (step.thread + 1) % 3 : step.thread);
  }

  /** Nobody has it open, and nobody can attach: the process opens it anew. */
  openAnew(): void {
    if (this.held !== undefined || this.process.living.length > 0) return;
    this.#letGo();
    this.open(0);
  }

  /** One leaves; what it says about that is judged. */
  leave(thread: Thread, step?: Step): "dead" | "sound" | "refused" {
    // Who leaves beside a dead one that is taken for alive has not been the last, and nobody else comes here to let go of it all.
    return this.process.withoutLingering(() => this.#leave(thread, step));
  }

  #leave(thread: Thread, step?: Step): "dead" | "sound" | "refused" {
    if (this.held === undefined) this.#leaving = thread;
    const { error, isDead, isRefused } = this.take(thread, step, () => {
      thread.walk = undefined;
      if (thread.compaction !== undefined) {
        thread.compaction.return?.();
        thread.compaction = undefined;
        thread.opened.work.give();
      }
      thread.opened.leave();
    });
    if (isDead) return "dead";
    this.#judgeLeft(thread);
    if (this.process.threads[thread.index] === thread) this.process.threads[thread.index] = undefined;
    thread.deferred.length = 0;
    if (error === undefined) return "sound";
    this.judgeError("leave", error, isRefused);
    return "refused";
  }

  /** Who leaves has decided all its flushes, and its commit Worker has ended, which speaks under its name. @throws {Found} */
  #judgeLeft(thread: Thread): void {
    this.#hear(thread);
    if (thread.flushes.length > 0 && this.held === undefined) throw new Found("who has left has a flush open");
    const left = this.process.workers?.of(thread.name) ?? [];
    if (left.some(({ isAtWork }) => isAtWork)) throw new Found("who has left has a commit Worker");
    if (thread.timers.size > 0) throw new Found("who has left has a timer");
  }

  /** Everybody leaves, in any order; where the last one out dies somebody attaches behind it, and leaves. */
  closeAll(random: Random, step?: Step): void {
    let isSound = this.process.living.length > 0 || this.attach(0) !== undefined;
    // The death is the first one's, or the last one's.
    let left = step;
    for (let count = 0; this.process.living.length > 0; count += 1) {
      const { living } = this.process;
      const isLast = living.length === 1;
      const how = this.leave(
        living[random.below(living.length)]!,
        isLast || (count === 0 && random.chance(0.5)) ? left : undefined,
      );
      if (isLast || how === "dead") left = undefined;
      if (how === "refused") isSound = false;
      if (how === "dead" && this.process.living.length === 0 && this.attach(0) === undefined) isSound = false;
    }
    if (isSound) this.oracle.acknowledge();
    else this.#isUnclean = true;
    this.#letGo();
  }

  crash(random: Random): void {
    this.process.crash(someDraw(random));
    this.#isUnclean = true;
    if (random.chance(0.3)) this.forgetImage();
  }

  /** The image of the index is gone, as if somebody had removed it. */
  forgetImage(): void {
    this.process.system.unlink(`${PATH}.hint`);
  }

  /** Nobody is left: what is held is too much, or goes with the process. */
  #letGo(): void {
    const found = leftovers(this.process);
    if (found.length > 0) throw new Found(`left: ${found.slice(0, 6).join("; ")}`);
    if (this.process.system.held().length === 0) return;
    this.process.crash({ kind: "kill" });
    this.#isUnclean = true;
  }

  /** Each thread shows what there is; now and then all that can be asked is held against each other. */
  #observe(): void {
    const { living } = this.process;
    const chosen = this.step % 5 === 0 ? living : living.slice(this.step % Math.max(1, living.length)).slice(0, 1);
    for (const thread of chosen) {
      const { opened } = thread;
      const isAtRest = isSettled(opened);
      const { value, error, isRefused } = this.take(thread, undefined, () => recordsOf(opened));
      if (value === undefined) {
        this.judgeError("a walk", error, isRefused);
        continue;
      }
      this.judge(`thread ${thread.index} shows`, this.#judged(value, isAtRest));
      if (isAtRest && this.step % 3 !== 0) continue;
      const checked = this.take(thread, undefined, () => checkEngine(opened, value));
      if (checked.error !== undefined) this.judgeError("a check", checked.error, false);
    }
  }

  #judged(records: readonly StoreRecord[], isAtRest: boolean): Problem | undefined {
    const { oracle, nowMs } = this;
    if (isAtRest) return oracle.observe(records, nowMs);
    const { issued } = oracle;
    return oracle.checkRecovered(records, { progress: { acknowledged: issued, issued }, nowMs });
  }
}

function isPoisoned({ opened }: Thread): boolean {
  return (opened.engine.core.control.flags[STATE]! & STATE_POISONED) !== 0;
}

/** A step in which nobody is held. */
function whole(step: Step): Step {
  const { between: _, ...rest } = step;
  return rest;
}
