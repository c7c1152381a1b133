/**
 * Runs one of the package's tasks: `node scripts/task.mjs <task> [arguments]`, or the same with `bun`.
 *
 * Plain JavaScript for either runtime, because a fresh clone has nothing installed and may be entered through
 * `bun run`, `npx -y bun run` or `npm run`: only the first two have `bun` on the PATH. It finds a Bun, installs
 * the dependencies as the lockfile says, then runs the task's commands in order until one fails.
 */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const BUN_VERSION = "1.4.5";
const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @type {Record<string, { readonly needs?: string, readonly steps: readonly (readonly string[])[] }>} */
const tasks = {
  quickstart: { needs: "examples/quickstart.ts", steps: [["examples/quickstart.ts"]] },
  test: { steps: [["scripts/suite.ts", "Tests"]] },
  verify: {
    steps: [
      ["fmt", "--check"],
      ["check", "--no-pretty"],
      ["x", "--no-install", "oxlint", "--type-aware", "--deny-warnings"],
      ["scripts/suite.ts", "Tests"],
    ],
  },
  build: { steps: [["scripts/build.ts"]] },
  soak: { needs: "scripts/soak.ts", steps: [["scripts/soak.ts"]] },
  bench: {
    needs: "bench/package.json",
    steps: [
      ["install", "--cwd", "bench"],
      ["run", "--cwd", "bench", "all"],
    ],
  },
};

/** The Bun that runs this file, else the one on the PATH, else npm's. */
function bunCommand() {
  if (process.versions["bun"] !== undefined) return [process.execPath];
  if (spawnSync("bun", ["--version"], { stdio: "ignore" }).status === 0) return ["bun"];
  return ["npx", "-y", `bun@${BUN_VERSION}`];
}

/** @param {readonly string[]} command */
function run(command) {
  const [file = "", ...rest] = command;
  // npx is a .cmd file on Windows, which only a shell starts.
  const shell = process.platform === "win32" && file === "npx";
  const result = spawnSync(file, rest, { cwd: root, stdio: "inherit", shell });
  if (result.error !== undefined) console.error(result.error.message);
  return result.status ?? 1;
}

const [name = "", ...rest] = process.argv.slice(2);
const task = Object.hasOwn(tasks, name) ? tasks[name] : undefined;
if (task === undefined) {
  console.error(`Unknown task "${name}"; there are ${Object.keys(tasks).join(", ")}.`);
  process.exit(2);
}
if (task.needs !== undefined && !existsSync(`${root}/${task.needs}`)) {
  console.error(`The task "${name}" needs ${task.needs}, which is not there.`);
  process.exit(2);
}
const bun = bunCommand();
const steps = [["install", "--frozen-lockfile", "--silent"], ...task.steps];
for (const [index, step] of steps.entries()) {
  const status = run([...bun, ...step, ...(index === steps.length - 1 ? rest : [])]);
  if (status !== 0) process.exit(status);
}
