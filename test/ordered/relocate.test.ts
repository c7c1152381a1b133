/** Positions replaced in a tree by others of the same keys, a few leaves at a time, while it changes in between. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { randomFrom } from "../../bench/lib/data.ts";
import type { Translate } from "../../src/ffi/positions.ts";
import { FULL_SHAPE } from "../../src/ordered/node.ts";
import { remainderOf } from "../../src/ordered/range-reader.ts";
import { Grove, TINY } from "./grove.ts";

setDefaultTimeout(60_000);

/** A second place for every key that is held, as a compaction makes them. */
class Move {
  readonly #grove: Grove;
  readonly #places = new Map<number, number>();
  readonly #ours = new Set<number>();
  /** Positions of removals, which nobody needs any more. */
  readonly #removals: ReadonlySet<number>;
  calls = 0;

  constructor(grove: Grove, removals: ReadonlySet<number> = new Set()) {
    this.#grove = grove;
    this.#removals = removals;
  }

  readonly translate: Translate = (units, count) => {
    this.calls += count;
    for (let index = 0; index < count; index++) units[index] = this.#placeOf(units[index]!);
  };

  #placeOf(units: number): number {
    if (this.#ours.has(units)) return units;
    if (this.#removals.has(units)) return 0;
    let place = this.#places.get(units);
    if (place === undefined) {
      place = this.#grove.keys.append(this.#grove.keys.keys[units]!);
      this.#places.set(units, place);
      this.#ours.add(place);
    }
    return place;
  }

  /** A frame that was written behind the move is where it stays. */
  own(units: number): void {
    this.#ours.add(units);
  }

  hasMoved(units: number): boolean {
    return this.#ours.has(units);
  }
}

const randomKey = (random: () => number): Uint8Array =>
  Uint8Array.from({ length: 1 + Math.floor(random() * 5) }, () => Math.floor(random() * 3) * 127);

for (const [name, shape] of [
  ["tiny", TINY],
  ["whole", FULL_SHAPE],
] as const) {
  for (const attached of [1, 2]) {
    test(`every entry of a tree of ${name} nodes moves, and no other thing changes, with ${attached} attached`, () => {
      for (let seed = 1; seed <= 20; seed++) {
        using grove = new Grove({ shape, attached });
        const random = randomFrom(seed);
        const held = new Map<string, { key: Uint8Array; units: number }>();
        const removals = new Set<number>();
        const put = (key: Uint8Array, move?: Move): void => {
          const units = grove.put(key, held.get(key.toHex())?.units ?? 0, 0);
          move?.own(units);
          held.set(key.toHex(), { key, units });
        };
        const remove = (key: Uint8Array, move?: Move): void => {
          const known = held.get(key.toHex());
          if (known === undefined) return;
          // The tree may hold the old or the new place of the frame: the key decides.
          const units = grove.remove(key, known.units, 0);
          if (move === undefined) removals.add(units);
          else move.own(units);
          held.delete(key.toHex());
        };
        for (let step = 0; step < 300; step++) put(randomKey(random));
        for (let step = 0; step < 40; step++) remove(randomKey(random));
        const move = new Move(grove, removals);
        let from: Uint8Array | undefined;
        do {
          from = grove.index.relocate(grove.tree, from, { leaves: 2, translate: move.translate });
          for (let step = 0; step < 3; step++) {
            if (random() < 0.5) put(randomKey(random), move);
            else remove(randomKey(random), move);
          }
          expect(grove.check()).toMatchObject({ faults: [], tombstones: grove.countedTombstones });
        } while (from !== undefined);
        const found: string[] = [];
        grove.check((units, isTombstone) => {
          if (!isTombstone) found.push(grove.keys.keys[units]!.toHex());
          if (!move.hasMoved(units)) throw new Error(`seed ${seed}: position ${units} has not moved`);
        });
        expect(found).toEqual(
          [...held.values()].sort((a, b) => Buffer.compare(a.key, b.key)).map(({ key }) => key.toHex()),
        );
      }
    });
  }
}

test("a call looks at no more leaves than it was told to", () => {
  using grove = new Grove();
  const random = randomFrom(1);
  for (let step = 0; step < 5000; step++)
    grove.put(
      Uint8Array.from({ length: 8 }, () => random() * 256),
      0,
    );
  const move = new Move(grove);
  const next = grove.index.relocate(grove.tree, undefined, { leaves: 3, translate: move.translate });
  expect(next).toBeDefined();
  expect(move.calls).toBeLessThanOrEqual(3 * FULL_SHAPE.capacity);
  expect(move.calls).toBeGreaterThan(3);
});

test("a reader on its way sees each key once, at its old place or its new one", () => {
  using grove = new Grove({ shape: TINY, attached: 2 });
  const keys = Array.from({ length: 100 }, (_, index) => new Uint8Array([index >> 4, index & 15, 1]));
  for (const key of keys) grove.put(key, 0);
  const rest = remainderOf({});
  const to = new Float64Array(3);
  const seen: string[] = [];
  const move = new Move(grove);
  let from: Uint8Array | undefined;
  for (
    let count = grove.reader.take(grove.tree, rest, to, to.length);
    count > 0;
    count = grove.reader.take(grove.tree, rest, to, to.length)
  ) {
    for (const units of to.subarray(0, count)) seen.push(grove.keys.keys[units]!.toHex());
    from = grove.index.relocate(grove.tree, from, { leaves: 4, translate: move.translate });
  }
  expect(seen).toEqual(keys.map((key) => key.toHex()));
});

test("a reader that holds copies of nodes sees the new positions at its next look", () => {
  using grove = new Grove();
  for (let key = 0; key < 9; key++) grove.put(new Uint8Array([key]), 0);
  expect(grove.range()).toHaveLength(9);
  const move = new Move(grove);
  expect(grove.index.relocate(grove.tree, undefined, { leaves: 1, translate: move.translate })).toBeUndefined();
  expect(grove.range().filter((units) => !move.hasMoved(units))).toEqual([]);
});
