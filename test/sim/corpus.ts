/**
 * Failures that the long run has found, made short: one line each, in `test/corpus/`, as `describeFailure` writes it;
 * those of threads that die as `describeDeaths` ends.
 * They run before anything else, so that what was broken once is looked at first.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describeFailure, parseFailure } from "./finding.ts";
import { replay } from "./runner.ts";
import { shrinkScript } from "./shrink.ts";
import type { Finding } from "./finding.ts";
import type { RingReport } from "./runner.ts";
import type { Script } from "./script.ts";
import type { StoreAdapter } from "./store.ts";

const FOLDER = resolve(import.meta.dir, "../corpus");
const SHRINK_ATTEMPT_COUNT_MAX = 150;

export interface CorpusCase {
  readonly name: string;
  readonly line: string;
}

export function corpusCases(): CorpusCase[] {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith(".txt"));
  return names.sort().map((name) => ({ name, line: readFileSync(join(FOLDER, name), "utf8").trim() }));
}

/** The problem that a line of `describeFailure` tells of, or undefined when it is gone. */
export function replayLine(line: string, adapterNamed: (name: string) => StoreAdapter): string | undefined {
  const finding = parseFailure(line);
  const problem = replay(adapterNamed(finding.store), finding);
  return problem === undefined ? undefined : describeFailure({ ...finding, problem });
}

/** A crash point of the same script that still fails, found by looking at all of them. */
export type Look = (script: Script) => RingReport;

/** The finding with as few operations as still fail. */
export function shortened(finding: Finding, look: Look): Finding {
  let best = finding;
  shrinkScript(finding.run.script, {
    attemptCountMax: SHRINK_ATTEMPT_COUNT_MAX,
    fails: (script) => {
      const [found] = look(script).findings;
      if (found !== undefined) best = found;
      return found !== undefined;
    },
  });
  return best;
}

/** Keeps a finding for good; returns where. */
export function keep(finding: Finding): string {
  mkdirSync(FOLDER, { recursive: true });
  const line = describeFailure(finding);
  const path = join(FOLDER, `${Bun.hash(line).toString(16).padStart(16, "0")}.txt`);
  writeFileSync(path, `${line}\n`);
  return path;
}
