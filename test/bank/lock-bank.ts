/** The part of the bug bank that is about who has a database open; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

const SWAP_DEATH = "test/workers/swap-death.test.ts";
const ROBBED = "test/engine/robbed-open.test.ts";
const NAMES = "test/engine/sidecar-names.test.ts";

export const LOCKS: readonly PlantedFault[] = [
  fault("an open waits for its own process", "test/engine/lock-wait.test.ts", "engine/files/lock-wait.ts", [
    "if (!isTaken || this.#leftMs <= 0 || isHeldHere(this.#system, this.#path, error.holder)) return false;",
    "if (!isTaken || this.#leftMs <= 0) return false;",
  ]),
  fault("a damaged database at the place of another one's image is no database", NAMES, "engine/files/siblings.ts", [
    'decodeHeader(bytes.subarray(0, BEGIN_BYTES)).kind !== "foreign"',
    'decodeHeader(bytes).kind === "sound"',
  ]),
  fault("what a power loss has left at the place of a lock is a database", NAMES, "engine/files/siblings.ts", [
    "return bytes.length >= HEADER_PAGE_BYTES && decodeHeader",
    "return decodeHeader",
  ]),
  fault("who was robbed gives back what the robber has written", ROBBED, "log/reservation.ts", [
    "    look();\n    this.#stepMax",
    "    this.#stepMax",
  ]),
  fault("a salvage that was robbed takes the place of what the robber will make", ROBBED, "engine/salvage/salvage.ts", [
    "    lock.mustBeOurs();\n",
    "",
  ]),
  fault("who is robbed while it recovers cuts off what the robber has written", ROBBED, "engine/open/open.ts", [
    "    core.lockWatch.look();\n    unmapForTruncation",
    "    unmapForTruncation",
  ]),
  fault("a database is made in the place of the one that a robber has made", ROBBED, "engine/open/create.ts", [
    "    lock.mustBeOurs();\n",
    "",
  ]),
  fault("a database whose name could not be made durable is removed under a robber", ROBBED, "engine/open/create.ts", [
    "if (synced < 0 && lock.isOurs)",
    "if (synced < 0)",
  ]),
  fault("a change of the secret that was robbed removes the robber's checkpoint", ROBBED, "engine/copy/rekey.ts", [
    "    lock.mustBeOurs();\n    const hint",
    "    const hint",
  ]),
  fault("who is robbed while it recovers removes the robber's drafts", ROBBED, "engine/open/open.ts", [
    "    lock?.mustBeOurs();\n    image.tidy();",
    "    image.tidy();",
  ]),
  fault("an open that was robbed and fails removes the robber's lock", ROBBED, "engine/files/lock-file.ts", [
    "if (hasFailed && this.#isNew && this.isOurs) this",
    "if (hasFailed && this.#isNew) this",
  ]),
  fault("a backup that was robbed replaces what the robber has made", ROBBED, "engine/copy/backup.ts", [
    "    lock.mustBeOurs();\n",
    "",
  ]),
  fault(
    "a lock broken by one name lets pass whoever has the file under another",
    "test/engine/hard-links.test.ts",
    "engine/files/lock-file.ts",
    [" || (!was.isHeld && was.broken !== status.identity)) return;", ") return;"],
  ),
  fault(
    "a dead holder is named while its database is recovered",
    "test/engine/lock-record.test.ts",
    "engine/open/open.ts",
    ["    plan.lock?.record();\n", ""],
  ),
  fault("one more handle is one on a file that was removed", "test/engine/removed-file.test.ts", "engine/door.ts", [
    "    mustHaveFile(entry.opened, path);\n",
    "",
  ]),
  fault("a handle is refused where a dead thread's swap is not at its end", SWAP_DEATH, "engine/door.ts", [
    "isThere() || Atomics.load(control.flags, SWAP) !== SWAP_NONE",
    "isThere()",
  ]),
  fault("another user's lock in a sticky folder is not opened", "test/ffi/files.test.ts", "ffi/posix.ts", [
    "return existing < 0 ? opened : this.#beyondStandard(existing, { path, isNew: false });",
    "return opened;",
  ]),
  fault(
    "whoever has this process's number is told as this one",
    "test/engine/lock-record.test.ts",
    "engine/files/lock-file.ts",
    ["return hasOurName && mayBeOpenHere(system, lockPath(logPath));", "return hasOurName;"],
  ),
  fault("the lock is not looked at before a write", "test/engine/lock.test.ts", "engine/write/write-path.ts", [
    "if (tail.pendingBytes === 0 || lockWatch.wasRobbed) lockWatch.lookOnce();",
    "",
  ]),
  fault("a look at the lock counts for ever", "test/engine/marks.test.ts", "engine/files/lock-watch.ts", [
    "this.#oursIn === thisRun() && ",
    "",
  ]),
  fault("a mark is written without a look at the lock", "test/engine/lock.test.ts", "engine/sync/sync.ts", [
    " && core.lockWatch.isOurs) this.#writeMark",
    ") this.#writeMark",
  ]),
  fault("what is pending is written without a look at the lock", "test/engine/lock.test.ts", "log/tail.ts", [
    "    if (from >= written) return;\n    this.#look();\n",
    "    if (from >= written) return;\n",
  ]),
  fault("an image gets its name without a look at the lock", ROBBED, "engine/hint/checkpoint.ts", [
    "    this.#core.lockWatch.look();\n    writer.publish();",
    "    writer.publish();",
  ]),
  fault(
    "what a dead thread synced is written again without a look at the lock",
    "test/engine/unheard-sync.test.ts",
    "engine/sync/write-again.ts",
    ["    core.lockWatch.look();\n    must(", "    must("],
  ),
  fault("a long value is written without a look at the lock", "test/engine/marks.test.ts", "log/tail.ts", [
    "    else this.#look();\n    const valueAt",
    "    const valueAt",
  ]),
  fault(
    "the lock is let go of before its file is removed",
    "test/engine/lock-order.test.ts",
    "engine/files/lock-file.ts",
    [
      "    if (hasFailed && this.#isNew && this.isOurs) this.#system.unlink(lockPath(this.#logPath));",
      "    if (hasFailed) this.#system.unlock(this.#handle);\n    if (hasFailed && this.#isNew && this.isOurs) this.#system.unlink(lockPath(this.#logPath));",
    ],
  ),
  fault("a lock is broken after it was let go of", "test/engine/lock-order.test.ts", "engine/files/lock-file.ts", [
    "  system.unlink(path);\n  lock.release(false);",
    "  lock.release(false);\n  system.unlink(path);",
  ]),
  fault("a lock whose record has no room is no lock", "test/engine/room.test.ts", "engine/files/lock-file.ts", [
    'error.code !== "EMDB_FULL" || this.#broken',
    'error.code === "EMDB_FULL" || this.#broken',
  ]),
  fault("a writer is seen by its record alone", "test/engine/read-beside.test.ts", "engine/open/same-file.ts", [
    "!isSame || isLockHeld(system, path)",
    "!isSame",
  ]),
  fault("any file that was locked is the lock", "test/engine/lock-order.test.ts", "engine/files/lock-file.ts", [
    ' && typeof there !== "number" && own.identity === there.identity',
    "",
  ]),
  fault(
    "a log that could not be opened is removed without its lock",
    "test/engine/lock-order.test.ts",
    "engine/open/open.ts",
    [
      "    if (isMade && lock.isOurs) system.unlink(path);\n    lock.release(true);",
      "    lock.release(true);\n    if (isMade) system.unlink(path);",
    ],
  ),
];
