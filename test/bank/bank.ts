/**
 * The bug bank: faults that an engine of this kind has really had, each a change of a line or two of the source.
 *
 * A fault is planted in a copy of the tree, so the source itself has no switch and pays nothing. `from` has to
 * stand in its file exactly once: when the source moves on, the bank says so and is brought along.
 */

import { API } from "./api-bank.ts";
import { BACKUP, COMPACTION } from "./compaction-bank.ts";
import { AT_ANY_STEP } from "./deaths-bank.ts";
import { fault, type PlantedFault } from "./fault.ts";
import { INDEX } from "./index-bank.ts";
import { KERNEL } from "./kernel-bank.ts";
import { LOCKS } from "./lock-bank.ts";
import { MEMORY } from "./memory-bank.ts";
import { OPENS } from "./open-bank.ts";
import { SECRETS } from "./secrets-bank.ts";
import { SWAPS, THREADS } from "./threads-bank.ts";
import { WAITS } from "./waits-bank.ts";
import { WINDOWS } from "./windows-bank.ts";

const FAULTS = "test/engine/faults.test.ts";
const SALVAGE = "test/engine/salvage-batches.test.ts";
const FLIPPED = "test/engine/flipped-bits.test.ts";

const WINDOWS_TAIL = "test/sim/windows-torn-tail.test.ts";

