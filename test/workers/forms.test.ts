/** Group commit works in every form that a program can take, with nothing added to its build. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { childCommand, childText } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Forms, bundles, executables, type BundleName, type ExecutableName } from "./forms.ts";

setDefaultTimeout(240_000);
const folder = temporaryFolder();
const program = join(import.meta.dir, "form-program.ts");
/** Built beforehand where Bun is emulated, and cannot copy itself or takes minutes. */
const prebuilt = process.env["EMDB_TEST_FORMS"];
const forms = new Forms(prebuilt ?? folder.path, process.platform === "win32");

afterAll(() => folder[Symbol.dispose]());
beforeAll(() => {
  if (prebuilt === undefined) forms.makeProject();
}, 240_000);

const byWorker = { commitWorkers: 1, isLoopFree: true, records: 20 };

/** What the program says of itself, in a folder of its own with nothing in it. */
function outcomeOf(command: readonly string[], isNested = false): unknown {
  const place = folder.file(`data-${crypto.randomUUID()}`);
  mkdirSync(place);
  const words = [...childCommand(command[0]), ...command.slice(1), place, ...(isNested ? ["nested"] : [])];
  const child = Bun.spawnSync(words, { cwd: place, env: { ...process.env, NO_COLOR: "1" } });
  if (child.exitCode !== 0) throw new Error(`${words.join(" ")}: ${childText(child.stderr)}`);
  return JSON.parse(childText(child.stdout));
}

const installed = join(forms.project, "form-program.ts");

test("from source", () => expect(outcomeOf([process.execPath, program])).toEqual(byWorker));

test("from node_modules", () => expect(outcomeOf([process.execPath, installed])).toEqual(byWorker));

test("from node_modules, nested in a Worker of the program's own", () =>
  expect(outcomeOf([process.execPath, installed], true)).toEqual(byWorker));

test.each(Object.keys(bundles) as BundleName[])("bundled %s, also nested in a Worker", (name) => {
  if (prebuilt === undefined) forms.buildBundle(name);
  expect(outcomeOf([process.execPath, forms.bundle(name)])).toEqual(byWorker);
  expect(outcomeOf([process.execPath, forms.bundle(name)], true)).toEqual(byWorker);
});

test.skipIf(prebuilt !== undefined)("a bundle holds the packages of the ciphers, with nothing left to be found", () => {
  forms.buildBundle("by --outdir");
  const text = readFileSync(forms.bundle("by --outdir"), "utf8");
  expect(text.match(/(?:require|import)\("(?:@noble|hash-wasm)[^"]*"\)/g)).toBeNull();
  for (const name of ["@noble/ciphers/chacha.js", "@noble/hashes/argon2.js", "@noble/hashes/hmac.js", "hash-wasm"])
    expect([name, text.includes(`// node_modules/${name}`)]).toEqual([name, true]);
});

test.each(Object.keys(executables) as ExecutableName[])(
  "compiled into an executable, %s, also nested in a Worker",
  (name) => {
    if (prebuilt === undefined) forms.buildExecutable("form-program", name);
    expect(outcomeOf([forms.executable("form-program", name)])).toEqual(byWorker);
    expect(outcomeOf([forms.executable("form-program", name)], true)).toEqual(byWorker);
  },
);

// Bun 1.4.0 takes the option and makes code from strings all the same.
test.skipIf(Bun.version === "1.4.0")(
  "where code may not come from strings, flushes run on the calling thread, and are as durable",
  () => {
    const strict = [process.execPath, "--disallow-code-generation-from-strings=strict", installed];
    expect(outcomeOf(strict)).toEqual({ commitWorkers: 0, isLoopFree: false, records: 20 });
  },
);
