/**
 * The forms that a program with emdb in it can take, built as a user would build them: a project in a folder of its own,
 * with the package in its node_modules as it is published, and nothing but Bun's own options.
 *
 *   bun test/workers/forms.ts <folder> [target, executable of that target]
 *
 * builds all of them for another platform, whose Bun is emulated and could not (`.ci/wine.sh`, `.ci/arm64.sh`).
 */

import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");
/** What builds the package, which is published once, whatever Bun the tests run on. */
const builder = process.env["EMDB_TEST_BUILDER"] ?? process.execPath;
const programs = ["test/workers/form-program.ts", "examples/notes.ts"] as const;
export type ProgramName = "form-program" | "notes";

/** Bundles of one file to start each, by name. */
export const bundles = {
  "by --outdir": ["--outdir=OUT"],
  "by --outfile": ["--outfile=OUT/form-program.js"],
  minified: ["--minify", "--outdir=OUT"],
  "with splitting": ["--splitting", "--minify", "--outdir=OUT"],
  "minified as bytecode": ["--minify", "--bytecode", "--format=cjs", "--outdir=OUT"],
} as const satisfies Record<string, readonly string[]>;

/** Executables, by name. */
export const executables = {
  plainly: [],
  minified: ["--minify"],
  "to bytecode": ["--bytecode", "--format=esm"],
  "minified, to bytecode": ["--minify", "--bytecode", "--format=esm"],
} as const satisfies Record<string, readonly string[]>;

export type BundleName = keyof typeof bundles;
export type ExecutableName = keyof typeof executables;

/** Where the forms of one platform lie. */
export class Forms {
  readonly folder: string;
  readonly #suffix: string;

  constructor(folder: string, isWindows: boolean) {
    this.folder = folder;
    this.#suffix = isWindows ? ".exe" : "";
  }

  get project(): string {
    return join(this.folder, "project");
  }

  bundle(name: BundleName): string {
    return join(this.#place(name), "form-program.js");
  }

  executable(program: ProgramName, name: ExecutableName): string {
    return join(this.#place(name), program + this.#suffix);
  }

  #place(name: string): string {
    return join(this.folder, name.replaceAll(/[^a-z]+/g, "-"));
  }

  /** A project that has the package in its node_modules, as it is published. */
  makeProject(): void {
    const installed = join(this.project, "node_modules/emdb");
    mkdirSync(installed, { recursive: true });
    run([builder, "scripts/build.ts", join(installed, "dist")], root);
    writeFileSync(
      join(installed, "package.json"),
      JSON.stringify({ name: "emdb", type: "module", exports: "./dist/index.js" }),
    );
    for (const name of ["@noble", "hash-wasm"])
      cpSync(join(root, "node_modules", name), join(this.project, "node_modules", name), { recursive: true });
    writeFileSync(join(this.project, "package.json"), JSON.stringify({ name: "project", type: "module" }));
    for (const program of programs) cpSync(join(root, program), join(this.project, program.replace(/.*\//, "")));
  }

  buildBundle(name: BundleName): void {
    this.#build("form-program", name, bundles[name]);
  }

  buildExecutable(program: ProgramName, name: ExecutableName, forTarget: readonly string[] = []): void {
    const options = ["--compile", ...forTarget, ...executables[name], `--outfile=${this.executable(program, name)}`];
    this.#build(program, name, options);
  }

  #build(program: ProgramName, name: string, options: readonly string[]): void {
    const out = this.#place(name);
    mkdirSync(out, { recursive: true });
    const own = options.some((option) => option.startsWith("--target=")) ? [] : ["--target=bun"];
    const command = [process.execPath, "build", `${program}.ts`, ...own];
    run([...command, ...options.map((one) => one.replace("OUT", out))], this.project);
  }
}

function run(command: readonly string[], cwd: string): void {
  const child = Bun.spawnSync([...command], { cwd, env: { ...process.env, NO_COLOR: "1" } });
  if (child.exitCode !== 0)
    throw new Error(`${command.join(" ")}: ${child.stdout.toString()}${child.stderr.toString()}`);
}

if (import.meta.main) {
  const [folder = "", target = "", executable = ""] = process.argv.slice(2);
  const forms = new Forms(folder, target.includes("windows"));
  forms.makeProject();
  for (const name of Object.keys(bundles) as BundleName[]) forms.buildBundle(name);
  for (const name of Object.keys(executables) as ExecutableName[])
    for (const program of ["form-program", "notes"] as const)
      forms.buildExecutable(program, name, [`--target=${target}`, `--compile-executable-path=${executable}`]);
}
