/** What comes right after the death of a thread that was putting a compacted file in its place. */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { dieAt, expectWhole, fill } from "./die-at.ts";

const TIMEOUT_MS = 60_000;

test.each(["compaction", "backup", "checkpoint"])(
  "a %s that is the first thing after a thread died in a swap knows where everything is",
  async (name) => {
    using folder = temporaryFolder();
    using elsewhere = temporaryFolder();
    const path = folder.file("data.emdb");
    const target = elsewhere.file("copy.emdb");
    const db = Emdb.open(path, { rangeScans: true });
    fill(db, 0);
    // The new file has the name, and the shared words are those of the one before.
    await dieAt(db, { step: 1, call: "syncFolder" });
    if (name === "compaction") await db.compact();
    if (name === "backup") await db.backupTo(target);
    if (name === "checkpoint") await db.checkpoint();
    expectWhole(db, 0);
    expect((await db.verify()).problems).toEqual([]);
    db.closeSync();
    using again = Emdb.open(name === "backup" ? target : path, { rangeScans: true });
    expectWhole(again, 0);
  },
  TIMEOUT_MS,
);

test(
  "a swap that a dead thread left waits for the next write where no descriptor is free to sync the folder",
  async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path, { rangeScans: true });
    fill(db, 0);
    await dieAt(db, { step: 1, call: "syncFolder" });
    const system = hostSystem();
    const { open } = system;
    system.open = (at, mode) => (mode === "folder" ? -Errno.EMFILE : open.call(system, at, mode));
    try {
      const insert = (): void => db.insert("refused", "for now");
      expect(insert).toThrow(expect.objectContaining({ code: "EMDB_IO", syscall: "open", errno: "EMFILE" }));
    } finally {
      Reflect.deleteProperty(system, "open");
    }
    db.insert("afterwards", "written");
    expect(db.get("refused")).toBeUndefined();
    expectWhole(db, 0);
    expect((await db.verify()).problems).toEqual([]);
    db.closeSync();
    using again = Emdb.open(path, { rangeScans: true });
    expect(again.getText("afterwards")).toBe("written");
    expectWhole(again, 0);
  },
  TIMEOUT_MS,
);

const stops = [1, 2, 3, 4, 5].flatMap((step) => [["add", step] as const, ["store", step] as const]);

test.each(stops)(
  "a flush and a close that come right after a thread died with the words half exchanged (%s %i) lose nothing",
  async (call, step) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path, { rangeScans: true });
    fill(db, 0);
    await dieAt(db, { step, call, after: "syncFolder" });
    db.flushSync();
    await db.flush();
    expectWhole(db, 0);
    db.insert("afterwards", "written");
    expectWhole(db, 0);
    db.closeSync();
    using again = Emdb.open(path, { rangeScans: true });
    expectWhole(again, 0);
  },
  TIMEOUT_MS,
);
