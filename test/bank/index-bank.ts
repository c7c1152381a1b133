/** The part of the bug bank that is about the hash index, its deadlines and the ordered index; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

const KEYDIR = "test/keydir/keydir.test.ts";
const COST = "test/ordered/cost.test.ts";

/** What an index counts, keeps and gives back. */
export const INDEX: readonly PlantedFault[] = [
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
];
