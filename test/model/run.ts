/**
 * One run of the model: random operations done to the engine and to its twin, with the clock moving, the file
 * closed, the process killed and the power lost in between.
 */

import { mixSeed, Random } from "../sim/random.ts";
import { drawOperation, everythingOf, outcomeOf } from "./operations.ts";
import { Subject, Twin, type Configuration } from "./subject.ts";
import type { Draw } from "../sim/draw.ts";

export const CONFIGURATIONS: readonly Configuration[] = [
  { name: "in memory", config: {}, isInMemory: true },
  {
    name: "in memory with reads verified and a default TTL",
    config: { verifyReads: true, defaultTtlMs: 5000 },
    isInMemory: true,
  },
  { name: "in a file", config: {} },
  { name: "in a file with reads verified", config: { verifyReads: true } },
  { name: "in a file with a default TTL", config: { defaultTtlMs: 3000 } },
  { name: "with write-through", config: { flushPlan: { kind: "write-through" } } },
  { name: "on Windows", config: {}, machine: { isWindows: true } },
  { name: "in memory, ordered", config: { rangeScans: true }, isInMemory: true },
  { name: "in a file, ordered", config: { rangeScans: true } },
];

export interface RunPlan {
  readonly configuration: Configuration;
  readonly seed: number;
  readonly stepCount: number;
}

/** Does so many steps; says in one line where the two first differ, or undefined when they never do. */
export function runModel({ configuration, seed, stepCount }: RunPlan): string | undefined {
  const run = new Run(configuration, seed);
  for (let index = 1; index <= stepCount; index += 1) {
    const difference = run.step(index);
    if (difference !== undefined) return `${configuration.name}, seed ${seed}, step ${index}: ${difference}`;
  }
  const held = run.subject.end();
  return held.length === 0 ? undefined : `${configuration.name}, seed ${seed}: still held: ${held.join("; ")}`;
}

/** Everything is compared after so many steps, and after each that changes the machine. */
const LOOK_EVERY = 9;

class Run {
  readonly subject: Subject;
  readonly twin: Twin;
  readonly #random: Random;

  constructor(configuration: Configuration, seed: number) {
    this.#random = new Random(mixSeed(seed, configuration.name.length));
    this.subject = new Subject(configuration, seed);
    this.twin = new Twin(configuration, () => this.subject.machine.nowMs);
  }

  step(index: number): string | undefined {
    const isEvent = this.#random.chance(0.08);
    const difference = isEvent ? this.#event() : this.#operate();
    if (difference !== undefined || !(isEvent || index % LOOK_EVERY === 0)) return difference;
    return differenceOf(everythingOf(this.subject.db), everythingOf(this.twin.db));
  }

  #operate(): string | undefined {
    const operation = drawOperation(this.#random, this.subject.machine.nowMs);
    const got = outcomeOf(() => operation.run(this.subject));
    const expected = outcomeOf(() => operation.run(this.twin));
    return got === expected ? undefined : `${operation.name} came to ${got} and should to ${expected}`;
  }

  /** Something happens that no operation asked for. */
  #event(): string | undefined {
    const { subject, twin } = this;
    const kind = subject.hasFile ? this.#random.below(8) : this.#random.below(2);
    if (kind < 2) {
      // Sometimes back, as a clock that is set.
      const byMs = this.#random.below(3000);
      subject.machine.nowMs += byMs < 600 ? -byMs : byMs;
      return undefined;
    }
    if (kind === 2) subject.turn();
    if (kind === 3) subject.db.flushSync();
    if (kind === 4) return subject.observe((db) => differenceOf(everythingOf(db), everythingOf(twin.db)));
    if (kind < 5) return undefined;
    if (kind === 5) subject.reopen();
    else subject.crash(this.#someDraw());
    twin.reopen();
    return undefined;
  }

  #someDraw(): Draw {
    const random: Draw = { kind: "random", seed: this.#random.word() };
    return this.#random.pick<Draw>([{ kind: "none" }, { kind: "all" }, { kind: "kill" }, random, random]);
  }
}

function differenceOf(shown: readonly string[], expected: readonly string[]): string | undefined {
  const at = expected.findIndex((line, index) => line !== shown[index]);
  if (at < 0 && shown.length === expected.length) return undefined;
  const index = at < 0 ? expected.length : at;
  return `shows ${shown[index] ?? "nothing"} and should ${expected[index] ?? "nothing"}`;
}
