/** docs/executables.md gives the options of the builds that the tests make, no more and no fewer. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bundles, executables } from "../workers/forms.ts";
import { rowsUnder } from "./markdown.ts";

const text = readFileSync(join(import.meta.dir, "../../docs/executables.md"), "utf8");
const [first = "", second = ""] = text.split("Bundles that Bun runs");
const formsIn = (part: string): Record<string, string> =>
  Object.fromEntries(rowsUnder(part, "form").map(([name, options = ""]) => [name, options.replaceAll("`", "")]));
const joined = (forms: Record<string, readonly string[]>): Record<string, string> =>
  Object.fromEntries(Object.entries(forms).map(([name, options]) => [name, options.join(" ")]));

test("the forms of executables are those that are built and run", () => {
  expect(formsIn(first)).toEqual(joined(executables));
});

test("the forms of bundles are those that are built and run", () => {
  expect(formsIn(second)).toEqual(joined(bundles));
});
