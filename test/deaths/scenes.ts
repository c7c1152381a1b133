/** Short scripts in whose last step a thread dies, before each of its stores in a life of its own; somebody else then goes on. */

import type { TurnPacer } from "./pacer.ts";
import { worldOf, type World } from "./run.ts";
import type { DeathCase, Kind, Step } from "./script.ts";
import { add, emptyTally, live, type DeathFinding, type Searched } from "./search.ts";

/** Ways to open a database, by what the seed of one has. */
const WORLDS: readonly ((world: World) => boolean)[] = [
  ({ config, isOnFile }) => isOnFile && config.encryption === undefined,
  ({ config, isOnFile }) => isOnFile && config.encryption !== undefined && config.rangeScans,
  ({ isOnWindows }) => isOnWindows,
  ({ config, isInMemory }) => isInMemory && config.encryption !== undefined,
];

/** In its middle no store is passed over: where one file takes another's place, single ones are between two states. */
const SWAP: readonly Kind[] = ["compactAll"];
const SCENES: readonly (readonly Kind[])[] = [
  SWAP,
  ["compactAll", "batch", "compactAll"],
  ["reopen"],
  ["checkpoint", "reopen"],
  ["batch"],
  ["drop"],
  ["clear"],
  ["attach"],
  ["attach", "leave"],
  ["many", "many", "many", "advance", "advance", "sweep"],
  ["checkpoint"],
  ["backup"],
];

/** Between these shares of a compaction's stores one file takes the other's place. */
const SWAP_FROM = 0.4;
const SWAP_END = 0.65;

/** What is there before. */
const FILL: readonly Kind[] = ["batch", "many", "batch", "removeMany", "insert"];
/** What others do behind the death. */
const BEHIND: readonly Kind[] = ["gets", "insert", "compactAll", "walk", "walkOn"];

/** The first seed of a world, with few keys. */
function seedOf(isWanted: (world: World) => boolean): number {
  let seed = 1;
  while (worldOf(seed).keyCount > 30 || !isWanted(worldOf(seed))) seed += 1;
  return seed;
}

function caseOf(seed: number, scene: readonly Kind[], diesAt: number): DeathCase {
  const fill = [...FILL, ...scene.slice(0, -1)];
  const step = (kind: Kind, index: number): Step => ({
    thread: kind === "attach" ? 1 : 0,
    kind,
    seed: seed * 100 + index,
  });
  const deadly: Step = { ...step(scene.at(-1)!, 50), diesAt };
  // Somebody goes on, or whoever comes only closes it.
  const after = diesAt % 3 === 0 ? [] : BEHIND;
  const behind = after.map((kind, index) => ({ ...step(kind, 60 + index), thread: 1 }));
  return { seed, steps: [...fill.map(step), deadly, ...behind] };
}

/** Deaths in every scene of every world, before so many of its stores, spread over them, at most; up to the first finding. */
export function dieInScenes(pacer: TurnPacer, deathsMax: number): Searched {
  const tally = emptyTally();
  for (const seed of WORLDS.map(seedOf)) {
    for (const scene of SCENES) {
      const found = dieInScene(pacer, { seed, scene, deathsMax }, tally);
      if (found !== undefined) return { ...tally, findings: [found] };
    }
  }
  return { ...tally, findings: [] };
}

interface SceneOfDeath {
  readonly seed: number;
  readonly scene: readonly Kind[];
  readonly deathsMax: number;
}

function dieInScene(
  pacer: TurnPacer,
  { seed, scene, deathsMax }: SceneOfDeath,
  tally: ReturnType<typeof emptyTally>,
): DeathFinding | undefined {
  const lives = (diesAt: number): ReturnType<typeof live> => live(pacer, caseOf(seed, scene, diesAt));
  const { deadlyStores } = lives(Number.MAX_SAFE_INTEGER);
  // So that no stride passes over the middle of it.
  const stride = Math.max(1, Math.ceil(deadlyStores / (scene === SWAP ? Math.max(24, deathsMax) : deathsMax)));
  for (let diesAt = 1 + (seed % stride); ;) {
    const life = lives(diesAt);
    add(tally, life.tally);
    if (life.found !== undefined) return { found: life.found, shortest: caseOf(seed, scene, diesAt), log: life.log };
    if (life.tally.deaths === 0) return undefined;
    const share = diesAt / deadlyStores;
    diesAt += scene === SWAP && share > SWAP_FROM && share < SWAP_END ? 1 : stride;
  }
}
