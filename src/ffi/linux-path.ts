/** Paths as Linux reads them: bytes that end with a zero, at a place of this thread's own. */

import { LINUX_PATH_BYTES_MAX } from "../limits.ts";
import { pinned } from "./memory.ts";
import type { Address } from "./system.ts";

/** Bytes of the longest path with its final zero. */
export const PATH_BYTES: number = LINUX_PATH_BYTES_MAX + 1;

const encoder = new TextEncoder();
const memory = pinned(2 * PATH_BYTES);

/**
 * Where a path stands until the next one is put there; 0 when it is too long for that, or is none. A call that takes two has
 * the other one in the second place.
 */
export function placePath(path: string, place: 0 | 1 = 0): Address {
  if (path.includes("\0")) return 0;
  const at = place * PATH_BYTES;
  const { read, written } = encoder.encodeInto(path, memory.u8.subarray(at, at + LINUX_PATH_BYTES_MAX));
  memory.u8[at + written] = 0;
  return read === path.length ? memory.address + at : 0;
}
