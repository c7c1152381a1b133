/** "on-each-flush": a flush that waits for its turn is not lost when the handle is closed, which flushes. */

import { expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode } from "./fixture.ts";

for (const how of ["close", "closeSync"] as const) {
  test(`flushes that are open at ${how} resolve`, async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path, { flushPolicy: "on-each-flush" });
    const flushes = ["a", "b", "c"].map((key) => {
      db.insert(key, "1");
      return db.flush();
    });
    if (how === "close") await db.close();
    else db.closeSync();
    expect(await Promise.all(flushes)).toEqual([undefined, undefined, undefined]);
    expect(await db.flush().catch((error: unknown) => error)).toMatchObject({ code: "EMDB_CLOSED" });
    using again = Emdb.open(path);
    expect(again.len()).toBe(3);
  });
}

test("one that waits for its turn in a thread that leaves, and whose write fails, is told that the database is closed", async () => {
  using folder = temporaryFolder();
  const plan = { isFull: false };
  const system = faulty(hostSystem(), (call) => {
    if (call === "allocate") return -Errno.EOPNOTSUPP;
    return call === "write" && plan.isFull ? -Errno.ENOSPC : undefined;
  });
  using fixture = new EngineFixture(folder.file("data.emdb"), system);
  fixture.engine.core.becomeShared();
  const second = attachTo({ system, defer: () => undefined, hasWorkers: false }, fixture.opened.base);
  second.engine.insert(second.engine.defaultSpace, "a", "1", 0);
  const flush = second.commit!.flush().catch((error: unknown) => error);
  plan.isFull = true;
  expectCode("EMDB_FULL", () => second.leave());
  expect(await flush).toMatchObject({ code: "EMDB_CLOSED" });
  plan.isFull = false;
});
