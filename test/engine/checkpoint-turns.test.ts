/** Checkpoints that are made a slice at a time: beside each other, beside a writer and other work, and when they fail. */

import { existsSync } from "node:fs";
import { expect, setDefaultTimeout, test } from "bun:test";
import { newHintPath } from "../../src/engine/files/siblings.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { turn } from "../support/turns.ts";
import { EngineFixture, copyOf, faulty } from "./engine-fixture.ts";

setDefaultTimeout(60_000);

const RECORDS = 3000;

/** A database with enough records for a few pieces. */
function filled(path: string, system: System = hostSystem()): EngineFixture {
  const fixture = new EngineFixture(path, system);
  const keys = Array.from({ length: RECORDS }, (_, index) => `key ${index}`);
  fixture.engine.insertMany(fixture.engine.defaultSpace, keys, keys, 0);
  return fixture;
}

/** How many records an open of the files as they are replays behind the image. */
function replayedBehind(path: string): number {
  using copy = new EngineFixture(copyOf(path), hostSystem());
  const { usedCheckpoint, replayedRecords } = copy.opened.base.recovery;
  expect(usedCheckpoint).toBe(true);
  return replayedRecords;
}

test("who asks while a checkpoint is under way gets the next one, the second time as the first", async () => {
  using folder = temporaryFolder();
  using fixture = filled(folder.file("data.emdb"));
  const { engine, opened, path } = fixture;
  for (const round of [1, 2, 3]) {
    engine.insert(engine.defaultSpace, `first ${round}`, "value", 0);
    const first = opened.checkpoint!.run();
    await turn();
    engine.insert(engine.defaultSpace, `second ${round}`, "value", 0);
    await opened.checkpoint!.run();
    expect([round, replayedBehind(path)]).toEqual([round, 0]);
    await first;
  }
});

test("one call makes one image, whatever is written meanwhile, and none where nothing was", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let images = 0;
  let isWriting = true;
  const system = faulty(hostSystem(), (call, [, to]) => {
    if (call !== "rename" || to !== `${path}.hint`) return undefined;
    images += 1;
    const { engine } = fixture;
    if (isWriting && images < 10) engine.insert(engine.defaultSpace, `more ${images}`, "value", 0);
    return undefined;
  });
  using fixture = filled(path, system);
  await fixture.opened.checkpoint!.run();
  expect(images).toBe(1);
  isWriting = false;
  await fixture.opened.checkpoint!.run();
  expect(images).toBe(2);
  await fixture.opened.checkpoint!.run();
  expect(fixture.opened.checkpoint!.runSync()).toBe(true);
  expect(images).toBe(2);
});

test("the place of work that this thread has taken since is not given away by a checkpoint that has ended", async () => {
  using folder = temporaryFolder();
  using fixture = filled(folder.file("data.emdb"));
  const { engine, opened } = fixture;
  await opened.checkpoint!.run();
  engine.insert(engine.defaultSpace, "key", "value", 0);
  const compaction = opened.compaction.run({});
  expect(opened.checkpoint!.runSync()).toBe(false);
  await compaction;
  expect(opened.checkpoint!.runSync()).toBe(true);
});

test.each(["run", "runSync"] as const)(
  "a checkpoint that fails (%s) leaves nothing beside the log, and no file open",
  async (way) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    let failing: keyof System | undefined;
    let draft = "";
    const open = new Set<unknown>();
    const host = hostSystem();
    const system = faulty(host, (call, args) => {
      const isDraft = open.has(args[0]) || args[0] === draft;
      if (call === "close") open.delete(args[0]);
      if (call === failing && isDraft) return -Errno.EIO;
      if (call !== "open" || !isDraft) return undefined;
      const handle = (host.open as (...all: unknown[]) => number).apply(host, [...args]);
      open.add(handle);
      return handle;
    });
    using fixture = filled(path, system);
    draft = newHintPath({ path, fileId: fixture.engine.core.identity.fileId });
    for (const call of ["write", "sync", "rename"] as const) {
      failing = call;
      const failed = new Promise((resolve) => resolve(fixture.opened.checkpoint![way]()));
      expect([call, await failed.catch((error: unknown) => (error as { code: string }).code)]).toEqual([
        call,
        "EMDB_IO",
      ]);
      expect([call, open.size, existsSync(draft)]).toEqual([call, 0, false]);
    }
    failing = undefined;
    await fixture.opened.checkpoint![way]();
    expect(replayedBehind(path)).toBe(0);
  },
);
