/** A thread of its own for lives with tiny shards, every store to shared memory of which is counted (`ordered-life.ts`). */

import { changeModule, expectChanged, instrument } from "./instrument.ts";
import { Mortal } from "./mortal.ts";
import type { Job } from "./ordered-life.ts";

const mortal = new Mortal();
// Some sixty keys fill a shard.
const USED = `export const PAGE_USED_MAX = 410;
/** Slots a page that a new layout stays below, 75 %: halves of a full shard of seven then fit four pages each. */
const PAGE_USED_AIM = 384;`;
changeModule(/src[\\/]keydir[\\/]shard\.ts$/, USED, "export const PAGE_USED_MAX = 10;\nconst PAGE_USED_AIM = 8;");
const SHRINK = `const SHRINK_TOMBSTONES_STEP = 128;
/** ... holds fewer live slots a page than this, 35 %. */
const SHRINK_LIVE_MAX = 180;`;
const SHRINK_SOON = "const SHRINK_TOMBSTONES_STEP = 2;\nconst SHRINK_LIVE_MAX = 4;";
changeModule(/src[\\/]keydir[\\/]keydir\.ts$/, SHRINK, SHRINK_SOON);
changeModule(
  /src[\\/]engine[\\/]write[\\/]batch-removals\.ts$/,
  "const TIDY_REMOVALS_MIN = 128;",
  "const TIDY_REMOVALS_MIN = 4;",
);
changeModule(/src[\\/]engine[\\/]write[\\/]room-ahead\.ts$/, "const FIRST = 1024;", "const FIRST = 8;");
// The death of a thread never comes in the middle of a copy.
instrument(mortal, { cutsCopies: false });

self.onmessage = async ({ data }: MessageEvent<Job>): Promise<void> => {
  const { runJob } = await import("./ordered-life.ts");
  const { INDEX_SCENES } = await import("./index-scenes.ts");
  expectChanged();
  postMessage(runJob(mortal, data, INDEX_SCENES));
};
