/** Group commit works in every form that a program can take, with nothing added to its build. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { childCommand, emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(240_000);
const root = join(import.meta.dir, "../..");
const folder = temporaryFolder();
const program = join(import.meta.dir, "form-program.ts");
/** The emulated Bun cannot copy itself into an executable, or is too slow to build at all. */
const canCompile = emulator === undefined;

afterAll(() => folder[Symbol.dispose]());

interface Step {
  readonly command: readonly string[];
  readonly cwd: string;
}

function run({ command, cwd }: Step): string {
  const child = Bun.spawnSync([...childCommand(command[0]), ...command.slice(1)], {
    cwd,
    env: { ...process.env, NO_COLOR: "1" },
  });
  if (child.exitCode !== 0)
    throw new Error(`${command.join(" ")}: ${child.stdout.toString()}${child.stderr.toString()}`);
  return child.stdout.toString().trim();
}

/** A project that has the package in its node_modules, as it is published. */
const project = folder.file("project");

beforeAll(() => {
  const installed = join(project, "node_modules/emdb");
  mkdirSync(installed, { recursive: true });
  // The build runs natively: TypeScript under an emulator takes minutes.
  const isBuilt = emulator === undefined;
  if (isBuilt) run({ command: [process.execPath, "scripts/build.ts", join(installed, "dist")], cwd: root });
  else cpSync(join(root, "src"), join(installed, "src"), { recursive: true });
  const door = isBuilt ? "./dist/index.js" : "./src/index.ts";
  writeFileSync(join(installed, "package.json"), JSON.stringify({ name: "emdb", type: "module", exports: door }));
  for (const name of ["@noble", "hash-wasm"])
    cpSync(join(root, "node_modules", name), join(project, "node_modules", name), { recursive: true });
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "project", type: "module" }));
  cpSync(program, join(project, "form-program.ts"));
}, 240_000);

const byWorker = { commitWorkers: 1, isLoopFree: true, records: 20 };

function outcomeOf(command: readonly string[], isNested = false): unknown {
  const place = folder.file(`data-${crypto.randomUUID()}`);
  mkdirSync(place);
  return JSON.parse(run({ command: [...command, place, ...(isNested ? ["nested"] : [])], cwd: project }));
}

function build(name: string, ...options: readonly string[]): string {
  const out = folder.file(name);
  mkdirSync(out);
  run({
    command: [
      process.execPath,
      "build",
      "form-program.ts",
      "--target=bun",
      ...options.map((one) => one.replace("OUT", out)),
    ],
    cwd: project,
  });
  return out;
}

test("from source", () => {
  run({ command: [process.execPath, "--version"], cwd: root });
  const place = folder.file("from-source");
  mkdirSync(place);
  expect(JSON.parse(run({ command: [process.execPath, program, place], cwd: root }))).toEqual(byWorker);
});

test("from node_modules", () => expect(outcomeOf([process.execPath, "form-program.ts"])).toEqual(byWorker));

test("from node_modules, nested in a Worker of the program's own", () =>
  expect(outcomeOf([process.execPath, "form-program.ts"], true)).toEqual(byWorker));

test.each([
  ["--outdir", ["--outdir=OUT"], "form-program.js"],
  ["--outfile", ["--outfile=OUT/one.js"], "one.js"],
  ["minified", ["--minify", "--outdir=OUT"], "form-program.js"],
  ["with splitting", ["--splitting", "--minify", "--outdir=OUT"], "form-program.js"],
  ["minified as bytecode", ["--minify", "--bytecode", "--format=cjs", "--outdir=OUT"], "form-program.js"],
] as const)("bundled %s", (name, options, file) => {
  const out = build(`bundle ${name}`.replaceAll(" ", "-"), ...options);
  expect(outcomeOf([process.execPath, join(out, file)])).toEqual(byWorker);
});

test.skipIf(!canCompile).each([
  ["plainly", []],
  ["minified", ["--minify"]],
  ["to bytecode", ["--bytecode", "--format=esm"]],
] as const)("compiled into an executable, %s", (name, options) => {
  const out = build(`compiled-${name.replaceAll(" ", "-")}`, "--compile", ...options, "--outfile=OUT/program");
  expect(outcomeOf([join(out, "program")])).toEqual(byWorker);
});

test.skipIf(!canCompile)("compiled into an executable, nested in a Worker of the program's own", () => {
  const out = build("compiled-nested", "--compile", "--outfile=OUT/program");
  expect(outcomeOf([join(out, "program")], true)).toEqual(byWorker);
});

test("where code may not come from strings, flushes run on the calling thread, and are as durable", () => {
  const strict = [process.execPath, "--disallow-code-generation-from-strings=strict", "form-program.ts"];
  expect(outcomeOf(strict)).toEqual({ commitWorkers: 0, isLoopFree: false, records: 20 });
});
