/** Lives the cases of seeds, and makes those short in which something is found. */

import type { TurnPacer } from "./pacer.ts";
import { Found } from "./process.ts";
import { Run } from "./run.ts";
import { randomDeaths, shortened, type DeathCase } from "./script.ts";
import { perform } from "./steps.ts";

interface Tally {
  cases: number;
  deaths: number;
  refusals: number;
  crashes: number;
  /** How often a thread was held while another had a turn. */
  holds: number;
}

export function emptyTally(): Tally {
  return { cases: 0, deaths: 0, refusals: 0, crashes: 0, holds: 0 };
}

/** Counts one more case. */
export function add(tally: Tally, life: Omit<Tally, "cases">): void {
  tally.cases += 1;
  for (const name of ["deaths", "refusals", "crashes", "holds"] as const) tally[name] += life[name];
}

export interface DeathFinding {
  readonly found: string;
  /** The case, as short as it could be made. */
  readonly shortest: DeathCase;
  /** Its steps, and what came of them. */
  readonly log: readonly string[];
}

export interface Searched extends Tally {
  readonly findings: readonly DeathFinding[];
}

interface Life {
  readonly log: readonly string[];
  readonly tally: Omit<Tally, "cases">;
  readonly found: string | undefined;
  /** Stores in the turns in which a death was to come. */
  readonly deadlyStores: number;
}

const ATTEMPTS_MAX = 400;
/** Of two findings that begin alike, numbers aside, one is enough. */
const KIND_LENGTH = 24;
const FOUND_LENGTH_MAX = 1200;

/** One case, from the first open to the last close. */
export function live(pacer: TurnPacer, theCase: DeathCase): Life {
  const run = new Run(pacer, theCase, perform);
  const { log, tally } = run.process;
  try {
    run.run(theCase);
    return { log, tally, found: undefined, deadlyStores: run.process.deadlyStores };
  } catch (error) {
    run.process.end();
    const failure = error instanceof Error ? error.stack : String(error);
    const found = error instanceof Found ? error.message : `nobody expected ${failure}`;
    return { log, tally, found: found.slice(0, FOUND_LENGTH_MAX), deadlyStores: 0 };
  }
}

function kindOf(found: string): string {
  return found.replaceAll(/\d+/g, "#").slice(0, KIND_LENGTH);
}

/** The cases of so many seeds, up to the first in which something is found. */
export function search(
  pacer: TurnPacer,
  { first, count, hasBackground }: { readonly first: number; readonly count: number; readonly hasBackground: boolean },
): Searched {
  const tally = emptyTally();
  for (let seed = first; seed < first + count; seed += 1) {
    const theCase = randomDeaths(seed, hasBackground);
    const life = live(pacer, theCase);
    add(tally, life.tally);
    if (life.found === undefined) continue;
    const kind = kindOf(life.found);
    const fails = (shorter: DeathCase): boolean => {
      const { found } = live(pacer, shorter);
      return found !== undefined && kindOf(found) === kind;
    };
    const shortest = shortened(theCase, fails, ATTEMPTS_MAX);
    const { log, found } = live(pacer, shortest);
    return { ...tally, findings: [{ found: found ?? life.found, shortest, log }] };
  }
  return { ...tally, findings: [] };
}
