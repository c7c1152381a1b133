/**
 * A reader that is overtaken in the middle of a way down: whenever it asks where a node or a separator lies, the writer may
 * change the tree first, as often as it likes, and use again at once what no reader can be reading.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { hostSystem } from "../../src/ffi/host.ts";
import { Heap } from "../../src/ffi/heap.ts";
import { IDLE, RECLAIM_ERA, ROW_ERA_AT, ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import type { Shape } from "../../src/ordered/node.ts";
import { RangeReader, remainderOf, type Bound, type Remainder } from "../../src/ordered/range-reader.ts";
import { Random } from "../sim/random.ts";
import { Grove, KeyList, TINY } from "./grove.ts";

setDefaultTimeout(60_000);

const KEYS = 160;
const shapes: readonly Shape[] = [TINY, { capacity: 5, inlineBytes: 1, prefixBytesMax: 0 }];

/** In families with long beginnings, some of which end inside another: separators are short and long ones. */
function keyOf(index: number): Uint8Array {
  const stem = "stem ".repeat(1 + Math.floor(index / 40));
  return Buffer.from(index % 40 === 0 ? stem : `${stem}${String(index).padStart(4, "0")}`);
}

class Overtaken implements Disposable {
  readonly random: Random;
  readonly grove: Grove;
  readonly #reader: RangeReader;
  readonly live = new Set<number>();
  /** What was there when the walk began: somebody looks at it, so it stays. */
  #kept = new Set<number>();
  #chance = 0;

  constructor(seed: number, shape: Shape) {
    this.random = new Random(seed);
    this.grove = new Grove({ shape, attached: 2 });
    const { heap, numbers, keys } = this.grove;
    const theirs = new Heap(hostSystem(), numbers);
    theirs.blockAddress = (block) => (this.#overtake(), heap.blockAddress(block));
    theirs.unitAddress = (unit) => (this.#overtake(), heap.unitAddress(unit));
    this.#reader = new RangeReader(theirs, new KeyList(keys.keys), shape);
    this.grove.flags[ROW_THREAD_AT] = 1;
  }

  #overtake(): void {
    if (this.random.chance(this.#chance)) this.change();
  }

  /** Writes or takes away a stretch of keys, so that nodes of all levels come and go. */
  change(): void {
    const { grove, live } = this;
    const [first, isGrowing] = [this.random.below(KEYS), this.random.chance(0.5)];
    for (let count = this.random.below(40), step = 0; step < count; step++) {
      const index = (first + step) % KEYS;
      if (isGrowing) {
        grove.put(keyOf(index), 0);
        live.add(index);
      } else if (!this.#kept.has(index) && grove.erase(keyOf(index))) live.delete(index);
      grove.reclaim.finish();
    }
  }

  /** Takes most keys away, so that there are some to come. */
  thin(): void {
    for (const index of [...this.live])
      if (this.random.chance(0.7) && this.grove.erase(keyOf(index))) this.live.delete(index);
  }

  /** What one walk gives of the keys that were there when it began. */
  walk(rest: Remainder, chance: number): number[] {
    const { flags, keys, tree } = this.grove;
    const to = new Float64Array(8);
    const seen: number[] = [];
    this.#kept = new Set(this.live);
    for (let count = 1, parts = 0; count > 0; parts++) {
      flags[ROW_ERA_AT] = flags[RECLAIM_ERA]!;
      this.#chance = chance;
      count = this.#reader.take(tree, rest, to, 1 + this.random.below(to.length));
      this.#chance = 0;
      flags[ROW_ERA_AT] = IDLE;
      for (const units of to.subarray(0, count)) seen.push(INDEXES.get(Buffer.from(keys.keys[units]!).toString())!);
      if (parts > 10 * KEYS) throw new Error("a walk does not end");
      if (this.random.chance(0.2)) this.change();
    }
    const shown = seen.filter((index) => this.#kept.has(index));
    this.#kept = new Set();
    return shown;
  }

  [Symbol.dispose](): void {
    this.grove[Symbol.dispose]();
  }
}

const ALL = Array.from({ length: KEYS }, (_, index) => index).sort((a, b) => Buffer.compare(keyOf(a), keyOf(b)));
const INDEXES = new Map(ALL.map((index) => [Buffer.from(keyOf(index)).toString(), index]));

function run(seed: number, shape: Shape): void {
  using overtaken = new Overtaken(seed, shape);
  const { random, live } = overtaken;
  for (let round = 0; round < 60; round++) {
    overtaken.thin();
    overtaken.change();
    const bound = (): Bound => ({ key: keyOf(random.below(KEYS)), isInclusive: random.chance(0.5) });
    const lower = random.chance(0.4) ? bound() : undefined;
    const upper = random.chance(0.4) ? bound() : undefined;
    const isIn = (index: number): boolean => {
      const low = lower === undefined ? 1 : Buffer.compare(keyOf(index), lower.key);
      const high = upper === undefined ? -1 : Buffer.compare(keyOf(index), upper.key);
      return (low > 0 || (low === 0 && lower!.isInclusive)) && (high < 0 || (high === 0 && upper!.isInclusive));
    };
    const isReverse = random.chance(0.5);
    const expected = ALL.filter((index) => live.has(index) && isIn(index));
    const seen = overtaken.walk(remainderOf({ lower, upper, isReverse }), [0, 0.05, 0.5][round % 3]!);
    expect(isReverse ? seen.toReversed() : seen).toEqual(expected);
  }
  expect(overtaken.grove.check().faults).toEqual([]);
}

test("a reader that is overtaken on its way gives what was there when it began, in order and once", () => {
  for (const shape of shapes) {
    // In the last one a leaf gets a stretch, and keys in it, on the side that a walk steps to it from.
    for (const seed of [1, 2, 3, 4, 5, 6, 17]) {
      try {
        run(seed, shape);
      } catch (error) {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
      }
    }
  }
});
