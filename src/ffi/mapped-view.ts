/**
 * A view of a file's own mapping that gives the mapping back when it is collected.
 *
 * The function at `unmapAddress` is called as `unmap(address, bytes)`: munmap(2) takes just that, UnmapViewOfFile ignores the
 * second argument.
 */

import { ownedBuffer } from "./owned-buffer.ts";
import type { Address } from "./system.ts";

export interface Mapping {
  readonly address: Address;
  readonly bytes: number;
  readonly unmapAddress: Address;
}

/**
 * Bytes `[offset, mapping.bytes)` of a mapping; undefined when no buffer can be that long. The mapping is given back in that
 * case too, by the runtime: whoever did it once more might unmap what another thread has mapped there by then.
 */
export function viewOfMapping(mapping: Mapping, offset: number): Uint8Array | undefined {
  const { address, bytes, unmapAddress } = mapping;
  try {
    return new Uint8Array(ownedBuffer({ address, bytes }, unmapAddress), offset);
  } catch {
    return undefined;
  }
}
