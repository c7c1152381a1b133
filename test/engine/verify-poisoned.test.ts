/** Verify of a database whose compacted file has the name that could not be made durable: its index names the file before for good. */

import { expect, test } from "bun:test";
import { closeSync, openSync, writeSync } from "node:fs";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

const KEY = { key: new Uint8Array(32).fill(3) };
const RECORDS = 300;

function fill({ engine, sync }: EngineFixture): void {
  const named = engine.spaceNamed("named");
  for (let index = 0; index < RECORDS; index++) {
    engine.insert(engine.defaultSpace, `key ${index}`, "first", 0);
    engine.insert(named, `key ${index}`, "elsewhere", 0);
  }
  for (let index = 0; index < RECORDS; index += 3) engine.insert(engine.defaultSpace, `key ${index}`, "second", 0);
  sync.flush();
}

function beginWalk({ engine }: EngineFixture): Iterator<unknown> {
  const walk = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
  walk.next();
  return walk;
}

test.each([
  ["plain", undefined],
  ["encrypted", KEY],
] as const)(
  "verify finds a sound %s file sound whose compaction was poisoned by the sync of its folder, and damage in it where it is",
  async (_, encryption) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    let isFailing = false;
    const system: System = faulty(hostSystem(), (call, [into]) => {
      // With the seed of every run none of the keys has the hash of the one that is damaged, and is damaged with it.
      if (call === "random") (into as Uint8Array).fill(7);
      if (call === "random") return 0;
      return isFailing && call === "syncFolder" ? -Errno.EIO : undefined;
    });
    using fixture = new EngineFixture(path, system, { encryption, rangeScans: true });
    const { engine, opened } = fixture;
    fill(fixture);
    // What is removed beside a walk leaves removals in the index. Those that no walk needs any more are not copied.
    const past = beginWalk(fixture);
    for (let index = 0; index < RECORDS; index += 2) engine.remove(engine.spaceNamed("named"), `key ${index}`);
    past.return?.();
    const walk = beginWalk(fixture);
    for (let index = 0; index < RECORDS; index += 2) engine.remove(engine.defaultSpace, `key ${index}`);
    isFailing = true;
    expect(() => opened.compaction.runSync()).toThrow(expect.objectContaining({ code: "EMDB_IO", syscall: "fsync" }));
    const poisoned = expect.objectContaining({ code: "EMDB_POISONED" });
    expect(() => engine.insert(engine.defaultSpace, "key", "value", 0)).toThrow(poisoned);

    const { problems, records } = await verifyDatabase(opened, {});
    expect(problems).toEqual([]);
    expect(records).toBeGreaterThan(RECORDS);

    const { core } = engine;
    core.key.load("key 1");
    expect(core.lookup.findNewest(engine.spaces.root(engine.spaces.default))).toBe(true);
    expect(core.lookup.lsn).toBeLessThan(core.base);
    const offset = core.log.segments.present(core.lookup.lsn) - core.base;
    const file = openSync(path, "r+");
    writeSync(file, new Uint8Array([0x55, 0xaa]), 0, 2, offset + 30);
    closeSync(file);
    const damaged = await verifyDatabase(opened, {});
    expect(damaged.problems.map((problem) => problem.offset)).toEqual([offset]);
    walk.return?.();
  },
);
