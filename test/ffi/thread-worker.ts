/** Started by surroundings.test.ts: says which thread it is and what its clock shows, and lives on. */

import { hostSystem } from "../../src/ffi/host.ts";

const system = hostSystem();
postMessage({ thread: system.threadId(), process: system.processId(), monotonic: system.monotonic() });
setInterval(() => {}, 60_000);
