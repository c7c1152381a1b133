/** Every `ts` block of the documents type-checks under the project's own strict settings. */

import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { documents } from "./documents.ts";
import { blocksOf, nameOf } from "./markdown.ts";

const root = join(import.meta.dir, "../..");

function strictOptions(): ts.CompilerOptions {
  const path = join(root, "tsconfig.json");
  const config: unknown = ts.readConfigFile(path, (name) => readFileSync(name, "utf8")).config;
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  // A block stands alone, and may leave a name unused for the reader's sake.
  return { ...options, paths: { emdb: [join(root, "src/index.ts")] }, typeRoots: [join(root, "node_modules")] };
}

/** What the compiler says about files, each with its name. */
function complaints(files: readonly string[]): string[] {
  const program = ts.createProgram([...files], strictOptions());
  return files.flatMap((file) => {
    const source = program.getSourceFile(file);
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    return found.map((one) => `${file}: ${ts.flattenDiagnosticMessageText(one.messageText, " ")}`);
  });
}

function writeBlocks(folder: TemporaryFolder): string[] {
  return documents().flatMap(([path, title]) =>
    blocksOf(readFileSync(path, "utf8"))
      .filter((block) => block.language === "ts")
      .map((block) => {
        // A folder for each document: its blocks import those of its own that have a name.
        const place = folder.file(title.replaceAll(/\W/g, "-"));
        mkdirSync(place, { recursive: true });
        const file = join(place, nameOf(block) ?? `line-${block.line}.ts`);
        writeFileSync(file, block.text);
        return file;
      }),
  );
}

test("every block type-checks, and one with a wrong type does not", () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("package.json"), '{ "type": "module" }');
  const wrong = folder.file("wrong.ts");
  writeFileSync(wrong, `import { Emdb } from "emdb";\nEmdb.openInMemory().insert(1, "one");\n`);
  const all = complaints([...writeBlocks(folder), wrong]);
  expect(all.filter((one) => !one.startsWith(wrong))).toEqual([]);
  expect(all.filter((one) => one.startsWith(wrong))).toHaveLength(1);
}, 180_000);
