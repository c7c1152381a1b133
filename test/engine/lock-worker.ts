/** Started by lock.test.ts: tries to open the path that it is sent, and says how that went. */

import { EmdbError } from "../../src/errors.ts";
import { Emdb } from "../../src/index.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<string>) => {
  try {
    Emdb.open(data).closeSync();
    postMessage({ code: "open", message: "" });
  } catch (error) {
    const { code, message } = error as EmdbError;
    postMessage({ code, message });
  }
};
