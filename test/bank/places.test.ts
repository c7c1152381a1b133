/** Each planted fault still has its place in the source: said at once, before hours of hunting for what is not there. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { BANKS } from "./bank.ts";
import { readFinders } from "./finders.ts";

const root = resolve(import.meta.dir, "../..");

test("the bank holds at least 25 faults, each with a name of its own", () => {
  const names = Object.values(BANKS).flatMap((faults) => faults.map((fault) => fault.name));
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThanOrEqual(25);
});

test("docs/testing.md says how many faults there are", () => {
  const text = readFileSync(join(root, "docs/testing.md"), "utf8");
  const said = /\| planted faults \(`test\/bank\/`\) \| (\d+), each found \|/.exec(text)?.[1];
  expect(Number(said)).toBe(Object.values(BANKS).flat().length);
});

test("every fault of the bank fits one place of the source, and no other", () => {
  const edits = Object.values(BANKS).flatMap((faults) =>
    faults.flatMap((fault) => fault.edits.map((edit) => ({ name: fault.name, ...edit }))),
  );
  const misfits = edits.flatMap(({ name, file, from }) => {
    const count = readFileSync(join(root, file), "utf8").split(from).length - 1;
    return count === 1 ? [] : [`"${name}": ${file} has its place ${count} times`];
  });
  expect(misfits).toEqual([]);
});

test("every fault has a finder, and no finder is left of a fault that is gone", () => {
  const faults = Object.values(BANKS).flat();
  const finders = readFinders();
  expect(faults.map(({ name }) => name).filter((name) => !finders.has(name))).toEqual([]);
  expect([...finders.keys()]).toEqual(faults.map(({ name }) => name));
});

test("a finder is a test of the fault's file, or a turn of its ring", () => {
  const finders = readFinders();
  const misfits = Object.values(BANKS)
    .flat()
    .filter(({ name, probe }) => typeof finders.get(name) !== (probe.startsWith("test/") ? "string" : "number"));
  expect(misfits.map(({ name }) => name)).toEqual([]);
});
