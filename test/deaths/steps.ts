/** What a thread does in each kind of step, and what the oracle is told of it. */

import type { BatchWrite } from "../../src/engine/contract.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { openFile } from "../../src/engine/open/open.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { BACKUP_PATH } from "../sim/backups.ts";
import type { ModelChange } from "../sim/model.ts";
import { Random } from "../sim/random.ts";
import { valueOf } from "../sim/script.ts";
import { codeOf, isRefusal, type StoreWrite } from "../sim/store.ts";
import type { Outcome } from "./pacer.ts";
import { isSettled, isWorkTaken, pairText, recordsOf, short } from "./judge.ts";
import { Found, type OpenFlush, type Thread } from "./process.ts";
import { PATH, type Run } from "./run.ts";
import { THREADS_MAX, type Kind, type Step } from "./script.ts";

const TURNS_MAX = 3000;
const LONG_BYTES = [4000, 8000, 40_000, 60_000, 100_000] as const;

/** A step's thread, and what its seed draws. */
class Doing {
  readonly run: Run;
  readonly step: Step;
  readonly thread: Thread;
  readonly random: Random;

  constructor(run: Run, step: Step, thread: Thread) {
    this.run = run;
    this.step = step;
    this.thread = thread;
    this.random = new Random(step.seed);
  }

  get engine(): Engine {
    return this.thread.opened.engine;
  }

  key(): string {
    return `k${this.random.below(this.random.pick([4, 30, this.run.world.keyCount]))}`;
  }

  spaceName(): string {
    return this.random.pick(["", "", "", "s", "t"]);
  }

  value(index?: number): string {
    const bytes = this.random.pick([
      0,
      1,
      20,
      20,
      150,
      500,
      900,
      5000,
      ...(this.random.chance(0.15) ? LONG_BYTES : []),
    ]);
    // A step beside the one that is held writes other values.
    const value = valueOf(this.run.step * 2 + (this.run.held === undefined ? 0 : 1), bytes);
    return index === undefined ? value : `${index}:${value}`;
  }

  deadline(): number {
    return this.random.chance(this.run.world.deadlineShare) ? this.run.nowMs + 1 + this.random.below(5000) : 0;
  }

  space(name: string): SpaceState {
    return name === "" ? this.engine.defaultSpace : this.engine.spaceNamed(name);
  }

  /** A turn that changes no record. */
  take<T>(body: () => T): Outcome<T> {
    const outcome = this.run.take(this.thread, this.step, body);
    this.#judge(outcome);
    return outcome;
  }

  #judge({ error, isRefused }: { readonly error?: unknown; readonly isRefused: boolean }): void {
    if (error !== undefined) this.run.judgeError(this.step.kind, error, isRefused || this.#isClosing(error));
  }

