/**
 * Builds the package: `bun scripts/build.ts [folder]`, by default into `dist`.
 *
 * One JavaScript file and one declaration per source file, written by TypeScript: a stack trace names the file that
 * the repository has, a bundler drops what is not used, and `await import("hash-wasm")` stays where it is, so that the
 * crypto packages load only when encryption is used. Beside them `needs-bun.js`, which every other runtime gets, and a bundle that is not
 * built for Bun.
 */

import { mkdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
const out = resolve(root, process.argv[2] ?? "dist");

/** Every name is exported, since else a named import fails to link before the module can say why. */
export function stubSource(names: readonly string[]): string {
  const needsBun = "emdb needs Bun 1.4 or later, because it calls the operating system through bun:ffi.";
  const isBundled = "emdb was bundled for a browser or for Node.js, and this is Bun: build with --target=bun.";
  return [
    "// What a runtime other than Bun gets, and a bundle for one (package.json, exports, default).",
    ...[...names].sort().map((name) => `export const ${name} = undefined;`),
    "const isBun = globalThis.process?.versions?.bun !== undefined;",
    `throw new Error(isBun ? ${JSON.stringify(isBundled)} : ${JSON.stringify(needsBun)});`,
    "",
  ].join("\n");
}

async function build(): Promise<void> {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const compile = Bun.spawnSync([process.execPath, tsc, "-p", join(root, "tsconfig.build.json"), "--outDir", out], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (compile.exitCode !== 0) process.exit(compile.exitCode);
  const door = await Bun.file(join(out, "index.js")).text();
  const { exports } = new Bun.Transpiler({ loader: "js" }).scan(door);
  await Bun.write(join(out, "needs-bun.js"), stubSource(exports));
  console.log(`Built ${exports.length} exported names into ${out}`);
}

if (import.meta.main) await build();
