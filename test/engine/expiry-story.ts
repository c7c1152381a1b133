/**
 * A database whose records expire, at random, beside plain maps: on a simulated machine, whose clock goes forth and back, in
 * one handle or two, with images and compactions made a step at a time between the changes, memory and disk that refuse,
 * closes, deaths and losses of power. What a sweep that did not come to its end may have removed is looked at as either.
 */

import type { Environment, Opened } from "../../src/engine/assemble.ts";
import type { BatchWrite, RecordSource } from "../../src/engine/contract.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { HintWriter } from "../../src/engine/hint/hint-writer.ts";
import { attachTo, openFile, openMemory } from "../../src/engine/open/open.ts";
import { hintPath } from "../../src/engine/files/siblings.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { EXPIRES_AT_MS_MAX } from "../../src/limits.ts";
import { Machine } from "../sim/machine.ts";
import type { Draw } from "../sim/draw.ts";
import { Random } from "../sim/random.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import { queueFaults } from "../support/queue-faults.ts";
import { faulty } from "./engine-fixture.ts";
import { CONFIG, type Config } from "./open-engine.ts";

const PATH = "/db/store";
const NAMES = ["", "one", "two"] as const;
const KEYS = 5000;
const MANY = 2000;

interface Entry {
  readonly value: string;
  readonly expiresAtMs: number;
  /** A sweep that has not come to its end has met it, or not. */
  mayBeGone: boolean;
}
type Content = Map<string, Entry>;

interface Held {
  readonly opened: Opened;
  readonly source: RecordSource;
  readonly left: Content;
}

const TAKES = ["takePage", "takeUnit", "takeRun"] as const;

export class ExpiryStory {
  readonly #random: Random;
  readonly #config: Config;
  readonly #isInMemory: boolean;
  readonly #content = new Map<string, Content>(NAMES.map((name) => [name, new Map()]));
  readonly #timers = new Set<() => void>();
  readonly #deferred: (() => void)[] = [];
  #held: Held[] = [];
  #machine: Machine;
  #system: SimulatedSystem;
  #opened: Opened;
  #other: Opened | undefined;
  #job: { readonly opened: Opened; readonly steps: Generator<unknown, void> } | undefined;
  /** The latest moment by which the job at hand may have swept. */
  #jobMs = 0;
  #isDiskFull = false;
  #writes = 0;
  /** What was seen at least once. */
  readonly seen = new Set<string>();

  constructor(seed: number, changes: Partial<Config>, isInMemory = false) {
    this.#random = new Random(seed);
    this.#config = { ...CONFIG, ...changes };
    this.#isInMemory = isInMemory;
    this.#machine = new Machine({ seed });
    this.#system = this.#machine.boot();
    this.#opened = this.#open();
  }

  run(steps: number): void {
    for (let step = 0; step < steps; step += 1) {
      this.#step();
      if (step % 5 === 0) this.#check();
    }
    this.#stopJob();
    this.#check();
    for (const name of NAMES) this.#sweep(name);
    this.#check();
    this.#leave();
    this.#system.kill();
    this.#machine.dispose();
  }

