/** What a planted fault is, and what looks for it. */

import type { RINGS } from "../sim/rings.ts";

export type RingName = keyof typeof RINGS;

/** What looks for a fault: a ring, the model, or a test file. */
export type Probe = RingName | "model" | `test/${string}.test.ts`;

export interface Edit {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface PlantedFault {
  readonly name: string;
  readonly edits: readonly Edit[];
  readonly probe: Probe;
  /** How many seeds the probe may need. */
  readonly seedCount: number;
  /** Left out, with a message, where the machine does not allow it. */
  readonly needs?: "ext4" | "overlay" | "strace" | "libcrypto";
}

export interface ProbeOutcome {
  readonly crashes: number;
  readonly findings: number;
  readonly detail: string | undefined;
  /** Which turn of a ring or of the model it was found in. */
  readonly turn?: number;
}

/** What finds a fault by itself: a test of its file, by the name that `bun test` prints; a line `replay deaths ...`; the turn of its ring. */
export type Finder = string | number;

/** A fault of one change in one file of `src`. */
export function fault(
  name: string,
  probe: Probe,
  file: string,
  change: readonly [from: string, to: string],
  seedCount = 12,
): PlantedFault {
  return { name, probe, seedCount, edits: [{ file: `src/${file}`, from: change[0], to: change[1] }] };
}
