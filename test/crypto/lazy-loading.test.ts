/** A database without encryption loads no cryptographic package: shown in a process of its own. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const room = join(import.meta.dir, "../../src/crypto");
const files = [...new Bun.Glob("*.ts").scanSync(room)].sort();

function run(source: string): unknown {
  const child = Bun.spawnSync([process.execPath, "-e", source], { cwd: join(import.meta.dir, "../..") });
  expect(child.stderr.toString()).toBe("");
  return JSON.parse(child.stdout.toString());
}

const imports = files.map((file) => `await import(${JSON.stringify(join(room, file))});`).join("\n");
const LOADED = `[...new Set([...Object.keys(require.cache), ...(globalThis.Loader?.registry?.keys() ?? [])])]
  .filter((name) => /noble|hash-wasm|node:crypto/.test(name)).length`;

test("importing every file of the room loads no package, using a cipher loads its own, deriving loads another", () => {
  expect(files.length).toBeGreaterThan(10);
  const counts = run(`${imports}
    const { packageAead } = await import(${JSON.stringify(join(room, "create-aead.ts"))});
    const { SecretKey } = await import(${JSON.stringify(join(room, "secret.ts"))});
    const { packageHmac } = await import(${JSON.stringify(join(room, "derive.ts"))});
    const loaded = () => ${LOADED};
    const counts = [loaded()];
    packageAead("chacha20-poly1305", new SecretKey(new Uint8Array(32)));
    counts.push(loaded());
    packageHmac(new Uint8Array(32), new Uint8Array(1));
    counts.push(loaded());
    console.log(JSON.stringify(counts));`) as number[];
  expect(counts[0]).toBe(0);
  expect(counts[1]).toBeGreaterThan(0);
  expect(counts[2]).toBeGreaterThan(counts[1]!);
});

test("no file imports a package at its top but for its types", () => {
  const packageImports = /^(?:import|export)\s+(?!type\b)(?:[^;(]*\sfrom\s*)?["'](?:node:|@noble|hash-wasm)/gm;
  expect('import { a } from "node:crypto";'.match(packageImports)).toHaveLength(1);
  expect('import type * as A from "node:crypto";'.match(packageImports)).toBeNull();
  for (const file of files) expect(readFileSync(join(room, file), "utf8").match(packageImports)).toBeNull();
});
