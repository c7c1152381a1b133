/** One thread of a recorded history, as fast as it can; see `history-recorder.ts`. */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { Random } from "../sim/random.ts";
import { Recorder } from "./history-recorder.ts";

export interface Orders {
  readonly share: EmdbShare;
  readonly seed: number;
  readonly index: number;
  readonly operations: number;
  /** Room for as many rows of `COLUMNS` numbers as there may be. */
  readonly rows: SharedArrayBuffer;
  /** 0 the clock, which every event raises; 1 threads that are ready; 2 set when all may begin. */
  readonly clock: SharedArrayBuffer;
}

async function run({ share, seed, index, operations, rows, clock }: Orders): Promise<number> {
  const words = new Int32Array(clock);
  const recorder = new Recorder({
    db: Emdb.attach(share),
    random: new Random(seed),
    index,
    rows: new Float64Array(rows),
    tick: () => Atomics.add(words, 0, 1),
  });
  Atomics.add(words, 1, 1);
  Atomics.wait(words, 2, 0);
  let done = 0;
  for (let turn = 0; done < operations; turn += 1) {
    done += recorder.one();
    // The loop turns now and then: what was written goes to the file, and the era is left.
    if (turn % 512 === 511) await new Promise((resolve) => setImmediate(resolve));
  }
  return recorder.count;
}

self.onmessage = ({ data }: MessageEvent<Orders>): void => {
  void run(data).then(
    (count) => postMessage(count),
    (error: unknown) => reportError(error),
  );
};
