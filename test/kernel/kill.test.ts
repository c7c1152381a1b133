/**
 * Real processes that are killed: before each system call that a script makes on the database's files, and at random.
 *
 * strace sends SIGKILL when the n-th call of a name begins, so the call itself is not made. Only calls that name one of
 * the database's files, or a handle of one, are counted; those are the same in every run.
 */

import { afterAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Random } from "../sim/random.ts";
import { fastFolder } from "../engine/fixture.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { expectSoundAfterDeath } from "./after-death.ts";
import { killOnce, roomForDatabase, roomWithDatabase, type Room } from "./cycle.ts";
import { bundledChild, callsIn, isSkipped, KernelChild, whyNoTracing, type Errand } from "./host.ts";
import { ENDED, kernelScript, oracleOf } from "./script.ts";

const TIMEOUT_MS = 600_000;
interface Traced {
  readonly seed: number;
  readonly length: number;
  readonly roomOf: (folder: TemporaryFolder, name: string) => Room;
  /** System calls that it makes at least. */
  readonly callsMin: number;
}
/** Some 400 calls, over everything. */
const WHOLE: Traced = { seed: 4, length: 40, roomOf: roomWithDatabase, callsMin: 280 };
/** From the beginning: the making of a database and some writes. */
const MADE: Traced = { seed: 4, length: 3, roomOf: roomForDatabase, callsMin: 20 };
const RANDOM_KILL_COUNT = Number(process.env["EMDB_KILLS"] ?? 200);
/** Every so manieth of the calls, for a quick look. */
const CALL_STRIDE = Number(process.env["EMDB_CALL_STRIDE"] ?? 1);
const LANES = 2;

const home = fastFolder();
afterAll(() => home[Symbol.dispose]());
let built: string | undefined;
const childProgram = (): string => (built ??= bundledChild(home.path));

/** Runs jobs in a few lanes; each lane has a number of its own. */
async function inLanes<T>(jobs: readonly T[], work: (job: T, lane: number) => Promise<void>): Promise<void> {
  const queue = [...jobs];
  const lane = async (_: unknown, number: number): Promise<void> => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      try {
        await work(job, number);
      } catch (error) {
        // The other lanes end as well: one failure says it all.
        queue.length = 0;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

const tracing = (places: readonly string[], ...more: string[]): string[] => [
  "strace",
  ...places.flatMap((place) => ["-P", place]),
  ...more,
];

/** Ends a child when the nth call of a name begins. */
const killing = (places: readonly string[], { name, nth }: { readonly name: string; readonly nth: number }): string[] =>
  tracing(places, "-o", "/dev/null", "-e", `trace=${name}`, "-e", `inject=${name}:signal=SIGKILL:when=${nth}`);

/** A script of some dozens of operations is over before it pays to compile anything. */
const INTERPRETED = { BUN_JSC_useBaselineJIT: "0" };

/** Kills a process at each call of a script, one after the other. @throws when what one leaves is not right */
async function killAtEachCall({ seed, length, roomOf, callsMin }: Traced): Promise<void> {
  using folder = fastFolder();
  const program = childProgram();
  const oracle = oracleOf(kernelScript(seed, length));
  const errand = (lane: number, under: (places: readonly string[]) => string[]): Errand => {
    const { path, places } = roomOf(folder, `lane ${lane}`);
    const progressPath = folder.file(`progress ${lane}`);
    return { program, path, progressPath, seed, length, under: under(places), env: INTERPRETED };
  };

  const trace = folder.file("trace");
  const whole = new KernelChild(errand(0, (places) => tracing(places, "-o", trace)));
  expect(await whole.ended()).toBe(0);
  expect(whole.progress.ended).toBe(ENDED.through);
  const counts = new Map<string, number>();
  const points = callsIn(readFileSync(trace, "utf8")).map((name) => {
    counts.set(name, (counts.get(name) ?? 0) + 1);
    return { name, nth: counts.get(name)! };
  });
  console.log(`${points.length} system calls: ${[...counts].map(([name, count]) => `${count} ${name}`).join(", ")}`);
  expect(points.length).toBeGreaterThan(callsMin);

  let late = 0;
  const chosen = points.filter((_, index) => index % CALL_STRIDE === 0);
  await inLanes(chosen, async ({ name, nth }, lane) => {
    const one = errand(lane, (places) => killing(places, { name, nth }));
    const child = new KernelChild(one);
    await child.ended();
    try {
      if (child.progress.ended !== ENDED.running) late += 1;
      expectSoundAfterDeath(one.path, { oracle, progress: child.progress.progress });
    } catch (error) {
      throw new Error(`killed at ${name} number ${nth} of script ${seed}`, { cause: error });
    }
  });
  // The last calls come when the script is through, or not at all.
  expect(late).toBeLessThan(8);
}

test.skipIf(isSkipped("SIGKILL at every system call", whyNoTracing()))(
  "a process killed at any system call with which a database is made leaves none or a whole one",
  () => killAtEachCall(MADE),
  TIMEOUT_MS,
);

test.skipIf(isSkipped("SIGKILL at every system call", whyNoTracing()))(
  "a process killed at any system call leaves a prefix that holds what was acknowledged",
  () => killAtEachCall(WHOLE),
  TIMEOUT_MS,
);

test.skipIf(isSkipped("SIGKILL at random", whyNoTracing()))(
  `a process killed at any moment leaves a prefix that holds what was acknowledged, ${RANDOM_KILL_COUNT} times`,
  async () => {
    // A kill leaves what the page cache has, on whatever it lies: the lane that waits for no disk does most of them.
    using memory = fastFolder();
    using disk = temporaryFolder();
    const program = childProgram();
    const random = new Random(20_260_102);
    const seeds = Array.from({ length: RANDOM_KILL_COUNT }, () => random.word() >>> 8);
    let midway = 0;
    await inLanes(seeds, async (seed, lane) => {
      const folder = lane === 0 ? memory : disk;
      if ((await killOnce(seed, { folder, program, lane })) === "midway") midway += 1;
    });
    console.log(`${RANDOM_KILL_COUNT} kills, ${midway} of them midway`);
    expect(midway).toBeGreaterThan(RANDOM_KILL_COUNT * 0.9);
  },
  TIMEOUT_MS,
);