  /** The thread that is held was the last out. */
  #isClosing(error: unknown): boolean {
    return this.run.held !== undefined && codeOf(error) === "EMDB_CLOSED";
  }

  /** One step of the oracle's. */
  change(change: ModelChange, body: () => unknown): void {
    const { run } = this;
    run.oracle.begin(change);
    const { machine } = run.process;
    const { changeCount } = machine;
    const { error, isDead, isRefused } = run.take(this.thread, this.step, () => void body());
    if (isDead) return run.oracle.fail({ isRefused: false });
    if (error !== undefined) {
      run.oracle.fail({ isRefused: isRefusal(error) });
      return this.#judge({ error, isRefused });
    }
    if (run.isWriteThrough && run.held === undefined)
      run.oracle.acknowledgeStep({ hasWritten: machine.changeCount > changeCount });
  }

  /** What had been begun at a moment is durable; nothing can be said while somebody is held, or where one who was has changed something. */
  acknowledge(issued: number): void {
    const { oracle, held } = this.run;
    if (held === undefined && oracle.issued === issued) oracle.acknowledge();
  }

  /** What a promise comes to, its thread's event loop turning until it is decided; undefined where it was refused, or the thread died. */
  settle<T>(begin: () => Promise<T>, judge = this.judgeRefusals()): { readonly value: T } | undefined {
    const { run, thread } = this;
    let outcome: { readonly value?: T; readonly error?: unknown } | undefined;
    let work = [
      (): void =>
        void begin().then(
          (value) => (outcome = { value }),
          (error: unknown) => (outcome = { error }),
        ),
    ];
    let step: Step | undefined = this.step;
    for (let turn = 0; outcome === undefined && !thread.isDead; turn += 1) {
      if (turn > TURNS_MAX || (work.length === 0 && turn > 5))
        throw new Found(`${this.step.kind} does not come to an end`);
      const taken = run.take(thread, step, () => work.forEach((one) => one()));
      this.#judge(taken);
      run.goOnBeside(this.step.refusals);
      step = restOf(step, taken);
      work = thread.deferred.splice(0);
    }
    if (thread.isDead || outcome === undefined) return undefined;
    thread.deferred.push(...work);
    if (!("error" in outcome)) return { value: outcome.value as T };
    judge(outcome.error);
    return undefined;
  }

  /** Judges an error by whether a call was refused since now. */
  judgeRefusals(): (error: unknown) => void {
    const { tally } = this.run.process;
    const { refusals } = tally;
    return (error) => this.#judge({ error, isRefused: tally.refusals > refusals });
  }

  /** Judges the error of a flush that begins now. */
  judgeFlush(): (error: unknown) => void {
    const { run, step, thread } = this;
    const start = run.flushStart(thread);
    return (error) => {
      if (!this.#isClosing(error)) run.judgeFlushError(step.kind, error, { thread, start });
    };
  }
}

/** What is left of a step's death behind a turn. */
function restOf(step: Step, { stores, calls }: Outcome<unknown>): Step {
  const { diesAt = 0, diesAtCall = 0, between: _, ...rest } = step;
  const death = diesAt > stores ? { diesAt: diesAt - stores } : {};
  return { ...rest, ...death, ...(diesAtCall > calls ? { diesAtCall: diesAtCall - calls } : {}) };
}

function write(space: string, key: string, value: string | undefined, expiresAtMs = 0): StoreWrite {
  return { space, key, value, expiresAtMs };
}

function batch(doing: Doing): void {
  const { engine, random } = doing;
  const writes = Array.from({ length: 1 + random.below(6) }, (_, index) =>
    write(doing.spaceName(), doing.key(), random.chance(0.25) ? undefined : doing.value(index)),
  );
  doing.change({ kind: "write", writes }, () =>
    engine.exclusively(() => {
      const found = new Map<string, BatchWrite["space"]>();
      for (const { space } of writes) {
        if (found.has(space)) continue;
        found.set(space, space === "" ? engine.defaultSpace : (engine.findSpace(space) ?? { newName: space }));
      }
      engine.writeBatch(writes.map((one) => ({ ...one, space: found.get(one.space)! })));
    }),
  );
}

function many(doing: Doing): void {
  const { engine, random } = doing;
  const [name, expiresAtMs, value] = [doing.spaceName(), doing.deadline(), doing.value()];
  const count = 1 + random.below(doing.run.world.keyCount);
  const writes = Array.from({ length: count }, (_, index) =>
    write(name, doing.key(), `${index}:${value}`, expiresAtMs),
  );
  const [keys, values] = [writes.map(({ key }) => key), writes.map((one) => one.value!)];
  doing.change({ kind: "write", writes }, () => engine.insertMany(doing.space(name), keys, values, expiresAtMs));
}

function removeMany(doing: Doing): void {
  const name = doing.spaceName();
  const writes = Array.from({ length: 1 + doing.random.below(20) }, () => write(name, doing.key(), undefined));
  const keys = writes.map(({ key }) => key);
  doing.change({ kind: "write", writes }, () => doing.engine.removeMany(doing.space(name), keys));
}