const DURABILITY: readonly PlantedFault[] = [
  {
    // Twice, since an open that finds a log unclean syncs the folder again.
    name: "the folder is not synced after create",
    probe: "crashes",
    seedCount: 12,
    edits: [
      { file: "src/engine/open/create.ts", from: "const synced = system.syncFolder(folder);", to: "const synced = 0;" },
      {
        file: "src/engine/open/open.ts",
        from: 'durable.\n  must(system.syncFolder(dirname(path)), { syscall: "fsync", path: dirname(path) });',
        to: "durable.",
      },
    ],
  },
  fault(
    "what is left of a creation stays beside the log that a power loss has brought back",
    "test/engine/foreign-siblings.test.ts",
    "engine/files/siblings.ts",
    ['if (typeof there !== "number" && isBegun(there)) system.unlink(begun);', ""],
  ),
  fault("a new file gets its name before it is synced", "crashes", "engine/open/create.ts", [
    'must(system.sync(handle), { syscall: "fdatasync", path: sibling });',
    "",
  ]),
  fault("a flush acknowledges without a sync", "crashes", "engine/sync/sync.ts", [
    "const result = core.system.sync(this.#file.handle);",
    "const result = 0 as Result;",
  ]),
  fault(
    "what a failed sync left in the cache is taken for written",
    "test/sim/failed-sync.test.ts",
    "engine/open/open.ts",
    ["if (!plan.config.readOnly && !endsClean(atFile, markBytes)) system.forgetCached(file.handle);", ""],
  ),
  fault("a failed sync is told as a success", "failingSyncs", "engine/sync/sync.ts", [
    "if (result < 0) {\n      Atomics.or(",
    "if (result < -1000) {\n      Atomics.or(",
  ]),
  fault("a failed sync does not poison, and is tried again", "failingSyncs", "engine/sync/sync.ts", [
    "Atomics.or(core.control.flags, STATE, STATE_POISONED);\n      throw this.failure(result);",
    "throw this.failure(result);",
  ]),
  fault("a sync that fails for want of room passes for a full disk", "faultsBehind", "ffi/io-error.ts", [
    'return errorOf("EMDB_IO", result,',
    "return errorOf(codeFor(errnoName(result)), result,",
  ]),
  {
    // Either line alone keeps it from that.
    name: "a failed sync behind a write is tried again to take the write back",
    probe: FAULTS,
    seedCount: 1,
    edits: [
      { file: "src/engine/write/write-path.ts", from: "if (isLost) throw refusal(core);", to: "" },
      {
        file: "src/engine/write/write-path.ts",
        from: "if (core.control.flags[STATE] !== 0) throw refusal(core);\n    try {",
        to: "try {",
      },
    ],
  },
  fault("what a failed sync has refused stays in the index", FAULTS, "engine/write/write-path.ts", [
    "if (!isDone || isLost) undo",
    "if (!isDone) undo",
  ]),
  fault("a flush leaves in the file what was refused and arrived", "failingWrites", "engine/sync/sync.ts", [
    "    this.eraseRefused();\n    this.#flush(",
    "    this.#flush(",
  ]),
  fault("what was refused is taken out of the file without a sync", FAULTS, "engine/sync/sync.ts", [
    "this.#sync(this.durable);\n        tail.forgetRefused();",
    "tail.forgetRefused();",
  ]),
  fault("a refused write that left nothing in the file keeps flushes from succeeding", FAULTS, "log/tail.ts", [
    "this.#isWriteThrough && this.#isWritten(lsn)",
    "this.#isWriteThrough",
  ]),
  fault(
    "what was refused counts as erased where it cannot be read",
    "test/engine/refused-writes.test.ts",
    "log/tail.ts",
    ["found, span) < 0 || found", "found, span) > 0 && found"],
  ),
  fault("what was refused is looked for in the file that a compaction has made", FAULTS, "log/tail.ts", [
    "return lsn !== 0 && lsn >= this.#numbers[LOG_BASE]!;",
    "return lsn !== 0;",
  ]),
  fault("the mark is written before the sync", "crashes", "engine/sync/sync.ts", [
    "      this.#sync(this.#core.control.log.numbers[LOG_WRITTEN]!);",
    "      this.#mark(this.#core.visible);\n      this.#sync(this.#core.control.log.numbers[LOG_WRITTEN]!);",
  ]),
  fault(
    "an image gets its name before the log is durable",
    "test/engine/checkpoint.test.ts",
    "engine/hint/checkpoint.ts",
    ["await this.#parts.commit.flush();", "this.#parts.sync.spill();"],
  ),
  fault(
    "the image of a close gets its name before the log is durable",
    "test/engine/checkpoint.test.ts",
    "engine/hint/checkpoint.ts",
    ["writer.end) this.#parts.sync.flush();", "writer.end) this.#parts.sync.spill();"],
  ),
  fault("write-through waits for a flush", "writeThrough", "engine/write/write-path.ts", [
    "if (core.writeThrough) this.#writeThrough();",
    "",
  ]),
  fault("zeros ahead of the log are written over its end", "crashes", "log/tail.ts", [
    "const position = Math.ceil((Math.max(",
    "const position = Math.floor((Math.max(",
  ]),
  fault("the folders that are made for a database are not synced", "test/sim/new-folders.test.ts", "engine/door.ts", [
    '  above.mustSync("the folder is made; a loss of power may take it away, and what is written to it");\n',
    "",
  ]),
  fault("a folder is made before the one above can be synced", "test/sim/new-folders.test.ts", "engine/door.ts", [
    "  using above = new HeldFolder(system, dirname(folder));\n  const made = system.makeFolder(folder);",
    "  const made = system.makeFolder(folder);\n  using above = new HeldFolder(system, dirname(folder));",
  ]),
  fault("a ring that is full is written over once a batch was taken back", "test/log/ring.test.ts", "log/tail.ts", [
    "RING_FRAME_BYTES_MAX) this.spill();",
    "RING_FRAME_BYTES_MAX) return;",
  ]),
  fault("a long value ends with what a write that failed has left", "test/engine/long-value.test.ts", "log/tail.ts", [
    "    if (end > paddingAt) this.#write(PADDING, paddingAt, end - paddingAt);\n",
    "",
  ]),
  fault("a write that failed counts as written", "faults", "log/tail.ts", [
    'must(this.#system.write(this.#file.handle, from, span), { syscall: "pwrite", path: this.#path });',
    "this.#system.write(this.#file.handle, from, span);",
  ]),
];

