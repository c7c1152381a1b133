/** The contract over an attached handle while the owner stays open: a second engine of this thread over one shared base. */

import { afterAll, setSystemTime } from "bun:test";
import { Emdb, type EmdbShare } from "../../src/index.ts";
import { contractSuite } from "../contract/suite.ts";
import { heldClock } from "../support/held-clock.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const lacks = ["checkpoint", "compact", "verify"] as const;
const REGISTRY = Symbol.for("emdb.open-engines.1");

/** Attaches as another thread would: past this thread's list of what is open, which would give the owner's engine. */
function attachApart(share: EmdbShare): Emdb {
  const holder = globalThis as { [REGISTRY]?: unknown };
  const own = holder[REGISTRY];
  delete holder[REGISTRY];
  try {
    return Emdb.attach(share);
  } finally {
    holder[REGISTRY] = own;
  }
}

afterAll(() => {
  setSystemTime();
});

contractSuite(
  "attached, in memory",
  (options) => {
    const owner = Emdb.openInMemory(options);
    return { db: attachApart(owner.share()), clock: heldClock(), end: () => owner.closeSync() };
  },
  { lacks },
);

contractSuite(
  "attached, in a file, in turn with the owner and a third",
  (options) => {
    const folder = temporaryFolder();
    const owner = Emdb.open(folder.file("data.emdb"), options);
    return {
      db: attachApart(owner.share()),
      clock: heldClock(),
      settle(db) {
        const next = attachApart(db.share());
        db.closeSync();
        return next;
      },
      end() {
        owner.closeSync();
        folder[Symbol.dispose]();
      },
    };
  },
  { lacks },
);
