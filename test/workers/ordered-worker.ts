/** Started by ordered.test.ts: writes and removes records in pairs, one batch each, as fast as it can. */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { Random } from "../sim/random.ts";

declare const self: Worker;

const PAIRS = 20_000;
const state = { isStopped: false };

async function write(share: EmdbShare): Promise<void> {
  const db = Emdb.attach(share);
  const random = new Random(5);
  const live = new Set<number>();
  for (let round = 1; !state.isStopped; round += 1) {
    // Grows to its full size and shrinks again, so that leaves divide and join all the time.
    const isGrowing = Math.floor(round / 300) % 2 === 0;
    for (let step = 0; step < 40; step += 1) {
      const id = random.below(PAIRS);
      const name = id.toString(36).padStart(12, "0");
      if (isGrowing) {
        const value = `${round}:${step}`;
        db.insertMany([
          [`a${name}`, value],
          [`b${name}`, value],
        ]);
        live.add(id);
      } else if (live.delete(id)) db.removeMany([`a${name}`, `b${name}`]);
    }
    if (round === 20) postMessage("writing");
    if (round % 50 === 0) await new Promise<void>((resolve) => void setImmediate(resolve));
  }
  await db.close();
  postMessage("stopped");
}

self.addEventListener("message", ({ data }: MessageEvent<EmdbShare | "stop">) => {
  if (data === "stop") state.isStopped = true;
  else void write(data);
});
