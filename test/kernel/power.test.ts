/** A real file system that dies under a running process, over and over: an ext4 on a loop file, shut down at random. */

import { expect, test } from "bun:test";
import { Random } from "../sim/random.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { dieOnce } from "./cycle.ts";
import { Disk } from "./disk.ts";
import { bundledChild, isSkipped, whyNoMounting } from "./host.ts";

const CYCLES = Number(process.env["EMDB_CYCLES"] ?? 100);
const TIMEOUT_MS = 3_600_000;

test.skipIf(isSkipped("a file system that dies", whyNoMounting("ext4")))(
  `what was acknowledged is there after a real file system has died, ${CYCLES} times`,
  async () => {
    using folder = temporaryFolder();
    const program = bundledChild(folder.path);
    using disk = Disk.ext4(folder.path, 24);
    const random = new Random(20_260_103);
    const tally = { midway: 0, acknowledged: 0 };
    for (let cycle = 0; cycle < CYCLES; cycle += 1) {
      const seed = random.word() >>> 8;
      const { acknowledged, isMidway } = await dieOnce(seed, { folder, program, disk });
      if (isMidway) tally.midway += 1;
      tally.acknowledged += acknowledged;
    }
    console.log(`${CYCLES} deaths of an ext4, ${tally.midway} midway, ${tally.acknowledged} acknowledged changes kept`);
    expect(tally.midway).toBeGreaterThan(CYCLES * 0.8);
    expect(tally.acknowledged).toBeGreaterThan(CYCLES);
  },
  TIMEOUT_MS,
);
