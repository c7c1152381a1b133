/**
 * Raw memory as arrays, for whoever writes much of it at once.
 *
 * The engine's own memory is raw: arrays over it count for the collector as though they lay on its heap, which then lets
 * a multiple of it become garbage. But a word is stored through an array only, so frames are built in a stage and copied
 * from there, and the copy waits for each line of memory that is in no cache: a twelfth of a bulk load. So a bulk load has
 * arrays over the ring, which nobody holds when it is over. Smaller ones that went along with the tail are no way out:
 * each byte of the log is one more then that the collector counts, and it came so often that loads took longer.
 */

import { toArrayBuffer } from "bun:ffi";
import { arraysOf, type Pinned } from "./memory.ts";
import type { Address } from "./system.ts";

/** Gives arrays over raw memory, which the caller owns as long as it uses them; the same ones while somebody holds them. */
export function rawArrays(address: Address, bytes: number): () => Pinned {
  let last: WeakRef<Pinned> | undefined;
  return () => {
    const held = last?.deref();
    if (held !== undefined) return held;
    const arrays = arraysOf(toArrayBuffer(address, 0, bytes), address);
    last = new WeakRef(arrays);
    return arrays;
  };
}
