/** Deaths from seeds, in a process of their own (`child.ts`), as a test or in the long run. */

import { resolve } from "node:path";
import { childCommand, childText } from "../support/platform.ts";
import type { DeathFinding, Searched } from "./search.ts";

const root = resolve(import.meta.dir, "../..");
const MARK = "replay deaths ";
/** What the child says of a case in which nothing is found. */
const NOTHING = "nothing is found";

async function child(words: readonly string[]): Promise<{ readonly output: string; readonly end: string }> {
  const started = Bun.spawn([...childCommand(), "test/deaths/child.ts", ...words], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = childText(await new Response(started.stdout).text()).trim();
  await started.exited;
  return { output, end: String(started.signalCode ?? `exit code ${started.exitCode}`) };
}

/** What the cases of so many seeds come to. */
export function searchDeaths(first: number, count: number): Promise<Searched> {
  return searched(["seeds", String(first), String(count)]);
}

/** The same where threads have commit Workers and one of them sweeps in the background. */
export function searchBackground(first: number, count: number): Promise<Searched> {
  return searched(["background", String(first), String(count)]);
}

/** What comes of commit Workers that stand still, or die, before each of their steps. */
export function syncScenes(): Promise<Searched> {
  return searched(["syncs"]);
}

/** What so many deaths in each scene come to. */
export function sceneDeaths(deathsMax: number): Promise<Searched> {
  return searched(["scenes", String(deathsMax)]);
}

/** A process that ends by itself in the middle is a finding without a case. */
async function searched(words: readonly string[]): Promise<Searched> {
  const { output, end } = await child(words);
  const line = output.split("\n").at(-1) ?? "";
  if (!line.startsWith("{")) throw new Error(`${words.join(" ")} ends by ${end}: ${line}`);
  return JSON.parse(line) as Searched;
}

/** What was found, the steps that lead to it, and at the end the line that does them again. */
export function describeDeaths({ found, shortest, log }: DeathFinding): string {
  return `${found}\n${log.join("\n")}\n| ${MARK}${JSON.stringify(shortest)}`;
}

export function isDeaths(line: string): boolean {
  return line.includes(MARK);
}

/** Lives the case of a line again, and tells of its steps. */
export async function replayDeaths(line: string): Promise<{ readonly text: string; readonly isGone: boolean }> {
  const { output, end } = await child(["case", line.slice(line.indexOf(MARK) + MARK.length)]);
  const isGone = output.endsWith(NOTHING);
  return { text: end === "exit code 0" ? output : `${output}\n${end}`, isGone };
}
