/** A real file system that dies under a running process, over and over: an ext4 on a loop file, shut down at random. */

import { expect, test } from "bun:test";
import { Random } from "../sim/random.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { expectSoundAfterDeath } from "./after-death.ts";
import { DEATHS, Disk } from "./disk.ts";
import { bundledChild, isSkipped, KernelChild, whyNoMounting } from "./host.ts";
import { ENDED, kernelScript, oracleOf } from "./script.ts";

const CYCLES = Number(process.env["EMDB_CYCLES"] ?? 100);
const SCRIPT_LENGTH = 300;
const TIMEOUT_MS = 3_600_000;

test.skipIf(isSkipped("a file system that dies", whyNoMounting("ext4")))(
  `what was acknowledged is there after a real file system has died, ${CYCLES} times`,
  async () => {
    using folder = temporaryFolder();
    const program = bundledChild(folder.path);
    using disk = Disk.ext4(folder.path, 24);
    const random = new Random(20_260_103);
    const tally = { midway: 0, acknowledged: 0, lost: 0 };
    for (let cycle = 0; cycle < CYCLES; cycle += 1) {
      const seed = random.word() >>> 8;
      const path = `${disk.at}/data.emdb`;
      const mode = seed % 2 === 0 ? "async" : "";
      const progressPath = folder.file("progress");
      const child = new KernelChild({ program, path, progressPath, seed, length: SCRIPT_LENGTH, mode });
      await child.hasBegun(1 + random.below(120));
      // Before the end, so that nothing counts which was acknowledged too late.
      const { acknowledged } = child.progress;
      disk.die(random.pick([DEATHS.journalFlushed, DEATHS.journalLost]));
      child.kill();
      await child.ended();
      const { begun: issued, ended } = child.progress;
      disk.unmount();
      disk.mount();
      try {
        expect(ended).not.toBe(ENDED.untyped);
        expectSoundAfterDeath(path, {
          oracle: oracleOf(kernelScript(seed, SCRIPT_LENGTH)),
          progress: { acknowledged, issued },
        });
      } catch (error) {
        throw new Error(`the file system died in cycle ${cycle}, script ${seed}`, { cause: error });
      }
      if (ended === ENDED.running || ended === ENDED.typed) tally.midway += 1;
      tally.acknowledged += acknowledged;
      disk.unmount();
      disk.format();
      disk.mount();
    }
    console.log(`${CYCLES} deaths of an ext4, ${tally.midway} midway, ${tally.acknowledged} acknowledged changes kept`);
    expect(tally.midway).toBeGreaterThan(CYCLES * 0.8);
    expect(tally.acknowledged).toBeGreaterThan(CYCLES);
  },
  TIMEOUT_MS,
);
