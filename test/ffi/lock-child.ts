/** Started by locks.test.ts: tries to lock the file named by the argument, says how it went, and ends holding it. */

import { outcome, system } from "./temporary-folder.ts";

const file = system.open(process.argv[2] ?? "", "write");
console.log(file < 0 ? `open ${outcome(file)}` : outcome(system.lock(file)));
