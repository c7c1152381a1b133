/** Holds the ordered index against its own invariants and against the hash index, for `verify`. */

import { FRAME_HEADER_BYTES } from "../log/frame.ts";
import type { Core } from "./core.ts";
import type { Spaces } from "./spaces.ts";

/** A fault of the ordered index, and the position that it is about; 0 for a whole key space. */
export interface OrderingFault {
  readonly lsn: number;
  readonly reason: string;
}

/** Everything that is wrong with the ordered index. Under the writer's lock. Cost: two looks at the log for each record. */
export function orderingFaults(core: Core, spaces: Spaces): OrderingFault[] {
  const { ordering, lookup, key } = core;
  const faults: OrderingFault[] = [];
  if (ordering === undefined) return faults;
  for (const space of [spaces.default, ...spaces.list()]) {
    const tree = spaces.tree(space);
    const root = spaces.root(space);
    let records = 0;
    if (tree !== 0) {
      const facts = ordering.check(tree, (lsn, isTombstone) => {
        lookup.loadAt(lsn);
        key.loadFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
        const isFound = lookup.findNewest(root);
        if (isTombstone) {
          if (isFound && !lookup.isRemoved)
            faults.push({ lsn, reason: "the ordered index takes a record for removed" });
          return;
        }
        if (!isFound || lookup.lsn !== lsn || lookup.isRemoved)
          faults.push({ lsn, reason: "the ordered index names a version that the hash index does not" });
      });
      records = facts.records;
      for (const reason of facts.faults) faults.push({ lsn: 0, reason: `ordered index: ${reason}` });
    }
    if (records !== spaces.records(space)) {
      const reason = `the ordered index holds ${records} records of namespace ${space.id}, counted are ${spaces.records(space)}`;
      faults.push({ lsn: 0, reason });
    }
  }
  return faults;
}
