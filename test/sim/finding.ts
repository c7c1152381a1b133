/** A failure of a ring, as one line that replays it. */

import type { Draw } from "./draw.ts";
import type { Fault } from "./faults.ts";
import type { MachineOptions } from "./machine.ts";
import type { Problem } from "./oracle.ts";
import type { Depth } from "./recovery.ts";
import type { Script } from "./script.ts";

/** Everything that a run follows from. */
export interface Case {
  readonly machine: Partial<MachineOptions>;
  readonly script: Script;
  readonly seed: number;
  readonly faults?: readonly Fault[];
}

export interface Finding {
  readonly store: string;
  readonly run: Case;
  /** Absent when the run itself went wrong, before any crash. */
  readonly crash?: { readonly point: number; readonly draw: Draw; readonly depth: Depth };
  readonly problem: Problem;
}

const MARK = "replay ";

/** One line: what is broken, and after "replay" all that `replay` in `runner.ts` needs. */
export function describeFailure(finding: Finding): string {
  const { problem, ...rest } = finding;
  return `property ${problem.property}: ${problem.detail} | ${MARK}${JSON.stringify(rest)}`;
}

/** The inverse of `describeFailure`, but for the problem itself. */
export function parseFailure(line: string): Omit<Finding, "problem"> {
  const start = line.indexOf(MARK);
  if (start < 0) throw new Error("no replay in this line");
  return JSON.parse(line.slice(start + MARK.length)) as Omit<Finding, "problem">;
}
