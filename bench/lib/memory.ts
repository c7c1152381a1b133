/** Memory of this process. */

import { readFileSync } from "node:fs";

export interface ProcessMemory {
  readonly rssBytes: number;
  /** Resident memory without file-mapped pages; equal to `rssBytes` where the system does not tell them apart. */
  readonly anonymousBytes: number;
  /** Resident file-mapped and shared pages. */
  readonly mappedBytes: number;
}

export function processMemory(): ProcessMemory {
  const rssBytes = process.memoryUsage().rss;
  if (process.platform !== "linux") return { rssBytes, anonymousBytes: rssBytes, mappedBytes: 0 };
  const status = readFileSync("/proc/self/status", "latin1");
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1024;
  return { rssBytes, anonymousBytes: field("RssAnon"), mappedBytes: field("RssFile") + field("RssShmem") };
}
