/**
 * Scripts whose frames lie at the borders of lengths: one byte below, at and above where a check, a way into the file or
 * a buffer changes. A frame gets its length from its key, its value or both; a removal gets it from its key alone.
 */

import {
  COPIED_FRAME_BYTES_MAX,
  KEY_BYTES_MAX,
  NAMESPACE_NAME_BYTES_MAX,
  RING_FRAME_BYTES_MAX,
} from "../../src/limits.ts";
import { XXH32_BODY_BYTES_MAX } from "../../src/log/checksum.ts";
import { Random } from "./random.ts";
import type { BatchPart, Operation, Script } from "./script.ts";

const COPIED = COPIED_FRAME_BYTES_MAX;
/** What matters most comes most often. */
const KEY_BORDERS = [1, 8, 24, 256, XXH32_BODY_BYTES_MAX, COPIED / 2, COPIED, COPIED, COPIED, KEY_BYTES_MAX] as const;
const FRAME_BORDERS = [XXH32_BODY_BYTES_MAX, COPIED, COPIED, KEY_BYTES_MAX] as const;
const LONG_BORDERS = [RING_FRAME_BYTES_MAX, RING_FRAME_BYTES_MAX - KEY_BYTES_MAX, 2 * RING_FRAME_BYTES_MAX] as const;
/** More than a frame has besides its key and value, sealed or not. */
const OVERHEAD_BYTES = 96;

interface SizesSeed {
  readonly seed: number;
  readonly length: number;
  /** One value in so many is about as long as what the ring takes; 0: none. */
  readonly longOneIn: number;
}

/** A script from a seed. It begins with a record under each of its few keys, so that removals meet what is there. */
export function sizesScript({ seed, length, longOneIn }: SizesSeed): Script {
  const random = new Random(seed);
  const keys = Array.from({ length: 4 }, (_, index) => keyOf(random, index));
  const spaces = ["", "", "", "s".repeat(NAMESPACE_NAME_BYTES_MAX - random.below(2))] as const;
  const place = (): { space: string; key: string } => ({ space: random.pick(spaces), key: random.pick(keys) });
  const record = (key: string): { bytes: number; ttlMs: number } => ({
    bytes: valueBytes(random, key.length, longOneIn),
    ttlMs: random.chance(0.2) ? 1 + random.below(5000) : 0,
  });
  const part = (): BatchPart => {
    const where = place();
    return random.chance(0.4) ? where : { ...where, ...record(where.key) };
  };
  const batch = (): BatchPart[] => {
    const parts = Array.from({ length: 1 + random.below(4) }, part);
    // Stores have calls of their own for what goes to one space.
    return random.chance(0.5) ? parts : parts.map(({ key }) => ({ space: "", key }));
  };
  const operation = (): Operation => {
    const dice = random.below(20);
    const where = place();
    if (dice < 5) return { kind: "insert", ...where, ...record(where.key) };
    if (dice < 9) return { kind: "remove", ...where };
    if (dice < 14) return { kind: "batch", writes: batch() };
    if (dice < 15) return { kind: "drop", space: where.space };
    return { kind: random.pick(["flush", "turn", "reopen", "compact", "checkpoint"] as const) };
  };
  const first = keys.map((key): Operation => ({ kind: "insert", space: "", key, ...record(key) }));
  return [...first, ...Array.from({ length }, operation)];
}

function keyOf(random: Random, index: number): string {
  const border = random.pick(KEY_BORDERS);
  const bytes = border + (random.chance(0.5) ? random.below(3) - 1 : -random.below(OVERHEAD_BYTES));
  return `${index}${"k".repeat(Math.max(0, Math.min(bytes, KEY_BYTES_MAX) - 1))}`;
}

function valueBytes(random: Random, keyBytes: number, longOneIn: number): number {
  if (random.chance(0.4)) return random.pick([0, 1, 7, 8, 9, 100]);
  const isLong = longOneIn > 0 && random.chance(1 / longOneIn);
  const border = random.pick(isLong ? LONG_BORDERS : FRAME_BORDERS);
  return Math.max(0, border - keyBytes - random.below(OVERHEAD_BYTES) + 8);
}
