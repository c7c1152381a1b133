/** The history of a shell loses no entry that it has answered, however many prompts start it at once and whoever has its database. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Emdb } from "emdb";
import { childCommand, childText, sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(240_000);
const program = join(import.meta.dir, "../../examples/history.ts");
const where = { appName: "emdb-history", databaseName: "history.emdb" };

async function history(root: string, ...words: readonly string[]): Promise<string> {
  const child = Bun.spawn([...childCommand(), program, ...words], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, HISTORY_ROOT: root },
  });
  const [said, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const exitCode = await child.exited;
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}: ${errors}`);
  return childText(said).trimEnd();
}

const entries = sampleOf(
  Array.from({ length: 20 }, (_, index) => `entry ${index}`),
  10,
);
const sorted = (lines: string): string[] => lines.split("\n").sort();

test("started at once for each of many entries, it keeps all, each once", async () => {
  using root = temporaryFolder();
  const said = await Promise.all(entries.map((entry) => history(root.path, "add", entry)));
  expect(said).toEqual(entries.map(() => "kept"));
  expect(sorted(await history(root.path, "list"))).toEqual([...entries].sort());
  expect(readdirSync(root.file("emdb-history/new"))).toEqual([]);
});

test("while another process has the database, it keeps without waiting, and who is next takes all", async () => {
  using root = temporaryFolder();
  {
    using db = Emdb.open({ ...where, dataRoot: root.path, rangeScans: true });
    await Promise.all(entries.map((entry) => history(root.path, "add", entry)));
    expect(db.listNamespaces()).toEqual([]);
  }
  expect(sorted(await history(root.path, "list"))).toEqual([...entries].sort());
});

test("an entry whose taker ended before it had removed the file is there once", async () => {
  using root = temporaryFolder();
  await history(root.path, "add", "once");
  const folder = root.file("emdb-history/new");
  const [name] = readdirSync(folder);
  expect(await history(root.path, "list")).toBe("once");
  writeFileSync(join(folder, name!), "once");
  expect(await history(root.path, "list")).toBe("once");
});
