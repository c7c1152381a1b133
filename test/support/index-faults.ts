import type { Core } from "../../src/engine/core.ts";
import type { SpaceState, Spaces } from "../../src/engine/spaces.ts";
import { PAGE_BYTES, UNIT_BYTES, type Heap } from "../../src/ffi/heap.ts";
import { ShardCopy } from "../../src/keydir/check.ts";
import { HASH_BITS, hashBehind } from "../../src/keydir/hash.ts";
import type { Keydir } from "../../src/keydir/keydir.ts";

const UNITS_PER_PAGE = PAGE_BYTES / UNIT_BYTES;

/** What is wrong with the hash index of every key space now, by its own invariants and those of its memory. */
export function indexFaults({ keydir, heap }: Core, spaces: Spaces): string[] {
  const faults: string[] = [];
  const inUse = new InUse();
  for (const space of [spaces.default, ...spaces.list()]) {
    const root = spaces.root(space);
    if (root !== 0) faults.push(...faultsBelow(keydir, spaces, { space, inUse }));
  }
  return [...faults, ...inUse.faults, ...freeIn(heap, inUse)];
}

function faultsBelow(
  keydir: Keydir,
  spaces: Spaces,
  { space, inUse }: { readonly space: SpaceState; readonly inUse: InUse },
): string[] {
  const faults: string[] = [];
  const shard = new ShardCopy();
  const root = spaces.root(space);
  const depth = root % 32;
  const directory = (root - depth) / 32;
  if (4 << depth <= UNIT_BYTES) inUse.units.add(directory);
  else for (let at = 0; at < 4 << depth; at += PAGE_BYTES) inUse.add((directory * UNIT_BYTES + at) / PAGE_BYTES);
  for (let hash = 0; hash < 1 << HASH_BITS; hash = hashBehind(hash, shard.depth)) {
    shard.take(keydir, root, hash);
    faults.push(...shard.faults().map(({ reason }) => `${reason} (hash ${hash})`));
    const { unit, pages } = keydir.shardOf(root, hash);
    inUse.units.add(unit);
    for (const page of pages) inUse.add(page);
  }
  return faults;
}

class InUse {
  readonly faults: string[] = [];
  readonly pages = new Set<number>();
  readonly units = new Set<number>();

  add(page: number): void {
    if (this.pages.has(page)) this.faults.push(`page ${page} is of two shards or directories`);
    this.pages.add(page);
  }
}

/** What is free and in use, or free twice. The words are those of `heap.ts`. */
function freeIn(heap: Heap, inUse: InUse): string[] {
  const faults: string[] = [];
  const unitPages = new Set([...inUse.units].map((unit) => Math.floor(unit / UNITS_PER_PAGE)));
  const [stackAt, stackDepth, firstUnit, firstRun] = [heap.base + 64 * 2 ** 20, 6, 8, 13];
  const free = new Set<number>();
  const add = (page: number): void => {
    if (free.has(page)) faults.push(`page ${page} is free twice`);
    free.add(page);
    if (inUse.pages.has(page) || unitPages.has(page)) faults.push(`page ${page} is free and in use`);
  };
  for (let at = 0; at < heap.numbers[stackDepth]!; at += 1) add(heap.read32(stackAt + at * 4));
  for (let order = 1; order <= 14; order += 1) {
    let first = heap.numbers[firstRun + order - 1]!;
    for (; first !== 0 && faults.length < 100; first = heap.read32(heap.pageAddress(first)))
      for (let page = first; page < first + (1 << order); page += 1) add(page);
  }
  const units = new Set<number>();
  for (let unit = heap.numbers[firstUnit]!; unit !== 0; unit = heap.read32(heap.unitAddress(unit))) {
    if (units.has(unit)) return [...faults, `unit ${unit} is free twice`];
    units.add(unit);
    if (inUse.units.has(unit)) faults.push(`unit ${unit} is free and in use`);
  }
  return faults;
}
