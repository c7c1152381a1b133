/**
 * A test's child program in one file whose instructions are parsed already. The code is the same; a Worker or a process
 * starts from it in half the time that one file takes without, and in a third of what two hundred files take. Making it takes a
 * second, so it pays from some ten starts on.
 */

import { basename, join } from "node:path";

/** Bundles a program that awaits nothing at its top level into a folder; the path of what is to be started. @throws when it does not bundle */
export function bundled(source: string, folder: string): string {
  const name = basename(source, ".ts");
  // The instructions of a program's file are its effects, whatever package.json says of the modules of a library.
  const flags = ["--target=bun", "--bytecode", "--format=cjs", "--ignore-dce-annotations", `--outdir=${folder}`];
  const build = Bun.spawnSync([process.execPath, "build", ...flags, source], { stdio: ["ignore", "pipe", "pipe"] });
  if (build.exitCode !== 0) throw new Error(`${source} cannot be bundled: ${build.stderr.toString()}`);
  return join(folder, `${name}.js`);
}
