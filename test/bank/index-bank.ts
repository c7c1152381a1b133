/** The part of the bug bank that is about the hash index, its deadlines and the ordered index; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

const REPAIR = "test/keydir/repair.test.ts";
const DIRECTORIES = "test/keydir/directories.test.ts";
const KEYDIR = "test/keydir/keydir.test.ts";
const COST = "test/ordered/cost.test.ts";
const VERIFIED = "test/engine/verified-reads.test.ts";
const QUEUE = "test/keydir/expiry-queue.test.ts";
const QUEUE_COPY = "test/keydir/expiry-copy.test.ts";
const ADOPTION = "test/keydir/expiry-adoption.test.ts";
const TAKEN_BACK = "test/engine/expiry-taken-back.test.ts";
const WALK = "test/engine/expiry-walk.test.ts";
const EXPIRY_MODEL = "test/engine/expiry-model.test.ts";

const BATCH_ORDER = "test/engine/batch-order.test.ts";
const HELD = "test/engine/checkpoint-held.test.ts";
const ROOM = "test/engine/room.test.ts";
const IN_ORDER = "test/compaction/in-order.test.ts";
const REWRITE = "engine/copy/rewrite-in-order.ts";

/** What an index counts, keeps and gives back. */
export const INDEX: readonly PlantedFault[] = [
  fault(
    "a batch passes over most of the frames that it replaces",
    "test/engine/touch-replaced.test.ts",
    "engine/read/prefetch.ts",
    ["else if (this.touchFrames(visible) === 0) this", "else if (this.touchFrames(visible) >= 0) this"],
  ),
  fault("an ordered batch is written as it came", BATCH_ORDER, "engine/write/batch-order.ts", [
    "const number = order[from + index]!;",
    "const number = from + index + 0 * order[0]!;",
  ]),
  fault("a batch of a few records is ordered", BATCH_ORDER, "engine/engine.ts", [
    "if (count < ORDERED_MIN) return false;",
    "",
  ]),
  fault("a batch of an encrypted database is written in the order of its keys", BATCH_ORDER, "engine/engine.ts", [
    "vault === undefined && ordering?.isWorthIt",
    "ordering?.isWorthIt",
  ]),
  fault(
    "a batch orders a text that is not ASCII elsewhere than its bytes",
    BATCH_ORDER,
    "engine/write/batch-order.ts",
    ["isAscii && isAsciiWithin(key, at, at + 8)", "isAscii"],
  ),
  fault(
    "a character that has no room any more changes where its text is ordered",
    BATCH_ORDER,
    "engine/write/batch-order.ts",
    ["new Uint8Array(SHARED_MAX + 8 + 3)", "new Uint8Array(SHARED_MAX + 8)"],
  ),
  fault(
    "of keys whose first bytes are the same a later one may come first",
    BATCH_ORDER,
    "engine/write/first-bytes.ts",
    ["this.#ranks.sort();", "this.#ranks.sort((a, b) => ((a ^ 1023n) < (b ^ 1023n) ? -1 : 1));"],
  ),
  fault(
    "lengths of an ordered batch are summed by where they are written",
    BATCH_ORDER,
    "engine/write/batch-lengths.ts",
    ["numbers === undefined ? index : numbers[index]!", "index"],
  ),
  fault("a batch of few records is ordered beside many", BATCH_ORDER, "engine/ordering/ordering.ts", [
    "writes >= GATHERED_MIN && writes * RECORDS_PER_GATHERED >= records",
    "writes >= GATHERED_MIN && records >= 0",
  ]),
  fault("half of a key's hash is the other half", "test/keydir/hash.test.ts", "keydir/hash.ts", [
    "(first & 0xffff0000) | (second >>> 16)",
    "(first & 0xffff0000) | (first >>> 16)",
  ]),
  fault("a checked range believes the keys that it holds its bounds against", VERIFIED, "engine/ordering/ordering.ts", [
    "core.verifyReads ? new VerifiedKeys(core) : this.#keys",
    "this.#keys",
  ]),
  fault(
    "a checked range checks of such a key what stands in its header alone",
    VERIFIED,
    "engine/read/verified-keys.ts",
    ["    verifyFound(", "    if (bytes < 0) verifyFound("],
  ),
  fault(
    "a deadline that a batch took away, and was taken back, is gone to who replays it",
    HELD,
    "engine/write/undo.ts",
    ["  restoreDeadline(core, space, { hadDeadline, expiresAtMs, lsn: prev });\n", ""],
  ),
  fault("a deadline that a batch gave, and was taken back, is there to who replays it", HELD, "engine/write/undo.ts", [
    "const hadDeadline = isPut && (lookup.shape & SHAPE_EXPIRY) !== 0;",
    "const hadDeadline = isPut && (lookup.shape & SHAPE_EXPIRY) < 0;",
  ]),
  fault(
    "an open takes back what was written behind a batch that was taken back, where its shard holds that",
    HELD,
    "engine/write/undo.ts",
    ["    uncount(core, spaces, batch.space);\n    return;\n", "    uncount(core, spaces, batch.space);\n"],
  ),
  fault(
    "an open looks for what there was before a key that came with a batch that was taken back",
    HELD,
    "engine/write/undo.ts",
    [
      "  if (prev !== 0) {\n    lookup.loadAt(prev);\n    wasLive",
      "  if (prev >= 0) {\n    lookup.loadAt(prev);\n    wasLive",
    ],
  ),
  fault(
    "deadlines that a compaction has left behind are in the image",
    "test/engine/expiry.test.ts",
    "engine/hint/hint-writer.ts",
    ["if (inFile <= 0 || inFile * 8 >= this.#gate) continue;", "if (inFile * 8 >= this.#gate) continue;"],
  ),
  fault(
    "what an image that is not used held counts as live",
    "test/engine/checkpoint-damage.test.ts",
    "engine/hint/hint-reader.ts",
    ["  core.control.numbers[LIVE_BYTES] = 0;\n", ""],
  ),
  fault(
    "who is alone with the index goes by what it knew of a shard before",
    "test/keydir/directories.test.ts",
    "keydir/keydir.ts",
    ["    this.#isDescribed = false;\n    this.#isExclusive = true;\n", "    this.#isExclusive = true;\n"],
  ),
  fault("a leaf keeps its old tombstones until all of it is dead", COST, "ordered/ordered.ts", [
    "if (dead * 4 >= count && (dead % PURGE_STEP === 0 || dead === count)) this",
    "if (dead === count) this",
  ]),
  fault("keys that come in order in front of others leave half of each leaf empty", COST, "ordered/leaf.ts", [
    "if (isInOneRun && final === newest)",
    "if (isInOneRun && final === newest && newest === last)",
  ]),
  fault("keys that come nearly in order leave half of each leaf empty", COST, "ordered/leaf.ts", [
    "  if (first >= half) return half + quarter;\n",
    "",
  ]),
  fault("keys that come in streams, each backwards, leave half of each leaf empty", COST, "ordered/leaf.ts", [
    "return Math.min(half, newest >= few ? newest : newest + 1);",
    "return half;",
  ]),
  fault("keys that come nearly in order, backwards, leave half of each leaf empty", COST, "ordered/leaf.ts", [
    "  if (final < half) return quarter;\n",
    "",
  ]),
  fault("what is behind keys that come in order goes along with them, however much it is", COST, "ordered/leaf.ts", [
    "last - newest >= few ? newest + 1 : newest",
    "newest",
  ]),
  fault("a full leaf is divided although it holds old tombstones", COST, "ordered/ordered.ts", [
    "    path.treeMemory.f64[TREE_TOMBSTONES]! -= purge(leaf, keepFrom);\n    if (leaf.count <= leaf.capacity(leaf.prefixBytes)) return true;\n",
    "",
  ]),
  fault("tombstones that made room for a key are counted on", COST, "ordered/ordered.ts", [
    "path.treeMemory.f64[TREE_TOMBSTONES]! -= purge(leaf, keepFrom);",
    "purge(leaf, keepFrom);",
  ]),
  fault("what was laid out for a split that fails is lost", KEYDIR, "keydir/keydir.ts", [
    "if (!isReady) for (const unit of [upper, lower]) if (unit > 0) this.#retireShard(unit);",
    "void isReady;",
  ]),
  fault("a key space that goes leaves its directory", KEYDIR, "keydir/keydir.ts", [
    "    if (root !== 0) this.#tree.retire(root);\n",
    "",
  ]),
  fault("a full shard is laid out anew for each key, and never split", KEYDIR, "keydir/keydir.ts", [
    "Math.max(count + 1, Math.min(count * growth, SHARD_SLOTS_AIM));",
    "Math.min(count * growth, SHARD_SLOTS_AIM);",
  ]),
  fault("a slot that moved by 32 GiB counts as one that stood", KEYDIR, "keydir/keydir.ts", [
    "if (low === this.low && high === this.high) return false;",
    "if (low === this.low) return false;",
  ]),
  fault("a key goes into the tree whose leaf is being filled", "test/ordered/run.test.ts", "ordered/ordered.ts", [
    "if (this.#filling !== 0 && this.#path.tree === tree && this",
    "if (this.#filling !== 0 && this",
  ]),
  fault("a shard that finds no memory half-way loses the pages that it had", KEYDIR, "keydir/shard.ts", [
    "      for (const page of named) if (page > 0) heap.givePage(page);\n",
    "",
  ]),
  fault("a shard that finds no memory half-way gives back another's pages", KEYDIR, "keydir/shard.ts", [
    "SHARD_PAGES_MAX).fill(0);",
    "SHARD_PAGES_MAX);",
  ]),
  fault("the oldest tombstone that somebody needs goes", KEYDIR, "keydir/shard.ts", [
    "if (positions.units(low, high) < keepFrom) continue;",
    "if (positions.units(low, high) <= keepFrom) continue;",
  ]),
  fault("a shard that gets room for many keys leaves its pages", KEYDIR, "keydir/keydir.ts", [
    "        this.#tree.name(space, { hash, depth }, unit);\n        this.#retireShard(old);\n      }",
    "        this.#tree.name(space, { hash, depth }, unit);\n      }",
  ]),
  fault("an entry that is erased is counted on as a tombstone", "test/ordered/model.test.ts", "ordered/ordered.ts", [
    "    if (leaf.isTombstone(this.#index)) path.treeMemory.f64[TREE_TOMBSTONES]! -= 1;\n    leaf.block = 0;\n",
    "    leaf.block = 0;\n",
  ]),
  fault(
    "a removal that was not copied is counted on as a tombstone",
    "test/ordered/relocate.test.ts",
    "ordered/ordered.ts",
    ["      if (leaf.isTombstone(index)) path.treeMemory.f64[TREE_TOMBSTONES]! -= 1;\n", ""],
  ),
  fault("a tombstone that a run makes a record again is counted on", "test/ordered/run.test.ts", "ordered/ordered.ts", [
    "    if (leaf.isTombstone(this.#index)) path.treeMemory.f64[TREE_TOMBSTONES]! -= 1;\n    leaf.setUnits",
    "    leaf.setUnits",
  ]),
  fault("the index is not led over behind a merge", DIRECTORIES, "keydir/relocate.ts", [
    "return hashBehind(at.hash, shard.depth);",
    "return at.hash + 2 ** (27 - shard.depth);",
  ]),
  fault("who changes a directory takes what others changed before for seen", DIRECTORIES, "keydir/directories.ts", [
    "    if (before !== this.#layout) return false;\n",
    "",
  ]),
  fault("that everything may have changed is told to nobody else", DIRECTORIES, "keydir/directories.ts", [
    "    Atomics.add(this.#flags, RECLAIM_LAYOUT, 1);\n    this.#forget();\n",
    "    this.#forget();\n",
  ]),
  fault("of two shards that claim an entry after a death the deeper one gets it", REPAIR, "keydir/repair.ts", [
    "shards[other]!.depth < shard.depth) continue;",
    "shards[other]!.depth > shard.depth) continue;",
  ]),
  fault("a shard of an image that lies askew is taken", REPAIR, "keydir/adopt.ts", [
    "if (shard.firstHash % width !== 0 || shard",
    "if (shard",
  ]),
  fault("an image that lacks some hashes is taken", REPAIR, "keydir/adopt.ts", [
    "    if (this.#reached !== HASHES) return undefined;\n",
    "",
  ]),
  fault("an image that is given up keeps its pages", REPAIR, "keydir/adopt.ts", [
    "      this.#heap.givePage(this.#heap.read32(address + (DESCRIPTOR_FIRST_PAGE + index) * 4));\n",
    "",
  ]),
  fault("an image that is given up is gone on with", REPAIR, "keydir/adopt.ts", [
    "    while (this.#units.length > 0) this.#dropLast();\n    this.#clear();\n",
    "    while (this.#units.length > 0) this.#dropLast();\n",
  ]),
  fault(
    "a write looks for old tombstones in every key space that has some",
    "test/engine/range-cost.test.ts",
    "engine/ordering/ordering.ts",
    ["Math.min(this.#thinned.size, TIDY_SPACES_MAX)", "Math.max(this.#thinned.size, TIDY_SPACES_MAX)"],
  ),
  fault(
    "of the key spaces with old tombstones the first ones alone are looked at",
    "test/engine/range-cost.test.ts",
    "engine/ordering/ordering.ts",
    ["      this.#thinned.delete(space);\n      // Behind", "      // Behind"],
  ),
  fault(
    "a walk asks where the empty slots of a page lead",
    "test/engine/record-walk.test.ts",
    "engine/read/snapshot.ts",
    ["if ((words[word]! | words[word + 1]!) === 0) continue;", ""],
  ),
  fault("a batch that fails enters anew what its queue of deadlines still has", TAKEN_BACK, "keydir/expiry-queue.ts", [
    "    if (this.#isLeftKnown && !this.#left.delete(this.#presentUnits(low, high))) return;\n",
    "",
  ]),
  fault(
    "who takes back another thread's batch goes by what its own one dropped",
    TAKEN_BACK,
    "engine/write/write-path.ts",
    ["    core.expiry.forgetBatch();\n", ""],
  ),
  fault(
    "who takes back another thread's batch enters anew what the queue still has",
    TAKEN_BACK,
    "engine/write/deadlines.ts",
    ["  if (!core.expiry.isLeftKnown) return core.expiry.forget(space.address);\n", ""],
  ),
  fault("an open enters anew what a batch that was taken back had not dropped", TAKEN_BACK, "engine/open/recovery.ts", [
    "      this.#core.expiry.beginBatch();\n",
    "      this.#core.expiry.forgetBatch();\n",
  ]),
  fault(
    "a deadline that has rotted is taken for another frame's",
    "test/engine/expiry-rot.test.ts",
    "engine/background/expiry.ts",
    ["          if (this.#core.vault === undefined) verifyFound(this.#core);\n", ""],
  ),
  fault(
    "a sweep checks a frame that it has opened as a plain one",
    "test/engine/expiry-taken-back.test.ts",
    "engine/background/expiry.ts",
    ["if (this.#core.vault === undefined) verifyFound(this.#core);", "verifyFound(this.#core);"],
  ),
  fault(
    "a walk for deadlines passes over what stands at the first hash of a shard",
    WALK,
    "engine/background/expiry.ts",
    ["if (high >>> HASH_SHIFT >= shard.from) enterSlot", "if (high >>> HASH_SHIFT > shard.from) enterSlot"],
  ),
  fault("a walk for deadlines goes into the index of a namespace that has none", WALK, "engine/background/expiry.ts", [
    "let hash = root === 0 ? HASHES : ",
    "let hash = ",
  ]),
  fault("a namespace without deadlines is walked through by each sweep", WALK, "engine/background/expiry.ts", [
    "  if (expiry.facts(space.address).live === 0) expiry.begin(space.address);\n",
    "",
  ]),
  fault("a walk for deadlines holds the lock until its end", WALK, "engine/background/expiry.ts", [
    "hash < HASHES && looks < WALK_LOOKS_PER_SLICE;",
    "hash < HASHES && looks >= 0;",
  ]),
  fault(
    "a walk for deadlines enters anew what was laid together with what it has seen",
    WALK,
    "engine/background/expiry.ts",
    ["if (high >>> HASH_SHIFT >= shard.from) enterSlot(", "enterSlot("],
  ),
  fault(
    "what is written ahead of a walk for deadlines is entered, and by the walk as well",
    WALK,
    "keydir/expiry-queue.ts",
    ["return hash >= HASHES - this.#pages.unwalked;", "return hash >= HASHES;"],
  ),
  fault("a queue of deadlines that is half filled passes for a whole one", WALK, "keydir/expiry-queue.ts", [
    "return queue === QUEUE_UNKNOWN || (this.#open(space) && this.#pages.unwalked > 0);",
    "return queue === QUEUE_UNKNOWN;",
  ]),
  fault("a clear that is taken back has lost its deadlines", TAKEN_BACK, "engine/spaces.ts", [
    "    this.#core.expiry.attach(space.address, heap.read32(address + GRAVE_QUEUE_AT));\n",
    "",
  ]),
  fault("what left a queue in a batch is not put back when that fails", EXPIRY_MODEL, "engine/write/deadlines.ts", [
    "  core.expiry.restore(space.address, expiresAtMs, low, high);\n",
    "  void [low, high];\n",
  ]),
  fault("deadlines go by old positions for what has left a queue", QUEUE, "keydir/expiry-queue.ts", [
    "return this.present === undefined ? units : this.present(units);",
    "return units;",
  ]),
  fault("an image of a queue that nobody keeps says that there is none", EXPIRY_MODEL, "engine/hint/hint-writer.ts", [
    'isUnknown ? "unknown" : deadlines > 0',
    "deadlines > 0",
  ]),
  fault("no memory for a deadline that is put back fails the undo", QUEUE, "keydir/expiry-queue.ts", [
    "      if (!(error instanceof EmdbError)) throw error;\n      this.forget(space);\n",
    "      throw error;\n",
  ]),
  fault("the records of this moment do not count as due", QUEUE, "keydir/expiry-queue.ts", [
    "if (entry.f64[0]! > due.nowMs) continue;",
    "if (entry.f64[0]! >= due.nowMs) continue;",
  ]),
  fault("a removal without a place keeps an entry without one from being stale", QUEUE, "keydir/expiry-queue.ts", [
    "!isTombstone(keydir.high) && this",
    "this",
  ]),
  fault("the last entry keeps its old position when it fills a gap", QUEUE, "keydir/expiry-queue.ts", [
    "    this.#relocateAt(this.#entry, 0);\n    pages.entries -= 1;",
    "    pages.entries -= 1;",
  ]),
  fault("an entry keeps its old position when it moves up", QUEUE, "keydir/expiry-queue.ts", [
    "      this.#relocateAt(family, least * ENTRY_BYTES);\n",
    "",
  ]),
  fault("what stood in the place of a queue that comes back is lost", QUEUE, "keydir/expiry-queue.ts", [
    "    this.begin(space);\n    this.#heap.write32(space + QUEUE_AT, queue);",
    "    this.#heap.write32(space + QUEUE_AT, queue);",
  ]),
  fault("the last family of a queue from an image stays out of order", QUEUE, "keydir/expiry-queue.ts", [
    "Math.floor(last / CHILDREN) + FIRST - 1; index >= FIRST",
    "Math.floor(last / CHILDREN) + FIRST - 2; index >= FIRST",
  ]),
  fault("a copy of a queue lacks what was put back in front of it", QUEUE_COPY, "keydir/expiry-queue.ts", [
    "      this.#journal.add(this.#pages, entry.address);\n      this.#pages.save();\n    } catch",
    "    } catch",
  ]),
  fault("a copy of a queue lacks the next entry when that fills a gap", QUEUE_COPY, "keydir/expiry-queue.ts", [
    "if (last >= pages.copied && pages.copied !== 0)",
    "if (last > pages.copied && pages.copied !== 0)",
  ]),
  fault("a copy of a queue lacks the next entry when that moves up", QUEUE_COPY, "keydir/expiry-queue.ts", [
    "if (index < pages.copied && first + least >= pages.copied)",
    "if (index < pages.copied && first + least > pages.copied)",
  ]),
  fault("an image's deadline behind all time is taken", ADOPTION, "keydir/expiry-adoption.ts", [
    "if (!(deadlineMs > 0 && deadlineMs < Infinity)) return false;",
    "if (!(deadlineMs > 0)) return false;",
  ]),
  fault("an image's deadline of a removal is taken", ADOPTION, "keydir/expiry-adoption.ts", [
    "if (isTombstone(high) || place === 0",
    "if (place === 0",
  ]),
  fault("an image's deadline of a record at the gate is taken", ADOPTION, "keydir/expiry-adoption.ts", [
    " || place * 8 >= before) return false;",
    " || place * 8 > before) return false;",
  ]),
  fault("an image's deadline that is cut short is taken", ADOPTION, "keydir/expiry-adoption.ts", [
    "bytes % ENTRY_BYTES !== 0 || at",
    "at",
  ]),
  fault(
    "a background sweep asks all key spaces under one lock",
    "test/engine/expiry-timer.test.ts",
    "engine/background/expiry-timer.ts",
    ["this.#spaces.live(this.#next, SPACES_PER_LOOK)", "this.#spaces.live(this.#next, Infinity)"],
  ),
  fault("a compaction in the order of keys revives what was removed", IN_ORDER, REWRITE, [
    "if (kindOf(lookup.shape) === KIND_PUT && bytes < NEAR_BYTES)",
    "if (bytes < NEAR_BYTES)",
  ]),
  fault("a compaction in the order of keys forgets deadlines", IN_ORDER, REWRITE, [
    "const expiresAtMs = lookup.expiresAtMs();",
    "const expiresAtMs = 0;",
  ]),
  fault("a compaction in the order of keys writes rot anew", IN_ORDER, REWRITE, ["    verifyFound(this.#core);\n", ""]),
  fault("a compaction in the order of keys writes long records twice", IN_ORDER, REWRITE, [
    "KIND_PUT && bytes < NEAR_BYTES)",
    "KIND_PUT)",
  ]),
  fault("a compaction in the order of keys leaves half of them where they are", IN_ORDER, REWRITE, [
    "(gap < 0 || gap >= NEAR_BYTES)",
    "(gap >= NEAR_BYTES)",
  ]),
  fault("a compaction in the order of keys leaves streams in between each other", IN_ORDER, REWRITE, [
    " && this.#gaps <= this.#bytes * GAPS_PER_BYTE",
    "",
  ]),
  fault("a compaction in the order of keys writes all anew for a few", IN_ORDER, REWRITE, [
    "this.#breaks * RECORDS_PER_BREAK <= this.lsns.length",
    "this.#breaks <= 0 * this.lsns.length",
  ]),
  fault("a compaction in the order of keys writes twice what comes meanwhile", IN_ORDER, REWRITE, [
    "if (lsn < this.#before) this",
    "if (lsn < Infinity * this.#before) this",
  ]),
  fault("whoever writes keeps a compaction in the order of keys from its end", IN_ORDER, REWRITE, [
    "const STEP_POSITIONS = 8192;",
    "const STEP_POSITIONS = 512;",
  ]),
  fault("a removal that has rotted ends a compaction in the order of keys", IN_ORDER, REWRITE, [
    "if (!isRot(error)) throw error;",
    "throw error;",
  ]),
  fault("a compaction in the order of keys fills a disk that has no room for it", ROOM, "engine/copy/compaction.ts", [
    "    yield* askForTwice(engine, this.#draftPlan, () => work.isOurs);\n",
    "",
  ]),
  fault(
    "a compaction in the order of keys that cannot be done writes all the same",
    IN_ORDER,
    "engine/copy/draft-log.ts",
    ["    nextBase(core, twice);\n", ""],
  ),
  fault("an encrypted database is compacted in the order of its keys", IN_ORDER, "engine/copy/compaction.ts", [
    "  if (vault === undefined) return;\n  const message",
    "  return;\n  const message",
  ]),
  fault(
    "how far a frame in a replaced log may be read is what was known of another",
    "test/engine/side-by-side.test.ts",
    "engine/read/frame-batch.ts",
    ["      limits[index] = log.limit;\n", ""],
  ),
];
