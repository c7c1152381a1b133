/** The part of the bug bank that is about compactions and backups; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

/** What looks at writes beside a compaction, over and over to a few keys. */
const OVERWRITTEN = "test/compaction/overwritten.test.ts";

/** What is live, asked of the index and of each frame. */
const LIVE = "test/compaction/live-places.test.ts";

const IDS = "test/engine/learned-spaces.test.ts";

const BACKUPS = "test/compaction/backup.test.ts";

/** Where a copy that was cut short tells so. */
const SALVAGE_CRASH = "test/engine/salvage-crash.test.ts";
const MADE_END = "test/compaction/made-end.test.ts";

const MOMENTS = "test/compaction/moments.test.ts";
const CATCH_UP = "test/compaction/catch-up.test.ts";
const SALVAGE = "test/engine/salvage-batches.test.ts";
const SALVAGE_TARGET = "test/engine/salvage-target.test.ts";
const SALVAGE_ONE = "test/engine/salvage.test.ts";

const WINDOWS_CALLS = "test/ffi/windows-calls.test.ts";

/** What is written beside the log on a disk with little room. */
const ROOM = "test/engine/room.test.ts";

/** What compactions have to get right. */
export const COMPACTION: readonly PlantedFault[] = [
  fault("a write beside a compaction is refused what the copy has reserved", ROOM, "engine/copy/compaction.ts", [
    "core.makeRoom = () => draft.log.tail.giveBack();",
    "",
  ]),
  fault("a compaction by itself copies what the disk has no room for", ROOM, "engine/copy/draft-log.ts", [
    "    log.reserve(bytes);\n",
    "",
  ]),
  fault("a compaction by itself does not see that others have made room", ROOM, "engine/background/auto-compact.ts", [
    "!this.#hasRoom ? ASKED_AGAIN_SHARE : 1;",
    "!this.#hasRoom ? 1 : 1;",
  ]),
  fault(
    "a table of moves that finds no room leaves the copy what that has reserved",
    ROOM,
    "engine/copy/compaction.ts",
    ["log.tail.giveBack() || makeRoom()", "makeRoom()"],
  ),
  fault("a copy that finds no room leaves the log what that has reserved", ROOM, "engine/files/make-room.ts", [
    "core.tail.giveBack())",
    "false)",
  ]),
  fault("what makes room cuts the log beside its writers", ROOM, "engine/files/make-room.ts", [
    "engine.exclusivelyInMemory(() => core.tail.giveBack())",
    "core.tail.giveBack()",
  ]),
  fault("a backup by who only reads makes room in a log that another writes", ROOM, "engine/files/make-room.ts", [
    "!core.isReadOnly && ",
    "",
  ]),
  fault("what a log gives back on a full disk holds its last frames", "fullDisksBeside", "log/reservation.ts", [
    "Math.ceil((used + KEPT_BYTES) / BLOCK_BYTES)",
    "Math.floor(used / BLOCK_BYTES)",
  ]),
  fault("a reserve that was given back is written to", ROOM, "log/reservation.ts", [
    "    numbers[LOG_RESERVED] = base + kept;\n",
    "",
  ]),
  fault("the last of a disk is taken block by block", ROOM, "log/reservation.ts", [
    "      this.#stepMax = GROWTH_BYTES_MIN;\n      if (step > least) result = this.#allocate(bytes, least);\n",
    "",
  ]),
  fault(
    "what the disk had no room to compact by itself is not tried when less is live",
    ROOM,
    "engine/background/auto-compact.ts",
    [" && this.#live > failed.live / 2;", ";"],
  ),
  fault(
    "what the disk has no room to compact by itself is tried over and over",
    ROOM,
    "engine/background/auto-compact.ts",
    ["!this.#isHopeless &&", ""],
  ),
  fault("on Windows the end of a disk uses up the maps of a log", ROOM, "log/reservation.ts", [
    "freeMaps(this.#plan.words) > needed",
    "freeMaps(this.#plan.words) > 0",
  ]),
  fault("behind a refusal the steps stay short", ROOM, "log/reservation.ts", [
    "} else if (step < wanted) this.#stepMax = 2 * step;",
    "}",
  ]),
  fault("the folder is not synced after a compacted file got its name", "compacting", "engine/copy/swap.ts", [
    "const synced = folder?.sync() ?? 0;",
    "const synced = 0;",
  ]),
  fault("a compacted file gets its name before it is synced", "compacting", "engine/copy/compaction.ts", [
    "    writeEnd(this.#core, draft, false);\n    log.sync();\n",
    "    writeEnd(this.#core, draft, false);\n",
  ]),
  fault(
    "a compacted file has the generation of the one before",
    "test/encryption/compact.test.ts",
    "engine/copy/compaction.ts",
    ["generation: this.#core.generation + 1 }", "generation: this.#core.generation }"],
  ),
  fault("a rename that failed leaves a swap under way", "test/compaction/compaction.test.ts", "engine/copy/swap.ts", [
    "STATE_POISONED);\n  Atomics.store(control.flags, SWAP, SWAP_NONE);\n  throw ioError(renamed",
    "STATE_POISONED);\n  throw ioError(renamed",
  ]),
  fault("a rename that was done is told as it was", "test/compaction/compaction.test.ts", "engine/copy/swap.ts", [
    '  if (there === "draft") return;\n',
    "",
  ]),
  fault("an image knows ids that a compacted log does not name any more", IDS, "engine/hint/hint-writer.ts", [
    "this.#namedEnd = spaces.namedEnd;",
    "this.#namedEnd = spaces.nextId;",
  ]),
  fault("an open from an image forgets ids that the log names", IDS, "engine/hint/hint-reader.ts", [
    "    core.control.numbers[SPACES_NAMED] = header.spaces;\n",
    "",
  ]),
  fault("an id that the log names and nobody has entered is given out again", IDS, "engine/spaces.ts", [
    "    this.#countTo(id);\n    const known",
    "    const known",
  ]),
  fault("an id of a batch that was taken back while a compaction copied is free", IDS, "engine/spaces.ts", [
    "count > control.numbers[DRAFT_SPACES]! ? count : named",
    "named",
  ]),
  fault("what was written last is not caught up with", "compacting", "engine/copy/compaction.ts", [
    "      draft.copy.catchUp(core.visible - core.base);\n",
    "",
  ]),
  fault("a dead thread's open file keeps its name", "test/sim/windows.test.ts", "log/free-name.ts", [
    "if (!system.canMapPastEnd) {",
    "if (system.canMapPastEnd) {",
  ]),
  fault(
    "a compaction replaces whatever is at the log's place",
    "test/engine/removed-file.test.ts",
    "engine/copy/swap.ts",
    ["    refuseOther(core, place.path);\n", ""],
  ),
  fault("a compaction waits for what is denied for good", "test/sim/windows.test.ts", "engine/copy/swap.ts", [
    'system.rename(from, to, "at once");',
    "system.rename(from, to);",
  ]),
  fault("a rename that a virus scanner denies is not made again", WINDOWS_CALLS, "ffi/win32-files.ts", [
    "= [ERROR_SHARING_VIOLATION, ERROR_ACCESS_DENIED];",
    "= [ERROR_SHARING_VIOLATION];",
  ]),
  fault("a rename that was done is made again", WINDOWS_CALLS, "ffi/win32-files.ts", [
    "if (isRenamed) return Math.abs(failure);",
    "if (isRenamed) return failure;",
  ]),
  fault("writes go on into the file that was replaced", "compacting", "engine/copy/swap.ts", [
    "copyFile(logFileOf(draft), logFileOf(log));",
    "",
  ]),
  fault("what an index stores begins anew and is not told apart", "test/engine/positions.test.ts", "ffi/positions.ts", [
    "return stored === 0 ? 0 : units + PERIOD_UNITS;",
    "return stored === 0 ? 0 : units;",
  ]),
  fault("positions stay in use when their file is gone", "test/engine/positions.test.ts", "engine/copy/relocation.ts", [
    "    raiseOrigin(control.log);\n",
    "",
  ]),
  fault("the index is not led over to the compacted file", "test/compaction/moments.test.ts", "keydir/relocate.ts", [
    "if (present === formers[index]) continue;",
    "if (present !== 0) continue;",
  ]),
  fault("the creation of a namespace is dead to a compaction", "compacting", "engine/copy/live-places.ts", [
    "    for (const units of this.#creations) this.#note(units);\n",
    "",
  ]),
  fault("a joined or split piece of the index is passed over", LIVE, "engine/copy/live-places.ts", [
    "this.#hash = hashBehind(this.#hash, shard.depth);",
    "this.#hash = hashBehind(hashBehind(this.#hash, shard.depth), shard.depth);",
  ]),
  fault("what is live in the first byte of a window is passed over", LIVE, "engine/copy/live-places.ts", [
    "if (bit >= 0 && bit < this.#places)",
    "if (bit > 0 && bit < this.#places)",
  ]),
  fault("what has a dead thread's number is cut", "test/compaction/cut.test.ts", "log/shared-file.ts", [
    "return file.numbers[file.stateAt]! > 0 ? file.numbers[file.handleAt]! : undefined;",
    "return file.numbers[file.stateAt]! !== 0 ? file.numbers[file.handleAt]! : undefined;",
  ]),
  fault(
    "a part that did not arrive on the disk is passed over",
    "test/compaction/write-back.test.ts",
    "log/write-back.ts",
    ['must(result, { syscall: "sync_file_range", path });', "void path;"],
  ),
  fault(
    "removals that iterators need are left out",
    "test/compaction/compaction.test.ts",
    "engine/copy/compaction.ts",
    [
      "{ keepFrom: () => core.keepFrom(), exclusively, exclusivelyInMemory }",
      "{ keepFrom: () => Infinity, exclusively, exclusivelyInMemory }",
    ],
  ),
  fault("a removal that a batch took back is compacted as if it counted", OVERWRITTEN, "engine/copy/log-copy.ts", [
    "if (core.control.flags[ABORTS] !== this.#aborts) return false;",
    "",
  ]),
  fault("what a compaction leaves out breaks the way to the version before", OVERWRITTEN, "engine/copy/log-copy.ts", [
    "    this.#parts.table.add(leftOutOf((this.#base + this.#lsns[index]!) / 8), held / 8);\n",
    "",
  ]),
  fault("the removal of what was compacted is left out", OVERWRITTEN, "engine/copy/log-copy.ts", [
    "if (this.#kinds[index] === KIND_REMOVE) return true;",
    "if (this.#kinds[index] === KIND_REMOVE) return false;",
  ]),
  fault("what a batch removes and writes again is compacted as a new key", OVERWRITTEN, "engine/copy/log-copy.ts", [
    "table.moves.beforeNext((this.#base + facts.prev) / 8) * 8",
    "this.#heldAt(facts.prev)",
  ]),
  fault("a long value in memory ends with what stood there", OVERWRITTEN, "log/tail.ts", [
    "    copy(address + paddingAt, PADDING, sizes.frameBytes - paddingAt);\n",
    "",
  ]),
  fault(
    "an index is led over from where another compaction was left",
    "test/compaction/moments.test.ts",
    "engine/copy/relocation.ts",
    ["known?.base === base && known.space.id === from", "known?.space.id === from"],
  ),
  fault(
    "the base of a compacted file is chosen when its copy begins",
    "test/compaction/moments.test.ts",
    "engine/copy/compaction.ts",
    ["nextBase(core, draft.log.end);\n      if (sync", "this.#core.base + 2 ** 23;\n      if (sync"],
  ),
  fault(
    "a compaction takes a file away from who may read it",
    "test/compaction/access.test.ts",
    "engine/copy/compaction.ts",
    [
      "core.system.copyAccess?.(core.file.handle, core.control.draft.numbers[LOG_FILE]!)",
      "core.control.draft.numbers[LOG_FILE]!",
    ],
  ),
  fault(
    "a change of encryption takes a file away from who may read it",
    "test/compaction/access.test.ts",
    "engine/copy/rekey.ts",
    ["      system.copyAccess?.(engine.core.file!.handle, target.engine.core.file!.handle);\n", ""],
  ),
  fault("what others have not brought to the file yet ends a compaction", MOMENTS, "engine/copy/compaction.ts", [
    "      core.tail.spill();\n      draft.copy.catchUp(core.visible - core.base);\n",
    "      draft.copy.catchUp(core.visible - core.base);\n",
  ]),
  fault("the first removal behind a walk is no longer in the index's copy", MOMENTS, "engine/copy/live-places.ts", [
    "(!isTombstone(high) || units >= keptFrom)",
    "(!isTombstone(high) || units > keptFrom)",
  ]),
  fault("the first removal behind a walk is left out while a compaction copies", MOMENTS, "engine/copy/log-copy.ts", [
    "units >= keepFrom ? 1 : 0;",
    "units > keepFrom ? 1 : 0;",
  ]),
  fault("a walk from before an index was led over loses its file", MOMENTS, "engine/copy/relocation.ts", [
    "core.keepFrom() * 8 <= neededTo) return true;",
    "core.keepFrom() * 8 < neededTo) return true;",
  ]),
  fault("a swap that cannot be ended yet costs the file in service", MOMENTS, "engine/copy/relocation.ts", [
    "return Atomics.load(flags, SWAP) !== SWAP_NONE || numbers[RELOCATED] !== 0;",
    "return Atomics.load(flags, SWAP) > SWAP_NONE + 1000 || numbers[RELOCATED] !== 0;",
  ]),
  fault("a table of moves that was given back stays named", MOMENTS, "engine/copy/move-table.ts", [
    "  forgetMoves(control);\n  if (address",
    "  if (address",
  ]),
  fault("the rights of a group are given to another one", "test/ffi/files.test.ts", "ffi/posix.ts", [
    "(isGroups ? 0o777 : 0o707)",
    "0o777",
  ]),
];

