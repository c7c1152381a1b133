/** The engine under power loss and kill at every call, with everything else between the steps of a compaction. */

import { test } from "bun:test";
import { expectSound } from "./ring-run.ts";
import { compacting, compactingRanges, compactingWindows } from "./rings.ts";

const TIMEOUT_MS = 300_000;

test.each([
  ["", compacting],
  [" with ranges", compactingRanges],
  [" on Windows", compactingWindows],
] as const)(
  "writes and crashes between the steps of compactions%s show a prefix that holds all that was acknowledged",
  (_, ring) => expectSound(ring, { seedCount: 8, crashCountMin: 2500 }),
  TIMEOUT_MS,
);
