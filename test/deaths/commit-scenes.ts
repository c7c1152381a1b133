/**
 * Short scripts in which a commit Worker stands still before each of its steps, in a life of its own, with its sync refused or not, or dies
 * there, alone or with its thread. Another thread then writes and flushes, and the power is lost.
 */

import { Random } from "../sim/random.ts";
import type { TurnPacer } from "./pacer.ts";
import { someDraw } from "./process.ts";
import { busyWorldOf, type World } from "./run.ts";
import { WORKER_ENDS, type DeathCase, type Kind, type Step } from "./script.ts";
import { add, emptyTally, live, type Searched } from "./search.ts";

/** Ways to flush, by what the seed of a world has. */
const PLANS: readonly ((plan: World["config"]["flushPlan"]) => boolean)[] = [
  (plan) => plan.kind === "on-each-flush",
  (plan) => plan.kind === "group" && plan.waitMsMax === 0,
  (plan) => plan.kind === "group" && plan.waitMsMax > 0,
];

/** More than one needs from its start to the end of what it was asked for, where it waits for nobody else. */
const WORKER_STEPS = 45;
const BEFORE: readonly Kind[] = ["batch", "insert"];
/** Whoever comes clears the rows of those who have died; who is there already follows them by itself. */
const BEHIND: readonly (readonly Kind[])[] = [
  ["insert", "flush", "crash"],
  ["attach", "flush", "crash"],
  ["leave", "insert", "flush", "crash"],
  ["compactAll", "insert", "flushAsync", "crash"],
];
/** Behind a sync that was refused as well: flushes that are open when it is told, and behind it. */
const BEHIND_REFUSED: readonly Kind[] = ["flushSoon", "flushAsync", "flushAsync", "crash"];
/** Whose turn these are; of all others it is the second's. */
const TURN_OF: Readonly<Partial<Record<Kind, number>>> = { attach: 2, leave: 0 };

/** The first seed of a world, on a disk that takes no write through. */
function seedOf(isWanted: (plan: World["config"]["flushPlan"]) => boolean): number {
  let seed = 1;
  for (; ; seed += 1) {
    const { config, keyCount, isOnFile } = busyWorldOf(seed);
    if (isOnFile && keyCount <= 30 && config.encryption === undefined && isWanted(config.flushPlan)) return seed;
  }
}

/** A crash that leaves nothing of what was pending. */
function lossSeed(): number {
  let seed = 1;
  while (someDraw(new Random(seed)).kind !== "none") seed += 2;
  return seed;
}

/** Odd seeds: beside such steps no Worker goes on by itself. */
function caseOf(seed: number, worker: Step["worker"], how: { isRefused: boolean; behind: readonly Kind[] }): DeathCase {
  const step = (kind: Kind, index: number): Step => ({ thread: 0, kind, seed: seed * 100 + index * 2 + 1 });
  const refusals = how.isRefused ? { refusals: { at: 0, seed: 1, extent: "one" as const } } : {};
  const standing: Step = { ...step("commit", 20), worker, ...refusals };
  const behind = how.behind.map((kind, index): Step => {
    return { ...step(kind, 30 + index), thread: TURN_OF[kind] ?? 1, ...(kind === "crash" ? { seed: lossSeed() } : {}) };
  });
  const attach: Step = { ...step("attach", 10), thread: 1 };
  return {
    seed,
    hasBackground: true,
    steps: [...BEFORE.map(step), attach, step("flushSoon", 11), standing, ...behind],
  };
}

/** All of them, up to the first finding. */
export function standInSyncs(pacer: TurnPacer): Searched {
  const tally = emptyTally();
  for (const seed of PLANS.map(seedOf)) {
    for (const isRefused of [true, false]) {
      for (const end of WORKER_ENDS) {
        for (let steps = 1; steps <= WORKER_STEPS; steps += 1) {
          // Of each step another one in each world.
          const some = [BEHIND[(steps + seed) % BEHIND.length]!, ...(isRefused ? [BEHIND_REFUSED] : [])];
          for (const behind of some) {
            const shortest = caseOf(seed, { steps, end }, { isRefused, behind });
            const life = live(pacer, shortest);
            add(tally, life.tally);
            const { found, log } = life;
            if (found !== undefined) return { ...tally, findings: [{ found, shortest, log }] };
          }
        }
      }
    }
  }
  return { ...tally, findings: [] };
}
