/** A value too long for the ring goes to the file at once; a failure after that must not spoil the log. */

import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Emdb } from "emdb";
import { hintPath } from "../../src/engine/files/siblings.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty } from "./engine-fixture.ts";
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

test("a long value over what a write that failed has left in the file ends with zeros", () => {
  using folder = temporaryFolder();
  const path = folder.file("db");
  const host = hostSystem();
  // The value arrives, and is told as lost.
  const system = faulty(host, (call, args) => {
    const [file, from, span] = args as Parameters<System["write"]>;
    if (call !== "write" || span.bytes !== 60_000) return undefined;
    host.write(file, from, span);
    return -Errno.EIO;
  });
  const { engine, leave } = openFile(system, path);
  const insert = (value: Uint8Array): void => engine.insert(engine.defaultSpace, "long", value, 0);
  expect(() => insert(new Uint8Array(60_000).fill(255))).toThrow(expect.objectContaining({ code: "EMDB_IO" }));
  insert(new Uint8Array(40_001).fill(1));
  leave();
  // Whoever has the checkpoint does not look at the frame.
  rmSync(hintPath(path));
  using db = Emdb.open(path);
  expect(db.get("long")).toEqual(new Uint8Array(40_001).fill(1));
});
