/**
 * The house rules (docs/design.md, "Rooms") hold in this repository, and each of them can be broken.
 *
 * The rules are in `support/tidy-rules.ts`; here each stands twice: over the repository, where it finds nothing, and
 * over made-up files, where it finds exactly what was planted.
 */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  asciiFaults,
  barrelFaults,
  cycleFaults,
  deadExportFaults,
  defaultExportFaults,
  fileLengthFaults,
  functionLengthFaults,
  importTable,
  importTableFaults,
  limits,
  medianFaults,
  roomOf,
  seamFaults,
  wordFaults,
  type SourceFile,
} from "./support/tidy-rules.ts";

const root = join(import.meta.dir, "..");
const folders = ["src", "test", "scripts", "examples", "bench"];

const all: readonly SourceFile[] = [...new Bun.Glob(`{${folders.join(",")}}/**/*.ts`).scanSync(root)]
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => !path.includes("node_modules/"))
  .sort()
  .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
const source = all.filter((file) => file.path.startsWith("src/"));

const file = (path: string, text: string): SourceFile => ({ path, text });
const lines = (count: number): string => "const a = 1;\n".repeat(count);

describe("the repository", () => {
  test("has source files in known rooms only", () => {
    expect(source.length).toBeGreaterThan(0);
    expect(source.map((one) => roomOf(one.path)).filter((room) => importTable[room] === undefined)).toEqual([]);
  });
  test("imports one way, as the table says", () => expect(importTableFaults(all)).toEqual([]));
  test("has no import cycle", () => expect(cycleFaults(source)).toEqual([]));
  test("reads time, chance, the process and files through src/ffi alone", () => expect(seamFaults(all)).toEqual([]));
  test("has no file over 500 lines", () => expect(fileLengthFaults(all)).toEqual([]));
  test("has a median source file of at most 150 lines", () => expect(medianFaults(source)).toEqual([]));
  test("has no function over 70 lines", () => expect(functionLengthFaults(source)).toEqual([]));
  test("says no banned word and names no file for nothing", () => expect(wordFaults(all)).toEqual([]));
  test("is ASCII in src", () => expect(asciiFaults(source)).toEqual([]));
  test("has no default export", () => expect(defaultExportFaults(all)).toEqual([]));
  test("has no barrel but the door", () => expect(barrelFaults(all)).toEqual([]));
  test("exports nothing that nobody imports", () => expect(deadExportFaults(all)).toEqual([]));
});

