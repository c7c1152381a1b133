import { expect, spyOn, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { barrier } from "../../src/ffi/barrier.ts";

test("a barrier changes no word, and is two atomic operations where one may be made of halves", () => {
  const words = new Int32Array(new SharedArrayBuffer(8)).fill(7);
  using add = spyOn(Atomics, "add");
  barrier(words, 1);
  expect(add.mock.calls.length).toBe(process.arch === "arm64" && process.platform !== "darwin" ? 2 : 1);
  expect([...words]).toEqual([7, 7]);
});

test("nothing in the source takes a single atomic operation for a barrier", () => {
  const source = join(import.meta.dir, "../../src");
  const found: string[] = [];
  for (const name of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    // The program of the commit Worker cannot import, and has another operation right before.
    if (!name.endsWith(".ts") || name.endsWith("barrier.ts") || name.endsWith("commit-script.ts")) continue;
    const text = readFileSync(join(source, name), "utf8");
    // A result that is used is what the operation was made for.
    for (const [line] of text.matchAll(/^\s*Atomics\.add\((?:.*_FENCE.*|.*, 0)\);$/gm))
      found.push(`${name}: ${line.trim()}`);
  }
  expect(found).toEqual([]);
});