  #step(): void {
    const random = this.#random;
    const what = random.below(100);
    if (what < 52) this.#write();
    else if (what < 60) this.#moveClock();
    else if (what < 64) this.#sweep(random.pick(NAMES));
    else if (what < 67) this.#empty();
    else if (what < 82) this.#work();
    else if (what < 88) this.#walk();
    else if (what < 92) this.#turn();
    else if (what < 95) this.#comeOrGo();
    else if (what < 96) this.#loseQueue();
    else this.#reopen();
  }

  // -- the machine -------------------------------------------------------------

  #environment(): Environment {
    const system = faulty(this.#system, (call) =>
      call === "write" && this.#isDiskFull ? -Errno.ENOSPC : call === "now" ? this.#machine.nowMs : undefined,
    );
    const later = (work: () => void): (() => void) => {
      const timer = (): void => {
        this.#timers.delete(timer);
        work();
      };
      this.#timers.add(timer);
      return () => void this.#timers.delete(timer);
    };
    return { system, defer: (work) => void this.#deferred.push(work), later, hasWorkers: false };
  }

  #open(): Opened {
    const config = { ...this.#config };
    if (this.#isInMemory) return openMemory(this.#environment(), config);
    return openFile(this.#environment(), { path: PATH, createFolders: false, config });
  }

  #comeOrGo(): void {
    if (this.#other === undefined) this.#other = attachTo(this.#environment(), this.#opened.base);
    else this.#dismiss();
  }

  /** The second handle goes. */
  #dismiss(): void {
    if (this.#other === undefined) return;
    if (this.#job?.opened === this.#other) this.#stopJob();
    this.#held = this.#held.filter(({ opened }) => opened !== this.#other);
    this.#other.leave();
    this.#other = undefined;
  }

  #leave(): void {
    this.#stopJob();
    this.#dismiss();
    this.#held = [];
    this.#opened.leave();
    this.#timers.clear();
    this.#deferred.length = 0;
  }

  /** As after the death of a writer. */
  #loseQueue(): void {
    const engine = this.#engine;
    const space = this.#spaceOf(engine, this.#random.pick(NAMES));
    engine.exclusively(() => engine.core.expiry.forget(space.address));
  }

  #reopen(): void {
    if (this.#isInMemory) return;
    const random = this.#random;
    if (random.chance(0.4)) this.#crash();
    else {
      this.#leave();
      if (random.chance(0.4)) this.#system.unlink(hintPath(PATH));
    }
    this.#opened = this.#open();
    this.seen.add(this.#opened.base.recovery.usedCheckpoint ? "an image" : "a log by itself");
    this.#check();
  }

  /** The process dies, or the machine loses power, when all was flushed. */
  #crash(): void {
    this.#opened.sync!.flush();
    const random: Draw = { kind: "random", seed: this.#random.word() };
    const draw = this.#random.pick<Draw>([{ kind: "kill" }, { kind: "none" }, random]);
    this.#job = undefined;
    this.#other = undefined;
    this.#held = [];
    this.#timers.clear();
    this.#deferred.length = 0;
    const point = this.#machine.capture();
    this.#system.kill();
    this.#machine.dispose();
    this.#machine = Machine.restore(point, draw);
    this.#system = this.#machine.boot();
  }

  #moveClock(): void {
    const random = this.#random;
    this.#machine.nowMs += random.pick([1, 7, 50, 50, 400, -1, -60, random.chance(0.1) ? 1e7 : 5, -300]);
  }

  #turn(): void {
    for (const work of this.#deferred.splice(0)) work();
    // The background sweep.
    for (const timer of [...this.#timers]) timer();
    if (this.#config.sweepIntervalMs !== undefined) for (const name of NAMES) this.#doubt(name, this.#machine.nowMs);
  }

  // -- changes -----------------------------------------------------------------

  get #engine(): Engine {
    return this.#random.chance(0.5) && this.#other !== undefined ? this.#other.engine : this.#opened.engine;
  }

  #spaceOf(engine: Engine, name: string): SpaceState {
    return name === "" ? engine.defaultSpace : engine.spaceNamed(name);
  }

  #deadline(): number {
    const random = this.#random;
    const { nowMs } = this.#machine;
    const near = nowMs + random.below(500) - 20;
    const shared = Math.ceil(nowMs / 100) * 100 + 100 * random.below(4);
    return random.pick([0, 0, near, near, near, shared, shared, shared, 1, nowMs, EXPIRES_AT_MS_MAX, nowMs + 1e6]);
  }

  #value(): string {
    this.#writes += 1;
    return `${this.#writes}`.padEnd(this.#random.below(40), "v");
  }

  #write(): void {
    const random = this.#random;
    const engine = this.#engine;
    const name = random.pick(NAMES);
    const space = this.#spaceOf(engine, name);
    const content = this.#content.get(name)!;
    const first = random.below(KEYS);
    const count = random.chance(0.3) ? 1 : 1 + random.below(random.chance(0.3) ? MANY : 30);
    const keys = Array.from({ length: count }, (_, index) => `key ${(first + index) % KEYS}`);
    const what = random.below(10);
    if (what < 3) {
      if (this.#attempt(engine, () => void engine.removeMany(space, keys))) for (const key of keys) content.delete(key);
      return;
    }
    if (what < 7) {
      const [expiresAtMs, value] = [this.#deadline(), this.#value()];
      const values = keys.map(() => value);
      const isDone = this.#attempt(engine, () => engine.insertMany(space, keys, values, expiresAtMs));
      if (isDone) for (const key of keys) content.set(key, { value, expiresAtMs, mayBeGone: false });
      return;
    }
    this.#batch(engine, keys);
  }

  /** A batch over all key spaces, which may turn out not to be what was said. */
  #batch(engine: Engine, keys: readonly string[]): void {
    const random = this.#random;
    const plans = keys.map((key) => {
      const name = random.pick(NAMES);
      const isRemoval = random.chance(0.3);
      return { name, key, value: isRemoval ? undefined : this.#value(), expiresAtMs: isRemoval ? 0 : this.#deadline() };
    });
    const writes = plans.map((plan): BatchWrite => ({ ...plan, space: this.#spaceOf(engine, plan.name) }));
    if (random.chance(0.3)) writes.push(brokenWrite(engine.defaultSpace));
    if (!this.#attempt(engine, () => engine.writeBatch(writes), writes.length > plans.length)) return;
    for (const { name, key, value, expiresAtMs } of plans) {
      if (value === undefined) this.#content.get(name)!.delete(key);
      else this.#content.get(name)!.set(key, { value, expiresAtMs, mayBeGone: false });
    }
  }

  /** Does it while memory may be refused; false when it was not done. */
  #attempt(engine: Engine, change: () => void, isBroken = false): boolean {
    const random = this.#random;
    const { heap } = engine.core;
    const isScarce = random.chance(0.25);
    let left = random.below(random.chance(0.5) ? 3 : 40);
    if (isScarce) {
      for (const name of TAKES) {
        const original: (...count: number[]) => number = heap[name];
        const take = original.bind(heap);
        heap[name] = (...count: number[]): number => {
          left -= 1;
          if (left < 0) throw new EmdbError("EMDB_FULL", "no memory");
          return take(...count);
        };
      }
    }
    this.#isDiskFull = random.chance(0.1);
    try {
      change();
      return true;
    } catch (error) {
      if (!(error instanceof EmdbError) || !(isScarce || this.#isDiskFull || isBroken)) throw error;
      this.seen.add(`a refusal ${error.code}`);
      return false;
    } finally {
      this.#isDiskFull = false;
      for (const name of TAKES) Reflect.deleteProperty(heap, name);
    }
  }

  #empty(): void {
    const random = this.#random;
    const engine = this.#engine;
    const name = random.pick(NAMES);
    const space = this.#spaceOf(engine, name);
    const isDrop = name !== "" && random.chance(0.5);
    const isDone = this.#attempt(engine, () => (isDrop ? void engine.dropSpace(name) : engine.clear(space)));
    if (isDone) this.#content.get(name)!.clear();
  }

  // -- sweeps ------------------------------------------------------------------

  #sweep(name: string): void {
    const engine = this.#engine;
    const content = this.#content.get(name)!;
    const { nowMs } = this.#machine;
    const due = [...content].filter(([, { expiresAtMs }]) => expiresAtMs !== 0 && expiresAtMs <= nowMs);
    const space = this.#spaceOf(engine, name);
    let swept = 0;
    if (!this.#attempt(engine, () => void (swept = engine.sweepExpired(space)))) return this.#doubt(name, nowMs);
    const least = due.filter(([, { mayBeGone }]) => !mayBeGone).length;
    if (swept < least || swept > due.length) throw new Error(`${swept} were swept, ${least} to ${due.length} due`);
    for (const [key] of due) content.delete(key);
    if (swept > 0) this.seen.add("a sweep");
  }

  /** What has expired by a moment may have been removed. */
  #doubt(name: string, nowMs: number): void {
    for (const entry of this.#content.get(name)!.values())
      if (entry.expiresAtMs !== 0 && entry.expiresAtMs <= nowMs) entry.mayBeGone = true;
  }

  // -- long work ---------------------------------------------------------------

  #work(): void {
    const random = this.#random;
    if (this.#job === undefined) {
      const opened = this.#other !== undefined && random.chance(0.5) ? this.#other : this.#opened;
      const isImage = !this.#isInMemory && random.chance(0.6);
      const steps = isImage ? imageSteps(opened, () => this.seen.add("a new image")) : compactionSteps(opened);
      this.#job = { opened, steps };
      this.#jobMs = 0;
    }
    const { opened, steps } = this.#job;
    this.#jobMs = Math.max(this.#jobMs, this.#machine.nowMs);
    for (let left = 1 + random.below(12); left > 0; left -= 1) {
      this.#job = undefined;
      const isDone = this.#attempt(opened.engine, () => {
        if (steps.next().done !== true) this.#job = { opened, steps };
      });
      if (isDone && this.#job !== undefined) continue;
      if (isDone) this.seen.add("work done");
      break;
    }
    for (const name of NAMES) this.#doubt(name, this.#jobMs);
  }

  #stopJob(): void {
    this.#job?.steps.return();
    this.#job = undefined;
  }

  // -- reads -------------------------------------------------------------------

  #isLive({ expiresAtMs }: Entry): boolean {
    return expiresAtMs === 0 || expiresAtMs > this.#machine.nowMs;
  }

  #live(name: string): Content {
    return new Map([...this.#content.get(name)!].filter(([, entry]) => this.#isLive(entry)));
  }

  /** Goes on with a walk, or begins one. */
  #walk(): void {
    const random = this.#random;
    if (this.#held.length < 4 && random.chance(0.5)) {
      const opened = this.#other !== undefined && random.chance(0.5) ? this.#other : this.#opened;
      const name = random.pick(NAMES);
      const space = this.#spaceOf(opened.engine, name);
      const isRange = this.#config.rangeScans && random.chance(0.5);
      const source = isRange ? opened.engine.range(space, { isReverse: false }) : opened.engine.snapshot(space);
      this.#held.push({ opened, source, left: this.#live(name) });
      return;
    }
    const held = this.#held.shift();
    if (held !== undefined && !finished(held, random.chance(0.4) ? Infinity : 100)) this.#held.push(held);
  }

  #check(): void {
    const engine = this.#engine;
    for (const name of NAMES) {
      const space = this.#spaceOf(engine, name);
      this.#checkRecords(engine, space);
      const { core, spaces } = engine;
      const faults = engine.exclusively(() => {
        if (core.expiry.isUnknown(space.address)) this.seen.add("a queue that is unknown");
        return queueFaults({ core, spaces }, space);
      });
      if (faults.length > 0) throw new Error(`the queue of "${name}": ${faults.slice(0, 3).join("; ")}`);
    }
    const [fault] = engine.exclusively(() =>
      engine.core.expiry.present === undefined ? orderingFaults(engine.core, engine.spaces) : [],
    );
    if (fault !== undefined) throw new Error(fault);
  }

  #checkRecords(engine: Engine, space: SpaceState): void {
    const content = this.#content.get(space.name)!;
    const held = engine.count(space);
    const least = [...content.values()].filter(({ mayBeGone }) => !mayBeGone).length;
    if (held < least || held > content.size) throw new Error(`${held} are held, and not ${least} to ${content.size}`);
    finished({ source: engine.snapshot(space), left: this.#live(space.name) }, Infinity);
    const keys = Array.from({ length: 70 }, () => `key ${this.#random.below(KEYS)}`);
    const values = engine.getMany(space, keys);
    for (const [index, key] of keys.entries()) {
      const entry = content.get(key);
      const value = values[index];
      const isThere = entry !== undefined && this.#isLive(entry);
      if (value === undefined && isThere && !entry.mayBeGone) throw new Error(`${key} is missing`);
      if (value !== undefined && !(isThere && Buffer.from(value).toString() === entry.value))
        throw new Error(`${key} is shown`);
      const expiresAtMs = engine.expiresAt(space, key);
      if (expiresAtMs !== (value === undefined ? undefined : entry!.expiresAtMs))
        throw new Error(`${key} expires at ${expiresAtMs}`);
    }
  }
}

/** Goes on with a walk; whether it is at its end, where it must have shown all that it has to. */
function finished({ source, left }: Pick<Held, "source" | "left">, steps: number): boolean {
  for (let step = 0; step < steps; step += 1) {
    const record = source.pull();
    if (record === undefined) {
      const missed = [...left].find(([, { mayBeGone }]) => !mayBeGone);
      if (missed !== undefined) throw new Error(`a walk missed ${missed[0]}`);
      return true;
    }
    const key = Buffer.from(record.key).toString();
    const entry = left.get(key);
    if (entry?.value !== Buffer.from(record.value).toString() || entry.expiresAtMs !== record.expiresAtMs)
      throw new Error(`a walk showed ${key} until ${record.expiresAtMs}`);
    left.delete(key);
  }
  return false;
}

/** A write of which the value cannot be had when its turn comes. */
function brokenWrite(space: SpaceState): BatchWrite {
  return {
    space,
    key: "broken",
    expiresAtMs: 0,
    get value(): never {
      throw new EmdbError("EMDB_ABORTED", "given up");
    },
  };
}

/** Makes an image a piece at a time. */
function* imageSteps({ engine, sync, relocation, work }: Opened, onDone: () => void): Generator<unknown, void> {
  const { core, spaces } = engine;
  if (!work.tryTake()) return;
  let writer: HintWriter | undefined;
  try {
    while (relocation.step()) yield;
    const making = engine.exclusively(() => new HintWriter(core, spaces, core.file!));
    writer = making;
    while (engine.exclusively(() => making.copyPiece())) {
      making.sealPiece();
      if (making.isFull) making.spill();
      yield;
    }
    making.sealPiece();
    sync!.flush();
    making.writeHeader();
    making.sync();
    making.publish();
    onDone();
  } finally {
    writer?.discard();
    work.give();
  }
}

function* compactionSteps({ compaction, work, engine }: Opened): Generator<unknown, void> {
  if (!work.tryTake()) return;
  try {
    // What walks keep of the files before: no more than so many.
    compaction.release("at once");
    if (engine.core.log.segments.free() === 0) return;
    yield* compaction.copySteps();
    yield* compaction.relocationSteps();
    compaction.release("at once");
  } finally {
    work.give();
  }
}
