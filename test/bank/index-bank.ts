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
];