function insert(doing: Doing): void {
  const { space, key, value, expiresAtMs } = write(doing.spaceName(), doing.key(), doing.value(), doing.deadline());
  const writes = [{ space, key, value, expiresAtMs }];
  doing.change({ kind: "write", writes }, () => doing.engine.insert(doing.space(space), key, value!, expiresAtMs));
}

function remove(doing: Doing): void {
  const [space, key] = [doing.spaceName(), doing.key()];
  doing.change({ kind: "write", writes: [write(space, key, undefined)] }, () =>
    doing.engine.remove(doing.space(space), key),
  );
}

function clear(doing: Doing): void {
  const space = doing.spaceName();
  doing.change({ kind: "clear", space }, () => doing.engine.clear(doing.space(space)));
}

function drop(doing: Doing): void {
  const space = doing.random.pick(["s", "t"]);
  doing.change({ kind: "clear", space }, () => doing.engine.dropSpace(space));
}

function flush(doing: Doing): void {
  const { issued } = doing.run.oracle;
  const { isDead, error } = doing.take(() => doing.thread.opened.sync?.flush());
  if (!isDead && error === undefined) doing.acknowledge(issued);
}

function flushLater(doing: Doing): void {
  const { commit } = doing.thread.opened;
  const { issued } = doing.run.oracle;
  if (commit !== undefined && doing.settle(() => commit.flush(), doing.judgeFlush()) !== undefined)
    doing.acknowledge(issued);
}

/** A flush for which nobody waits. Beside a change at hand nobody could say what it covers. */
function flushSoon(doing: Doing): void {
  const { run, thread } = doing;
  const { commit } = thread.opened;
  if (commit === undefined || run.held !== undefined) return;
  const flush: OpenFlush = { issued: run.oracle.issued, start: run.flushStart(thread), outcome: "open" };
  thread.flushes.push(flush);
  const decide = (outcome: OpenFlush["outcome"]): void => void (flush.outcome = outcome);
  doing.take(
    () =>
      void commit.flush().then(
        () => decide("durable"),
        (error: unknown) => decide({ error }),
      ),
  );
}

/**
 * A commit Worker goes on by itself, maybe up to its death: alone, of which the thread that started it hears in its event loop, or with that
 * thread, and always so where it leads.
 */
function commitGoesOn(run: Run, step: Step): void {
  const random = new Random(step.seed);
  const { steps, end } = step.worker ?? someWorkerSteps(random, step);
  // It makes no calls but its syncs.
  const refusals = step.refusals && { ...step.refusals, at: 0 };
  run.process.goOnBeside(refusals, (workers) => {
    const worker = workers.all[step.thread % Math.max(1, workers.all.length)];
    if (worker === undefined) return;
    if (step.worker === undefined) worker.goOn(steps, random);
    else for (let count = 0; count < steps; count += 1) worker.goOn(1, random);
    const { host, onDeath } = worker.started;
    const thread = run.awake.find(({ name }) => name === host);
    if (end === "held" || worker.isOver || thread === undefined) return;
    if (end === "with its thread" || !worker.canDieAlone) return run.process.endThread(thread);
    workers.remove(worker);
    run.process.say(`    a commit Worker dies`);
    thread.deferred.push(onDeath);
  });
}

function someWorkerSteps(random: Random, { diesAt }: Step): NonNullable<Step["worker"]> {
  const steps = 1 + random.below(random.pick([2, 8, 60, 300]));
  if (diesAt === undefined) return { steps, end: "held" };
  return { steps: diesAt % steps, end: random.chance(0.3) ? "with its thread" : "alone" };
}

/** What a thread does after a while by itself. */
function tick(doing: Doing): void {
  const { timers } = doing.thread;
  const [work] = timers;
  if (work === undefined) return;
  timers.delete(work);
  doing.take(work);
}

function checkpoint(doing: Doing): void {
  const { opened } = doing.thread;
  if (opened.checkpoint === undefined || isWorkTaken(opened, doing.run.process.living)) return;
  doing.settle(() => opened.checkpoint!.run());
}

