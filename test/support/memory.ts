/** How far memory rises while something is done. */

import { heapStats } from "bun:jsc";
import { readFileSync } from "node:fs";
import { emulator } from "./platform.ts";

/** Bytes of the collector's heap, arrays included, and of anonymous memory where the system tells. */
function memory(): { readonly heap: number; readonly anonymous: number } {
  const { heapSize, extraMemorySize } = heapStats();
  const status =
    process.platform === "linux" && emulator === undefined ? readFileSync("/proc/self/status", "utf8") : "";
  return { heap: heapSize + extraMemorySize, anonymous: Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024 };
}

/** What nobody has let go of: bytes of the collector's heap, and arrays of numbers, of which each open database has several. */
export function held(): { readonly bytes: number; readonly arrays: number } {
  Bun.gc(true);
  return { bytes: memory().heap, arrays: heapStats().objectTypeCounts["Float64Array"] ?? 0 };
}

/** Runs work, which may look in between, and says how far memory rose above what it was before. */
export async function peakOf(work: (onProgress: () => void) => Promise<unknown>): Promise<ReturnType<typeof memory>> {
  Bun.gc(true);
  const before = memory();
  const peak = { heap: 0, anonymous: 0 };
  const look = (): void => {
    const now = memory();
    peak.heap = Math.max(peak.heap, now.heap - before.heap);
    peak.anonymous = Math.max(peak.anonymous, now.anonymous - before.anonymous);
  };
  await work(look);
  // What is garbage by now was held as well.
  look();
  return peak;
}
