/** The engine under power loss where the system differs: Windows, write-through, memory that faults, big frames, frames at the borders of lengths. */

import { test } from "bun:test";
import { hasStrictMemory } from "./real-memory.ts";
import { expectSound } from "./ring-run.ts";
import {
  bigFrames,
  bigFramesThrough,
  borders,
  bordersEncrypted,
  bordersThrough,
  strictMemory,
  strictWindows,
  windows,
  windowsRead,
  writeThrough,
} from "./rings.ts";

const TIMEOUT_MS = 300_000;

test(
  "every crash on a system that neither cuts nor replaces a mapped file shows a right state",
  () => expectSound(windows, { seedCount: 25, crashCountMin: 8000 }),
  TIMEOUT_MS,
);

test(
  "every crash there shows a right state while somebody reads what was there before, and changes nothing of that",
  () => expectSound(windowsRead, { seedCount: 8, crashCountMin: 2500 }),
  TIMEOUT_MS,
);

test(
  "with write-through a write is durable when it returns, at every crash",
  () => expectSound(writeThrough, { seedCount: 12, crashCountMin: 4000 }),
  TIMEOUT_MS,
);

test.skipIf(!hasStrictMemory)(
  "nothing is read that is not mapped",
  () => expectSound(strictMemory, { seedCount: 10, crashCountMin: 1500 }),
  TIMEOUT_MS,
);

test.skipIf(!hasStrictMemory)(
  "nothing is read that is not mapped on a system whose maps end with the file",
  () => expectSound(strictWindows, { seedCount: 15, crashCountMin: 2000 }),
  TIMEOUT_MS,
);

test(
  "frames longer than the ring, and frames that go round it, survive every crash",
  () => expectSound(bigFrames, { seedCount: 5, crashCountMin: 120 }),
  TIMEOUT_MS,
);

test(
  "frames of any length survive every crash where each write is a sync",
  () => expectSound(bigFramesThrough, { seedCount: 5, crashCountMin: 120 }),
  TIMEOUT_MS,
);

test.each([borders, bordersThrough, bordersEncrypted])(
  "keys, values and names at the borders of lengths lose nothing in crashes: $name",
  (ring) => expectSound(ring, { seedCount: 4, crashCountMin: 200 }),
  TIMEOUT_MS,
);
