/**
 * A stretch of raw memory as arrays, for whoever writes much of it from front to back.
 *
 * The engine's own memory is raw: arrays over it count for the collector as though they lay on its heap, which then lets
 * a multiple of it become garbage. But a word is stored through an array only, so frames are built in a stage and copied
 * from there, and the copy waits for each line of memory that is in no cache: a twelfth of a bulk load. So one window for
 * each thread goes along with what it loads. Those behind are garbage, for each byte of the log one that the collector
 * counts and nobody has: it comes sooner. That is nothing beside the arrays of a batch, and too much beside a
 * compaction, which has none.
 *
 * Invariant: whoever asks for a window owns the bytes that it names, and uses no others. What else the window covers may
 * be somebody else's, or not there any more.
 */

import { toArrayBuffer } from "bun:ffi";
import type { Pinned } from "./memory.ts";
import type { Address } from "./system.ts";

/** A window takes 1.5 us to open, as long as three inserts. */
const WINDOW_BYTES = 65_536;

let open: Pinned | undefined;

/** Arrays that cover some bytes of raw memory, a multiple of 8 from an address that is one; undefined for more than a window has. */
export function windowOn(address: Address, bytes: number): Pinned | undefined {
  if (open !== undefined) {
    const from = address - open.address;
    if (from >= 0 && from + bytes <= WINDOW_BYTES) return open;
  }
  return bytes > WINDOW_BYTES ? undefined : moved(address);
}

function moved(address: Address): Pinned {
  const buffer = toArrayBuffer(address, 0, WINDOW_BYTES);
  open = {
    address,
    u8: new Uint8Array(buffer),
    i32: new Int32Array(buffer),
    u32: new Uint32Array(buffer),
    f64: new Float64Array(buffer),
  };
  return open;
}
