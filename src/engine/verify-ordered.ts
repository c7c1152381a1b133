/**
 * The ordered index under verify: its own invariants (`ordered/check.ts`), and that it agrees with the hash index.
 *
 * One key space at a time and in one go, under the writer's lock, as of then: the tree cannot be walked in
 * slices. It is left out when the log is damaged, since its order is that of the keys there.
 */

import { FRAME_HEADER_BYTES, TWO_32 } from "../log/frame.ts";
import { isTombstone, positionHigh } from "../keydir/keydir.ts";
import type { Core } from "./core.ts";
import type { Ordering } from "./ordering.ts";
import type { SpaceState, Spaces } from "./spaces.ts";
import type { Problems } from "./verify-moment.ts";

export class OrderedCheck {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #ordering: Ordering;
  readonly #problems: Problems;

  constructor(core: Core, spaces: Spaces, parts: { readonly ordering: Ordering; readonly problems: Problems }) {
    this.#core = core;
    this.#spaces = spaces;
    this.#ordering = parts.ordering;
    this.#problems = parts.problems;
  }

  /** Holds the tree of a key space against itself and against the hash index. */
  check(space: SpaceState): void {
    const { mutex, tail, visible } = this.#core;
    mutex.lock();
    try {
      // What a dead writer left unfinished is the next writer's to undo.
      if (tail.end === visible && this.#spaces.isLive(space)) this.#compare(space);
    } finally {
      mutex.unlock();
    }
  }

  #compare(space: SpaceState): void {
    const place = Math.max(0, this.#spaces.createdAt(space) - this.#core.base);
    const tree = this.#spaces.tree(space);
    const held = this.#spaces.records(space);
    const root = this.#spaces.root(space);
    let records = 0;
    if (tree !== 0) {
      const facts = this.#ordering.check(tree, (lsn, isRemoval) => {
        if (!isRemoval && !this.#isInHashIndex(root, lsn)) {
          this.#problems.add(lsn - this.#core.base, "the ordered index names this record, the hash index does not");
        }
      });
      records = facts.records;
      for (const fault of facts.faults) this.#problems.add(place, `the ordered index: ${fault}`);
    }
    if (records !== held) {
      this.#problems.add(place, `the ordered index holds ${records} records, the hash index ${held}`);
    }
  }

  #isInHashIndex(root: number, lsn: number): boolean {
    const { keydir, key, lookup } = this.#core;
    lookup.loadAt(lsn);
    key.loadFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
    if (!keydir.seek(root, key.hash)) return false;
    while (keydir.next()) {
      if ((positionHigh(keydir.high) * TWO_32 + keydir.low) * 8 === lsn) return !isTombstone(keydir.high);
    }
    return false;
  }
}
