/** The part of the bug bank that is about threads beside each other; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

const OVERTAKEN = "test/ordered/overtaken.test.ts";
const SNAPSHOT = "test/engine/snapshot.test.ts";
const ROWS = "test/workers/rows.test.ts";
const WEAK_ORDER = "test/ordered/weak-order.test.ts";
const PUBLISHED = "test/engine/weak-order.test.ts";
const RING = "test/log/ring.test.ts";
const TOKEN = "test/workers/share-token.test.ts";

/** What stepping the protocols of shared memory looks for. */
export const THREADS: readonly PlantedFault[] = [
  fault("a token is believed whatever it says", TOKEN, "engine/threads/base.ts", [
    "return numbers[TOKEN_CHECK] === checkOf(text) ? baseOf(buffer, text) : undefined;",
    "return numbers[TOKEN_CHECK] !== 0 ? baseOf(buffer, text) : undefined;",
  ]),
  fault("a copy of a database's words passes for them", TOKEN, "engine/threads/base.ts", [
    "  if (numbers[BLOCK_ADDRESS] !== addressOf(new Uint8Array(buffer))) return undefined;\n",
    "",
  ]),
  fault("the token of a database is what the database itself goes by", TOKEN, "engine/threads/base.ts", [
    "  numbers[BLOCK_ADDRESS] = addressOf(new Uint8Array(buffer));\n  return baseOf(buffer, text);",
    "  numbers[BLOCK_ADDRESS] = addressOf(new Uint8Array(buffer));\n  return base;",
  ]),
  fault("a remove looks before it has the lock", "test/workers/history.test.ts", "engine/engine.ts", [
    "    return this.#writing(() => {\n      const state = space as SpaceState;\n      const value = this.#read.get(state, key);",
    "    const value = this.#read.get(space as SpaceState, key);\n    return this.#writing(() => {\n      const state = space as SpaceState;",
  ]),
  fault("the writer's lock is taken by a look and a store", "test/steps/index.test.ts", "engine/threads/mutex.ts", [
    "      if (Atomics.compareExchange(this.#flags, MUTEX, 0, this.#own) === 0) return true;",
    "      if (Atomics.load(this.#flags, MUTEX) === 0) return Atomics.store(this.#flags, MUTEX, this.#own) > 0;",
  ]),
  fault("a thread counts as dead when memory is short", "test/ffi/windows-calls.test.ts", "ffi/win32-threads.ts", [
    "return code !== ERROR_INVALID_PARAMETER && code !== ERROR_ACCESS_DENIED;",
    "return code < 0;",
  ]),
  fault("a dead thread lives on in one that has its number", "test/ffi/windows-calls.test.ts", "ffi/win32-threads.ts", [
    "moments.includes(UNKNOWN) || moments[0] === moments[1];",
    "true;",
  ]),
  fault("a living holder's lock is taken over", "test/steps/index.test.ts", "engine/threads/mutex.ts", [
    "if (!isOwn && this.#system.isThreadAlive(thread - 1)) return false;",
    "",
  ]),
  {
    name: "the lock of one who has left is taken from the next who has its row",
    probe: ROWS,
    seedCount: 1,
    edits: [
      { file: "src/engine/threads/mutex.ts", from: "    if (thread <= 0) return false;\n", to: "" },
      {
        file: "src/engine/threads/mutex.ts",
        from: "if (!isOwn && this.#system.isThreadAlive(thread - 1)) return false;",
        to: "if (thread > 0 && !isOwn && this.#system.isThreadAlive(thread - 1)) return false;",
      },
    ],
  },
  fault(
    "the place of one who has left is taken from the next who has its row",
    ROWS,
    "engine/background/long-work.ts",
    ["if (thread === 0 || (thread > 0 &&", "if ((thread > 0 &&"],
  ),
  fault("who writes waits for a dead one again and again", "test/workers/left-waiting.test.ts", "engine/core.ts", [
    "    this.mutex.onNobodyCame = () => reapDeadRows(control, system);\n",
    "",
  ]),
  fault("the writer's lock names a row, whoever has it", ROWS, "engine/threads/mutex.ts", [
    " + ((thread & ((1 << THREAD_BITS) - 1)) << ROW_BITS);",
    ";",
  ]),
  {
    name: "a thread is counted once it has its row",
    probe: ROWS,
    seedCount: 1,
    edits: [
      {
        file: "src/engine/threads/rows.ts",
        from: "  Atomics.add(rows, RECLAIM_ATTACHED, 1);\n  for (",
        to: "  for (",
      },
      {
        file: "src/engine/threads/rows.ts",
        from: "    beginEra(rows);\n",
        to: "    Atomics.add(rows, RECLAIM_ATTACHED, 1);\n    beginEra(rows);\n",
      },
      { file: "src/engine/threads/rows.ts", from: "  }\n  Atomics.sub(rows, RECLAIM_ATTACHED, 1);\n", to: "  }\n" },
    ],
  },
  fault("who gives its row back looks for a moment like one who stays", ROWS, "engine/threads/rows.ts", [
    "  const rows = control.reclaim;\n  if (control",
    "  const rows = control.reclaim;\n  Atomics.store(rows, ROW_ERA_AT + row, IDLE);\n  if (control",
  ]),
  fault("the walk of a dead thread keeps what is cleared", SNAPSHOT, "engine/write/write-path.ts", [
    "      if (core.control.flags[SNAPSHOTS]! > 0) reapDeadRows(core.control, core.system);\n",
    "",
  ]),
  fault("the walk of a dead thread keeps what is removed", SNAPSHOT, "engine/write/write-path.ts", [
    "        this.#forgetDead();\n",
    "",
  ]),
  fault("a walk that ends beside a writer leaves what is cleared for good", SNAPSHOT, "engine/write/write-path.ts", [
    " || core.control.flags[GRAVES] !== 0;",
    ";",
  ]),
  fault("whoever ends a walk beside an older one goes over all namespaces", SNAPSHOT, "engine/read/snapshot.ts", [
    "core.keepFrom() * 8 >= before && ",
    "",
  ]),
  fault("the end of a walk goes over all that are open", SNAPSHOT, "engine/read/snapshot.ts", [
    "    const oldest = first?.lsn ?? Infinity;",
    "    let oldest = first?.lsn ?? Infinity;\n    for (const other of this.#open) oldest = Math.min(oldest, other.lsn);",
  ]),
  fault("the newest walk that is open is taken for the oldest", SNAPSHOT, "engine/read/snapshot.ts", [
    "const [first] = this.#open;",
    "const first = [...this.#open].at(-1);",
  ]),
  fault("who died waiting is waited with", "test/workers/left-waiting.test.ts", "engine/threads/rows.ts", [
    "-Atomics.load(flags, rows + row));",
    "0);",
  ]),
  fault(
    "a thread that has left begins a moment in the row of another",
    "test/engine/leaving.test.ts",
    "engine/engine.ts",
    ["    this.core.enter();\n    // Another Worker's batch", "    // Another Worker's batch"],
  ),
  fault(
    "each record of a getMany is held against a later clock",
    "test/engine/expiry.test.ts",
    "engine/read/read-path.ts",
    ["if (this.#nowMs < 0) this.#nowMs = core.now();", "this.#nowMs = core.now();"],
  ),
  fault("each record of a removeMany is held against a later clock", "test/engine/expiry.test.ts", "engine/engine.ts", [
    "this.core.atOneMoment(() => this.#writeBatch(count, write))",
    "this.#writeBatch(count, write)",
  ]),
  fault(
    "a dead writer's lock is taken over without an audit",
    "test/steps/compaction.test.ts",
    "engine/threads/mutex.ts",
    ["    Atomics.store(this.#flags, AUDIT, 1);\n", ""],
  ),
  fault("retired memory is used again while somebody reads it", "test/keydir/overtaken.test.ts", "ffi/reclaim.ts", [
    "!== thread) oldest = era;",
    "!== thread) continue;",
  ]),
  fault("a sync counts for what is written when it has come back", "test/steps/sync.test.ts", "engine/sync/sync.ts", [
    "      this.#sync(this.#core.control.log.numbers[LOG_WRITTEN]!);\n    } finally {",
    "      this.#sync(0);\n      this.#core.control.log.numbers[LOG_DURABLE] = this.#core.control.log.numbers[LOG_WRITTEN]!;\n    } finally {",
  ]),
  fault(
    "who follows an owner that died syncs what it has left as it is",
    "test/steps/sync.test.ts",
    "engine/sync/sync.ts",
    ["      this.#followDead();\n      return true;", "      return true;"],
  ),
  fault("a sync that failed is tried again", "test/steps/sync.test.ts", "engine/sync/sync.ts", [
    "      Atomics.or(core.control.flags, STATE, STATE_POISONED);\n      throw this.failure(result);",
    "      throw this.failure(result);",
  ]),
  fault(
    "who gives the sync's place back takes it from the next one",
    "test/steps/sync.test.ts",
    "engine/sync/sync.ts",
    [
      "    } finally {\n      this.#giveOwner();\n    }\n  }\n\n  /** Runs something while nobody",
      "    } finally {\n      this.#giveOwner();\n      Atomics.store(this.#core.control.flags, SYNC_OWNER, 0);\n    }\n  }\n\n  /** Runs something while nobody",
    ],
  ),
  fault("a sync covers what was written while it ran", "test/steps/commit.test.ts", "engine/sync/sync.ts", [
    "if (numbers[LOG_DURABLE]! < target) numbers[LOG_DURABLE] = target;",
    "if (numbers[LOG_DURABLE]! < target) numbers[LOG_DURABLE] = numbers[LOG_WRITTEN]!;",
  ]),
  fault(
    "the commit Worker's sync covers what was written while it ran",
    "test/steps/commit.test.ts",
    "log/commit-script.ts",
    [
      "  const target = numbers[at.logWritten];\n  const number = sync(numbers[at.logFile]);",
      "  const number = sync(numbers[at.logFile]);\n  const target = numbers[at.logWritten];",
    ],
  ),
  fault(
    "a dead host's commit Worker is waited for",
    "test/engine/commit-worker.test.ts",
    "engine/sync/commit-worker.ts",
    ["(host !== 0 && !this.#sync.isDead(host))", "host !== 0"],
  ),
  fault(
    "a commit Worker that cannot be started takes the place of the one before it, which syncs",
    "test/engine/commit-worker.test.ts",
    "engine/sync/commit-worker.ts",
    [
      "    this.#awaitEnds();\n    this.#sync.releaseOwn();\n    this.#onLost();\n",
      "    this.#sync.releaseOwn();\n    this.#onLost();\n",
    ],
  ),
  fault("a flush writes what a dead writer has left", "test/workers/deaths.test.ts", "engine/sync/sync.ts", [
    "core.tail.spill(target);",
    "core.tail.spill();",
  ]),
  fault("a mark is written by the words that a dead writer left", "test/engine/marks.test.ts", "engine/sync/sync.ts", [
    "core.control.flags[AUDIT] === 0 && core.control.flags[CLOSING] === 0;",
    "core.control.flags[CLOSING] === 0;",
  ]),
  fault(
    "what the last one out had not let go of when it died stays",
    "test/engine/closing-death.test.ts",
    "engine/open/open.ts",
    ["    if (isLeft) releaseBase(system, base);\n", ""],
  ),
  fault(
    "who comes behind a death in the last close reads a log without a map",
    "test/engine/closing-death.test.ts",
    "engine/open/open.ts",
    ["  if (base.path !== undefined && isMapGone)", "  if (base.path === undefined && isMapGone)"],
  ),
  fault("an attach that is refused keeps its row", "test/engine/closing-death.test.ts", "engine/open/open.ts", [
    "    if (!isDecided) clearRow(control, row);\n",
    "",
  ]),
  fault(
    "what was let go of by a last one out that died is let go of again",
    "test/engine/closing-death.test.ts",
    "engine/assemble.ts",
    ["  control.log.numbers[LOG_RING] = 0;\n", ""],
  ),
  fault(
    "what was refused is taken out of a file that is being swapped",
    "test/engine/refused-writes.test.ts",
    "engine/sync/sync.ts",
    ["if (control.flags[SWAP] !== SWAP_NONE || !tail.holdsRefused) return;", "if (!tail.holdsRefused) return;"],
  ),
  {
    name: "a thread writes the mark that it owes once another may have closed the file",
    probe: "test/engine/leaving.test.ts",
    seedCount: 1,
    edits: [
      {
        file: "src/engine/assemble.ts",
        from: "      sync?.markNow();\n      markLeaving(control, core.row);",
        to: "      markLeaving(control, core.row);",
      },
      {
        file: "src/engine/assemble.ts",
        from: "    sync?.markNever();\n",
        to: "    if (isLast) sync?.markNever();\n    else sync?.markNow();\n",
      },
      { file: "src/engine/sync/sync.ts", from: " && core.control.flags[CLOSING] === 0;", to: ";" },
    ],
  },
  fault(
    "a thread that leaves is refused because the last one has closed",
    "test/engine/leaving.test.ts",
    "engine/assemble.ts",
    [
      "      if (sync !== undefined && control.flags[STATE] !== 0) refused = refusal(core);\n      isLast = isLastOut(core, sync);\n",
      "      isLast = isLastOut(core, sync);\n      if (sync !== undefined && control.flags[STATE] !== 0) refused = refusal(core);\n",
    ],
  ),
  fault("a long frame counts before it is said to be in the file", RING, "log/tail.ts", [
    "    this.#numbers[LOG_WRITTEN] = end;\n    this.#numbers[LOG_TAIL] = end;\n  }\n\n  retreat(end: number): boolean {\n    if",
    "    this.#numbers[LOG_TAIL] = end;\n    this.#numbers[LOG_WRITTEN] = end;\n  }\n\n  retreat(end: number): boolean {\n    if",
  ]),
  fault("the ring is written over before that is said for sure", RING, "log/tail.ts", [
    "end + CLAIM_AHEAD_BYTES;\n      barrier(this.#words.flags, LOG_FENCE);\n",
    "end + CLAIM_AHEAD_BYTES;\n",
  ]),
  fault("frames count as written before their bytes are out", RING, "log/tail.ts", [
    "    barrier(this.#words.flags, LOG_FENCE);\n    this.#numbers[LOG_WRITTEN] = written;",
    "    this.#numbers[LOG_WRITTEN] = written;",
  ]),
  fault("what is published is said to be visible before it is out", PUBLISHED, "engine/write/write-path.ts", [
    "    core.orderStores();\n    log.numbers[LOG_VISIBLE] = core.tail.end;\n    this.#spaces",
    "    log.numbers[LOG_VISIBLE] = core.tail.end;\n    this.#spaces",
  ]),
  {
    name: "a batch is visible before the ordered index has its keys",
    probe: PUBLISHED,
    seedCount: 1,
    edits: [
      {
        file: "src/engine/write/write-path.ts",
        from: "    core.ordering?.enterGathered(this.#spaces);\n    if",
        to: "    if",
      },
      {
        file: "src/engine/write/write-path.ts",
        from: "core.tail.end;\n    this.#spaces.publishCounts();",
        to: "core.tail.end;\n    core.ordering?.enterGathered(this.#spaces);\n    this.#spaces.publishCounts();",
      },
    ],
  },
  fault("an abort ends a batch that has its end", "test/workers/deaths.test.ts", "engine/write/write-path.ts", [
    "const isDone = isEnded &&",
    "const isDone = isEnded && !isEnded &&",
  ]),
  fault("what a failed write left in the file is taken for gone", "test/engine/batches.test.ts", "log/tail.ts", [
    "    this.#numbers[LOG_TOUCHED] = Math.max(end, this.#numbers[LOG_TOUCHED]!);\n",
    "",
  ]),
  fault(
    "what a dead writer left in the ordered index is undone in copies from before",
    "test/steps/ordered-deaths.test.ts",
    "engine/write/write-path.ts",
    ["    renumberTrees(core, this.#spaces);\n", ""],
  ),
  fault(
    "a directory that a dead writer left half renamed stays so",
    "test/steps/index-deaths.test.ts",
    "engine/threads/audit.ts",
    ["    if (root !== 0) repairDirectory(core.keydir, root);\n", ""],
  ),
  fault(
    "an inner node that finds no memory to be joined hides a change of the ordered index",
    "test/ordered/short-memory.test.ts",
    "ordered/inner.ts",
    ["      leaveForLater(error);\n", "      throw error;\n"],
  ),
  fault("a node of the ordered index is named beside what it holds", WEAK_ORDER, "ordered/inner.ts", [
    "    path.heap.keepOrder();\n",
    "",
  ]),
  fault("a change of the ordered index is noted beside the store that makes it", WEAK_ORDER, "ordered/path.ts", [
    "    this.heap.keepOrder();\n    this.changes = this.heap.nextChange();",
    "    this.changes = this.heap.nextChange();",
  ]),
  fault("a walk goes on by the way at hand where the tree has got higher or lower", WEAK_ORDER, "ordered/path.ts", [
    " && this.#heightThen === this.height;",
    ";",
  ]),
  fault("a root of before a change is taken for one of behind it", WEAK_ORDER, "ordered/path.ts", [
    "      this.heap.keepOrder();\n      copy(this.treeMemory.address, address, 8);\n",
    "",
  ]),
  fault("a reader keeps its copies of nodes when the tree has changed", OVERTAKEN, "ordered/path.ts", [
    "      this.forget();\n      this.tree = tree;",
    "      this.tree = tree;",
  ]),
  fault(
    "the place of an owner that died in a sync is free at once",
    "test/engine/unheard-sync.test.ts",
    "engine/sync/sync.ts",
    [
      "if (Atomics.compareExchange(flags, SYNC_OWNER, owner, SYNC_UNHEARD) !== owner) return;",
      "if (Atomics.compareExchange(flags, SYNC_OWNER, owner, 0) !== owner) return;",
    ],
  ),
  fault(
    "what the cache has dropped is written again",
    "test/engine/unheard-sync.test.ts",
    "engine/sync/write-again.ts",
    ["return isSound(core, file, { from, to });", "return true;"],
  ),
  fault("a thread passes over namespaces of before its own", "test/engine/learned-spaces.test.ts", "engine/spaces.ts", [
    "    this.#learn();\n    heap.ensureSpace(space.id);",
    "    heap.ensureSpace(space.id);",
  ]),
  fault(
    "a getMany goes on behind a clear that came later",
    "test/engine/taken-back.test.ts",
    "engine/read/read-path.ts",
    [
      "const root = this.#spaces.rootOf(space, this.#visible);",
      "const root = this.#spaces.rootAt(space, this.#visible);",
    ],
  ),
  fault(
    "a getMany begins with the index of a later clear",
    "test/engine/taken-back.test.ts",
    "engine/read/read-path.ts",
    ["if (core.isShared) this.#root = this.#spaces.rootOf(space, this.#visible);", ""],
  ),
  fault(
    "a flush waits for ever behind a dead owner that nobody can follow",
    "test/engine/commit-worker.test.ts",
    "engine/sync/group-commit.ts",
    ["if (isSyncing && canFollow) return 0;", "if (isSyncing) return 0;"],
  ),
  {
    name: "a dead owner is followed beside a writer",
    probe: "test/engine/unheard-sync.test.ts",
    seedCount: 1,
    edits: [
      {
        file: "src/engine/sync/sync.ts",
        from: "if (!mutex.tryLock(1)) return false;",
        to: "const isHeld = mutex.tryLock(1);",
      },
      {
        file: "src/engine/sync/sync.ts",
        from: "      return true;\n    } finally {\n      mutex.unlock();",
        to: "      return true;\n    } finally {\n      if (isHeld) mutex.unlock();",
      },
    ],
  },
  fault("a folder that a dead thread had open stays open", ROWS, "engine/threads/rows.ts", [
    "    closeFile(system, folderOf(control, row));\n",
    "",
  ]),
  fault("a dead thread goes on hosting the commits", ROWS, "engine/threads/rows.ts", [
    "  Atomics.compareExchange(flags, COMMIT_HOST, row + 1, 0);\n",
    "",
  ]),
  fault("a dead thread's waits are counted for good", ROWS, "engine/threads/rows.ts", [
    "    countForRow(control, { total, rows, row }, -Atomics.load(flags, rows + row));\n",
    "",
  ]),
  fault("a thread that dies while it counts takes a living one's count with it", ROWS, "engine/threads/control.ts", [
    "  if (change < 0) Atomics.add(flags, at.rows + at.row, change);\n  Atomics.add(flags, at.total, change);\n",
    "  Atomics.add(flags, at.total, change);\n  if (change < 0) Atomics.add(flags, at.rows + at.row, change);\n",
  ]),
  fault("a row that is taken does not count as used", SNAPSHOT, "engine/threads/rows.ts", [
    "    noteUsed(control, row);\n",
    "",
  ]),
  fault("beside a walk a writer looks at every row that there can be", SNAPSHOT, "engine/core.ts", [
    "SNAPSHOT_ROWS + flags[ROWS_USED]!;",
    "SNAPSHOT_ROWS + 256;",
  ]),
];

