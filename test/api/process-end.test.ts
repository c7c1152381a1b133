/** What a process leaves behind at its end, and what outlives an evaluation of the module. */

import { expect, test } from "bun:test";
import { resolveObjectURL } from "node:buffer";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Emdb, EmdbError } from "../../src/index.ts";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/turns.ts";

const SOURCE = JSON.stringify(join(import.meta.dir, "../../src/index.ts"));

function run(program: string): string {
  const child = Bun.spawnSync([...childCommand(), "-e", program]);
  return child.stdout.toString();
}

test.each(["", "process.exit(3);"])("what a listener of the end writes is there afterwards (%p)", (last) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const said = run(`import { Emdb } from ${SOURCE};
    const db = Emdb.open(${JSON.stringify(path)});
    db.insert("before", "1");
    process.on("exit", () => {
      db.insert("first", "1");
      for (let index = 0; index < 3000; index++) db.insert("key " + index, "v".repeat(1000));
      const late = Emdb.open(${JSON.stringify(`${path}.late`)});
      late.insert("late", "1");
      console.log("written");
    });
    ${last}`);
  expect(said).toBe("written\n");
  using db = Emdb.open(path);
  expect([db.len(), db.getText("first"), db.containsKey("key 2999")]).toEqual([3002, "1", true]);
  using late = Emdb.open(`${path}.late`);
  expect(late.getText("late")).toBe("1");
});

test.each([
  ["closed", "db.closeSync();", 0],
  ["left open", "", 1],
])("a program that writes and ends gives its event loop nothing of a database that is %s by then", (_, last, count) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const said = run(`import { Emdb } from ${SOURCE};
    const put = globalThis.setImmediate;
    let count = 0;
    globalThis.setImmediate = (work) => {
      count += 1;
      return put(work);
    };
    process.on("exit", () => console.log(count));
    const db = Emdb.open(${JSON.stringify(path)});
    for (let index = 0; index < 10; index++) db.insert("key " + index, "1");
    ${last}`);
  expect(said).toBe(`${count}\n`);
  using db = Emdb.open(path);
  expect(db.len()).toBe(10);
});

const ENDS = ["", "process.exit(3);", "throw new Error('the end');"];

test.each(ENDS)("what is opened first in a listener of the end, and not closed, has what it wrote (%p)", (last) => {
  using folder = temporaryFolder();
  const said = run(`import { Emdb } from ${SOURCE};
    process.on("exit", () => {
      const db = Emdb.open(${JSON.stringify(folder.file("first.emdb"))});
      for (let index = 0; index < 3; index++) db.insert("key " + index, "1");
      const next = Emdb.open(${JSON.stringify(folder.file("next.emdb"))});
      next.insert("one", "1");
      db.insert("last", "1");
      console.log("written");
    });
    ${last}`);
  expect(said).toBe("written\n");
  using db = Emdb.open(folder.file("first.emdb"));
  using next = Emdb.open(folder.file("next.emdb"));
  expect([db.len(), db.getText("last"), next.getText("one")]).toEqual([4, "1", "1"]);
});

test.each(ENDS)("so it is where the listener loads the package (%p)", (last) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const said = run(`process.on("exit", () => {
      const { Emdb } = require(${SOURCE});
      Emdb.open(${JSON.stringify(path)}).insert("one", "1");
      console.log("written");
    });
    ${last}`);
  expect(said).toBe("written\n");
  using db = Emdb.open(path);
  expect(db.getText("one")).toBe("1");
});

test("so it is at the end of a Worker", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  writeFileSync(
    folder.file("worker.ts"),
    `import { Emdb } from ${SOURCE};
    process.on("exit", () => void Emdb.open(${JSON.stringify(path)}).insert("one", "1"));`,
  );
  const said = run(`const worker = new Worker(${JSON.stringify(folder.file("worker.ts"))});
    worker.addEventListener("close", () => console.log("closed"));`);
  expect(said).toBe("closed\n");
  using db = Emdb.open(path);
  expect(db.getText("one")).toBe("1");
});

test.each(ENDS)("so it is with what another evaluation of the module has opened (%p)", (last) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  cpSync(join(import.meta.dir, "../../src"), folder.file("again"), { recursive: true });
  const said = run(`import { Emdb } from ${SOURCE};
    import { Emdb as Again } from ${JSON.stringify(folder.file("again/index.ts"))};
    Emdb.open(${JSON.stringify(folder.file("first.emdb"))}).insert("one", "1");
    const db = Again.open(${JSON.stringify(path)});
    db.insert("before", "1");
    process.on("exit", () => {
      db.insert("late", "1");
      console.log(Again !== Emdb);
    });
    ${last}`);
  expect(said).toBe("true\n");
  using db = Emdb.open(path);
  expect([db.getText("before"), db.getText("late")]).toEqual(["1", "1"]);
});

test("an error of another evaluation of the module is an EmdbError as well", async () => {
  const source: string = "../../src/errors.ts?again";
  const again = (await import(source)) as { readonly EmdbError: typeof EmdbError };
  expect(again.EmdbError).not.toBe(EmdbError);
  const error = new again.EmdbError("EMDB_IO", "elsewhere");
  expect([error instanceof EmdbError, new EmdbError("EMDB_IO", "here") instanceof again.EmdbError]).toEqual([
    true,
    true,
  ]);
  class Own extends EmdbError {}
  expect([
    error instanceof Own,
    new Own("EMDB_IO", "own") instanceof Own,
    new Own("EMDB_IO", "own") instanceof EmdbError,
  ]).toEqual([false, true, true]);
  for (const other of [new Error("EMDB_IO"), { code: "EMDB_IO" }, undefined, null, "EMDB_IO"])
    expect((other as unknown) instanceof EmdbError).toBe(false);
  expect(Object.keys(error)).toEqual(Object.keys(new EmdbError("EMDB_IO", "here")));
});

test("no program of a Worker that was told to end before it had begun stays in memory", async () => {
  using folder = temporaryFolder();
  const made: string[] = [];
  const original = URL.createObjectURL.bind(URL);
  URL.createObjectURL = (blob) => {
    const url = original(blob);
    made.push(url);
    return url;
  };
  try {
    for (let life = 0; life < 10; life++) {
      const db = Emdb.open(folder.file("data.emdb"));
      db.insert("key", `${life}`);
      const flushed = db.flush();
      db.closeSync();
      await flushed;
    }
  } finally {
    URL.createObjectURL = original;
  }
  expect(made.length).toBeGreaterThan(0);
  const isLeft = (): boolean => made.some((url) => resolveObjectURL(url) !== undefined);
  await until(() => !isLeft());
});
