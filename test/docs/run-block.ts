/** Running a `ts` block of a document. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { childCommand } from "../support/platform.ts";
import { nameOf, type Block } from "./markdown.ts";

/** What the comments of a block say that it prints. */
export const promised = (text: string): string[] =>
  [...text.matchAll(/\/\/ => (.*)$/gm)].map((match) => match[1] ?? "");

/** What a block prints in a folder, line by line, with the blocks beside it that are files, each as `runnable` gives it. */
export async function linesOf(
  folder: string,
  run: { readonly block: Block; readonly named: readonly Block[]; readonly runnable: (text: string) => string },
): Promise<string[]> {
  const { block, named, runnable } = run;
  for (const one of named) writeFileSync(join(folder, nameOf(one) ?? ""), runnable(one.text));
  writeFileSync(join(folder, "block.ts"), runnable(block.text));
  const child = Bun.spawn([...childCommand(), "block.ts"], {
    cwd: folder,
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
  });
  const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const exitCode = await child.exited;
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}: ${errors}`);
  return output.replaceAll("\r", "").split("\n").slice(0, -1);
}
