/** Which file has the log's name when putting a compacted one there goes wrong. */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

test.each([
  ["the log has its name still", undefined, undefined],
  ["nobody can tell what has the name", -Errno.EIO, "EMDB_POISONED"],
] as const)("after a rename that failed, where %s, what is written is not lost", async (_, told, code) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let mayRename = true;
  let isUntold = false;
  const system = faulty(hostSystem(), (call, [from, to]) => {
    if (call === "status" && from === path && isUntold) return told;
    if (call !== "rename" || to !== path || mayRename) return undefined;
    mayRename = true;
    isUntold = true;
    return -Errno.EIO;
  });
  const fixture = new EngineFixture(path, system);
  const { engine, opened } = fixture;
  const insert = (key: string): void => engine.insert(engine.defaultSpace, key, "value", 0);
  insert("before");
  mayRename = false;
  const compaction = await opened.compaction.run({}).catch((error: unknown) => error);
  expect(compaction).toMatchObject({ code: "EMDB_IO", syscall: "rename" });
  if (code === undefined) insert("behind");
  else expect(() => insert("behind")).toThrow(expect.objectContaining({ code }));
  isUntold = false;
  fixture[Symbol.dispose]();
  using again = new EngineFixture(path, hostSystem());
  expect(again.engine.count(again.engine.defaultSpace)).toBe(code === undefined ? 2 : 1);
});