/** Some steps of a compaction, which the thread goes on with when it compacts again. */
function compact(doing: Doing, stepsMax: number): void {
  const { thread } = doing;
  const { compaction, work } = thread.opened;
  if (thread.compaction === undefined) {
    const taken = doing.run.take(thread, undefined, () => work.tryTake());
    if (taken.value !== true) return;
    thread.compaction = (function* (): Iterator<number, void> {
      yield* compaction.copySteps();
      yield* compaction.relocationSteps();
      compaction.release("at once");
    })();
  }
  const steps = thread.compaction;
  let isOver = false;
  const { error } = doing.take(() => {
    try {
      for (let count = 0; count < stepsMax && !isOver; count += 1) isOver = steps.next().done === true;
    } catch (thrown) {
      isOver = true;
      throw thrown;
    } finally {
      if (isOver) work.give();
    }
  });
  if (isOver || error !== undefined) thread.compaction = undefined;
}

function backup(doing: Doing): void {
  const { run, thread } = doing;
  const { opened } = thread;
  if (isWorkTaken(opened, run.process.living)) return;
  const from = run.oracle.issued;
  if (doing.settle(() => opened.backup.run(BACKUP_PATH, {})) === undefined) return;
  // Another process looks at it.
  const system = run.process.machine.boot();
  const config = { ...run.world.config, autoCompact: undefined, readOnly: true, createIfMissing: false };
  const environment = { system, defer: () => undefined, hasWorkers: false };
  const copy = openFile(environment, { path: BACKUP_PATH, createFolders: false, config });
  const bounds = { isThere: true, spans: [{ from, to: run.oracle.issued }] };
  run.judge("a backup", run.oracle.checkBackup(recordsOf(copy), { bounds, nowMs: run.nowMs }));
  copy.leave();
  system.kill();
}

/** Somebody opens what is open, to read, or to be refused until the last one out has let go of it. */
function visit(run: Run, step: Step): void {
  if (run.world.isInMemory) return;
  const visitor = run.process.makeThread(THREADS_MAX);
  const readOnly = new Random(step.seed).chance(0.5);
  const config = { ...run.world.config, autoCompact: undefined, readOnly, createIfMissing: false };
  const { diesAt: _, diesAtCall: __, between: ___, ...rest } = step;
  const { value, error, isRefused } = run.take(visitor, rest, () => {
    const opened = openFile(run.process.environment(visitor), { path: PATH, createFolders: false, config });
    try {
      return recordsOf(opened);
    } finally {
      opened.leave();
    }
  });
  const isLocked = !readOnly && codeOf(error) === "EMDB_LOCKED";
  if (error !== undefined) return run.judgeError("a visit", error, isRefused || isLocked);
  if (!readOnly && !run.mayBeClosed) throw new Found("what is open was opened again");
  const { progress } = run.oracle;
  run.judge("a visit shows", run.oracle.checkRecovered(value!, { progress, nowMs: run.nowMs }));
}

function walk(doing: Doing): void {
  const { thread, engine, random, run } = doing;
  if (thread.walk !== undefined || !isSettled(thread.opened)) return;
  const records = run.take(thread, undefined, () => recordsOf(thread.opened)).value ?? [];
  const lasting = records.filter(({ space, expiresAtMs }) => space === "" && expiresAtMs === 0);
  const wanted = lasting.map(({ key, value }) => `${key}=${value}`).sort();
  const isRange = engine.hasRangeScans && random.chance(0.5);
  doing.take(() => {
    const space = engine.defaultSpace;
    const source = isRange ? engine.range(space, { isReverse: false }) : engine.snapshot(space);
    const first = source.next();
    const given = first.done === true || first.value.expiresAtMs !== 0 ? [] : [pairText(first.value)];
    thread.walk = { source, given, wanted };
  });
}

