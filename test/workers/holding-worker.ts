/** Started by flush-child.ts: attaches, says so from inside a transaction, and stays in it. */

import type { EmdbShare } from "../../src/api/types.ts";
import { Emdb } from "../../src/index.ts";

declare const self: Worker;

self.addEventListener("message", ({ data }: MessageEvent<EmdbShare>) => {
  Emdb.attach(data).transaction(() => {
    postMessage("held");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });
});