describe("a broken rule is found:", () => {
  const imports = (path: string, text: string): string[] => importTableFaults([file(path, text)]);

  test("a sibling that imports a sibling, in every form of import", () => {
    for (const text of [
      `import { a } from "../keydir/shard.ts";`,
      `import type { A } from "../keydir/shard.ts";`,
      `export { a } from "../keydir/shard.ts";`,
      `const a = await import("../keydir/shard.ts");`,
      `const a = require("../keydir/shard.ts");`,
      `type A = import("../keydir/shard.ts").A;`,
    ]) {
      expect(imports("src/log/frame.ts", text)).toEqual(["src/log/frame.ts imports src/keydir/shard.ts"]);
    }
  });
  test("every pair of rooms that the table does not allow", () => {
    const rooms = Object.keys(importTable);
    const flat = new Set(["index", "errors", "limits", "version"]);
    const path = (room: string): string => (flat.has(room) ? `src/${room}.ts` : `src/${room}/a.ts`);
    for (const from of rooms) {
      for (const to of rooms) {
        const text = `import { a } from "${flat.has(from) ? "./" : "../"}${path(to).slice(4)}";`;
        const isAllowed = from === to || importTable[from]?.includes(to) === true;
        expect(imports(path(from), text)).toHaveLength(isAllowed ? 0 : 1);
      }
    }
  });
  test("a room that imports from outside what another owns", () => {
    expect(imports("src/log/a.ts", `import { ptr } from "bun:ffi";`)).toHaveLength(1);
    expect(imports("src/engine/a.ts", `import { readSync } from "node:fs";`)).toHaveLength(1);
    expect(imports("src/engine/a.ts", `import { open } from "node:fs/promises";`)).toHaveLength(1);
    expect(imports("src/api/a.ts", `import { homedir } from "node:os";`)).toHaveLength(1);
    expect(imports("src/api/a.ts", `import left from "left-pad";`)).toHaveLength(1);
    expect(imports("src/ffi/a.ts", `import { ptr } from "bun:ffi";`)).toEqual([]);
    expect(imports("src/crypto/a.ts", `import { gcm } from "@noble/ciphers/aes.js";`)).toEqual([]);
  });
  test("a value imported where only a type may be", () => {
    expect(imports("src/errors.ts", `import type { A } from "./api/types.ts";`)).toEqual([]);
    expect(imports("src/errors.ts", `import { type A } from "./api/types.ts";`)).toEqual([]);
    expect(imports("src/errors.ts", `import { a } from "./api/types.ts";`)).toHaveLength(1);
    expect(imports("src/errors.ts", `import type { A } from "./api/emdb.ts";`)).toHaveLength(1);
  });
  test("a cycle of run-time imports, but not of types", () => {
    const a = file("src/log/a.ts", `import { b } from "./b.ts";`);
    expect(cycleFaults([a, file("src/log/b.ts", `import { a } from "./a.ts";`)])).toHaveLength(2);
    expect(cycleFaults([a, file("src/log/b.ts", `import type { A } from "./a.ts";`)])).toEqual([]);
  });
  test("a clock, a die or the process read outside src/ffi", () => {
    for (const text of [
      "Date.now();",
      "const now = Date.now;",
      "new Date();",
      "Math.random();",
      "performance.now();",
      "process.pid;",
      "globalThis.process.pid;",
      "crypto.getRandomValues(a);",
      "globalThis.crypto.randomUUID();",
      `import { randomBytes as chance } from "node:crypto";`,
      "nodeCrypto().randomFillSync(a);",
      "Bun.nanoseconds();",
    ]) {
      expect(seamFaults([file("src/log/a.ts", text)])).toHaveLength(1);
      expect(seamFaults([file("src/ffi/a.ts", text), file("test/a.ts", text)])).toEqual([]);
    }
    expect(seamFaults([file("src/log/a.ts", "new Date(5); // not Date.now()")])).toEqual([]);
  });
  test("a file or a median one line too long", () => {
    expect(fileLengthFaults([file("src/log/a.ts", lines(limits.fileLines))])).toEqual([]);
    expect(fileLengthFaults([file("src/log/a.ts", lines(limits.fileLines + 1))])).toHaveLength(1);
    const short = file("src/log/a.ts", lines(limits.medianLines));
    const long = file("src/log/b.ts", lines(limits.medianLines + 1));
    expect(medianFaults([short, short, long])).toEqual([]);
    expect(medianFaults([short, long, long])).toHaveLength(1);
  });
  test("a function, method or arrow function one line too long", () => {
    for (const [open, close] of [
      ["function f() {\n", "}"],
      ["const f = () => {\n", "}"],
    ] as const) {
      expect(functionLengthFaults([file("src/log/a.ts", open + lines(limits.functionLines - 2) + close)])).toEqual([]);
      expect(functionLengthFaults([file("src/log/a.ts", open + lines(limits.functionLines - 1) + close)])).toHaveLength(
        1,
      );
    }
    const method = `class A {\n m() {\n${lines(limits.functionLines - 1)}}\n}`;
    expect(functionLengthFaults([file("src/log/a.ts", method)])).toHaveLength(1);
  });
  test("a banned word, and a file named for nothing", () => {
    expect(wordFaults([file("src/log/a.ts", "// TO_DO: later".replace("_", ""))])).toHaveLength(1);
    expect(wordFaults([file("src/log/a.ts", "// a ha_ck".replace("_", ""))])).toHaveLength(1);
    expect(wordFaults([file("src/log/utils.ts", "")])).toHaveLength(1);
    expect(wordFaults([file("src/log/a.ts", "const toDoor = 1; // hackney")])).toEqual([]);
  });
  test("a character beyond ASCII", () => {
    expect(asciiFaults([file("src/log/a.ts", "a\n\u00e9\n")])).toEqual([`src/log/a.ts:2 has "\u00e9"`]);
  });
  test("a default export, in every form", () => {
    for (const text of ["export default 1;", "export default class A {}", "export default function f() {}"]) {
      expect(defaultExportFaults([file("src/log/a.ts", text)])).toHaveLength(1);
    }
    expect(defaultExportFaults([file("src/log/a.ts", "export const a = 1;")])).toEqual([]);
  });
  test("a barrel", () => {
    expect(barrelFaults([file("src/log/a.ts", `export { b } from "./b.ts";`)])).toHaveLength(1);
    expect(barrelFaults([file("src/index.ts", `export * from "./api/emdb.ts";`)])).toHaveLength(1);
    expect(barrelFaults([file("src/index.ts", `export { Emdb } from "./api/emdb.ts";`)])).toEqual([]);
  });
  test("an export that nobody imports", () => {
    const dead = file("src/log/a.ts", "export const a = 1;\nexport function b() {}\nexport interface C {}\n");
    expect(deadExportFaults([dead])).toHaveLength(3);
    expect(deadExportFaults([dead, file("test/a.ts", `import { a, b, type C } from "../src/log/a.ts";`)])).toEqual([]);
    expect(deadExportFaults([dead, file("test/a.ts", `import { a } from "../src/log/a.ts";`)])).toHaveLength(2);
    expect(deadExportFaults([dead, file("test/a.ts", `import * as all from "../src/log/a.ts";`)])).toEqual([]);
    expect(deadExportFaults([file("src/log/a.ts", "export interface C {}\ntype D = C;\n")])).toEqual([]);
  });
});