/** What stepping the swap of a compaction looks for. */
export const SWAPS: readonly PlantedFault[] = [
  fault(
    "a miss counts, whatever was taken back meanwhile",
    "test/engine/taken-back.test.ts",
    "engine/read/read-path.ts",
    ["} else if (!isShared || !core.log.hasRetreated(this.#retreats)) {", "} else {"],
  ),
  fault("a clear that is taken back is looked at once", "test/engine/taken-back.test.ts", "engine/spaces.ts", [
    "if (this.clears(space) === clears && keydir.layout === layout) return result;",
    "return result;",
  ]),
  fault("the end of a map is believed of the map behind it", "test/engine/weak-order.test.ts", "log/log-words.ts", [
    "if (numbers[at + 1] === end) return end;",
    "return end;",
  ]),
  fault("the new file is named before its base", "test/steps/compaction.test.ts", "engine/copy/swap.ts", [
    "  log.numbers[LOG_BASE] = base;\n  barrier(log.flags, LOG_FENCE);\n  copyFile(logFileOf(draft), logFileOf(log));\n",
    "  copyFile(logFileOf(draft), logFileOf(log));\n  barrier(log.flags, LOG_FENCE);\n  log.numbers[LOG_BASE] = base;\n",
  ]),
  fault("a swap does not say that it has begun", "test/steps/compaction.test.ts", "engine/copy/swap.ts", [
    "  Atomics.store(control.flags, SWAP, SWAP_RENAMES);\n",
    "",
  ]),
  fault("a swap does not say that its words are in use", "test/workers/swap-death.test.ts", "engine/copy/swap.ts", [
    "  Atomics.store(flags, SWAP, SWAP_EMPTIES);\n",
    "",
  ]),
  fault("a dead thread's swap is taken back after the rename", "test/steps/compaction.test.ts", "engine/copy/swap.ts", [
    'if (typeof own !== "number" && there.identity === own.identity) return "draft";',
    'if (there === own) return "draft";',
  ]),
];
