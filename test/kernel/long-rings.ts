/** What the long run does besides crashes of simulated machines: real deaths, garbage, and stepped lives. */

import { resolve } from "node:path";
import { describeDeaths, searchBackground, searchDeaths } from "../deaths/ring.ts";
import { fastFolder } from "../engine/fixture.ts";
import { FileBench } from "../sim/file-bench.ts";
import { garbage, soundFiles } from "../sim/garbage.ts";
import { endThreads, liveOnce } from "../steps/life.ts";
import { BUSY, COMPACTING } from "../steps/plans.ts";
import { roomyFolder } from "../support/temporary-folder.ts";
import { dieOnce, killOnce } from "./cycle.ts";
import { CachedDisk } from "./cached-disk.ts";
import { Disk, type DiskKind, type MortalDisk } from "./disk.ts";
import { bundledChild, whyNoMounting, whyNoTracing } from "./host.ts";

export interface LongRing {
  readonly name: string;
  /** What is counted. */
  readonly unit: string;
  /** Why it cannot run here; undefined when it can. */
  readonly skipped?: string | undefined;
  /** Does the work of a seed; returns how many there were. @throws what was found, with the seed in it */
  run(seed: number): Promise<number>;
}

interface TestRun {
  readonly file: string;
  readonly title: string;
  readonly env: Readonly<Record<string, string>>;
  /** What one run does. */
  readonly count: number;
}

const GARBAGE_PER_SEED = 500;
const KILLS_PER_SEED = 4;
const DEATHS_PER_SEED = 3;
const DEADLY_CASES_PER_SEED = 50;

function garbageRing(isReadOnly: boolean): LongRing {
  let sound: ReturnType<typeof soundFiles> | undefined;
  return {
    name: isReadOnly ? "garbage, read-only" : "garbage",
    unit: "files",
    run: async (seed) => {
      sound ??= soundFiles();
      const bench = new FileBench({ isReadOnly });
      for (let index = 0; index < GARBAGE_PER_SEED; index += 1) {
        const number = (seed * GARBAGE_PER_SEED + index) >>> 0;
        const { log, image } = garbage(number, sound);
        bench.put(log, image);
        try {
          bench.open();
        } catch (error) {
          throw new Error(`garbage number ${number}: ${String(error)}`, { cause: error });
        }
      }
      bench.dispose();
      return GARBAGE_PER_SEED;
    },
  };
}

function stepRing(name: string, plan: typeof BUSY): LongRing {
  return {
    name,
    unit: "steps",
    run: async (seed) => {
      // By new threads each time: a seed is lived again alone.
      endThreads();
      const { steps, faults } = await liveOnce(seed, plan);
      if (faults.length > 0) throw new Error(`stepped life ${seed}: ${faults.slice(0, 3).join("; ")}`);
      return steps;
    },
  };
}

/** A test of threads, in a process of its own, with a seed. */
function testRing(ring: Pick<LongRing, "name" | "unit">, test: TestRun): LongRing {
  return {
    ...ring,
    run: async (seed) => {
      const number = String(seed >>> 12);
      const child = Bun.spawn([process.execPath, "test", "-t", test.title, test.file], {
        cwd: resolve(import.meta.dir, "../.."),
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, ...test.env, EMDB_TEST_SEED: number },
      });
      const output = await new Response(child.stderr).text();
      if ((await child.exited) === 0) return test.count;
      throw new Error(`EMDB_TEST_SEED=${number} bun test ${test.file}: ${output.match(/^error: .*$/m)?.[0] ?? output}`);
    },
  };
}

const kills: LongRing = {
  name: "killed processes",
  unit: "kills",
  skipped: whyNoTracing(),
  run: async (seed) => {
    using folder = fastFolder();
    const program = bundledChild(folder.path);
    for (let index = 0; index < KILLS_PER_SEED; index += 1)
      await killOnce((seed + index) >>> 8, { folder, program, lane: 0 });
    return KILLS_PER_SEED;
  },
};

/** `make` gets the kind that a seed has drawn of those that can be mounted here. */
function deathsOf(
  name: string,
  kinds: readonly DiskKind[],
  make: (folder: string, kind: DiskKind) => MortalDisk & Disposable,
): LongRing {
  const possible = kinds.filter((kind) => whyNoMounting(kind) === undefined);
  return {
    name,
    unit: "deaths",
    skipped: possible.length > 0 ? undefined : (whyNoMounting("xfs") ?? whyNoMounting("ext4")),
    run: async (seed) => {
      using folder = roomyFolder();
      const program = bundledChild(folder.path);
      using disk = make(folder.path, possible[seed % possible.length]!);
      for (let index = 0; index < DEATHS_PER_SEED; index += 1)
        await dieOnce((seed + index) >>> 8, { folder, program, disk });
      return DEATHS_PER_SEED;
    },
  };
}

const deaths = deathsOf("file systems that die", ["ext4", "xfs"], (folder, kind) => Disk.make(folder, kind, 24));
const cachedDeaths = deathsOf(
  "disks that lose their cache",
  whyNoMounting("xfs") === undefined ? ["ext4", "xfs", "btrfs"] : [],
  (folder, kind) => new CachedDisk(folder, kind),
);

function deathRing(name: string, search: typeof searchDeaths): LongRing {
  return {
    name,
    unit: "deaths",
    run: async (seed) => {
      const { deaths: count, findings } = await search(seed, DEADLY_CASES_PER_SEED);
      if (findings.length > 0) throw new Error(findings.map(describeDeaths).join("\n"));
      return count;
    },
  };
}

export const LONG_RINGS: readonly LongRing[] = [
  garbageRing(false),
  garbageRing(true),
  stepRing("steps of two threads", BUSY),
  stepRing("steps beside deaths", { ...BUSY, clients: 3, deaths: 2 }),
  stepRing("steps of flushes", { ...BUSY, hasCommitWorker: true, churnOneIn: 200, flushOneIn: 3, operations: 100 }),
  stepRing("steps of compactions", COMPACTING),
  stepRing("steps beside deaths in swaps", { ...COMPACTING, deaths: 1, diesInSwap: true }),
  testRing(
    { name: "histories beside compactions", unit: "operations" },
    { file: "./test/workers/history.test.ts", title: "beside compactions", env: {}, count: 300_000 },
  ),
  testRing(
    { name: "ended Workers", unit: "ends" },
    { file: "./test/workers/kill-ring.test.ts", title: "ended at random", env: { EMDB_KILLS: "40" }, count: 40 },
  ),
  deathRing("threads that die", searchDeaths),
  deathRing("threads that die beside commit Workers", searchBackground),
  kills,
  deaths,
  cachedDeaths,
];
