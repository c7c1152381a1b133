/** Started by flush-child.ts: attaches, takes the place of long work, says so, and stays. */

import type { EmdbShare } from "../../src/api/types.ts";
import type { SharedBase } from "../../src/engine/threads/base.ts";
import { Control, LONG_WORK } from "../../src/engine/threads/control.ts";
import { Emdb } from "../../src/index.ts";

declare const self: Worker;

self.addEventListener("message", ({ data }: MessageEvent<EmdbShare>) => {
  const db = Emdb.attach(data);
  db.get("attached");
  // The opening thread has the first row, this one the second.
  Atomics.store(new Control((data as SharedBase).buffer).flags, LONG_WORK, 2);
  postMessage("taken");
});