const RECOVERY: readonly PlantedFault[] = [
  fault(
    "a torn tail is not cut off",
    "crashes",
    "engine/open/open.ts",
    ['const cut = system.truncate(handle, replay.soundEnd, "at once");', "const cut = 0;"],
    30,
  ),
  fault("a torn tail that cannot be cut off fails the open", "windowsRead", "engine/open/open.ts", [
    "if (cut === -Errno.EBUSY) blankTail(core, file, replay);\n    else must(",
    "must(",
  ]),
  fault("a torn tail that cannot be cut off is left", "windowsRead", "engine/open/open.ts", [
    "if (cut === -Errno.EBUSY) blankTail(core, file, replay);",
    "if (cut === -Errno.EBUSY) system.sync(handle);",
  ]),
  fault("a torn tail is blanked in one step", WINDOWS_TAIL, "engine/open/blank-tail.ts", ["steps.push(lsn);", ""]),
  fault("a torn tail is blanked from the front", WINDOWS_TAIL, "engine/open/blank-tail.ts", [
    "stepsBehind(core, file, soundEnd).reverse()) {",
    "stepsBehind(core, file, soundEnd)) {",
  ]),
  fault(
    "a step of blanking a torn tail begins before the one behind it is durable",
    WINDOWS_TAIL,
    "engine/open/blank-tail.ts",
    ['    must(system.sync(handle), { syscall: "fdatasync", path });', ""],
  ),
  fault("blanking a torn tail counts on zeros that a dead process left", WINDOWS_TAIL, "engine/open/blank-tail.ts", [
    "    must(system.sync(handle)",
    "    if (until < soundEnd + tornBytes) must(system.sync(handle)",
  ]),
  fault("what was recovered is shown before it is durable", "crashes", "engine/open/open.ts", [
    '  must(system.sync(handle), { syscall: "fdatasync", path });\n  // Who made',
    "  // Who made",
  ]),
  fault("a torn tail is taken for damage", "crashes", "log/scanner.ts", [
    " === FRAME && this.facts.durable > durableBeyond) return lsn;",
    " === FRAME) return lsn;",
  ]),
  fault("damage is taken for a torn tail", "test/engine/damage.test.ts", "engine/open/recovery.ts", [
    "if (proof === undefined) return;",
    "return;",
  ]),
  fault(
    "a batch without its last frame is accepted",
    "crashes",
    "engine/open/recovery.ts",
    [
      "const end = this.#batchStart === 0 ? stop : this.#batchStart;",
      "const end = stop;\n    this.#batchStart = 0;\n    this.#setEnd(end);",
    ],
    60,
  ),
  fault(
    "a clear is not replayed",
    "sequences",
    "engine/open/recovery.ts",
    ["this.#spaces.bury(space, this.#scanner.lsn);", ""],
    819,
  ),
  fault(
    "a queue of deadlines drops, as stale, those of new keys that replay holds back",
    "test/engine/expiry.test.ts",
    "keydir/expiry-queue.ts",
    ["if (this.#open(space) && !this.#isAhead(high >>> HASH_SHIFT)) this.#push(", "this.enter(space, "],
  ),
  fault(
    "a sweep ends at the first record that has rotted",
    "test/engine/expiry-rot.test.ts",
    "engine/background/expiry.ts",
    ["if (!isRot(error) || tail.end !== end) throw error;", "throw error;"],
  ),
  fault(
    "a record that has rotted loses its deadline",
    "test/engine/expiry-rot.test.ts",
    "engine/background/expiry.ts",
    ["kept.push({ deadlineMs, low, high });", ""],
  ),
  fault(
    "a walk that failed leaves half a queue of deadlines",
    "test/engine/expiry-rot.test.ts",
    "engine/background/expiry.ts",
    ["expiry.forget(space.address);\n    throw error;", "throw error;"],
  ),
  fault(
    "a record that a walk cannot read has no deadline",
    "test/engine/expiry-rot.test.ts",
    "engine/background/expiry.ts",
    ["return UNREAD_MS;", "return 0;"],
  ),
  fault("a removal is replayed as a value", "crashes", "engine/open/replay-group.ts", [
    "if (hasSlot) keydir.replace(lsn / 8, isRemoval);",
    "if (hasSlot) keydir.replace(lsn / 8, false);",
  ]),
  fault("a frame does not say where the version before it is", "crashes", "engine/write/write-path.ts", [
    "draft.prev = prev === 0 ? 0 : core.inFile(prev);",
    "draft.prev = 0;",
  ]),
  fault("checksums are not bound to their place", "test/log/frame.test.ts", "log/checksum.ts", [
    "  return seed ^ (seed >>> 16);",
    "  return salt;",
  ]),
];

