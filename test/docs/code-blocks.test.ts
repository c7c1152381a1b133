/**
 * Every `ts` block of the documents runs, and prints what its comments say.
 *
 * A line that prints ends in `// => ` and what it prints. A block with `name=` is a file that others of its document
 * use. A block runs in a folder of its own, with "emdb" standing for the source.
 */

import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { documents } from "./documents.ts";
import { blocksOf, nameOf, type Block } from "./markdown.ts";

const timeoutMs = 60_000;
const source = new URL("../../src/index.ts", import.meta.url).href;

const runnable = (text: string): string => text.replaceAll('from "emdb"', `from ${JSON.stringify(source)}`);
const promised = (text: string): string[] => [...text.matchAll(/\/\/ => (.*)$/gm)].map((match) => match[1] ?? "");

async function outputOf(block: Block, named: readonly Block[]): Promise<string[]> {
  using folder = temporaryFolder();
  for (const one of named) writeFileSync(folder.file(nameOf(one) ?? ""), runnable(one.text));
  writeFileSync(folder.file("block.ts"), runnable(block.text));
  const child = Bun.spawn([...childCommand(), "block.ts"], {
    cwd: folder.path,
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
  });
  const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const exitCode = await child.exited;
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}: ${errors}`);
  return output.replaceAll("\r", "").split("\n").slice(0, -1);
}

for (const [path, title] of documents()) {
  const blocks = blocksOf(readFileSync(path, "utf8")).filter((block) => block.language === "ts");
  const named = blocks.filter((block) => nameOf(block) !== undefined);
  describe(title, () => {
    for (const block of blocks.filter((one) => !named.includes(one))) {
      test(
        `prints what it says in the block of line ${block.line}`,
        async () => expect(await outputOf(block, named)).toEqual(promised(block.text)),
        timeoutMs,
      );
    }
  });
}

test("a block that prints something else, or throws, is found", async () => {
  const block = { language: "ts", rest: "", line: 1, text: "console.log(1); // => 2" };
  expect(await outputOf(block, [])).not.toEqual(promised(block.text));
  expect(outputOf({ ...block, text: "throw new Error('no');" }, [])).rejects.toThrow("exit code 1");
});

test("the documents hold blocks to run", () => {
  const readme = readFileSync(join(import.meta.dir, "../../README.md"), "utf8");
  expect(blocksOf(readme).filter((block) => block.language === "ts").length).toBeGreaterThan(3);
});
