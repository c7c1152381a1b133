/** Backups under power loss, kill and errors at every call: the source is as ever, the target is of one moment or absent. */

import { test } from "bun:test";
import { expectSound } from "./ring-run.ts";
import { backingUp, backingUpSlowly, backingUpWindows, faultsInBackups } from "./rings.ts";

const TIMEOUT_MS = 300_000;

test.each([
  ["", backingUp],
  [" with writes between their steps", backingUpSlowly],
  [" on Windows", backingUpWindows],
] as const)(
  "a crash at any call of backups%s harms no source, and leaves a target that is of one moment, or none",
  (_, ring) => expectSound(ring, { seedCount: 5, crashCountMin: 1500 }),
  TIMEOUT_MS,
);

test(
  "an error at any call of a backup harms neither the source nor what the target was",
  () => expectSound(faultsInBackups, { seedCount: 1, crashCountMin: 5000 }),
  TIMEOUT_MS,
);
