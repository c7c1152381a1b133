/** The part of the bug bank that is looked for on a real kernel; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

/** What the rings on a real kernel look for; `needs` what the machine has to allow. */
export const KERNEL: readonly PlantedFault[] = [
  {
    ...fault(
      "a flush acknowledges without a sync, on a real file system",
      "test/kernel/power.test.ts",
      "engine/sync/sync.ts",
      ["const result = core.system.sync(this.#file.handle);", "const result = 0 as Result;"],
    ),
    needs: "ext4",
  },
  {
    ...fault(
      "what a killed process left of a new log stands in the way",
      "test/kernel/kill.test.ts",
      "engine/open/create.ts",
      ["  removeBegun(system, sibling);\n", ""],
    ),
    needs: "strace",
  },
  {
    ...fault("a full disk makes a close fail", "test/kernel/full.test.ts", "engine/sync/sync.ts", [
      "const markBytes = lacksRoom(marked) ? 0 : must(",
      "const markBytes = must(",
    ]),
    needs: "ext4",
  },
  {
    ...fault(
      "an open for reading maps what only the copy of its file has, on an overlay",
      "test/kernel/overlay.test.ts",
      "engine/open/same-file.ts",
      ["return isSame ? before.bytes : undefined;", "return isSame ? Infinity : undefined;"],
    ),
    needs: "overlay",
  },
];
