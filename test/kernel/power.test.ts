/** A real file system that dies under a running process, over and over: on a loop file, shut down at random. */

import { afterAll, expect, test } from "bun:test";
import { fastFolder } from "../engine/fixture.ts";
import { Random } from "../sim/random.ts";
import { roomyFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { CachedDisk } from "./cached-disk.ts";
import { dieOnce } from "./cycle.ts";
import { Disk, type DiskKind, type MortalDisk } from "./disk.ts";
import { bundledChild, isSkipped, whyNoMounting } from "./host.ts";

const CYCLES = Number(process.env["EMDB_CYCLES"] ?? 60);
/** Of the others, which take longer. */
const FEWER_CYCLES = Math.ceil(CYCLES / 6);
const TIMEOUT_MS = 3_600_000;

const home = fastFolder();
afterAll(() => home[Symbol.dispose]());
let built: string | undefined;
const childProgram = (): string => (built ??= bundledChild(home.path));

type DeadlyDisk = MortalDisk & Disposable;

async function dieOverAndOver(cycles: number, make: (folder: TemporaryFolder) => DeadlyDisk): Promise<void> {
  using folder = roomyFolder();
  const program = childProgram();
  using disk = make(folder);
  const random = new Random(20_260_103);
  const tally = { midway: 0, acknowledged: 0 };
  for (let cycle = 0; cycle < cycles; cycle += 1) {
    const seed = random.word() >>> 8;
    const { acknowledged, isMidway } = await dieOnce(seed, { folder, program, disk });
    if (isMidway) tally.midway += 1;
    tally.acknowledged += acknowledged;
  }
  console.log(`${cycles} deaths, ${tally.midway} midway, ${tally.acknowledged} acknowledged changes kept`);
  expect(tally.midway).toBeGreaterThan(cycles * 0.8 - 1);
  expect(tally.acknowledged).toBeGreaterThan(cycles);
}

const SHUT_DOWN = [
  ["ext4", CYCLES],
  ["xfs", FEWER_CYCLES],
] as const;

for (const [kind, cycles] of SHUT_DOWN) {
  test.skipIf(isSkipped(`an ${kind} that dies`, whyNoMounting(kind)))(
    `what was acknowledged is there after an ${kind} has died, ${cycles} times`,
    () => dieOverAndOver(cycles, (folder) => Disk.make(folder.path, kind, 24)),
    TIMEOUT_MS,
  );
}

const CACHED: readonly DiskKind[] = ["ext4", "xfs", "btrfs"];

for (const kind of CACHED) {
  const reason = whyNoMounting("xfs") ?? whyNoMounting(kind);
  test.skipIf(isSkipped(`an ${kind} on a disk that loses its cache`, reason))(
    `what was acknowledged is there after the disk under an ${kind} has lost its cache, ${FEWER_CYCLES} times`,
    () => dieOverAndOver(FEWER_CYCLES, (folder) => new CachedDisk(folder.path, kind)),
    TIMEOUT_MS,
  );
}
