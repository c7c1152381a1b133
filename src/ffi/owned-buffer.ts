/** Native memory that the collector gives back. */

import { toArrayBuffer } from "bun:ffi";
import { assert } from "../errors.ts";
import type { Address } from "./system.ts";

/** The declared type leaves out the two parameters about giving memory back. */
const toOwnedBuffer = toArrayBuffer as (
  address: Address,
  offset: number,
  bytes: number,
  context: number,
  freeAddress: Address,
) => ArrayBuffer;

/**
 * A buffer over native memory, which it owns. The runtime calls the native function at `freeAddress` as `free(address, bytes)` once
 * no view of the buffer can be reached, or its thread has ended, however that was.
 */
export function ownedBuffer(
  memory: { readonly address: Address; readonly bytes: number },
  freeAddress: Address,
): ArrayBuffer {
  const { address, bytes } = memory;
  assert(bytes > 0, "memory that is owned has bytes");
  return toOwnedBuffer(address, 0, bytes, bytes, freeAddress);
}
