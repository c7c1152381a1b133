/** The clock of the process, which stands still until a test moves it; `setSystemTime()` lets it go again. */

import { setSystemTime } from "bun:test";
import type { TestClock } from "./memory-store.ts";

export function heldClock(): TestClock {
  let heldMs = 1_700_000_000_000;
  setSystemTime(heldMs);
  return {
    get nowMs() {
      return heldMs;
    },
    set nowMs(nextMs: number) {
      heldMs = nextMs;
      setSystemTime(heldMs);
    },
  };
}
