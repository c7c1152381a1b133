/** The part of the bug bank that threads which die at any step are to find; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";
import { THREADS } from "./threads-bank.ts";

const DEATHS = "test/deaths/random-deaths.test.ts";
const MOMENTS = "test/compaction/moments.test.ts";
const BACKGROUND = "test/deaths/background.test.ts";

/** One that a test of its own finds as well. */
function foundAgain(name: string): PlantedFault {
  const known = THREADS.find((one) => one.name === name);
  if (known === undefined) throw new Error(`no fault is called ${name}`);
  return { ...known, name: `${name}, at any step`, probe: DEATHS };
}

/** What looks for them counts every store of those who die. */
export const AT_ANY_STEP: readonly PlantedFault[] = [
  foundAgain("a dead writer's lock is taken over without an audit"),
  foundAgain("what the last one out had not let go of when it died stays"),
  fault("a map that a dead thread has put in its place is never the newest", DEATHS, "log/log-words.ts", [
    "numbers[at] === map.address - base) return nameNewest(words, at);",
    "numbers[at] === map.address - base) return;",
  ]),
  fault(
    "who attaches behind a dead thread's swap takes the next file's generation for this one's",
    DEATHS,
    "engine/sealed/vault.ts",
    [
      "return this.#bookOf(base, generation);",
      "return this.#bookOf(base, generation < 0 ? generation : this.#logNumbers[LOG_GENERATION]!);",
    ],
  ),
  fault(
    "with what a dead thread has left goes the table of moves that a replaced file goes by",
    MOMENTS,
    "engine/background/dead-work.ts",
    [".filter(({ address }) => !tables.has(address))", ".filter(({ address }) => tables.size >= 0 && address >= 0)"],
  ),
  fault(
    "with what a dead thread has left goes what the log has open by a name of its",
    MOMENTS,
    "engine/background/dead-work.ts",
    ["  for (const handle of handlesOf(control)) drafts.delete(identityOf(system.statusOf(handle)));\n", ""],
  ),
  fault(
    "beside the target of a dead thread's backup drafts are removed for ever",
    MOMENTS,
    "engine/background/dead-work.ts",
    ["  noteTarget(control, undefined);\n", ""],
  ),
  fault("what a dead thread was installing is let go of twice", DEATHS, "engine/assemble.ts", [
    "    if (isLast) endInstall(core, engine.spaces);\n",
    "",
  ]),
  fault("a table of moves has an address before it has a length", DEATHS, "engine/copy/move-table.ts", [
    "    numbers[MOVES_BYTES] = bytes;\n    numbers[MOVES_ADDRESS] = address;\n  }\n}",
    "    numbers[MOVES_ADDRESS] = address;\n    numbers[MOVES_BYTES] = bytes;\n  }\n}",
  ]),
  {
    name: "a commit Worker says that its sync has failed once another may have made one",
    probe: BACKGROUND,
    seedCount: 1,
    edits: [
      { file: "src/log/commit-script.ts", from: "    Atomics.or(flags, at.state, at.poisoned);\n", to: "" },
      {
        file: "src/log/commit-script.ts",
        from: "  Atomics.compareExchange(flags, at.owner, orders.name, 0);\n",
        to: "  Atomics.compareExchange(flags, at.owner, orders.name, 0);\n  if (number !== 0) Atomics.or(flags, at.state, at.poisoned);\n",
      },
    ],
  },
  fault(
    "whoever waits long for a sync takes the place of the commit Worker that is in it",
    BACKGROUND,
    "engine/sync/sync.ts",
    ["owner !== SYNC_UNHEARD && this.isDead(owner)", "owner !== SYNC_UNHEARD && owner !== this.name"],
  ),
  fault(
    "what the disk said to a dead thread's commit Worker goes with the thread's row",
    BACKGROUND,
    "engine/threads/rows.ts",
    [
      "if (Atomics.compareExchange(flags, SYNC_OWNER, row + 1, SYNC_UNHEARD) === row + 1) {",
      "if (Atomics.compareExchange(flags, SYNC_OWNER, row + 1, 0) === row + 1) {",
    ],
  ),
  fault(
    "a flush behind a refused sync is told of that sync instead of the poison",
    BACKGROUND,
    "engine/sync/group-commit.ts",
    [
      "if (core.control.flags[STATE] !== 0 || core.isClosed) throw refusal(core);",
      "if (core.isClosed) throw refusal(core);",
    ],
  ),
  fault("a thread that leaves does not wait for its commit Worker's end", BACKGROUND, "engine/sync/group-commit.ts", [
    "this.#worker.endNow();",
    "this.#worker.end();",
  ]),
];
