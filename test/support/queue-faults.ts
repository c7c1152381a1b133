import type { Core } from "../../src/engine/core.ts";
import type { SpaceState, Spaces } from "../../src/engine/spaces.ts";
import { PAGE_BYTES } from "../../src/ffi/heap.ts";
import { copy, pinned } from "../../src/ffi/memory.ts";
import { CHILDREN, ENTRY_BYTES, ExpiryPages, FIRST } from "../../src/keydir/expiry-pages.ts";
import { HASH_BITS, hashBehind } from "../../src/keydir/hash.ts";
import { isTombstone } from "../../src/keydir/keydir.ts";
import { HASH_SHIFT, PAGE_SLOTS } from "../../src/keydir/shard.ts";

/** Entries that are more than `ExpiryQueue` spares for a while, after a large batch. */
const SLACK = 512;

/** The records with a deadline that the index holds: their deadlines, by their present places. */
function heldDeadlines({ core, spaces }: Parts, space: SpaceState): Map<string, number> {
  const { keydir, heap, lookup } = core;
  const held = new Map<string, number>();
  const memory = pinned(PAGE_BYTES);
  const root = spaces.root(space);
  for (let hash = root === 0 ? 1 << HASH_BITS : 0; hash < 1 << HASH_BITS;) {
    const shard = keydir.shardOf(root, hash);
    for (const page of shard.pages) {
      copy(memory.address, heap.pageAddress(page), PAGE_BYTES);
      for (let word = 0; word < 2 * PAGE_SLOTS; word += 2) {
        const [low, high] = [memory.u32[word]!, memory.u32[word + 1]!];
        const units = heap.positions.units(low, high);
        if (units === 0 || isTombstone(high)) continue;
        lookup.loadAt(units * 8);
        const expiresAtMs = lookup.expiresAtMs();
        if (expiresAtMs !== 0) held.set(placeOf(core, low, high), expiresAtMs);
      }
    }
    hash = hashBehind(hash, shard.depth);
  }
  return held;
}

/** A slot by its hash and where its frame is now. */
function placeOf({ expiry, heap }: Core, low: number, high: number): string {
  const units = heap.positions.units(low, high);
  return `${high >>> HASH_SHIFT} at ${expiry.present?.(units) ?? units}`;
}

/** The entries of a queue in the order in which they lie, stale ones included. */
export function entriesOf({ expiry, heap }: Core, space: SpaceState): string[] {
  const { entries } = expiry.facts(space.address);
  if (entries === 0) return [];
  const pages = new ExpiryPages(heap);
  pages.open(expiry.queueOf(space.address));
  const memory = pinned(entries * ENTRY_BYTES);
  pages.read(memory.address, FIRST, entries);
  return Array.from(
    { length: entries },
    (_, at) => `${memory.f64[2 * at]} ${memory.u32[4 * at + 2]} ${memory.u32[4 * at + 3]}`,
  );
}

interface Parts {
  readonly core: Core;
  readonly spaces: Spaces;
}

/**
 * What is wrong with the queue of deadlines of a key space, which is left as it is; nothing of one that is unknown. Under
 * the writer's lock, with nothing half-written.
 */
export function queueFaults(parts: Parts, space: SpaceState): string[] {
  const { core } = parts;
  const { expiry, heap } = core;
  const { isUnknown, live, entries } = expiry.facts(space.address);
  if (isUnknown) return [];
  const held = heldDeadlines(parts, space);
  const faults: string[] = [];
  if (live !== held.size) faults.push(`${live} records with a deadline are counted, ${held.size} are held`);
  if (entries > 1.45 * live + 256 + SLACK) faults.push(`${entries} entries for ${live} records`);
  if (entries === 0) return held.size === 0 ? faults : [...faults, "the queue is empty"];
  const pages = new ExpiryPages(heap);
  pages.open(expiry.queueOf(space.address));
  const memory = pinned(entries * ENTRY_BYTES);
  pages.read(memory.address, FIRST, entries);
  for (let index = FIRST; index < FIRST + entries; index += 1) {
    const at = index - FIRST;
    const deadlineMs = memory.f64[at * 2]!;
    const above = Math.floor(index / CHILDREN) + FIRST - 1;
    if (above >= FIRST && memory.f64[(above - FIRST) * 2]! > deadlineMs)
      faults.push(`entry ${index} of ${deadlineMs} lies under a later one`);
    const place = placeOf(core, memory.u32[at * 4 + 2]!, memory.u32[at * 4 + 3]!);
    if (held.get(place) === deadlineMs) held.delete(place);
  }
  for (const [place, deadlineMs] of held) faults.push(`${place} has no entry for ${deadlineMs}`);
  return faults;
}
