/**
 * A writer dies before any of its stores to shared memory, and another thread takes over: the hash index and the ordered
 * index say the same, and that is what was there before or after; an image and a reopen say it too.
 */

import { expect, test } from "bun:test";
import { fastFolder } from "../engine/fixture.ts";
import { emulator } from "../support/platform.ts";
import type { Deaths, Findings, Job } from "./ordered-life.ts";
import { SCENES } from "./ordered-scenes.ts";

const TIMEOUT_MS = 1_200_000;
const all = process.env["EMDB_SOAK"] !== undefined;

/** How many deaths of a kind; an emulated processor takes ten times as long. */
function atMost(count: number): number {
  if (all) return Infinity;
  return emulator === undefined ? count : Math.ceil(count / 16);
}

const DEATHS: readonly Deaths[] = [
  { writesThrough: false, isHeld: false, deathsMax: atMost(32), secondsMax: 0 },
  { writesThrough: false, isHeld: true, deathsMax: atMost(10), secondsMax: 0 },
  { writesThrough: true, isHeld: false, deathsMax: atMost(6), secondsMax: 0 },
  { writesThrough: false, isHeld: false, deathsMax: atMost(3), secondsMax: all ? 40 : atMost(4) },
];

/** Not in a bundle: what is changed as it is loaded has to be loaded by itself. */
async function findings(job: Omit<Job, "folder">): Promise<Findings> {
  using folder = fastFolder();
  const worker = new Worker(new URL("./ordered-worker.ts", import.meta.url).href);
  const found = new Promise<Findings>((resolve, reject) => {
    worker.addEventListener("message", ({ data }: MessageEvent<Findings>) => resolve(data));
    worker.addEventListener("error", ({ message }) => reject(new Error(message)));
  });
  worker.postMessage({ ...job, folder: folder.path });
  try {
    return await found;
  } finally {
    worker.terminate();
  }
}

test.each(Object.keys(SCENES))(
  "a death at any store of %s leaves two indexes that agree, with all of it or nothing",
  async (scene) => {
    for (const deaths of DEATHS) {
      const found = await findings({ ...deaths, scene });
      expect(found.faults).toEqual([]);
      expect(found.deaths).toBeGreaterThanOrEqual(Math.min(found.stores, deaths.deathsMax) / 2);
      if (deaths.secondsMax > 0) expect(found.seconds).toBeGreaterThanOrEqual(found.deaths);
    }
  },
  TIMEOUT_MS,
);
