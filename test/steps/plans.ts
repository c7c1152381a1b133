/** What is lived in stepped lives, of one kind each. */

import type { LifePlan } from "./life.ts";

/** Two threads over a few keys, and fillers that come and go so that the index is laid out anew all the time. */
export const BUSY: LifePlan = {
  clients: 2,
  hasCommitWorker: false,
  deaths: 0,
  operations: 150,
  churnOneIn: 20,
  flushOneIn: 40,
  compactOneIn: 0,
  diesInSwap: false,
  writesThrough: false,
  hasReader: false,
  isOrdered: false,
};

/** Two threads that compact, and one that reads while they hold the lock. */
export const COMPACTING: LifePlan = {
  ...BUSY,
  clients: 3,
  hasReader: true,
  churnOneIn: 100,
  compactOneIn: 25,
  operations: 100,
};

/** Two threads whose reads are ranges, over a tree of small nodes. */
export const RANGING: LifePlan = { ...BUSY, isOrdered: true, churnOneIn: 6 };
