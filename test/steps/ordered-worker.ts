/** A thread of its own for lives with tiny nodes, every store to shared memory of which is counted (`ordered-life.ts`). */

import { changeModule, expectChanged, instrument } from "./instrument.ts";
import { Mortal } from "./mortal.ts";
import type { Job } from "./ordered-life.ts";

const mortal = new Mortal();
// A few hundred keys make a tree of four levels.
changeModule(/src[\\/]ordered[\\/]node\.ts$/, "{ capacity: 63,", "{ capacity: 6,");
changeModule(/src[\\/]ordered[\\/]ordered\.ts$/, "const PURGE_STEP = 8;", "const PURGE_STEP = 2;");
// The death of a thread never comes in the middle of a copy.
instrument(mortal, { cutsCopies: false });

self.onmessage = async ({ data }: MessageEvent<Job>): Promise<void> => {
  const { runJob } = await import("./ordered-life.ts");
  const { SCENES } = await import("./ordered-scenes.ts");
  expectChanged();
  postMessage(runJob(mortal, data, SCENES));
};