const BATCHES: readonly PlantedFault[] = [
  fault("the frames of a batch stand alone", "crashes", "engine/engine.ts", [
    "const place = frames === 0 ?",
    "const place = index >= 0 ? PLACE_ALONE : frames === 0 ?",
  ]),
  fault(
    "the frames of an insertMany stand alone",
    "crashes",
    "log/frame.ts",
    ["if (count === 1) return PLACE_ALONE;", "if (count >= 1) return PLACE_ALONE;"],
    80,
  ),
  fault(
    "a batch whose last write needs no frame has no end",
    "crashes",
    "engine/engine.ts",
    ["if (!isEnded) this.#write.endBatch();", ""],
    40,
  ),
  fault(
    "a failed batch is not taken back",
    "fullDisks",
    "engine/write/write-path.ts",
    ["    if (!isDone || isLost) undo(core, this.#spaces, start);\n", ""],
    40,
  ),
  fault("undo forgets the slot", "crashes", "engine/write/undo.ts", ["keydir.replace(prev / 8, !isLive);", ""], 60),
  fault(
    "undo forgets the counts",
    "crashes",
    "engine/write/undo.ts",
    ["spaces.count(batch.space, (isLive ? 1 : 0) - (wasLive ? 1 : 0), kept - dropped);", ""],
    60,
  ),
  fault("salvage loses a batch for one bad frame in it", SALVAGE, "engine/salvage/salvage-log.ts", [
    "    else if (isInside) this.#isDamaged = true;\n",
    "",
  ]),
  fault("salvage takes a batch whose end cannot be told from an abort", SALVAGE, "engine/salvage/salvage-log.ts", [
    "(this.#source.opener === undefined && kind <= KIND_END)",
    "kind > 0",
  ]),
  fault("salvage takes a batch that was given up", SALVAGE, "engine/salvage/salvage-log.ts", [
    "if (isKnown && kind !== KIND_ABORT)",
    "if (isKnown)",
  ]),
  fault(
    "salvage goes by no header behind a bad one whose own frame is damaged",
    SALVAGE,
    "engine/salvage/salvage-log.ts",
    ["findHeader(from, until)", "findSound(from, -1, until)"],
  ),
  fault("salvage takes reserved space for a loss", "test/engine/salvage.test.ts", "engine/salvage/salvage-log.ts", [
    "if (last > this.lsn) this.#gapTo",
    "this.#gapTo",
  ]),
  fault(
    "an id that an image alone knows is not given out again",
    "test/engine/checkpoint-fork.test.ts",
    "engine/open/recovery.ts",
    [" && !this.#isUnnamed(facts.space)", ""],
  ),
  fault("what was taken back is reported as replayed", "test/engine/torn-tail.test.ts", "engine/open/recovery.ts", [
    "    this.#records = this.#recordsBefore;\n",
    "",
  ]),
];

