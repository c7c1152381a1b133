/**
 * What threads do until they die, from a seed: plain data, so that a script can lose steps and stay one. What a step draws
 * follows from the seed of its own.
 */

import { mixSeed, Random } from "../sim/random.ts";

/** What one thread does beside nobody, or, where it changes no record, while another is held. */
const CHANGES = ["insert", "remove", "batch", "many", "removeMany", "clear", "drop"] as const;
const AT_ONCE = [
  "sweep",
  "flush",
  "compact",
  "compactAll",
  "turn",
  "attach",
  "leave",
  "walk",
  "walkOn",
  "gets",
] as const;
const LONG = ["advance", "flushAsync", "checkpoint", "backup", "reopen", "crash", "verify", "visit"] as const;
/** Where threads have commit Workers and one sweeps by itself: a flush that nobody waits for, a Worker, a timer of either. */
const BACKGROUND = ["flushSoon", "commit", "tick", "rest"] as const;
/** Drawn more often. */
const OFTEN = [
  "insert",
  "insert",
  "insert",
  "batch",
  "flush",
  "compact",
  "compact",
  "turn",
  "attach",
  "walkOn",
] as const;

/** Drawn more often there. */
const OFTEN_BEHIND = [
  ...BACKGROUND,
  "flushSoon",
  "flushSoon",
  "flushAsync",
  "flushAsync",
  "commit",
  "commit",
  "commit",
  "tick",
  "tick",
  "many",
  "advance",
] as const;

export type Kind =
  (typeof CHANGES)[number] | (typeof AT_ONCE)[number] | (typeof LONG)[number] | (typeof BACKGROUND)[number];

/** System calls that are refused in a step. */
export interface Refusals {
  /** The first of them, counted from 0. */
  readonly at: number;
  readonly seed: number;
  readonly extent: "one" | "some" | "room";
}

/** How a commit Worker that has made its steps goes on: it stands still, or dies. */
export const WORKER_ENDS = ["held", "alone", "with its thread"] as const;

export interface Step {
  readonly thread: number;
  readonly kind: Kind;
  readonly seed: number;
  /** The store before which the thread dies. */
  readonly diesAt?: number;
  /** The system call before which it dies. */
  readonly diesAtCall?: number;
  readonly refusals?: Refusals;
  /** Of a commit Worker; drawn otherwise. */
  readonly worker?: { readonly steps: number; readonly end: (typeof WORKER_ENDS)[number] } | undefined;
  /** Another thread's step, while this one is held before a store. */
  readonly between?: { readonly at: number; readonly step: Step };
}

export interface DeathCase {
  readonly seed: number;
  /** With commit Workers and a sweep in the background. */
  readonly hasBackground?: boolean;
  readonly steps: readonly Step[];
}

export const THREADS_MAX = 3;
const STORES_MAX_LOG2 = 11;
const CALMEST = [0.03, 0.1, 0.25] as const;

const isChange = (kind: Kind): boolean => (CHANGES as readonly Kind[]).includes(kind);

/** Near the beginning as often as far from it. */
function someStore(random: Random): number {
  return 1 + Math.floor(2 ** ((random.below(1000) / 1000) * STORES_MAX_LOG2));
}

function someRefusals(random: Random): Refusals {
  const at = random.below(random.pick([2, 6, 25]));
  return { at, seed: random.word(), extent: random.pick(["one", "one", "some", "room"] as const) };
}

/** Where somebody else's step fits in: what changes records stands beside what does not, or nobody could say which was first. */
function someBetween(random: Random, kind: Kind, hasBackground: boolean): Step["between"] {
  const behind = hasBackground ? (["commit", "commit", "commit", "tick", "tick", "rest"] as const) : [];
  const quiet: readonly Kind[] = [...AT_ONCE, "attach", "visit", ...behind];
  const allowed = isChange(kind) || kind === "walk" ? quiet : [...quiet, ...CHANGES];
  const other = { thread: random.below(THREADS_MAX), kind: random.pick(allowed), seed: random.word() };
  const step = random.chance(0.2) ? { ...other, diesAt: someStore(random) } : other;
  return { at: someStore(random), step };
}

/** The script of a seed; the same for ever. */
export function randomDeaths(seed: number, hasBackground = false): DeathCase {
  const random = new Random(mixSeed(seed, hasBackground ? 78 : 77));
  const deadly = random.pick(CALMEST);
  const refused = random.pick(hasBackground ? [0, 0.05, 0.2, 0.2] : [0, 0, 0.05, 0.2]);
  const held = random.pick([0, 0.1, 0.3]);
  const behind = hasBackground ? [...OFTEN_BEHIND, ...OFTEN_BEHIND] : [];
  const all: readonly Kind[] = [...CHANGES, ...AT_ONCE, ...LONG, ...OFTEN, ...behind];
  const leftOut = new Set(Array.from({ length: random.below(14) }, () => random.pick(all)));
  leftOut.delete("insert");
  const kinds = all.filter((kind) => !leftOut.has(kind));
  const steps: Step[] = [];
  for (let count = 20 + random.below(80); count > 0; count -= 1) {
    // A death right behind a death, and a refusal behind one, meet what is half mended.
    const before = steps.at(-1);
    const isBehind = before?.diesAt !== undefined || before?.diesAtCall !== undefined;
    const step = { thread: random.below(THREADS_MAX), kind: random.pick(kinds), seed: random.word() };
    const dies = random.chance(isBehind || step.kind === "commit" ? Math.max(0.3, deadly) : deadly);
    const death = !dies
      ? {}
      : random.chance(0.4)
        ? { diesAtCall: 1 + random.below(random.pick([3, 12, 60])) }
        : { diesAt: someStore(random) };
    const refusedHere = step.kind === "commit" ? 0.5 : isBehind ? 0.3 : refused;
    const isRefused = random.chance(refused > 0 ? refusedHere : 0);
    const refusals = isRefused ? { refusals: someRefusals(random) } : {};
    const between = random.chance(held) ? { between: someBetween(random, step.kind, hasBackground) } : {};
    steps.push({ ...step, ...death, ...refusals, ...between } as Step);
  }
  return hasBackground ? { seed, hasBackground, steps } : { seed, steps };
}

const EXTRAS = ["diesAt", "diesAtCall", "refusals", "between"] as const;

function without(step: Step, extra: (typeof EXTRAS)[number]): Step {
  const { [extra]: _, ...rest } = step;
  return rest;
}

/** A case that still fails, with fewer steps and fewer deaths. */
export function shortened(found: DeathCase, fails: (shorter: DeathCase) => boolean, attemptsMax: number): DeathCase {
  let best = found;
  let attempts = 0;
  const isTaken = (steps: readonly Step[]): boolean => {
    attempts += 1;
    if (attempts > attemptsMax || !fails({ ...best, steps })) return false;
    best = { ...best, steps };
    return true;
  };
  for (let isShorter = true; isShorter && attempts < attemptsMax;) {
    isShorter = false;
    for (let size = Math.max(1, best.steps.length >> 1); size >= 1; size >>= 1) {
      for (let start = 0; start < best.steps.length && attempts < attemptsMax;) {
        if (isTaken(best.steps.toSpliced(start, size))) isShorter = true;
        else start += size;
      }
    }
    for (let index = 0; index < best.steps.length; index += 1) {
      for (const extra of EXTRAS) {
        const step = best.steps[index]!;
        if (step[extra] !== undefined && isTaken(best.steps.with(index, without(step, extra)))) isShorter = true;
      }
    }
  }
  return best;
}
