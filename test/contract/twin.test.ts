/** The contract over the twin: the api by itself, and the twin fit to be an oracle. */

import { MemoryStore } from "../support/memory-store.ts";
import { memoryDatabase } from "./memory-life.ts";
import { contractSuite } from "./suite.ts";

for (const isAlwaysOrdered of [false, true]) {
  const name = isAlwaysOrdered ? "over the twin, ordered" : "over the twin";
  contractSuite(
    name,
    ({ defaultTtlMs, rangeScans = isAlwaysOrdered }) => {
      const store = new MemoryStore({ rangeScans });
      const options = defaultTtlMs === undefined ? {} : { defaultTtlMs };
      return { db: memoryDatabase(store, options), clock: store.clock };
    },
    { isAlwaysOrdered },
  );
}

// Closing and "opening" again over the same store: what a handle remembers must not matter.
contractSuite("over the twin, a new handle after each step", ({ defaultTtlMs, rangeScans = false }) => {
  const store = new MemoryStore({ rangeScans });
  const options = defaultTtlMs === undefined ? {} : { defaultTtlMs };
  return {
    db: memoryDatabase(store, options),
    clock: store.clock,
    settle(db) {
      const next = memoryDatabase(store, options);
      db.closeSync();
      return next;
    },
  };
});
