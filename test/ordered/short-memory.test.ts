/**
 * A change that finds no memory at any of its allocations: the tree is as before or after, and no copy of it passes for
 * present that is not.
 */

import { expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { Reclaim } from "../../src/ffi/reclaim.ts";
import type { Shape } from "../../src/ordered/node.ts";
import { OrderedIndex } from "../../src/ordered/ordered.ts";
import { Grove } from "./grove.ts";

/** Small, and large enough for inner nodes to be joined. */
const SHAPE: Shape = { capacity: 12, inlineBytes: 2, prefixBytesMax: 3 };
const KEYS = 800;
const keyOf = (index: number): Uint8Array => Buffer.from(`key ${String(index).padStart(4, "0")}`);

/** Lets the n-th allocation of `work` fail, counted from 1; false when it makes fewer. */
function failAt(grove: Grove, nth: number, work: () => void): boolean {
  const { heap } = grove;
  let calls = 0;
  for (const name of ["takeBlock", "takeUnit"] as const) {
    const take = heap[name].bind(heap);
    heap[name] = () => {
      calls += 1;
      // Where there is no memory there is none for what comes next either.
      if (calls >= nth) throw new EmdbError("EMDB_FULL", "the index is full");
      return take();
    };
  }
  try {
    work();
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
  } finally {
    Reflect.deleteProperty(heap, "takeBlock");
    Reflect.deleteProperty(heap, "takeUnit");
  }
  return calls >= nth;
}

interface TwoWriters {
  readonly live: ReadonlySet<number>;
  /** Lets the second one write a key. */
  readonly write: (index: number) => void;
}

/** A tree from which a stretch of keys is gone, and a second writer to it, whose copies around `at` are of the present. */
function twoWriters(grove: Grove, gone: { readonly from: number; readonly end: number }, at: number): TwoWriters {
  const { heap, flags, keys, tree } = grove;
  const other = new OrderedIndex(heap, new Reclaim(heap, flags, () => true), keys, SHAPE);
  for (let index = 0; index < KEYS; index += 1) grove.put(keyOf((index * 337) % KEYS), 0);
  for (let index = gone.from; index < gone.end; index += 1) grove.erase(keyOf(index));
  const live = new Set(
    Array.from({ length: KEYS }, (_, index) => index).filter((index) => index < gone.from || index >= gone.end),
  );
  const write = (index: number): void => {
    live.add(index);
    const units = keys.append(keyOf(index));
    if (other.find(tree, grove.probe(keyOf(index)), 0)) other.replace(units, false);
    else other.add(units, Infinity);
  };
  write(at);
  return { live, write };
}

test.each(["an erased key", "a new key"])(
  "after %s that found no memory another writer goes on in the tree as it is",
  (kind) => {
    let failures = 0;
    for (let round = 0; round < 40; round += 1) {
      for (let nth = 1, isMore = true; isMore; nth += 1) {
        using grove = new Grove({ shape: SHAPE, attached: 2 });
        const gone = { from: 20 + round, end: 180 + round * 3 };
        const at = gone.end + (round % 3);
        const { live, write } = twoWriters(grove, gone, at);
        const change = (): unknown => (kind === "a new key" ? grove.put(keyOf(at - 1), 0) : grove.erase(keyOf(at)));
        isMore = failAt(grove, nth, change);
        if (isMore) failures += 1;
        for (const index of [at, at - 1, at + 1]) write(index);
        const found = grove.range().map((units) => Buffer.from(grove.keys.keys[units]!).toString());
        const expected = [...live].sort((a, b) => a - b).map((index) => Buffer.from(keyOf(index)).toString());
        const where = `round ${round}, allocation ${nth}`;
        expect([where, found]).toEqual([where, expected]);
        expect([where, ...grove.check().faults]).toEqual([where]);
      }
    }
    expect(failures).toBeGreaterThan(10);
  },
);
