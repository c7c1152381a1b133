/**
 * Makes a failing script short: fewer operations, smaller ones, while it still fails.
 *
 * Delta debugging (Zeller and Hildebrandt, 2002) with halving pieces, then single operations made simpler.
 */

import type { Operation, Script } from "./script.ts";

export interface ShrinkOptions {
  readonly fails: (script: Script) => boolean;
  /** Bound of the work: how often `fails` may be asked. */
  readonly attemptCountMax: number;
}

/** A script that still fails and cannot be made shorter by these means. */
export function shrinkScript(script: Script, { fails, attemptCountMax }: ShrinkOptions): Script {
  let attempts = 0;
  const stillFails = (candidate: Script): boolean => {
    attempts += 1;
    return attempts <= attemptCountMax && fails(candidate);
  };
  let best = script;
  for (let isBetter = true; isBetter;) {
    const before = best;
    best = simplify(dropPieces(best, stillFails), stillFails);
    isBetter = best !== before && attempts < attemptCountMax;
  }
  return best;
}

function dropPieces(script: Script, fails: (script: Script) => boolean): Script {
  let best = script;
  for (let size = Math.max(1, Math.floor(best.length / 2)); size >= 1; size = Math.floor(size / 2)) {
    for (let start = 0; start < best.length;) {
      const candidate = [...best.slice(0, start), ...best.slice(start + size)];
      if (candidate.length < best.length && fails(candidate)) best = candidate;
      else start += size;
    }
  }
  return best;
}

function simplify(script: Script, fails: (script: Script) => boolean): Script {
  let best = script;
  for (let index = 0; index < script.length; index += 1) {
    const operation = best[index];
    if (operation === undefined) continue;
    for (const simpler of simplerThan(operation)) {
      const candidate = best.with(index, simpler);
      if (!fails(candidate)) continue;
      best = candidate;
      break;
    }
  }
  return best;
}

function simplerThan(operation: Operation): Operation[] {
  if (operation.kind === "insert") {
    const simpler: Operation[] = [];
    if (operation.bytes > 1) simpler.push({ ...operation, bytes: 1 });
    if (operation.ttlMs > 0) simpler.push({ ...operation, ttlMs: 0 });
    if (operation.space !== "") simpler.push({ ...operation, space: "" });
    return simpler;
  }
  if (operation.kind === "batch" && operation.writes.length > 1) {
    return operation.writes.map((_, index) => ({ ...operation, writes: operation.writes.toSpliced(index, 1) }));
  }
  return [];
}
