/** The engine when calls fail: every call, every errno, once and for ever; disks that lie, and disks that are full. */

import { test } from "bun:test";
import { expectSound } from "./ring-run.ts";
import {
  compoundFaults,
  failingSyncs,
  failingWrites,
  faults,
  faultsBehind,
  faultsOnWindows,
  faultsThrough,
  fullDisks,
  fullDisksBeside,
  fullDisksEncrypted,
  fullDisksThrough,
} from "./rings.ts";

const TIMEOUT_MS = 300_000;

test(
  "every error at every call is told by its name and loses nothing that was acknowledged",
  () => expectSound(faults, { seedCount: 3, crashCountMin: 10_000 }),
  TIMEOUT_MS,
);

test(
  "the same holds on Windows",
  () => expectSound(faultsOnWindows, { seedCount: 2, crashCountMin: 5000 }),
  TIMEOUT_MS,
);

test.each([faultsThrough, faultsBehind])(
  "a write that is durable when it returns is there, and one that is refused is not: $name",
  (ring) => expectSound(ring, { seedCount: 2, crashCountMin: 8000 }),
  TIMEOUT_MS,
);

test(
  "a second error while the first is dealt with changes nothing in that",
  () => expectSound(compoundFaults, { seedCount: 2, crashCountMin: 6000 }),
  TIMEOUT_MS,
);

test(
  "a sync that fails is never tried again, whatever the kernel did with the pages",
  () => expectSound(failingSyncs, { seedCount: 2, crashCountMin: 5000 }),
  TIMEOUT_MS,
);

test(
  "a write-through write that was refused and reached the disk does not come back behind a flush",
  () => expectSound(failingWrites, { seedCount: 2, crashCountMin: 7000 }),
  TIMEOUT_MS,
);

test.each([fullDisks, fullDisksThrough, fullDisksEncrypted, fullDisksBeside])(
  "a full disk of any size refuses writes and keeps what it has: $name",
  (ring) => expectSound(ring, { seedCount: 8, crashCountMin: 2000 }),
  TIMEOUT_MS,
);
