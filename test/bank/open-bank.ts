/** The part of the bug bank that is about opens, images, long work and what is counted and kept from one to the next; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

export const OPENS: readonly PlantedFault[] = [
  fault(
    "an open replays the whole log although it has an image",
    "test/engine/open-cost.test.ts",
    "engine/open/hint-open.ts",
    ["from: { lsn: hint.header.start, gates, durable } };", "from: { lsn: FIRST_LSN, gates, durable } };"],
  ),
  {
    name: "an open that has an image counts every record anew",
    probe: "test/engine/open-cost.test.ts",
    seedCount: 1,
    edits: [
      {
        file: "src/engine/open/open.ts",
        from: "  spaces.publishCounts();\n  if (config.rangeScans",
        to: "  spaces.publishCounts();\n  recount(core, spaces);\n  if (config.rangeScans",
      },
      {
        file: "src/engine/open/open.ts",
        from: 'import { Mutex } from "../threads/mutex.ts";',
        to: 'import { recount } from "../threads/audit.ts";\nimport { Mutex } from "../threads/mutex.ts";',
      },
    ],
  },
  fault("a shard's counts are lost over an empty key space", "test/engine/replay.test.ts", "keydir/keydir.ts", [
    "      this.#writeCounts();\n      this.#isDescribed = false;\n      this.#unit = 0;",
    "      this.#unit = 0;",
  ]),
  fault("a file where a folder should be passes for one", "test/engine/refusals.test.ts", "engine/open/open.ts", [
    " || isFile(system, folder)) throw",
    ") throw",
  ]),
  fault(
    "a checkpoint fails beside the close that makes it",
    "test/engine/checkpoint.test.ts",
    "engine/hint/checkpoint.ts",
    ["this.#hasEnded = this.runSync();", "this.runSync();"],
  ),
  fault(
    "a checkpoint resolves beside a close that makes none",
    "test/engine/checkpoint.test.ts",
    "engine/hint/checkpoint.ts",
    [
      'if (!this.#hasEnded || !(error instanceof EmdbError) || error.code !== "EMDB_CLOSED") throw error;',
      "if (!(error instanceof EmdbError)) throw error;",
    ],
  ),
  fault("a close leaves its place to long work", "test/engine/checkpoint.test.ts", "engine/assemble.ts", [
    "    opened.work.give();\n",
    "",
  ]),
  fault("directories are remembered past a new layout", "test/keydir/directories.test.ts", "keydir/directories.ts", [
    "if (this.#flags[RECLAIM_LAYOUT] !== this.#layout) this.#forget();",
    "",
  ]),
  fault(
    "the lock is not seen to be held once others may attach",
    "test/workers/rows.test.ts",
    "engine/threads/mutex.ts",
    ["if (this.#isAlone && this.#depth > 0) Atomics.store(this.#flags, MUTEX, this.#own);", ""],
  ),
  fault(
    "replay gives a removed key that comes back a second slot among the new ones",
    "test/engine/replay.test.ts",
    "engine/open/replay-group.ts",
    ["RemovedHashes(this.#recordCountMax)).note(hash);", "RemovedHashes(this.#recordCountMax)).note(0);"],
  ),
  fault(
    "replay gives a key that comes back the slot of another's removal",
    "test/engine/same-hash.test.ts",
    "engine/open/replay-group.ts",
    ["    if (others > 0) found = this.#ownRemoval(root, lsn, before) || found;\n", ""],
  ),
  fault(
    "replay reads where a removal that names nothing would be",
    "test/engine/same-hash.test.ts",
    "engine/open/replay-group.ts",
    ["if (units === 0 || !isTombstone(", "if (!isTombstone("],
  ),
  fault(
    "replay gives a key that comes back a second slot",
    "test/engine/replay.test.ts",
    "engine/open/replay-group.ts",
    ["    if (found === 0) return false;\n", "    return false;\n"],
  ),
  fault("a shard that is laid out anew forgets its image", "test/engine/checkpoint-held.test.ts", "keydir/shard.ts", [
    "this.#descriptor.f64[DESCRIPTOR_STANDS_FOR] = share.standsFor;",
    "this.#descriptor.f64[DESCRIPTOR_STANDS_FOR] = 0;",
  ]),
  fault(
    "a verify follows each key back, however much is written",
    "test/engine/verify-beside.test.ts",
    "engine/verify/verify-moment.ts",
    [
      "return isExact && core.visible - base - end <= Math.max(FOLLOWED_SHARE * end, FOLLOWED_BYTES_MIN);",
      "return isExact;",
    ],
  ),
  fault(
    "each step of long work waits for a writer's batch of its own",
    "test/engine/held-steps.test.ts",
    "engine/threads/held-steps.ts",
    ["held + Math.min(held - asked, HELD_MS_MAX)", "held"],
  ),
  fault(
    "where each write is a spill, none brings what a spill does",
    "test/engine/tended-writes.test.ts",
    "engine/core.ts",
    ["if (this.writeThrough) this.onSpill();\n    else if (this", "if (this"],
  ),
];
