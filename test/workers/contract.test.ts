/** The contract over an attached handle while the owner stays open: a second engine of this thread over one shared base. */

import { afterAll, expect, setSystemTime, test } from "bun:test";
import { Emdb, type EmdbShare } from "../../src/index.ts";
import { contractSuite } from "../contract/suite.ts";
import { heldClock } from "../support/held-clock.ts";
import { emulator } from "../support/platform.ts";
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

test("an attached handle is an engine of its own, and goes on when the owner's has closed", () => {
  const owner = Emdb.openInMemory();
  const guest = attachApart(owner.share());
  guest.insert("by", "the guest");
  expect(owner.getText("by")).toBe("the guest");
  owner.closeSync();
  expect(() => owner.getText("by")).toThrow("closed");
  expect(guest.getText("by")).toBe("the guest");
  guest.closeSync();
});

/** Reserving address space takes qemu a second for each database; there the threads of the other tests have to do. */
const isQuick = emulator !== "qemu";

if (isQuick)
  contractSuite(
    "attached, in memory",
    (options) => {
      const owner = Emdb.openInMemory(options);
      return { db: attachApart(owner.share()), clock: heldClock(), end: () => owner.closeSync() };
    },
    { lacks },
  );

if (isQuick)
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
