/**
 * emdb works inside a `bun build --compile` executable with nothing added to the user's build, and what such a program
 * flushed is there after it was killed.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const buildTimeoutMs = 120_000;
const folder = temporaryFolder();
const path = folder.file("data.emdb");
/** Compiled beforehand where the emulated Bun cannot copy itself (.ci/wine.sh). */
const prebuilt = process.env["EMDB_TEST_COMPILED"];
const executable = prebuilt ?? folder.file(process.platform === "win32" ? "program.exe" : "program");

beforeAll(() => {
  if (prebuilt !== undefined) return;
  const program = join(import.meta.dir, "compiled-program.ts");
  const build = Bun.spawnSync([...childCommand(), "build", "--compile", program, "--outfile", executable], {
    cwd: join(import.meta.dir, "../.."),
  });
  if (build.exitCode !== 0) throw new Error(`bun build --compile failed: ${build.stderr.toString()}`);
}, buildTimeoutMs);

afterAll(() => folder[Symbol.dispose]());

/** Starts the program, waits for its first line, and kills it without a warning. */
async function killAfterFirstLine(): Promise<string> {
  await using child = Bun.spawn([...childCommand(executable), "write", path], {
    cwd: folder.path,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of child.stdout) {
    text += decoder.decode(chunk, { stream: true });
    if (text.includes("\n")) break;
  }
  child.kill("SIGKILL");
  await child.exited;
  return text.trim();
}

function check(): string {
  const child = Bun.spawnSync([...childCommand(executable), "check", path], { cwd: folder.path });
  return child.exitCode === 0 ? child.stdout.toString().trim() : child.stderr.toString();
}

test(
  "a compiled executable reads back what it flushed before it was killed, three times in a row",
  async () => {
    for (let round = 0; round < 3; round++) {
      rmSync(path, { force: true });
      expect(await killAfterFirstLine()).toBe("flushed 1000");
      expect(check()).toMatch(/^sound \d{4,}$/);
    }
  },
  buildTimeoutMs,
);
