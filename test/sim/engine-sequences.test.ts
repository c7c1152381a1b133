/** All short sequences of operations, each crashed at every call. */

import { test } from "bun:test";
import { expectSound } from "./ring-run.ts";
import { allSequences } from "./rings.ts";

test("every sequence of up to three operations survives a crash at each of its calls", () => {
  const { ring, count } = allSequences(3);
  expectSound(ring, { seedCount: count, crashCountMin: 60_000 });
}, 300_000);
