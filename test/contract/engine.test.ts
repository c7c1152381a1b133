/** The contract over the engine: in memory, in a file, and in a file that is closed and opened again at each step. */

import { afterAll, setSystemTime } from "bun:test";
import { Emdb } from "../../src/index.ts";
import type { TestClock } from "../support/memory-store.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { contractSuite } from "./suite.ts";

const lacks = ["checkpoint", "verify"] as const;

/** The clock of the process, which stands still until a test moves it. */
function heldClock(): TestClock {
  let heldMs = 1_700_000_000_000;
  setSystemTime(heldMs);
  return {
    get nowMs() {
      return heldMs;
    },
    set nowMs(nextMs: number) {
      heldMs = nextMs;
      setSystemTime(heldMs);
    },
  };
}

afterAll(() => {
  setSystemTime();
});

contractSuite("in memory", (options) => ({ db: Emdb.openInMemory(options), clock: heldClock() }), { lacks });

contractSuite(
  "in a file",
  (options) => {
    const folder = temporaryFolder();
    const db = Emdb.open(folder.file("data.emdb"), options);
    return { db, clock: heldClock(), end: () => folder[Symbol.dispose]() };
  },
  { lacks },
);

contractSuite(
  "in a file, reopened after each step",
  (options) => {
    const folder = temporaryFolder();
    const path = folder.file("data.emdb");
    return {
      db: Emdb.open(path, options),
      clock: heldClock(),
      settle(db) {
        db.closeSync();
        return Emdb.open(path, options);
      },
      end: () => folder[Symbol.dispose](),
    };
  },
  { lacks },
);

/** The same with the ordered index kept whatever a case asks for. */
const always = { lacks, isAlwaysOrdered: true } as const;

contractSuite(
  "in memory, ordered",
  (options) => ({ db: Emdb.openInMemory({ ...options, rangeScans: true }), clock: heldClock() }),
  always,
);

contractSuite(
  "in a file, ordered, reopened after each step",
  (options) => {
    const folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const ordered = { ...options, rangeScans: true };
    return {
      db: Emdb.open(path, ordered),
      clock: heldClock(),
      settle(db) {
        db.closeSync();
        return Emdb.open(path, ordered);
      },
      end: () => folder[Symbol.dispose](),
    };
  },
  always,
);

const SECRET = { key: new Uint8Array(32).fill(0x5e) };

for (const cipher of ["aes-256-gcm", "chacha20-poly1305"] as const) {
  const encrypted = { encryption: SECRET, cipher };

  contractSuite(
    `encrypted with ${cipher}, in a file, ordered, reopened after each step`,
    (options) => {
      const folder = temporaryFolder();
      const path = folder.file("data.emdb");
      const all = { ...options, ...encrypted, rangeScans: true };
      return {
        db: Emdb.open(path, all),
        clock: heldClock(),
        settle(db) {
          db.closeSync();
          return Emdb.open(path, all);
        },
        end: () => folder[Symbol.dispose](),
      };
    },
    always,
  );

  contractSuite(
    `encrypted with ${cipher}, in memory`,
    (options) => ({ db: Emdb.openInMemory({ ...options, ...encrypted }), clock: heldClock() }),
    { lacks },
  );
}
