/**
 * Started by turns.test.ts: one transaction after the other, of `holdMs` each, without a pause or a turn of its event loop,
 * until the first word of `words` is not 0, or there have been `most`. The second one counts those that have begun.
 */

import { Emdb, type EmdbShare } from "../../src/index.ts";

declare const self: Worker;

interface Order {
  readonly share: EmdbShare;
  readonly words: Int32Array;
  readonly holdMs: number;
  readonly most: number;
}

self.addEventListener("message", ({ data: { share, words, holdMs, most } }: MessageEvent<Order>) => {
  using db = Emdb.attach(share);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  postMessage("attached");
  while (Atomics.load(words, 0) === 0 && Atomics.load(words, 1) < most) {
    db.transaction((tx) => {
      tx.insert("theirs", "x");
      Atomics.add(words, 1, 1);
      Atomics.notify(words, 1);
      Atomics.wait(pause, 0, 0, holdMs);
    });
  }
  postMessage("done");
});
