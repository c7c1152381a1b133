/** Planted faults are found on a real kernel: killed processes, a file system that dies, full disks. */

import { test } from "bun:test";
import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

// A file of skipped tests alone would say nothing; the machine decides which of them can run.
test("the rings on a real kernel have faults to find", () => {
  if (BANKS.kernel.length === 0) throw new Error("there are none");
});

huntFor(BANKS.kernel);
