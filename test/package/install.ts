/** The package as it is published, built from this tree, packed, and unpacked in a project. */

import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** What of the tree is packed, besides the build. */
export const published = [
  "package.json",
  "README.md",
  "CHANGELOG.md",
  "SECURITY.md",
  "LICENSE",
  "src",
  "docs",
  "examples",
  "bench/README.md",
];

export interface Outcome {
  readonly exitCode: number;
  readonly output: string;
}

/** Runs Bun in a folder. */
export function bun(cwd: string, ...rest: readonly string[]): Outcome {
  return bunWith({}, cwd, ...rest);
}

/** The same with more in the environment. */
export function bunWith(more: Readonly<Record<string, string>>, cwd: string, ...rest: readonly string[]): Outcome {
  const env = { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", ...more };
  const child = Bun.spawnSync([process.execPath, ...rest], { cwd, env });
  return { exitCode: child.exitCode, output: child.stdout.toString() + child.stderr.toString() };
}

/** Builds and packs in `folder`, and installs into `consumer` what came out; the tarball's path. */
export async function installPackage(folder: string, consumer: string): Promise<string> {
  const stage = join(folder, "stage");
  mkdirSync(stage);
  for (const name of published)
    if (existsSync(join(root, name))) cpSync(join(root, name), join(stage, name), { recursive: true });
  const build = bun(root, "scripts/build.ts", join(stage, "dist"));
  if (build.exitCode !== 0) throw new Error(build.output);
  const pack = bun(stage, "pm", "pack", "--ignore-scripts", "--destination", folder);
  if (pack.exitCode !== 0) throw new Error(pack.output);
  const name = readdirSync(folder).find((one) => one.endsWith(".tgz"));
  if (name === undefined) throw new Error("nothing was packed");
  const tarball = join(folder, name);
  await new Bun.Archive(await Bun.file(tarball).bytes()).extract(folder);
  const installed = join(consumer, "node_modules/emdb");
  mkdirSync(installed, { recursive: true });
  cpSync(join(folder, "package"), installed, { recursive: true });
  writeFileSync(join(consumer, "package.json"), `{ "type": "module" }`);
  return tarball;
}

/** Installs beside it the packages that it depends on. */
export function installDependencies(consumer: string): void {
  for (const name of ["@noble", "hash-wasm"])
    cpSync(join(root, "node_modules", name), join(consumer, "node_modules", name), { recursive: true });
}
