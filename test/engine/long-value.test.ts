/** A value too long for the ring goes to the file at once; a failure after that must not spoil the log. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { Emdb } from "emdb";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { openFile } from "./open-engine.ts";

test("a long value in shared memory is checked as it is written, whatever another thread does meanwhile", async () => {
  const shared = new Uint8Array(new SharedArrayBuffer(100_000)).fill(1);
  const system = hostSystem();
  using folder = temporaryFolder();
  const { engine, leave } = openFile(system, join(folder.path, "db"));
  const write = system.write.bind(system);
  // What another thread would do between the check and the write.
  system.write = (...call) => {
    shared[50_000]! += 1;
    return write(...call);
  };
  engine.insert(engine.defaultSpace, "shared", shared, 0);
  system.write = write;
  expect(shared[50_000]).toBeGreaterThan(1);
  expect(engine.get(engine.defaultSpace, "shared")?.[50_000]).toBe(1);
  leave();
  using db = Emdb.open(join(folder.path, "db"));
  expect((await db.verify()).problems).toEqual([]);
});

test("a long value whose write is refused by the index leaves a log that opens without it", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "db");
  const long = new Uint8Array(2 * 1024 * 1024).fill(7);
  const first = openFile(hostSystem(), path);
  const { engine } = first;
  engine.insert(engine.defaultSpace, "before", "1", 0);
  const { keydir } = engine.core;
  const add = keydir.add.bind(keydir);
  keydir.add = () => {
    throw new EmdbError("EMDB_FULL", "planted");
  };
  expect(() => engine.insert(engine.defaultSpace, "long", long, 0)).toThrow("planted");
  keydir.add = add;
  expect(engine.get(engine.defaultSpace, "long")).toBeUndefined();
  engine.insert(engine.defaultSpace, "after", "2", 0);
  first.leave();

  const again = openFile(hostSystem(), path);
  const { engine: reopened } = again;
  expect(reopened.count(reopened.defaultSpace)).toBe(2);
  expect(reopened.get(reopened.defaultSpace, "long")).toBeUndefined();
  reopened.insert(reopened.defaultSpace, "long", long, 0);
  again.leave();

  const third = openFile(hostSystem(), path);
  expect(third.engine.get(third.engine.defaultSpace, "long")).toEqual(long);
  expect(third.engine.count(third.engine.defaultSpace)).toBe(3);
  third.leave();
});
