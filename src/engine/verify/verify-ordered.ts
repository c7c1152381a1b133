/**
 * The ordered index under verify, some leaves at a time, as of the moment: its own invariants (`ordered/check.ts`), that
 * each of its records is the one that the hash index names, and that it shows as many as were counted.
 *
 * The writer's lock is given back between two slices; the walk goes on at a key. It is left out when the log is damaged,
 * since the order is that of the keys there.
 */

import { FRAME_HEADER_BYTES } from "../../log/frame.ts";
import type { TreeCheck } from "../../ordered/check.ts";
import { RELOCATED } from "../threads/control.ts";
import type { Core } from "../core.ts";
import type { Ordering } from "../ordering/ordering.ts";
import type { Spaces } from "../spaces.ts";
import { canFollowBack, placeInFile, type Moment, type Problems, type SpaceMoment } from "./verify-moment.ts";

/** Leaves for which the lock is held: some hundred records, about a millisecond. */
const SLICE_LEAVES = 8;

export class OrderedCheck {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #moment: Moment;
  readonly #problems: Pick<Problems, "add">;
  readonly #waiting: SpaceMoment[];
  readonly #tree: TreeCheck;
  /** Where the walk of the key space at hand goes on; undefined: it has not begun. */
  #from: Uint8Array | undefined;
  #root = 0;
  /** Records of it that the moment shows, so far. */
  #records = 0;
  /** Faults of the tree that have been told. */
  #told = 0;

  constructor(
    core: Core,
    spaces: Spaces,
    parts: {
      readonly ordering: Ordering;
      readonly moment: Moment;
      readonly problems: Pick<Problems, "add">;
    },
  ) {
    this.#core = core;
    this.#spaces = spaces;
    this.#moment = parts.moment;
    this.#problems = parts.problems;
    this.#waiting = [...parts.moment.spaces.values()].filter(({ isLive }) => isLive).reverse();
    this.#tree = parts.ordering.checkOf((lsn, isTombstone) => this.#visit(lsn, isTombstone));
  }

  /** Looks at some leaves; false when all have been looked at. */
  step(): boolean {
    const known = this.#waiting.at(-1);
    if (known === undefined) return false;
    const { mutex } = this.#core;
    mutex.lock();
    try {
      // What a dead writer left unfinished is the next writer's to undo.
      if (this.#core.tail.end !== this.#core.visible) this.#next();
      else if (!this.#takeSlice(known)) this.#end(known);
    } finally {
      mutex.unlock();
    }
    return true;
  }

  #takeSlice({ space, clears, createdAt }: SpaceMoment): boolean {
    const tree = this.#spaces.treeBefore(space, clears);
    this.#root = this.#spaces.rootBefore(space, clears);
    if (tree === 0) return false;
    this.#from = this.#tree.slice(tree, this.#from, SLICE_LEAVES);
    const { faults } = this.#tree.facts;
    for (; this.#told < faults.length; this.#told++)
      this.#problems.add(createdAt, `the ordered index: ${faults[this.#told]}`);
    return this.#from !== undefined;
  }

  /** Compares an entry with what the hash index says of its key, and counts the record that the moment shows. */
  #visit(lsn: number, isTombstone: boolean): void {
    const { lookup, key } = this.#core;
    lookup.loadAt(lsn);
    key.loadFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
    const isFound = this.#root !== 0 && lookup.findNewest(this.#root);
    const isLive = isFound && !lookup.isRemoved;
    // After a compaction the two are led over to the copies of their frames one after the other.
    const isSame = lookup.lsn === lsn || this.#core.control.numbers[RELOCATED] !== 0;
    if (isTombstone ? isLive : !isLive || !isSame) {
      const reason = isTombstone ? "the ordered index takes this for removed, the hash index does not" : DISAGREES;
      this.#problems.add(placeInFile(this.#core, this.#moment, lsn), reason);
    }
    const { base, end } = this.#moment;
    if (isFound && canFollowBack(this.#core, this.#moment) && lookup.walkBack(base + end)) this.#records += 1;
  }

  #end({ createdAt, records }: SpaceMoment): void {
    if (canFollowBack(this.#core, this.#moment) && this.#records !== records) {
      const held = `the ordered index holds ${this.#records} records, the hash index ${records}`;
      this.#problems.add(createdAt, held);
    }
    this.#next();
  }

  #next(): void {
    this.#waiting.pop();
    this.#from = undefined;
    this.#records = 0;
    this.#told = 0;
  }
}

const DISAGREES = "the ordered index names this record, the hash index does not";