function walkOn(doing: Doing): void {
  const { walk: held } = doing.thread;
  if (held === undefined) return;
  doing.thread.walk = undefined;
  const { isDead, error } = doing.take(() => {
    for (const record of held.source) if (record.expiresAtMs === 0) held.given.push(pairText(record));
  });
  if (isDead || error !== undefined) return;
  const given = held.given.sort();
  if (!Bun.deepEquals(given, held.wanted))
    throw new Found(`a held walk shows ${short(given)} for ${short(held.wanted)}`);
}

function gets(doing: Doing): void {
  const { engine } = doing;
  doing.take(() => {
    for (let count = 0; count < 10; count += 1) {
      engine.get(engine.defaultSpace, doing.key());
      engine.getZeroCopy(engine.defaultSpace, doing.key());
    }
    engine.getMany(engine.defaultSpace, [doing.key(), doing.key(), doing.key()]);
  });
}

function sweep(doing: Doing): void {
  const name = doing.spaceName();
  doing.take(() =>
    doing.engine.sweepExpired(doing.engine.findSpace(name === "" ? "s" : name) ?? doing.engine.defaultSpace),
  );
}

function verify(doing: Doing): void {
  const { run, thread } = doing;
  if (isWorkTaken(thread.opened, run.process.living)) return;
  const refused = run.process.tally.refusals;
  const problems = doing.settle(() => verifyDatabase(thread.opened, {}))?.value.problems ?? [];
  if (problems.length === 0 || run.process.tally.refusals > refused) return;
  throw new Found(`verify finds ${JSON.stringify(problems.slice(0, 3))}`);
}

function turn(doing: Doing): void {
  // What becomes of promises would come in the turn of the thread that is held.
  if (doing.run.held !== undefined && doing.thread.flushes.length > 0) return;
  const work = doing.thread.deferred.splice(0);
  doing.take(() => work.forEach((one) => one()));
}

function leave(doing: Doing): void {
  const { run } = doing;
  const { issued } = run.oracle;
  // The last one out is for `reopen`, but beside one who comes or goes.
  if (run.held === undefined && run.process.living.length < 2) return;
  if (run.leave(doing.thread, doing.step) === "sound") doing.acknowledge(issued);
}

const DOING: Readonly<Partial<Record<Kind, (doing: Doing) => void>>> = {
  ...{ insert, remove, batch, many, removeMany, clear, drop },
  ...{ sweep, flush, turn, leave, walk, walkOn, gets, verify, checkpoint, backup, flushAsync: flushLater },
  ...{ flushSoon, tick, rest: (doing: Doing) => void doing.take(() => doing.thread.opened.commit?.rest()) },
  // Who is held may be about to wait for a compaction's end, and this thread has one turn.
  compact: (doing) => compact(doing, doing.run.held === undefined ? 1 + doing.random.below(12) : Infinity),
  compactAll: (doing) => compact(doing, Infinity),
};

function reopen(run: Run, step: Step): void {
  const random = new Random(step.seed);
  run.closeAll(random, step);
  if (random.chance(0.3)) run.forgetImage();
  const { diesAt: _, diesAtCall: __, ...rest } = step;
  run.open(0, random.chance(0.3) ? rest : undefined);
}

export function perform(run: Run, step: Step): void {
  const random = new Random(step.seed);
  if (step.kind === "advance") return run.process.machine.advance(random.below(3000));
  if (step.kind === "crash") {
    run.crash(random);
    return run.open(0, random.chance(0.3) ? step : undefined);
  }
  if (step.kind === "reopen") return reopen(run, step);
  if (step.kind === "visit") return visit(run, step);
  if (step.kind === "commit") return commitGoesOn(run, step);
  if (step.kind === "attach") {
    const isFree = run.process.threads[step.thread] === undefined && run.held?.index !== step.thread;
    if (isFree) run.attach(step.thread, step);
    return;
  }
  const thread = step.kind === "tick" ? run.awake.find(({ timers }) => timers.size > 0) : run.someone(step);
  if (step.kind === "tick" && thread === undefined) return;
  if (thread === undefined) return run.openAnew();
  DOING[step.kind]!(new Doing(run, step, thread));
}
