/** Looks for bytes in this process's own memory (Linux): all writable pages that are there, by /proc/self/pagemap. */

import { ptr } from "bun:ffi";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";

const PAGE = 4096;
const RUN_PAGES = 256;

/** The mask that a needle is held under, so that the search does not find itself. */
export const MASK = 0x5a;

/** How often the 32 bytes stand in memory whose masked form is given. */
export function countInMemory(masked: Uint8Array): number {
  const memory = openSync("/proc/self/mem", "r");
  const pagemap = openSync("/proc/self/pagemap", "r");
  const window = new Uint8Array(RUN_PAGES * PAGE + 64);
  const own = { from: Math.floor(ptr(window) / PAGE) * PAGE, to: ptr(window) + window.length };
  let hits = 0;
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
    if (range === null) continue;
    const [from, to] = [Number.parseInt(range[1]!, 16), Number.parseInt(range[2]!, 16)];
    for (const run of [...presentRuns(pagemap, from, to)].flatMap((run) => without(run, own))) {
      for (let at = run.from; at < run.to; at += RUN_PAGES * PAGE) {
        // 31 bytes more, for what lies across two windows.
        const wanted = Math.min(RUN_PAGES * PAGE + 31, run.to - at);
        hits += countIn(window, { bytes: readAt(memory, window, { at, bytes: wanted }), masked });
      }
    }
  }
  closeSync(memory);
  closeSync(pagemap);
  return hits;
}

interface Run {
  readonly from: number;
  readonly to: number;
}

/** The search must not read its own window: it would find there what it has just copied. */
function without(run: Run, hole: Run): readonly Run[] {
  const before = { from: run.from, to: Math.min(run.to, hole.from) };
  const behind = { from: Math.max(run.from, hole.to), to: run.to };
  return [before, behind].filter(({ from, to }) => from < to);
}

function* presentRuns(pagemap: number, from: number, to: number): Generator<Run> {
  const entries = new Uint8Array(8 * 65_536);
  let start = -1;
  for (let base = from; base < to; base += 65_536 * PAGE) {
    const pages = Math.min(65_536, (to - base) / PAGE);
    readAt(pagemap, entries, { at: (base / PAGE) * 8, bytes: pages * 8 });
    for (let page = 0; page < pages; page++) {
      const isPresent = entries[page * 8 + 7]! >= 0x80;
      const address = base + page * PAGE;
      if (isPresent && start < 0) start = address;
      if (!isPresent && start >= 0) {
        yield { from: start, to: address };
        start = -1;
      }
    }
  }
  if (start >= 0) yield { from: start, to };
}

function readAt(file: number, into: Uint8Array, span: { readonly at: number; readonly bytes: number }): number {
  try {
    return readSync(file, into, 0, span.bytes, span.at);
  } catch {
    // A page that went away between the look and the read.
    return 0;
  }
}

function countIn(window: Uint8Array, search: { readonly bytes: number; readonly masked: Uint8Array }): number {
  const { bytes, masked } = search;
  const first = masked[0]! ^ MASK;
  let hits = 0;
  for (let at = window.indexOf(first); at >= 0 && at + 32 <= bytes; at = window.indexOf(first, at + 1)) {
    let same = 1;
    while (same < 32 && window[at + same] === (masked[same]! ^ MASK)) same++;
    if (same === 32) hits += 1;
  }
  // The window itself is memory that the search walks over.
  window.fill(0);
  return hits;
}
