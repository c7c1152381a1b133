/** The engine under power loss and kill at every call of random scripts, on the systems that map past the end. */

import { test } from "bun:test";
import { expectSound } from "./ring-run.ts";
import { crashes, unverified } from "./rings.ts";

const TIMEOUT_MS = 300_000;

test(
  "every crash of random scripts shows a prefix that holds all that was acknowledged",
  () => expectSound(crashes, { seedCount: 60, crashCountMin: 20_000 }),
  TIMEOUT_MS,
);

test(
  "the same holds when reads check nothing",
  () => expectSound(unverified, { seedCount: 10, crashCountMin: 2000 }),
  TIMEOUT_MS,
);
