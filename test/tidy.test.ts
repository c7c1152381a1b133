/**
 * The house rules (docs/design.md, "Rooms") hold in this repository, and each of them can be broken.
 *
 * The rules are in `support/tidy-rules.ts`; here each stands twice: over the repository, where it finds nothing, and
 * over made-up files, where it finds exactly what was planted.
 */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runInNewContext } from "node:vm";
import { seamFaults, unusedLicences } from "./support/outside-rules.ts";
import {
  asciiFaults,
  barrelFaults,
  cycleFaults,
  deadExportFaults,
  defaultExportFaults,
  engineTable,
  engineTableFaults,
  fileLengthFaults,
  functionLengthFaults,
  importTable,
  importTableFaults,
  limits,
  medianFaults,
  roomOf,
  unusedModules,
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
const outside = (text: string): SourceFile => file("src/log/a.ts", text);
const lines = (count: number): string => "const a = 1;\n".repeat(count);

describe("the repository", () => {
  test("has source files in known rooms only", () => {
    expect(source.length).toBeGreaterThan(0);
    expect(source.map((one) => roomOf(one.path)).filter((room) => importTable[room] === undefined)).toEqual([]);
  });
  test("imports one way, as the table says", () => {
    expect(importTableFaults(all)).toEqual([]);
    expect(unusedModules(source)).toEqual([]);
  });
  test("divides the engine into folders that import one way, and the design names each", () => {
    expect(engineTableFaults(source)).toEqual([]);
    const design = readFileSync(join(root, "docs/design.md"), "utf8");
    const rows = [...design.matchAll(/^\| `engine\/([a-z]+)` \| [^|]+ \| ([^|]*) \|$/gm)];
    expect(
      Object.fromEntries(rows.map(([, name = "", may = ""]) => [name, may === "" ? [] : may.split(", ")])),
    ).toEqual(engineTable as Record<string, string[]>);
  });
  test("has no import cycle", () => expect(cycleFaults(source)).toEqual([]));
  test("reaches the outside through src/ffi alone: time, chance, processes, files, the network", () => {
    expect(seamFaults(all)).toEqual([]);
    expect(unusedLicences(all)).toEqual([]);
  });
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
  test("a folder of the engine that imports what it may not, or that no table knows", () => {
    const faults = (path: string, text: string): string[] => engineTableFaults([file(path, text)]);
    const write = `import { a } from "../write/a.ts";`;
    expect(faults("src/engine/read/a.ts", write)).toEqual(["src/engine/read/a.ts imports src/engine/write/a.ts"]);
    expect(faults("src/engine/read/a.ts", `import type { A } from "../write/a.ts";`)).toEqual([]);
    expect(faults("src/engine/open/a.ts", write)).toEqual([]);
    expect(faults("src/engine/a.ts", `import { a } from "./write/a.ts";`)).toEqual([]);
    expect(faults("src/engine/files/a.ts", `import { a } from "../hint/hint-format.ts";`)).toEqual([]);
    expect(faults("src/engine/files/a.ts", `import { a } from "../hint/hint-writer.ts";`)).toHaveLength(1);
    expect(faults("src/engine/attic/a.ts", "")).toEqual(["src/engine/attic/a.ts is in no known folder"]);
  });
  test("a room that imports from outside what another owns", () => {
    expect(imports("src/log/a.ts", `import { ptr } from "bun:ffi";`)).toHaveLength(1);
    expect(imports("src/engine/a.ts", `import { file } from "bun";`)).toHaveLength(1);
    expect(imports("src/engine/a.ts", `import { Worker } from "node:worker_threads";`)).toHaveLength(1);
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
      "const { random } = Math;",
      "performance.now();",
      "process.pid;",
      "globalThis.process.pid;",
      "crypto.getRandomValues([]);",
      "globalThis.crypto.randomUUID();",
      `import { randomBytes as chance } from "node:crypto";`,
      "import { x } from './b.ts'; x().randomFillSync([]);",
      "Bun.nanoseconds();",
      "import.meta.env;",
    ]) {
      expect([text, seamFaults([outside(text)])]).toEqual([text, [expect.any(String)]]);
      expect(seamFaults([file("src/ffi/a.ts", text), file("test/a.ts", text)])).toEqual([]);
    }
    expect(seamFaults([outside("new Date(5); // not Date.now()")])).toEqual([]);
  });
  test("everything of Bun and of the process, and every global, that no list allows", () => {
    const words = [...Object.keys(Bun), "nobodyHasHeardOfIt"].map((name) => `Bun.${name}`);
    words.push(...[...Object.keys(process), "kill", "nobodyHasHeardOfIt"].map((name) => `process.${name}`));
    const globals = Object.getOwnPropertyNames(globalThis).filter((name) => /^[A-Za-z]\w*$/.test(name));
    const language = new Set(runInNewContext("Object.getOwnPropertyNames(globalThis)") as string[]);
    words.push(
      ...globals.filter((name) => !language.has(name)),
      "console",
      "require",
      "eval",
      "Function",
      "Atomics.wait",
    );
    const rooms = Object.keys(importTable).filter((room) => room !== "ffi");
    // Of a file that no list names.
    const mayUse = (word: string): string[] =>
      rooms.filter((room) => seamFaults([file(`src/${room}/other.ts`, `${word};`)]).length === 0);
    const allowed = words.map((word) => [word, mayUse(word).join()] as const).filter(([, by]) => by !== "");
    const all = rooms.join();
    expect(Object.fromEntries(allowed)).toEqual({
      AbortSignal: "api",
      "Atomics.wait": "engine",
      "Bun.SHA512": "keydir",
      "Bun.fileURLToPath": "api",
      "Bun.hash": "engine,log,crypto",
      "Bun.version": "codec",
      Buffer: all,
      ReadableStream: "api",
      TextDecoder: all,
      TextEncoder: all,
      URL: "api",
      queueMicrotask: "engine",
    });
    for (const word of [
      "Bun.spawnSync",
      "Bun.file",
      "Bun.sleepSync",
      "process.kill",
      "process.env",
      "fetch",
      "setTimeout",
    ])
      expect(words).toContain(word);
  });
  test.each([
    ["a program started", "Bun.spawnSync(['ls']);", "Bun.spawnSync"],
    ["something taken out of Bun", "const { spawn } = Bun;", "Bun"],
    ["a member by its name", "Bun['file']('a');", "Bun.file"],
    ["a member by its name, of a member by its name", "globalThis['Bun'].write('a', b);", "Bun.write"],
    ["an alias", "const b = Bun; b.sleepSync(1);", "Bun"],
    ["a global passed on", "run(fetch);", "fetch"],
    ["a short property", "export const all = { fetch };", "fetch"],
    ["a template's tag", "Bun.$`ls`;", "Bun.$"],
    ["a class that extends one", "class A extends Worker {}", "Worker"],
    ["one that is only said to be there", "declare const fetch: () => void;\nfetch();", "fetch"],
    ["a name of another scope", "function f(fetch: number): number { return fetch; }\nfetch('a');", "fetch"],
    ["a type of the same name", "interface Bun { a: 1 }\nBun.gc();", "Bun.gc"],
    ["the whole of the world", "const world = globalThis;", "globalThis"],
    ["a signal", "process.kill(1);", "process.kill"],
    ["a pause", "await Bun.sleep(1);", "Bun.sleep"],
    ["a timer", "setTimeout(f, 1);", "setTimeout"],
    ["a port", "Bun.listen(options); ", "Bun.listen"],
    ["a server", "Bun.serve(options);", "Bun.serve"],
    ["a walk over files", "new Bun.Glob('*').scanSync();", "Bun.Glob"],
    ["code from text", "new Function('return 1')();", "Function"],
    ["where the program is", "import.meta.dir;", "import.meta.dir"],
  ])("%s", (_, text, name) => {
    const scope = "import { f, a, b, options, run } from './b.ts';\n";
    expect(seamFaults([outside(scope + text)])).toEqual([
      expect.stringMatching(new RegExp(`reads ${RegExp.escape(name)}$`)),
    ]);
  });
  test("no fault in what is declared, in names of members and in types", () => {
    for (const text of [
      "import { fetch } from './b.ts'; fetch();",
      "import fetch from './b.ts'; fetch();",
      "import * as Bun from './b.ts'; Bun.file();",
      "const process = 1; function f(): number { return process; }",
      "function f({ fetch, a: setTimeout }: A): void { fetch(setTimeout); }",
      "try { f(); } catch (process) { f(process); } function f(a?: unknown): void {}",
      "for (const process of [1]) process.toFixed();",
      "let a: typeof fetch; let b: Worker | Bun.BunFile; type A = Pick<typeof process, 'pid'>;",
      "class A implements Worker { fetch(): void { this.fetch(); } process = 1; }",
      "const a = { fetch: 1, process() {} }; a.fetch;",
      "process: for (;;) break process;",
      "const { fetch: a } = { fetch: 1 };",
      "Math.max(1, Atomics.load(new Int32Array(1), 0));",
    ]) {
      expect([text, seamFaults([outside(text)])]).toEqual([text, []]);
    }
  });
  test("what a program in text uses or imports beyond a Worker's own", () => {
    const program = (text: string): string => `export const A_SCRIPT = \`\n${text}\n\`;`;
    const own = "self.onmessage = (event) => { postMessage(event.data); process.exit(0); };";
    expect(seamFaults([outside(program(own))])).toEqual([]);
    for (const text of ["Bun.spawn(a);", "fetch('a');", "process.env;", `import { a } from "bun:ffi";`]) {
      const faults = seamFaults([outside(program(`const a = 1;\n${text}`))]);
      expect(faults).toEqual([expect.stringMatching(/^src\/log\/a.ts:3 reads .* in a program$/)]);
    }
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
