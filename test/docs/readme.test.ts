/** README.md lists what there is: the error codes, the limits, what this version does not do yet, and its own files. */

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Emdb, EmdbError } from "emdb";
import manifest from "../../package.json" with { type: "json" };
import * as limits from "../../src/limits.ts";
import { SEGMENT_COUNT_MAX } from "../../src/log/segments.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { documents } from "./documents.ts";
import { rowsUnder } from "./markdown.ts";

const root = join(import.meta.dir, "../..");
const text = readFileSync(join(root, "README.md"), "utf8");
const key = new Uint8Array(32);
const other = new Uint8Array(32).fill(1);

/** What a version may lack, and a call that shows it; each gets a database that is closed and one that is open. */
const calls: Readonly<Record<string, (path: string, db: Emdb) => unknown>> = {
  range: (path) => {
    using db = Emdb.open(`${path}.ranges`, { rangeScans: true });
    db.insert("a", "1");
    return [...db.range({ gte: "a" })];
  },
  share: (_, db) => db.share(),
  checkpoint: (_, db) => db.checkpoint(),
  compact: (_, db) => db.compact(),
  backupTo: (path, db) => db.backupTo(`${path}.backup`),
  verify: (_, db) => db.verify(),
  salvage: (path) => Emdb.salvage(path, `${path}.salvaged`),
  encryption: (path) => Emdb.open(`${path}.secret`, { encryption: { key } }).closeSync(),
  enableEncryption: (path) => Emdb.enableEncryption(path, { key }),
  disableEncryption: (path) => Emdb.disableEncryption(path, { key }),
  rotateEncryptionKey: (path) => Emdb.rotateEncryptionKey(path, { key }, { key: other }),
};

async function isUnsupported(call: () => unknown): Promise<boolean> {
  try {
    await call();
    return false;
  } catch (error) {
    return error instanceof EmdbError && error.code === "EMDB_UNSUPPORTED";
  }
}

test("no call answers EMDB_UNSUPPORTED", async () => {
  using folder = temporaryFolder();
  const closed = folder.file("closed.emdb");
  Emdb.open(closed).closeSync();
  using db = Emdb.open(folder.file("open.emdb"));
  const missing: string[] = [];
  for (const [name, call] of Object.entries(calls)) if (await isUnsupported(() => call(closed, db))) missing.push(name);
  expect(missing).toEqual([]);
});

test("the table of errors has a row for every code, and none for another", () => {
  const source = readFileSync(join(root, "src/errors.ts"), "utf8");
  const union = /export type EmdbErrorCode =([^;]*);/.exec(source)?.[1] ?? "";
  const codes = [...union.matchAll(/"(\w+)"/g)].map((match) => match[1] ?? "");
  const rows = rowsUnder(text, "code").map(([code = ""]) => code.replaceAll("`", ""));
  expect(rows.sort()).toEqual(codes.sort());
});

test("the table of limits gives the numbers of src/limits.ts", () => {
  const rows = new Map(rowsUnder(text, "limit").map(([name = "", value = ""]) => [name, value]));
  const first = (name: string): number => Number(/^\d+/.exec(rows.get(name) ?? "")?.[0]);
  expect(first("key")).toBe(limits.KEY_BYTES_MAX);
  expect(first("value")).toBe(limits.VALUE_BYTES_MAX);
  expect(first("namespace name")).toBe(limits.NAMESPACE_NAME_BYTES_MAX);
  expect(first("namespaces ever created in one file")).toBe(limits.SPACE_COUNT_MAX);
  expect(first("log") * 2 ** 30).toBe(limits.LOG_BYTES_MAX);
  expect(first("threads that share a database")).toBe(limits.ATTACHED_MAX);
  expect(first("name of a database's file")).toBe(limits.FILE_NAME_BYTES_MAX);
  const paths = [limits.LINUX_PATH_BYTES_MAX, limits.BSD_PATH_BYTES_MAX].map(
    (max) => max - limits.SIDECAR_ENDING_BYTES_MAX,
  );
  expect(rows.get("name of a database's file")).toContain(`whole path ${paths[0]} on Linux, ${paths[1]} on macOS`);
  expect(first("files that compactions have replaced and iterators keep")).toBe(SEGMENT_COUNT_MAX);
  expect(rows.size).toBe(8);
});

describe("the documents", () => {
  test("name commands that package.json has", () => {
    const named = [...text.matchAll(/npx -y bun@\S+ run (\w+)/g)].map((match) => match[1] ?? "");
    expect(named.length).toBeGreaterThan(1);
    for (const name of named) expect(Object.keys(manifest.scripts)).toContain(name);
  });
  test("link to files that are there", () => {
    const broken = documents().flatMap(([path, title]) => {
      const targets = [...readFileSync(path, "utf8").matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1] ?? "");
      return targets
        .filter((target) => !existsSync(join(dirname(path), target)))
        .map((target) => `${title}: ${target}`);
    });
    expect(broken).toEqual([]);
  });
  test("name files of src that are there", () => {
    const broken = documents().flatMap(([path, title]) => {
      const targets = [...readFileSync(path, "utf8").matchAll(/`(src\/[\w/-]+\.ts)`/g)].map((match) => match[1] ?? "");
      return targets.filter((target) => !existsSync(join(root, target))).map((target) => `${title}: ${target}`);
    });
    expect(broken).toEqual([]);
  });
});
