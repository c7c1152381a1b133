/** The part of the bug bank that is about who has a database open; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

const ROBBED = "test/engine/robbed-open.test.ts";

export const LOCKS: readonly PlantedFault[] = [
  fault("who is robbed while it recovers cuts off what the robber has written", ROBBED, "engine/open.ts", [
    "    core.lockWatch.look();\n    unmapForTruncation",
    "    unmapForTruncation",
  ]),
  fault("a database is made in the place of the one that a robber has made", ROBBED, "engine/create.ts", [
    "    lock.mustBeOurs();\n",
    "",
  ]),
  fault("an open that was robbed and fails removes the robber's lock", ROBBED, "engine/lock-file.ts", [
    "if (hasFailed && this.#isNew && this.isOurs) this",
    "if (hasFailed && this.#isNew) this",
  ]),
  fault("a backup that was robbed replaces what the robber has made", ROBBED, "engine/backup.ts", [
    "    lock.mustBeOurs();\n",
    "",
  ]),
  fault(
    "a lock broken by one name lets pass whoever has the file under another",
    "test/engine/hard-links.test.ts",
    "engine/lock-file.ts",
    [" || (!was.isHeld && was.broken !== status.identity)) return;", ") return;"],
  ),
  fault("a dead holder is named while its database is recovered", "test/engine/lock-record.test.ts", "engine/open.ts", [
    "    plan.lock?.record();\n",
    "",
  ]),
  fault("one more handle is one on a file that was removed", "test/engine/removed-file.test.ts", "engine/door.ts", [
    "    mustHaveFile(entry.opened, path);\n",
    "",
  ]),
  fault("another user's lock in a sticky folder is not opened", "test/ffi/files.test.ts", "ffi/posix.ts", [
    "return existing < 0 ? opened : existing;",
    "return opened;",
  ]),
  fault(
    "whoever has this process's number is told as this one",
    "test/engine/lock-record.test.ts",
    "engine/lock-file.ts",
    ["const isOurs = hasOurName && mayBeOpenHere(system, lockPath(logPath));", "const isOurs = hasOurName;"],
  ),
];
