/** What flushes do to the life of a process, and what a failed sync does to a database. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Emdb } from "../../src/index.ts";
import { childCommand, childText, emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(120_000);
/** Longer than any process that ends by itself takes. */
const LIMIT_MS = emulator === undefined ? 15_000 : 90_000;

function run(what: string, path: string): { code: number | null; lines: string[]; errors: string } {
  const child = Bun.spawnSync([...childCommand(), join(import.meta.dir, "flush-child.ts"), what, path], {
    timeout: LIMIT_MS,
  });
  const lines = childText(child.stdout).trim().split("\n");
  return { code: child.exitCode, lines, errors: childText(child.stderr) };
}

test("a process with an idle commit Worker ends by itself", () => {
  using folder = temporaryFolder();
  expect(run("idle", folder.file("data.emdb"))).toEqual({ code: 0, lines: ["flushed"], errors: "" });
});

test("a process goes on until its pending flush is done, and ends then", () => {
  using folder = temporaryFolder();
  expect(run("pending", folder.file("data.emdb"))).toEqual({ code: 0, lines: ["flushed"], errors: "" });
});

test("a process goes on while its compaction waits for the long work of another Worker", () => {
  using folder = temporaryFolder();
  expect(run("waiting", folder.file("data.emdb"))).toEqual({ code: 0, lines: ["compacted"], errors: "" });
});

test("a process with a commit Worker ends with the exit code that it asked for", () => {
  using folder = temporaryFolder();
  expect(run("code", folder.file("data.emdb")).code).toBe(7);
});

test.each(["exit behind flush", "exit behind flushSync"])(
  "rot of what a process had flushed right before it ended (%s) is damage, not a torn tail",
  (what) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    expect(run(what, path).code).toBe(7);
    const bytes = readFileSync(path);
    const at = bytes.indexOf("acknowledged");
    bytes[at]! ^= 1;
    writeFileSync(path, bytes);
    expect(() => Emdb.open(path)).toThrow(expect.objectContaining({ code: "EMDB_CORRUPTED" }));
  },
);

test("a process with nothing to write ends at once when it says so, whatever transaction another Worker is in", () => {
  using folder = temporaryFolder();
  expect(run("held", folder.file("data.emdb")).code).toBe(7);
});

test.skipIf(process.platform !== "linux" || emulator !== undefined)(
  "a failed sync rejects every pending and later flush, refuses writes, lets reads go on, and a reopen recovers",
  () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const { code, lines, errors } = run("poison", path);
    expect(errors).toBe("");
    expect(lines).toEqual([
      Array.from({ length: 3 }, () => "EMDB_IO fdatasync EINVAL").join(", "),
      "EMDB_POISONED",
      "EMDB_POISONED",
      "EMDB_POISONED",
      "EMDB_POISONED",
      "before unsynced 2",
      expect.stringMatching(/^closed/),
    ]);
    expect(code).toBe(0);
    using again = Emdb.open(path);
    expect(again.getText("durable")).toBe("before");
    again.insert("after", "the reopen");
    again.flushSync();
  },
);
