/**
 * A view of a file's own mapping that gives the mapping back when it is collected.
 *
 * The runtime calls the native function at `unmapAddress` as `unmap(address, bytes)` when the last view of the
 * buffer is gone: munmap(2) takes just that, UnmapViewOfFile ignores the second argument.
 */

import { toArrayBuffer } from "bun:ffi";
import type { Address } from "./system.ts";

/** The declared type leaves out the two parameters about giving memory back. */
const ownedBuffer = toArrayBuffer as (
  address: Address,
  offset: number,
  bytes: number,
  context: number,
  unmapAddress: Address,
) => ArrayBuffer;

export interface Mapping {
  readonly address: Address;
  readonly bytes: number;
  readonly unmapAddress: Address;
}

/** Bytes `[offset, mapping.bytes)` of a mapping; undefined, and the mapping still the caller's, when no buffer can be that long. */
export function viewOfMapping(mapping: Mapping, offset: number): Uint8Array | undefined {
  const { address, bytes, unmapAddress } = mapping;
  try {
    return new Uint8Array(ownedBuffer(address, 0, bytes, bytes, unmapAddress), offset);
  } catch {
    return undefined;
  }
}