const READS: readonly PlantedFault[] = [
  fault(
    "an open for reading takes a file that was replaced for the one it judged",
    "test/engine/read-beside.test.ts",
    "engine/open/open.ts",
    ["if (bytesMax === undefined || !hasPage(system, handle, found.page)) {", "if (handle < 0) {"],
  ),
  fault(
    "an open for reading takes a file for the one that had its number before",
    "test/engine/read-only.test.ts",
    "engine/open/same-file.ts",
    [" && own.born === before.born", ""],
  ),
  fault(
    "an image that is newer than what is read makes a log a short one",
    "test/engine/read-beside.test.ts",
    "engine/hint/hint-reader.ts",
    ["    if (isShort && system.size(log.file.handle) >= header.end) return undefined;\n", ""],
  ),
  fault("getMany takes an empty slot for a record", "model", "engine/read/prefetch.ts", [
    "lsn > from &&",
    "lsn >= from &&",
  ]),
  fault("a byte-order mark is no part of a name", "model", "engine/names.ts", [
    'new TextDecoder("utf-8", { ignoreBOM: true })',
    "new TextDecoder()",
  ]),
  fault("a removal leaves the value in the index", "crashes", "engine/write/write-path.ts", [
    "core.keydir.replace(lsn / 8, true);",
    "core.keydir.replace(lsn / 8, false);",
  ]),
  fault("an overwrite counts as a new record", "model", "engine/write/write-path.ts", [
    "this.#spaces.count(space, this.wasLive ? 0 : 1, newBytes - oldBytes);",
    "this.#spaces.count(space, 1, newBytes - oldBytes);",
  ]),
  fault("the removal of a long key ends its batch", "test/engine/batches.test.ts", "engine/write/write-path.ts", [
    "this.#append(KIND_REMOVE, ownPlace,",
    "this.#append(KIND_REMOVE, place,",
  ]),
  fault(
    "a frame counts as short that its header makes long",
    "test/engine/size-borders.test.ts",
    "engine/write/write-path.ts",
    ["key.bytes + encoder.valueBytes + encoder.overheadBytesMax > tail", "key.bytes + encoder.valueBytes > tail"],
  ),
  fault("a walk shows what was removed", "model", "engine/read/lookup.ts", [
    "return kindOf(this.shape) === KIND_PUT;",
    "return true;",
  ]),
  fault("a distance that no writer puts there leads to where it is", FLIPPED, "engine/read/lookup.ts", [
    "if (units !== 0 || wide === undefined || wide < TWO_32) throw this.log.corrupted(this.lsn);\n    return this.#before(wide);",
    "return this.#before(wide ?? 0);",
  ]),
  fault("a range goes on at a key that leads back", "test/ordered/rotten-keys.test.ts", "ordered/range-reader.ts", [
    "throw this.#path.keys.corrupted(rest.behind);",
    "this.#path.keys.corrupted(rest.behind);",
  ]),
  fault(
    "a step gives what came meanwhile before the separator",
    "test/ordered/overtaken.test.ts",
    "ordered/range-reader.ts",
    ["border = this.#border(leaf, fence, false);", "border = isReverse ? leaf.count : 0;"],
  ),
  fault(
    "a part as long as a leaf goes on behind a key",
    "test/ordered/rotten-keys.test.ts",
    "ordered/range-reader.ts",
    ["count > 0 && room > path.shape.capacity", "room > 1000"],
  ),
  fault(
    "a range goes on in its leaf though the tree has changed",
    "test/ordered/held.test.ts",
    "ordered/range-reader.ts",
    ["rest.changes === path.changes && ", ""],
  ),
  fault("a range goes on in whatever leaf is at hand", "test/ordered/held.test.ts", "ordered/range-reader.ts", [
    "path.isAt(rest.leaf)",
    "rest.leaf !== 0",
  ]),
  fault(
    "a range goes on in its leaf though another has been on its way to the next",
    "test/ordered/held.test.ts",
    "ordered/path.ts",
    [
      "    this.#reached = 0;\n    this.#heightThen = this.height;\n    for (let level = this.height; level > 0; level--) {\n      const node = this.load(level, block);\n      const index = this.#childFor",
      "    this.#heightThen = this.height;\n    for (let level = this.height; level > 0; level--) {\n      const node = this.load(level, block);\n      const index = this.#childFor",
    ],
  ),
  fault("beside others a record has no deadline", "test/engine/expiry.test.ts", "engine/read/frame-batch.ts", [
    "kindOf(shape) !== KIND_PUT || (shape & SHAPE_EXPIRY) !== 0) return index;",
    "kindOf(shape) !== KIND_PUT) return index;",
  ]),
  fault(
    "beside others a record shows that is newer than the moment",
    "test/engine/range-cost.test.ts",
    "engine/read/frame-batch.ts",
    ["last >= before || ", ""],
  ),
  fault(
    "beside others a record may reach beyond the log",
    "test/engine/side-by-side.test.ts",
    "engine/read/frame-batch.ts",
    ["Math.min(end, keyAt + GIVEN_BYTES_MAX)", "keyAt + GIVEN_BYTES_MAX"],
  ),
  fault(
    "beside others a long record is not counted",
    "test/engine/side-by-side.test.ts",
    "engine/read/frame-batch.ts",
    ["Math.min(end, keyAt + GIVEN_BYTES_MAX)", "end"],
  ),
  fault("many positions are taken as they were before a swap", "test/engine/positions.test.ts", "ffi/positions.ts", [
    "to[index] = isPresent && units >= first ?",
    "to[index] = units >= first ?",
  ]),
  fault(
    "a position of the next lap is taken for one of the last",
    "test/engine/positions.test.ts",
    "ffi/positions.ts",
    ["to[index] = isPresent && units >= first ?", "to[index] = isPresent ?"],
  ),
  fault(
    "an inner node is divided as if it had left out all that it could",
    "test/ordered/common-beginnings.test.ts",
    "ordered/inner.ts",
    ["this.#mostOf(node, separators)", "count - 1"],
  ),
  fault("a leaf is divided between keys that have rotted", FLIPPED, "ordered/ordered.ts", [
    "if (!areSound) throw",
    "if (!areSound && middle === 0) throw",
  ]),
  fault("a checked read takes the header for granted", FLIPPED, "engine/read/body-check.ts", [
    "    if (header !== memory.i32[WORD_HEADER_CHECK]) throw log.corrupted(lsn);\n",
    "",
  ]),
  fault("a checked read believes whatever leads it back", FLIPPED, "engine/core.ts", [
    "this.verifyReads ? new VerifiedLookup(this) : new Lookup(",
    "new Lookup(",
  ]),
  fault("a checked read believes a deadline before it checks it", FLIPPED, "engine/read/read-path.ts", [
    "if (core.verifyReads) verifyFound(core);\n    if ((lookup.shape",
    "if (core.verifyReads && (lookup.shape & SHAPE_EXPIRY) === 0) verifyFound(core);\n    if ((lookup.shape",
  ]),
  fault("a walk shows what was written after it began", "model", "engine/read/snapshot.ts", [
    "return lookup.walkBack(this.hold.lsn);",
    "return lookup.walkBack(Infinity);",
  ]),
  fault("a clear takes the index away from an open walk", "model", "engine/write/write-path.ts", [
    "this.#spaces.emptyGraves(space, core.keepFrom() * 8);",
    "this.#spaces.emptyGraves(space, Infinity);",
  ]),
  fault("a dropped namespace still answers", "model", "engine/write/write-path.ts", [
    "if (isDrop) this.#spaces.setState(space, SPACE_DROPPED);",
    "",
  ]),
];

/** In parts, so that several processes look for them side by side. */
export const BANKS = {
  compaction: [...COMPACTION, ...BACKUP],
  deaths: AT_ANY_STEP,
  disk: [...DURABILITY, ...RECOVERY],
  engine: [...BATCHES, ...READS, ...OPENS, ...MEMORY, ...INDEX, ...LOCKS, ...WINDOWS, ...API],
  secrets: SECRETS,
  kernel: KERNEL,
  threads: [...THREADS, ...WAITS, ...SWAPS],
} as const;
