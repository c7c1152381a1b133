/**
 * What is published: the tarball holds what it should, two linters of packages are content with it, a project as
 * strict as TypeScript can be type-checks against it, and another runtime than Bun is told so in one sentence.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { stubSource } from "../../scripts/build.ts";
import { countsOf, failuresIn, notesIn } from "../../scripts/suite.ts";
import { bun, installPackage, published } from "./install.ts";

const timeoutMs = 120_000;
const root = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "emdb-package-"));
const consumer = join(folder, "consumer");
const installed = join(consumer, "node_modules/emdb");
const promisedNames = [
  "BytesLike",
  "Cipher",
  "Codec",
  "CompactOptions",
  "Emdb",
  "EmdbError",
  "EmdbErrorCode",
  "EmdbShare",
  "EmdbStats",
  "EncryptionInput",
  "EngineOptions",
  "FlushPolicy",
  "Focus",
  "InsertOptions",
  "Keyspace",
  "LocationOptions",
  "LockHolder",
  "Namespace",
  "OpenOptions",
  "ProgressOptions",
  "RangeOptions",
  "RecoveryReport",
  "SalvageReport",
  "Transaction",
  "VerifyReport",
  "codec",
];

/** A program of one of the development dependencies, run by Bun. */
const tool = (name: string): string => join(root, "node_modules/.bin", name);

let tarball = "";

