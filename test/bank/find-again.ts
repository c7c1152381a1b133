/**
 * Writes anew what finds the planted faults (`finders.json`): `bun test/bank/find-again.ts [names of faults]`.
 *
 * Without names, those whose finder is not known or does not find its fault any more. A finder is the quickest test
 * that fails by itself while the fault is there, and passes by itself while it is not; of a ring, the quickest turn.
 */

import { existsSync, writeFileSync } from "node:fs";
import { BANKS } from "./bank.ts";
import { finderTable, readFinders } from "./finders.ts";
import { Garden } from "./plant.ts";
import type { Finder, PlantedFault, ProbeOutcome } from "./fault.ts";

const laneCount = Number(process.env["EMDB_LANES"] ?? 2);
const WHOLE_FILE_TIMEOUT_MS = 90_000;
/** As long as a process takes to begin. */
const QUICK_MS = 1000;
/** Of the tests that find a fault; the quicker ones may pass or fail by what other tests have done. */
const CANDIDATE_COUNT_MAX = 4;
/** Of a ring, from the first on that finds the fault. */
const TURN_COUNT = 4;

/** What a run of tests has printed of those that failed, the quickest first, and last what ran into its time limit. */
function failedIn(output: string): { readonly name: string; readonly ms: number }[] {
  return [...output.matchAll(/^\(fail\) (.*?)(?: \[([\d.]+)ms\])?\n(.*timed out)?/gm)]
    .map(([, name = "", ms = "0", late]) => ({ name, ms: late === undefined ? Number(ms) : Infinity }))
    .sort((a, b) => a.ms - b.ms);
}

const wholeFile = (probe: string): string[] => ["test", "--timeout", "30000", `./${probe}`];

/** What finds a fault in a whole file, as finders; no others are waited for once one is quick enough. */
async function failingTests(garden: Garden, probe: string): Promise<string[]> {
  const isEnough = (output: string): boolean => (failedIn(output)[0]?.ms ?? Infinity) < QUICK_MS;
  const { output } = await garden.run(wholeFile(probe), { timeoutMs: WHOLE_FILE_TIMEOUT_MS, from: "stderr", isEnough });
  // Of many lives the one in which a thread's death was found.
  const [life] = output.match(/replay deaths \{.*\}/) ?? [];
  return [...(life === undefined ? [] : [life]), ...failedIn(output).map(({ name }) => name)];
}

/** Every test of a file, in its order. */
async function testsOf(sound: Garden, probe: string): Promise<string[]> {
  const { output } = await sound.run(wholeFile(probe), { timeoutMs: 10 * WHOLE_FILE_TIMEOUT_MS, from: "stderr" });
  return [...output.matchAll(/^\(pass\) (.*?)(?: \[[\d.]+ms\])?$/gm)].map(([, name = ""]) => name);
}

const soundRuns = new Map<string, Promise<ProbeOutcome>>();

/** Whether a finder finds nothing while there is no fault: a test that needs those before it would find anything. */
async function isSound(sound: Garden, fault: PlantedFault, name: string): Promise<boolean> {
  const test = `${fault.probe}: ${name}`;
  const run = soundRuns.get(test) ?? sound.probe({ ...fault, edits: [] }, name);
  soundRuns.set(test, run);
  const { findings, detail } = await run;
  return findings === 0 && (detail === undefined || detail === "nothing is found");
}

interface Gardens {
  readonly planted: Garden;
  readonly sound: Garden;
}

async function findTest({ planted, sound }: Gardens, fault: PlantedFault): Promise<Finder | undefined> {
  const failing = await planted.planted(fault, async () => await failingTests(planted, fault.probe));
  // A test that its process dies in does not say its name.
  const candidates = failing.length > 0 ? failing.slice(0, CANDIDATE_COUNT_MAX) : await testsOf(sound, fault.probe);
  for (const name of new Set(candidates)) {
    const { findings } = await planted.probe(fault, name);
    if (findings > 0 && (await isSound(sound, fault, name))) return name;
  }
  return undefined;
}

async function findTurn({ planted }: Gardens, fault: PlantedFault): Promise<Finder | undefined> {
  const first = (await planted.probe(fault)).turn ?? 1;
  let best: { readonly turn: number; readonly ns: number } | undefined;
  for (let turn = first; turn < first + TURN_COUNT; turn += 1) {
    const began = Bun.nanoseconds();
    const { findings } = await planted.probe(fault, turn);
    const ns = Bun.nanoseconds() - began;
    if (findings > 0 && ns < (best?.ns ?? Infinity)) best = { turn, ns };
  }
  return best?.turn;
}

const faults: readonly PlantedFault[] = Object.values(BANKS).flat();
const known = (): ReadonlyMap<string, Finder> => (existsSync(finderTable) ? readFinders() : new Map());

/** Reads the table anew, which another run of this may have written to. */
function write(found: readonly (readonly [string, Finder])[]): void {
  const finders = new Map([...known(), ...found]);
  const sorted = faults.flatMap((fault): [string, Finder][] => {
    const its = finders.get(fault.name);
    return its === undefined ? [] : [[fault.name, its]];
  });
  writeFileSync(finderTable, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`);
}

async function findAgain(gardens: Gardens, fault: PlantedFault, isNamed: boolean): Promise<void> {
  const before = known().get(fault.name);
  if (!isNamed && before !== undefined && (await gardens.planted.probe(fault, before)).findings > 0) return;
  const finder = fault.probe.startsWith("test/") ? await findTest(gardens, fault) : await findTurn(gardens, fault);
  console.log(`"${fault.name}": ${finder === undefined ? "NOT FOUND by a test alone" : `found by ${finder}`}`);
  if (finder !== undefined) write([[fault.name, finder]]);
}

const named = process.argv.slice(2);
const unknown = named.filter((name) => !faults.some((fault) => fault.name === name));
if (unknown.length > 0) throw new Error(`the bank has no fault of this name: ${unknown.join("; ")}`);
const queue = faults.filter(({ name }) => named.length === 0 || named.includes(name));
const lane = async (): Promise<void> => {
  using planted = new Garden();
  using sound = new Garden();
  for (let fault = queue.shift(); fault !== undefined; fault = queue.shift()) {
    await findAgain({ planted, sound }, fault, named.length > 0);
  }
};
await Promise.all(Array.from({ length: laneCount }, lane));
// Without those of faults that are gone.
write([]);
