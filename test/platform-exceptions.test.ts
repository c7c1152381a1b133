/**
 * The list of tests that an emulator cannot run is honest: each entry names a test that exists, and says why.
 *
 * `repository` are the files that read the repository, or run the engine on the simulated system, which are the same on
 * every platform: they run once, on Linux x64. (The simulator's own memory is not yet at home on Windows.)
 */

import { Glob } from "bun";
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import list from "./platform-exceptions.json" with { type: "json" };
import { platformExceptions, type Emulator, type PlatformException } from "./support/platform.ts";

const root = join(import.meta.dir, "..");

/** What is wrong with an entry, given the text of its file (undefined: there is none). */
function faultsOf(entry: PlatformException, text: string | undefined): string[] {
  const faults: string[] = [];
  if (entry.emulators.length === 0) faults.push("names no emulator");
  if (entry.emulators.some((name) => name !== "wine" && name !== "qemu")) faults.push("names an unknown emulator");
  if (!/^[A-Z].{20,}\.$/.test(entry.reason)) faults.push("gives no reason as a sentence");
  if (text === undefined) faults.push("names a file that is not there");
  else if (!text.includes(`testUnlessExcepted(${JSON.stringify(entry.title)}`)) {
    if (!text.includes(JSON.stringify(entry.title)) || !text.includes("isExcepted(")) {
      faults.push("names a test that is not there or is not skipped by the list");
    }
  }
  return faults;
}

test("every exception names a test that exists, an emulator, and a reason", () => {
  const faults = platformExceptions.flatMap((entry) => {
    const path = join(root, entry.file);
    const text = existsSync(path) ? readFileSync(path, "utf8") : undefined;
    return faultsOf(entry, text).map((fault) => `${entry.file}: ${entry.title}: ${fault}`);
  });
  expect(faults).toEqual([]);
});

test("every file that runs on Linux x64 only is there", () => {
  expect(list.repository.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

/** The files of this repository that a file loads, itself among them. */
function loadedBy(file: string, loaded = new Set<string>()): Set<string> {
  if (loaded.has(file) || !existsSync(file)) return loaded;
  loaded.add(file);
  const imports = readFileSync(file, "utf8").matchAll(/^(?:import|export)\s(?!type\s)[^;]*?from\s+"(\.[^"]+)"/gms);
  for (const [, path] of imports) loadedBy(join(dirname(file), path!), loaded);
  return loaded;
}

test("every file that needs the simulated system's memory runs on Linux x64 only, or asks where it is", () => {
  const memory = join(root, "test", "sim", "real-memory.ts");
  const forgotten = [...new Glob("test/**/*.test.ts").scanSync(root)].filter((found) => {
    const file = found.replaceAll("\\", "/");
    const loaded = loadedBy(join(root, file));
    return (
      loaded.has(memory) &&
      !list.repository.includes(file) &&
      !readFileSync(join(root, file), "utf8").includes("emulator")
    );
  });
  expect(forgotten).toEqual([]);
});

test("every file that an emulator leaves out is there, with a reason", () => {
  const isFaulty = (entry: { file: string; reason: string }): boolean =>
    !existsSync(join(root, entry.file)) || !/^[A-Z].{20,}\.$/.test(entry.reason);
  expect(list.files.filter(isFaulty)).toEqual([]);
});

test("an exception without a test, an emulator or a reason is found", () => {
  const sound: PlatformException = {
    emulators: ["wine"],
    file: "test/a.test.ts",
    title: "a claim",
    reason: "Wine has no such call, and returns success without doing anything.",
  };
  const text = `testUnlessExcepted("a claim", () => {});`;
  expect(faultsOf(sound, text)).toEqual([]);
  expect(faultsOf(sound, undefined)).toHaveLength(1);
  expect(faultsOf(sound, `test("a claim", () => {});`)).toHaveLength(1);
  expect(faultsOf({ ...sound, reason: "flaky" }, text)).toHaveLength(1);
  expect(faultsOf({ ...sound, emulators: [] }, text)).toHaveLength(1);
  expect(faultsOf({ ...sound, emulators: ["docker" as Emulator] }, text)).toHaveLength(1);
});
