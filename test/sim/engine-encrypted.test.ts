/** Encrypted logs under power loss and kill at every call: nothing acknowledged is lost, no nonce comes twice. */

import { test } from "bun:test";
import { encrypted, encryptedChaCha, encryptedWindows } from "./encrypted-rings.ts";
import { expectSound } from "./ring-run.ts";

const TIMEOUT_MS = 300_000;

test(
  "every crash of an encrypted log shows a prefix that holds all that was acknowledged, and no nonce repeats",
  () => expectSound(encrypted, { seedCount: 12, crashCountMin: 2000 }),
  TIMEOUT_MS,
);

test(
  "the same holds with ChaCha20-Poly1305",
  () => expectSound(encryptedChaCha, { seedCount: 4, crashCountMin: 500 }),
  TIMEOUT_MS,
);

test(
  "the same holds on Windows",
  () => expectSound(encryptedWindows, { seedCount: 4, crashCountMin: 500 }),
  TIMEOUT_MS,
);
