/**
 * Builds the package: `bun scripts/build.ts [folder]`, by default into `dist`.
 *
 * All JavaScript is one file: a program that only opens a database spends a third of its time on finding and parsing modules where
 * each source file is one of its own. Its map names the sources, which are part of the package, in stack traces. The
 * crypto packages stay outside, so that they load only when encryption is used. TypeScript writes one declaration per
 * source file. Beside them `needs-bun.js`, which every other runtime gets, and a bundle that is not built for Bun.
 */

import { mkdirSync, rmSync } from "node:fs";
import { join, relative, resolve } from "node:path";

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

/**
 * Bun's name for `require` is one that no bundler of a program knows, and a module that says that it was built for Bun has
 * no `require` when it is loaded as it is. Who bundles or compiles it takes the first of each two.
 */
function withPlainRequire(built: string): string {
  const definition = "var __require = import.meta.require;";
  if (!built.includes(definition)) throw new Error("the bundle has no require of Bun's");
  const plain = built
    .replace(definition, "")
    .replace(/\b__require\(("[^"]+")\)/g, '(typeof require === "function" ? require($1) : import.meta.require($1))');
  if (plain.includes("__require")) throw new Error("the bundle requires what has no literal name");
  return plain;
}

async function build(): Promise<void> {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const compile = Bun.spawnSync([process.execPath, tsc, "-p", join(root, "tsconfig.build.json"), "--outDir", out], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (compile.exitCode !== 0) process.exit(compile.exitCode);
  const door = join(root, "src/index.ts");
  await Bun.build({ entrypoints: [door], outdir: out, target: "bun", packages: "external", sourcemap: "linked" });
  const bundle = join(out, "index.js");
  const text = withPlainRequire(await Bun.file(bundle).text());
  await Bun.write(bundle, text);
  // Wherever it is built, the sources are beside it once it is packed.
  const mapPath = join(out, "index.js.map");
  const map = await Bun.file(mapPath).json();
  const fromRoot = (path: string): string => relative(root, resolve(out, path)).replaceAll("\\", "/");
  const sources = (map.sources as string[]).map((path) => `../${fromRoot(path)}`);
  await Bun.write(mapPath, JSON.stringify({ ...map, sources }));
  const { exports } = new Bun.Transpiler({ loader: "js" }).scan(text);
  await Bun.write(join(out, "needs-bun.js"), stubSource(exports));
  console.log(`Built ${exports.length} exported names into ${out}`);
}

if (import.meta.main) await build();