beforeAll(async () => {
  tarball = await installPackage(folder, consumer);
  cpSync(join(import.meta.dir, "consumer"), consumer, { recursive: true });
  cpSync(join(root, "test/types"), consumer, { recursive: true });
}, timeoutMs);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the tarball", () => {
  test("holds the build, its source and the license, and nothing else", () => {
    const top = new Set(readdirSync(installed));
    const known = new Set([...published, "dist"].map((path) => path.split("/")[0]));
    expect([...top].filter((name) => !known.has(name))).toEqual([]);
    expect(readdirSync(join(installed, "bench"))).toEqual(["README.md"]);
    for (const name of ["package.json", "LICENSE", "dist", "src"]) expect(top).toContain(name);
    for (const path of ["index.js", "index.d.ts", "needs-bun.js"])
      expect(readdirSync(join(installed, "dist"))).toContain(path);
  });
  test("has what its documents link to", () => {
    const documents = readdirSync(installed, { recursive: true, encoding: "utf8" }).filter((path) =>
      path.endsWith(".md"),
    );
    const links = documents.flatMap((path) =>
      [...readFileSync(join(installed, path), "utf8").matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(([, to = ""]) =>
        join(dirname(path), to),
      ),
    );
    expect(links.length).toBeGreaterThan(30);
    expect(links.filter((path) => !existsSync(join(installed, path)))).toEqual([]);
  });
  test("declares the promised names and no other", () => {
    const text = readFileSync(join(installed, "dist/index.d.ts"), "utf8");
    const lists = [...text.matchAll(/^export (?:type )?\{([^}]*)\} from/gm)];
    expect(lists).toHaveLength(text.match(/^export /gm)?.length ?? 0);
    const names = lists.flatMap(([, list = ""]) => list.match(/\b(?!type\b)\w+/g) ?? []);
    expect(names.toSorted()).toEqual(promisedNames);
  });
  test(
    "satisfies publint",
    () => {
      expect(bun(root, tool("publint"), "run", installed, "--strict", "--pack", "false")).toMatchObject({
        exitCode: 0,
      });
    },
    timeoutMs,
  );
  test(
    "satisfies arethetypeswrong",
    () => {
      const { exitCode, output } = bun(root, tool("attw"), tarball, "--profile", "esm-only", "--no-emoji");
      expect(exitCode === 0 ? "" : output).toBe("");
    },
    timeoutMs,
  );
  test(
    "type-checks in a strict project, library declarations included",
    () => {
      const { exitCode, output } = bun(consumer, tool("tsc"), "-p", ".");
      expect(exitCode === 0 ? "" : output).toBe("");
    },
    timeoutMs,
  );
  test(
    "fails the strict project's check when a type is not as promised",
    () => {
      const wrong = `import { Emdb } from "emdb";\nexport const n: number = Emdb.openInMemory().get("a");\n`;
      writeFileSync(join(consumer, "wrong.ts"), wrong);
      const { output } = bun(consumer, tool("tsc"), "-p", ".");
      rmSync(join(consumer, "wrong.ts"));
      expect(output).toContain("wrong.ts(2,14): error TS2322");
    },
    timeoutMs,
  );
  test("opens, writes and reads when it is imported by its name", () => {
    const program = `import { Emdb } from "emdb";
      using db = Emdb.openInMemory();
      db.insert("a", "b");
      console.log(db.getText("a"), import.meta.resolve("emdb").endsWith("dist/index.js"));`;
    writeFileSync(join(consumer, "program.ts"), program);
    // The crypto packages are not installed beside it: without encryption none of them is loaded.
    expect(bun(consumer, "program.ts")).toEqual({ exitCode: 0, output: "b true\n" });
  });
  test("loads as one file, whose stack traces name the sources that are beside it", () => {
    const loaded = readdirSync(join(installed, "dist"), { recursive: true }).map(String);
    expect(loaded.filter((name) => name.endsWith(".js")).toSorted()).toEqual(["index.js", "needs-bun.js"]);
    const program = `import { Emdb } from "emdb";
      try { Emdb.openInMemory(5); } catch (error) { console.log(error.stack); }`;
    writeFileSync(join(consumer, "stack.ts"), program);
    const { output } = bun(consumer, "stack.ts");
    const [, path = "", line = ""] = /\((.*[\\/]src[\\/]api[\\/]emdb\.ts):(\d+):\d+\)/.exec(output) ?? [];
    expect(readFileSync(path, "utf8").split("\n")[Number(line) - 1]).toContain("door.openInMemory(");
  });
  test("shows bundlers which packages it needs", async () => {
    const door = join(installed, "dist/index.js");
    const found = new Set<string>();
    const noting: Bun.BunPlugin = {
      name: "noting",
      setup(build) {
        build.onResolve({ filter: /^(@|hash-wasm)/ }, ({ path }) => {
          found.add(path);
          return { path, external: true };
        });
      },
    };
    await Bun.build({ entrypoints: [door], target: "bun", plugins: [noting] });
    expect([...found].toSorted()).toEqual([
      "@noble/ciphers/chacha.js",
      "@noble/hashes/argon2.js",
      "@noble/hashes/hmac.js",
      "@noble/hashes/sha2.js",
      "hash-wasm",
    ]);
  });
  test("says that it needs Bun in any other runtime, also to an import of a name", () => {
    const program = `import "./not-bun.js"; import { Emdb } from "./needs-bun.js"; console.log(Emdb);`;
    writeFileSync(join(installed, "dist/not-bun.js"), `Object.defineProperty(process, "versions", { value: {} });`);
    writeFileSync(join(installed, "dist/other.js"), program);
    const { exitCode, output } = bun(installed, "dist/other.js");
    expect(exitCode).not.toBe(0);
    expect(output).toContain("emdb needs Bun 1.4 or later");
  });
  test.each([
    ["a browser", "browser"],
    ["Node.js", "node"],
  ])("says in a bundle for %s that Bun runs how to build it", (_, target) => {
    writeFileSync(join(consumer, "bundled.ts"), `import { Emdb } from "emdb"; Emdb.openInMemory();`);
    const build = bun(consumer, "build", `--target=${target}`, "bundled.ts", "--outfile=bundled.js");
    expect(build.exitCode).toBe(0);
    const { exitCode, output } = bun(consumer, "bundled.js");
    expect(exitCode).not.toBe(0);
    expect(output).toContain("build with --target=bun");
  });
});

