/** Started by expiry-death.test.ts: attaches, says so, and writes records with deadlines until it is ended. */

import { Emdb } from "../../src/index.ts";
import type { EmdbShare } from "../../src/api/types.ts";

declare const self: Worker;

self.addEventListener("message", ({ data }: MessageEvent<EmdbShare>) => {
  const db = Emdb.attach(data);
  for (let index = 0; ; index += 1) {
    const key = `${index % 3000}`;
    if (index % 11 === 0) db.remove(key);
    else if (index % 7 === 0) db.insert(key, "gone", { expiresAtMs: 1 + (index % 5) });
    else db.insert(key, "here", { expiresAtMs: 8e15 - (index % 1000) });
    if (index % 900 === 0) db.sweepExpired();
    if (index === 5000) postMessage("running");
  }
});