/** What backups have to get right. */
export const BACKUP: readonly PlantedFault[] = [
  fault("a backup does not know where it ends", MADE_END, "engine/copy/compaction.ts", [
    "madeEnd: draft.log.end })",
    "madeEnd: 0 })",
  ]),
  fault("a backup takes its mark for a part of it", MADE_END, "engine/copy/compaction.ts", [
    "madeEnd: draft.log.end })",
    "madeEnd: draft.log.end + mark.length })",
  ]),
  fault("after a crash a compacted log misses its mark", "compacting", "engine/copy/compaction.ts", [
    "madeEnd: draft.log.end })",
    "madeEnd: draft.log.end + mark.length })",
  ]),
  fault(
    "what a salvage or a change of encryption makes does not know where it ends",
    MADE_END,
    "engine/files/made-end.ts",
    ["madeEnd: core.visible - core.base", "madeEnd: 0"],
  ),
  fault("an open does not ask the header where the log ended", MADE_END, "engine/open/hint-open.ts", [
    "|| goneAnotherWay) return { end: madeEnd,",
    "|| goneAnotherWay) return { end: 0,",
  ]),
  fault("what has rotted at the end of a backup passes for a crash's", MADE_END, "engine/open/hint-open.ts", [
    "isCut: bytes < madeEnd }",
    "isCut: true }",
  ]),
  fault("a copy that was cut short is spoilt by a crash once it was written on", MADE_END, "engine/open/open.ts", [
    "  if (image.isWanted(replay)) opened.checkpoint?.runAtOpen();\n",
    "",
  ]),
  fault("of a copy of which nothing was left it is told for ever", MADE_END, "engine/hint/checkpoint.ts", [
    "  runAtOpen(): void {\n    try {\n      this.#makeNow();",
    "  runAtOpen(): void {\n    try {\n      this.runSync();",
  ]),
  fault(
    "the checkpoint of a log that went another way is asked where this one ended",
    MADE_END,
    "engine/open/hint-open.ts",
    ['hint?.kinship === "other" && hint.header.end < madeEnd', "false"],
  ),
  fault("verify does not ask the header where the log ended", MADE_END, "engine/verify/verify.ts", [
    "if (missing > 0) problems.add",
    "if (missing > Infinity) problems.add",
  ]),
  fault("a salvage does not name what is missing behind the end", MADE_END, "engine/salvage/salvage-log.ts", [
    "    this.#lose(this.#framesEnd, this.#source.madeEnd);\n",
    "",
  ]),
  fault(
    "a salvage that is done fails, and keeps its lock, since its draft cannot be removed",
    SALVAGE_CRASH,
    "engine/salvage/salvage.ts",
    [
      "hintPath(draft)]) system.unlink(path);",
      'hintPath(draft)]) {\n    const done = system.unlink(path);\n    if (done !== -Errno.ENOENT) must(done, { syscall: "unlink", path });\n  }',
    ],
  ),
  fault("the folder is not synced after a salvage got its name", SALVAGE_CRASH, "engine/salvage/salvage.ts", [
    "    folder.mustSync(",
    "    void (",
  ]),
  fault("what is lost behind the end that the header knows is not named", MADE_END, "engine/salvage/salvage-log.ts", [
    "Math.max(lastEnd, to) - last.offset",
    "to - last.offset",
  ]),
  fault("salvage does not name a batch in the middle of which the log ends", SALVAGE, "engine/salvage/salvage-log.ts", [
    "  #end(): false {\n    this.#giveUp(this.lsn);",
    "  #end(): false {",
  ]),
  fault(
    "salvage falls over a removal from a namespace of which nothing is left",
    SALVAGE,
    "engine/salvage/salvage-target.ts",
    ["if (space !== undefined) engine.removeMany(space, [key]);", "engine.removeMany(space!, [key]);"],
  ),
  fault("a backup that is refused removes the draft of another process's", BACKUPS, "engine/copy/swap.ts", [
    "if (hadFile && path !== undefined)",
    "if (path !== undefined)",
  ]),
  fault(
    "long work goes on over what a dead thread left and could not be given back",
    MOMENTS,
    "engine/background/long-work.ts",
    ["    this.#refuseLeft(turn);\n", ""],
  ),
  fault(
    "salvage looks for what proves a damaged header right behind it alone",
    SALVAGE_ONE,
    "engine/salvage/salvage-header.ts",
    ["const PROOF_BYTES = 16 * SCAN_BYTES;", "const PROOF_BYTES = SCAN_BYTES;"],
  ),
  fault("salvage goes over garbage without letting the event loop turn", SALVAGE_ONE, "engine/salvage/salvage-log.ts", [
    "const until = Math.min(from + SCAN_BYTES, end);",
    "const until = end;",
  ]),
  fault(
    "what begins as a log and is damaged is no database to salvage",
    SALVAGE_ONE,
    "engine/salvage/salvage-header.ts",
    [
      'if (verdict.kind === "foreign" && bytes.some((byte) => byte !== 0)) {',
      "if (bytes.some((byte) => byte !== 0)) {",
    ],
  ),
  fault(
    "salvage takes space that is reserved behind a batch without its end for a loss",
    SALVAGE,
    "engine/salvage/salvage-log.ts",
    ["else this.#giveUp(this.#gapTo);", "else this.#giveUp(this.lsn);"],
  ),
  fault(
    "salvage replaces what has come to stand at its target meanwhile",
    SALVAGE_TARGET,
    "engine/salvage/salvage.ts",
    ["    mustBeFree(system, source.path, target);\n    using folder", "    using folder"],
  ),
  fault("salvage goes on to its end when it is aborted in its last call", SALVAGE_TARGET, "engine/salvage/salvage.ts", [
    "    refuseAborted(options);\n",
    "",
  ]),
  fault(
    "salvage lets two namespaces have the name that it made up for one",
    SALVAGE_ONE,
    "engine/salvage/salvage-target.ts",
    ["if (this.#nameless.has(known)) this.#callAnew(known, space);\n      else", "if (!this.#nameless.has(known))"],
  ),
  fault(
    "salvage does not name a batch that was given up and is damaged inside",
    SALVAGE,
    "engine/salvage/salvage-log.ts",
    ["else if (isInside) this.#isDamaged = true;", "else if (isInside) this.#isDamaged ||= false;"],
  ),
  fault("salvage passes over the header where its next look begins", SALVAGE_ONE, "engine/salvage/salvage-log.ts", [
    "      this.lsn = until - 8;\n",
    "      this.lsn = until;\n",
  ]),
  fault("salvage looks for what is left of a batch behind its end", SALVAGE, "engine/salvage/salvage-log.ts", [
    "const end = this.#takeUntil || this.#source.end;",
    "const end = this.#source.end;",
  ]),
  fault(
    "what follows a batch whose end cannot be read again is taken for part of it",
    SALVAGE,
    "engine/salvage/salvage-log.ts",
    ["    if (this.lsn >= this.#takeUntil) this.#takeUntil = 0;\n", ""],
  ),
  fault("what came while a copy waited for the writers is not counted", CATCH_UP, "engine/copy/catch-up.ts", [
    "clamped(2 * this.grownTo(now), HELD_BYTES_MIN, this.#heldMax)",
    "HELD_BYTES_MIN",
  ]),
  fault("a round waits for a long batch at each of its steps", CATCH_UP, "engine/copy/catch-up.ts", [
    "      chase.judge(end, copying.done);\n",
    "",
  ]),
  {
    name: "between the last held step of a copy and its end a writer has the lock once more",
    probe: CATCH_UP,
    seedCount: 12,
    edits: [
      {
        file: "src/engine/copy/catch-up.ts",
        from: "      finish();\n      return true;\n",
        to: "      return true;\n",
      },
      { file: "src/engine/copy/catch-up.ts", from: "  if (chase.isHolding) return;\n", to: "" },
    ],
  },
  fault("a backup ends before it has caught up", MOMENTS, "engine/copy/backup.ts", [
    "      copy.catchUp(core.visible - core.base);\n",
    "",
  ]),
  fault("what others have not brought to the file yet ends a backup when it begins", MOMENTS, "engine/copy/backup.ts", [
    "      if (!core.isReadOnly) core.tail.spill();\n      return beginDraft",
    "      return beginDraft",
  ]),
  fault(
    "what others have not brought to the file yet ends a backup when it is done",
    MOMENTS,
    "engine/copy/backup.ts",
    ["      if (!core.isReadOnly) core.tail.spill();\n      copy.catchUp", "      copy.catchUp"],
  ),
  fault("a backup goes by an index that names the file before a compaction", BACKUPS, "engine/copy/backup.ts", [
    "    if (!core.isReadOnly) while (relocation.step()) yield 0;\n",
    "",
  ]),
  fault("a backup passes for what a compaction has made", BACKUPS, "engine/copy/backup.ts", [
    "return bytes.reduce((number, byte) => number * 256 + byte, 0) + 2;",
    "return 0 * bytes.length + 2;",
  ]),
  fault("a backup gets its name before it is synced", "backingUp", "engine/copy/backup.ts", [
    "    draft.log.sync();\n",
    "",
  ]),
  fault("the folder is not synced after a backup got its name", "backingUp", "engine/copy/backup.ts", [
    "    folder.mustSync(",
    "    void (",
  ]),
  fault("the file of a database that was moved to the target is not asked for", BACKUPS, "engine/copy/backup.ts", [
    "      lock.claim(handle);\n      system.unlock(handle);\n",
    "",
  ]),
  fault("a backup's target is told from the image by its capitals", BACKUPS, "engine/copy/backup.ts", [
    "!own.has(seen(touched))",
    "!own.has(touched)",
  ]),
  fault(
    "a new database is told from another's image by its capitals",
    "test/engine/sidecar-names.test.ts",
    "engine/files/sidecar-names.ts",
    ["(?:-\\d+)?)$/is;", "(?:-\\d+)?)$/s;"],
  ),
  fault("the target of a backup is removed before it is replaced", "backingUp", "engine/copy/backup.ts", [
    "    must(system.rename(path, target),",
    "    system.unlink(target);\n    must(system.rename(path, target),",
  ]),
];