describe("the repository", () => {
  test("names no registry and no address in its lockfile", () => {
    const lock = readFileSync(join(root, "bun.lock"), "utf8");
    expect(lock.match(/https?:|registry|resolved/g)).toBeNull();
  });
  test("shadows no command of Bun with a script", () => {
    const shadowed = new Set(["check", "fmt", "lint", "install", "x", "pm"]);
    expect(Object.keys(manifest.scripts).filter((name) => shadowed.has(name))).toEqual([]);
  });
  test("speaks of one version of Bun, and of itself, wherever it names one", () => {
    const texts = [".ci/common.sh", "scripts/task.mjs"].map((path) => readFileSync(join(root, path), "utf8"));
    const versions = texts.map((text) => /^(?:const )?BUN_VERSION ?= ?"?([\d.]+)/m.exec(text)?.[1]);
    expect([...versions, manifest.devDependencies["bun-types"]]).toEqual(["1.4.5", "1.4.5", "1.4.5"]);
    const oldest = /^OLDEST_BUN_VERSION=([\d.]+)$/m.exec(texts[0]!)?.[1];
    expect(manifest.engines.bun).toBe(`>=${oldest}`);
    const own = join(root, "src/version.ts");
    if (existsSync(own)) expect(readFileSync(own, "utf8")).toContain(JSON.stringify(manifest.version));
  });
  test("depends on the crypto packages alone, at exact versions", () => {
    expect(Object.keys(manifest.dependencies)).toEqual(["@noble/ciphers", "@noble/hashes", "hash-wasm"]);
    for (const version of Object.values({ ...manifest.dependencies, ...manifest.devDependencies })) {
      expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    }
  });
  test("exports the names of the door from the stub, sorted, before it throws", () => {
    expect(stubSource(["b", "a"])).toMatch(/export const a = .*\nexport const b = .*\n[^]*throw new Error\(/);
  });
});

describe("the counter of test runs", () => {
  test("reads the summary, in colour as well", () => {
    const summary = "\u001b[32m 12 pass\u001b[0m\r\n 3 skip\n 2 fail\nRan 17 tests across 1 file. [1 s]\n";
    expect(countsOf(summary, 1)).toEqual({ passed: 12, failed: 2, skipped: 3 });
  });
  test("counts a run without its closing line as one more failure", () => {
    expect(countsOf("(pass) a\n(pass) b\n(fail) c\nsegmentation fault", 139)).toEqual({
      passed: 2,
      failed: 2,
      skipped: 0,
    });
    expect(countsOf("", null)).toEqual({ passed: 0, failed: 1, skipped: 0 });
  });
  test("shows what the tests of a file have printed, and nothing else", () => {
    const notes = '3 lives, 5 steps\n"a fault": found by crashes in 6 of 595 crashes';
    const output = `bun test v1.4.5 (x)\n\ntest/a.test.ts:\n${notes}\n(pass) a [1.00ms]\n\n 1 pass\n 0 fail\n 2 expect() calls\n`;
    expect(notesIn(`${output}Ran 1 test across 1 file. [3.00ms]\n`)).toBe(notes);
  });
  test("of a file that failed leaves out the tests that passed, but the last of them", () => {
    const failed =
      "(pass) a [1.00ms]\nerror: expected 1\n(fail) b [1.00ms]\n(skip) c\n(pass) d [2.00ms]\nsegmentation fault";
    expect(failuresIn(`\u001b[32m${failed}`)).toBe(
      "error: expected 1\n(fail) b [1.00ms]\n(pass) d [2.00ms]\nsegmentation fault",
    );
  });
  test("counts a run of no test at all as a failure, and one whose tests are all skipped as none", () => {
    expect(countsOf(" 0 pass\n 0 fail\nRan 0 tests across 1 file.\n", 0)).toEqual({ passed: 0, failed: 1, skipped: 0 });
    expect(countsOf(" 0 pass\n 2 skip\n 0 fail\nRan 2 tests across 1 file.\n", 0)).toEqual({
      passed: 0,
      failed: 0,
      skipped: 2,
    });
  });
  test("counts nothing that a test has printed", () => {
    const inner = " 500 pass\n 7 skip\n 0 fail\nRan 507 tests across 1 file. [1.00ms]\n";
    const outer = "(pass) a [1.00ms]\n\n 1 pass\n 0 fail\nRan 1 test across 1 file. [3.00ms]\n";
    expect(countsOf(`${inner}${outer}`, 0)).toEqual({ passed: 1, failed: 0, skipped: 0 });
    expect(countsOf(`${inner}(pass) a [1.00ms]\n`, 0)).toEqual({ passed: 1, failed: 1, skipped: 0 });
  });
  test("counts an exit code that no failed test explains", () => {
    expect(countsOf(" 2 pass\n 0 fail\nRan 2 tests across 1 file.\n", 1)).toEqual({ passed: 2, failed: 1, skipped: 0 });
    expect(countsOf(" 2 pass\n 0 fail\nRan 2 tests across 1 file.\n", 0)).toEqual({ passed: 2, failed: 0, skipped: 0 });
  });
});

test("the long run starts without a test runner, and says how it is called", () => {
  const { exitCode, output } = bun(root, "scripts/soak.ts", "--minutes", "none");
  expect({ exitCode, output }).toEqual({ exitCode: 2, output: expect.stringContaining("usage: bun run soak") });
});
