/** Directories as the writer changes them: complete before they are named, told to the readers, retired afterwards. */

import type { Address } from "../ffi/system.ts";
import { PAGE_BYTES, UNIT_BYTES, type Heap } from "../ffi/heap.ts";
import type { Reclaim } from "../ffi/reclaim.ts";
import type { Directories } from "./directories.ts";
import { HASH_BITS } from "./hash.ts";

export class DirectoryWriter {
  readonly #heap: Heap;
  readonly #reclaim: Reclaim;
  readonly #known: Directories;

  constructor(heap: Heap, reclaim: Reclaim, known: Directories) {
    this.#heap = heap;
    this.#reclaim = reclaim;
    this.#known = known;
  }

  /** Gives a namespace another directory, complete already; 0: none. */
  setRoot(space: Address, root: number): void {
    const before = this.#heap.readNumber(space);
    this.#reclaim.fence();
    this.#heap.writeNumber(space, root);
    this.#known.rootChanged(before, root);
  }

  /** Lets all directory entries that begin with the first `depth` bits of a hash name a shard. */
  name(space: Address, place: { readonly hash: number; readonly depth: number }, unit: number): void {
    const root = this.#heap.readNumber(space);
    const depth = root % 32;
    const directory = this.#heap.unitAddress((root - depth) / 32);
    const count = 1 << (depth - place.depth);
    const first = (place.hash >>> (HASH_BITS - place.depth)) * count;
    this.#reclaim.fence();
    for (let index = first; index < first + count; index++) this.#heap.write32(directory + index * 4, unit);
    this.#known.entriesChanged(root, first, count);
  }

  /** A directory of twice the length. */
  deepen(space: Address): void {
    const heap = this.#heap;
    const root = this.#heap.readNumber(space);
    const depth = root % 32;
    const from = heap.unitAddress((root - depth) / 32);
    const unit = takeDirectory(heap, depth + 1);
    const to = heap.unitAddress(unit);
    for (let index = 0; index < 1 << depth; index++) {
      const shard = heap.read32(from + index * 4);
      heap.write32(to + index * 8, shard);
      heap.write32(to + index * 8 + 4, shard);
    }
    this.setRoot(space, unit * 32 + depth + 1);
    this.retire(root);
  }

  /** Retires a directory; nothing names it any more. */
  retire(root: number): void {
    const depth = root % 32;
    const unit = (root - depth) / 32;
    const bytes = 4 << depth;
    if (bytes <= UNIT_BYTES) {
      this.#reclaim.retireUnit(unit);
      return;
    }
    this.#reclaim.retireRun(unit / (PAGE_BYTES / UNIT_BYTES), Math.ceil(bytes / PAGE_BYTES));
  }
}

/** Memory for a directory of 2^depth entries; its first unit. */
export function takeDirectory(heap: Heap, depth: number): number {
  const bytes = 4 << depth;
  if (bytes <= UNIT_BYTES) return heap.takeUnit();
  return heap.takeRun(Math.ceil(bytes / PAGE_BYTES)) * (PAGE_BYTES / UNIT_BYTES);
}
