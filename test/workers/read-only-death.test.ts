/** A thread of a database that is only read dies in a backup, beside a writer of the same file that compacts. */

import { expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { compactPath } from "../../src/engine/files/siblings.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { openFile } from "../engine/open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { dieAt } from "./die-at.ts";

test("what the next backup, or the close, of a reader gives back is nothing of a writer that compacts", async () => {
  using folder = temporaryFolder();
  using elsewhere = temporaryFolder();
  const path = folder.file("data.emdb");
  const target = elsewhere.file("copy.emdb");
  const writer = openFile(hostSystem(), path);
  const { engine, compaction } = writer;
  const value = new Uint8Array(100);
  for (let key = 0; key < 2000; key += 1) engine.insert(engine.defaultSpace, `key ${key % 1500}`, value, 0);
  writer.sync?.flush();
  for (const next of ["backup", "close"]) {
    const reader = Emdb.open(path, { readOnly: true });
    await dieAt(reader, { target, step: 1, call: "sync" });
    const steps = compaction.copySteps();
    const isThere = (): boolean => typeof hostSystem().status(compactPath(engine.core.place!)) !== "number";
    while (!isThere()) steps.next();
    if (next === "backup") await reader.backupTo(target);
    reader.closeSync();
    expect(isThere()).toBe(true);
    for (const _ of steps);
    for (const _ of compaction.relocationSteps());
    expect(engine.count(engine.defaultSpace)).toBe(1500);
  }
  writer.leave();
  using again = Emdb.open(path);
  expect([again.len(), (await again.verify()).problems]).toEqual([1500, []]);
});
