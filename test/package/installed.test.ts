/**
 * What is published works where it is installed: the contract holds of it, the documents' examples run as they are printed,
 * and encryption finds its packages, with the system's libcrypto and without, as it is, bundled and compiled.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { countsOf } from "../../scripts/suite.ts";
import { documents } from "../docs/documents.ts";
import { blocksOf, nameOf } from "../docs/markdown.ts";
import { linesOf, promised } from "../docs/run-block.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { bun, bunWith, installDependencies, installPackage } from "./install.ts";

const timeoutMs = 240_000;
const root = join(import.meta.dir, "../..");
const folder = temporaryFolder();
/** Two projects that have it installed, the second one on a system without libcrypto. */
const projects = { "with libcrypto": folder.file("with"), "without libcrypto": folder.file("without") } as const;
const names = ["with libcrypto", "without libcrypto"] as const;
const sealed = "EMDB_KEY_MISMATCH\n2 2\n".repeat(4);
let runs = 0;

function move(from: string, to: string): void {
  if (existsSync(from)) renameSync(from, to);
}

/** A folder of the project's own, from which what it has installed is found. */
function place(project: string): string {
  const path = join(project, `run-${runs++}`);
  mkdirSync(path);
  return path;
}

beforeAll(async () => {
  const [first, second] = names.map((name) => projects[name]) as [string, string];
  await installPackage(folder.path, first);
  installDependencies(first);
  cpSync(join(import.meta.dir, "sealed-program.ts"), join(first, "sealed-program.ts"));
  cpSync(first, second, { recursive: true });
  const built = join(second, "node_modules/emdb/dist/index.js");
  const text = readFileSync(built, "utf8");
  expect(text).toContain("libcrypto.so.3");
  writeFileSync(built, text.replaceAll("libcrypto", "libabsent"));
}, timeoutMs);

afterAll(() => folder[Symbol.dispose]());

describe.each(names)("%s", (name) => {
  const project = projects[name];

  test(
    "the contract holds",
    () => {
      const preload = join(import.meta.dir, "installed-preload.ts");
      const installed = { EMDB_TEST_INSTALLED: join(project, "node_modules/emdb") };
      const args = ["test", "--preload", preload, "--timeout", "60000", "test/contract/engine.test.ts"];
      const { exitCode, output } = bunWith(installed, root, ...args);
      const { passed, failed } = countsOf(output, exitCode);
      expect(failed === 0 ? "" : output).toBe("");
      expect(passed).toBeGreaterThan(1000);
    },
    timeoutMs,
  );
  test(
    "encryption finds what it needs",
    () => expect(bun(place(project), "../sealed-program.ts", ".")).toEqual({ exitCode: 0, output: sealed }),
    timeoutMs,
  );
  test.each([
    ["a bundle", ["--target=bun", "--outfile=program.js"], "program.js"],
    ["a minified bundle", ["--target=bun", "--minify", "--outfile=program.js"], "program.js"],
    ["a bundle as CommonJS", ["--target=bun", "--format=cjs", "--outfile=program.js"], "program.js"],
    ["an executable", ["--compile", "--outfile=program"], undefined],
    ["an executable of bytecode", ["--compile", "--bytecode", "--format=esm", "--outfile=program"], undefined],
    ["an executable of bytecode as CommonJS", ["--compile", "--bytecode", "--outfile=program"], undefined],
  ])(
    "encryption is whole in %s, where nothing is installed",
    (_, flags, program) => {
      const build = bun(project, "build", "sealed-program.ts", ...flags);
      expect(build.exitCode === 0 ? "" : build.output).toBe("");
      using elsewhere = temporaryFolder();
      for (const file of ["program", "program.js"]) move(join(project, file), elsewhere.file(file));
      const command = program === undefined ? [elsewhere.file("program")] : [process.execPath, program];
      const { exitCode, stdout, stderr } = Bun.spawnSync([...command, "."], { cwd: elsewhere.path });
      expect({ exitCode, output: stdout.toString() + stderr.toString() }).toEqual({ exitCode: 0, output: sealed });
    },
    timeoutMs,
  );
});

describe.each(documents())("%s", (path, title) => {
  const blocks = blocksOf(readFileSync(path, "utf8")).filter((block) => block.language === "ts");
  const named = blocks.filter((block) => nameOf(block) !== undefined);
  for (const block of blocks.filter((one) => !named.includes(one))) {
    test(
      `the block of line ${block.line} of ${title} prints what it says as it is printed`,
      async () => {
        const run = { block, named, runnable: (text: string) => text };
        expect(await linesOf(place(projects["with libcrypto"]), run)).toEqual(promised(block.text));
      },
      timeoutMs,
    );
  }
});
