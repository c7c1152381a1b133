/**
 * Every `ts` block of the documents runs, and prints what its comments say.
 *
 * A line that prints ends in `// => ` and what it prints. A block with `name=` is a file that others of its document
 * use. A block runs in a folder of its own, with "emdb" standing for the source.
 */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { documents } from "./documents.ts";
import { blocksOf, nameOf, type Block } from "./markdown.ts";
import { linesOf, promised } from "./run-block.ts";

const timeoutMs = 60_000;
const source = new URL("../../src/index.ts", import.meta.url).href;

const runnable = (text: string): string => text.replaceAll('from "emdb"', `from ${JSON.stringify(source)}`);

async function outputOf(block: Block, named: readonly Block[]): Promise<string[]> {
  using folder = temporaryFolder();
  return await linesOf(folder.path, { block, named, runnable });
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
