/** Threads that wait for the writer's lock get it in turn, whatever the one does that has it: it may be quicker to take it again. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { Thread } from "./thread.ts";

setDefaultTimeout(240_000);
const ROUNDS = 40;
/** Longer than a thread sleeps at a time for the lock, so that it has waited for long by the end of it. */
const HOLD_MS = 12;
/** Where nobody is let by a write may wait for all there are. */
const MOST = 400;

test("a write beside one long transaction after the other waits for one or two of them", async () => {
  using db = Emdb.openInMemory();
  const words = new Int32Array(new SharedArrayBuffer(8));
  const other = new Thread("turns-worker.ts", { share: db.share(), words, holdMs: HOLD_MS, most: MOST });
  expect(await other.said()).toBe("attached");
  let between = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const seen = Atomics.load(words, 1);
    if (seen >= MOST) break;
    Atomics.wait(words, 1, seen);
    const began = Atomics.load(words, 1);
    db.insert("ours", String(round));
    between += Atomics.load(words, 1) - began;
  }
  Atomics.store(words, 0, 1);
  expect(await other.said()).toBe("done");
  await other.kill();
  // Three for each and more where nobody is let by; where they are none, most often, and a dozen once one had no processor for 10 ms.
  expect(between).toBeLessThan(1.5 * ROUNDS);
});
