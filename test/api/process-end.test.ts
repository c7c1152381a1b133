/** What a process leaves behind at its end, and what outlives an evaluation of the module. */

import { expect, test } from "bun:test";
import { resolveObjectURL } from "node:buffer";
import { join } from "node:path";
import { Emdb, EmdbError } from "../../src/index.ts";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { turn } from "../engine/fixture.ts";

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
  for (let turns = 0; turns < 100_000 && isLeft(); turns++) await turn();
  expect(isLeft()).toBe(false);
});
