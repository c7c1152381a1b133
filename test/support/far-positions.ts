/** Leads a database to positions that would take months of writing. */

import type { Opened } from "../../src/engine/assemble.ts";
import { PERIOD_UNITS } from "../../src/ffi/positions.ts";
import { LOG_BYTES_MAX, RING_BYTES } from "../../src/limits.ts";
import { LOG_CLAIMED, positionsInUse } from "../../src/log/log-words.ts";

/** How far a leap may go at a time: the file that is left and the one that takes its place are in use together. */
export const LEAP_BYTES = LOG_BYTES_MAX - 64 * RING_BYTES;

/** The position at which what is stored for one begins anew for the time `lap`, counted from 0. */
export function wrapAt(lap: number): number {
  return LOG_BYTES_MAX + lap * PERIOD_UNITS * 8;
}

/** The last base before a position that leaves so many bytes to it. */
export function baseBefore(lsn: number, bytes: number): number {
  return Math.floor((lsn - bytes) / RING_BYTES) * RING_BYTES;
}

/** Compacts until the log's file begins at `base`, as if all up to there had been written. Nothing old may be held. */
export function leapTo(opened: Opened, base: number): void {
  const { engine, work, compaction, relocation } = opened;
  const { core } = engine;
  if (base <= core.base) throw new Error(`the base is ${core.base} already`);
  while (core.base < base) {
    if (!work.tryTake()) throw new Error("somebody else works here");
    try {
      relocation.finish();
      engine.exclusively(() => {
        core.tail.spill();
        const { origin } = positionsInUse(core.control.log);
        core.control.log.numbers[LOG_CLAIMED] = Math.min(base, origin + LEAP_BYTES) - RING_BYTES;
      });
      compaction.runSync();
    } finally {
      work.give();
    }
    const { origin } = positionsInUse(core.control.log);
    if (origin !== core.base) throw new Error(`positions from ${origin} on are held, and the base is ${core.base}`);
  }
  if (core.base !== base) throw new Error(`the base is ${core.base} and not ${base}`);
}
