/** Started by lock.test.ts: tries to open the path that it is sent, and says how that went. */

import type { EmdbError } from "../../src/errors.ts";
import { Emdb } from "../../src/index.ts";

declare const self: Worker;

self.addEventListener("message", ({ data }: MessageEvent<string>) => {
  try {
    // However long it would wait: its own process is not waited for.
    Emdb.open(data, { lockTimeoutMs: Infinity }).closeSync();
    postMessage({ code: "open", message: "" });
  } catch (error) {
    const { code, message } = error as EmdbError;
    postMessage({ code, message });
  }
});
