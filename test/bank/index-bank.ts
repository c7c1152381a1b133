/** The part of the bug bank that is about the hash index, its deadlines and the ordered index; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

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
];
