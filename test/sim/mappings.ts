/**
 * The mappings of a simulated process.
 *
 * Invariants
 * 1. An inode counts the mappings of all processes, so that its memory outlives its name.
 * 2. Mappings of one file may share an address; they are told apart by their length, and each is undone once.
 */

import type { Address, FileMapping } from "../../src/ffi/system.ts";
import type { Inode } from "./inode.ts";

interface Mapping {
  readonly inode: Inode;
  readonly address: Address;
  readonly bytes: number;
  readonly isPrivate: boolean;
}

export class Mappings {
  readonly #mappings: Mapping[] = [];

  add(inode: Inode, { bytes, isPrivate }: { readonly bytes: number; readonly isPrivate: boolean }): Address {
    const address = isPrivate ? inode.image.mapPrivate(bytes) : inode.image.map(bytes);
    inode.mappingCount += 1;
    this.#mappings.push({ inode, address, bytes, isPrivate });
    return address;
  }

  /** Whether there was such a mapping. */
  remove(address: Address, bytes: number): boolean {
    const index = this.#mappings.findIndex((entry) => entry.address === address && entry.bytes === bytes);
    const [found] = index < 0 ? [] : this.#mappings.splice(index, 1);
    if (found === undefined) return false;
    end(found);
    return true;
  }

  /** Those of some inodes. */
  list(isWanted: (inode: Inode) => boolean): readonly FileMapping[] {
    return this.#mappings.filter(({ inode }) => isWanted(inode));
  }

  dispose(): void {
    for (const mapping of this.#mappings.splice(0)) end(mapping);
  }

  held(): string[] {
    return this.#mappings.map(({ inode, bytes }) => `mapping of ${bytes} bytes of inode ${inode.number}`);
  }
}

function end({ inode, address, bytes, isPrivate }: Mapping): void {
  if (isPrivate) inode.image.unmapPrivate(address, bytes);
  else inode.image.unmap(address, bytes);
  inode.mappingCount -= 1;
}
