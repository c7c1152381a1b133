/**
 * The tree against a sorted array, from a seed: tiny nodes whose entries tell two bytes, over keys that share long
 * prefixes, end early and repeat bytes, so that splits, joins, long separators and equal inline parts are the rule.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { randomFrom } from "../../bench/lib/data.ts";
import { FULL_SHAPE, type Shape } from "../../src/ordered/node.ts";
import type { Bound } from "../../src/ordered/range-reader.ts";
import { emulator } from "../support/platform.ts";
import { Grove, TINY } from "./grove.ts";

setDefaultTimeout(60_000);

/** The tree lies in memory alone, and no platform sees more of it than bytes. */
const SEEDS = emulator === undefined ? 12 : 3;

const ALPHABET = [0, 1, 0x61, 0xfe, 0xff];

interface Held {
  readonly key: Uint8Array;
  units: number;
  isTombstone: boolean;
}

/** Keys in order, as plainly as can be. */
class Model {
  readonly held: Held[] = [];

  at(key: Uint8Array): Held | undefined {
    return this.held.find((one) => Buffer.compare(one.key, key) === 0);
  }

  set(key: Uint8Array, units: number, isTombstone: boolean): void {
    const known = this.at(key);
    if (known === undefined) {
      this.held.push({ key, units, isTombstone });
      this.held.sort((a, b) => Buffer.compare(a.key, b.key));
    } else {
      known.units = units;
      known.isTombstone = isTombstone;
    }
  }

  drop(key: Uint8Array): void {
    const index = this.held.findIndex((one) => Buffer.compare(one.key, key) === 0);
    if (index >= 0) this.held.splice(index, 1);
  }

  range(bounds: { lower?: Bound; upper?: Bound; isReverse?: boolean }): number[] {
    const { lower, upper } = bounds;
    const found = this.held.filter(({ key }) => {
      const low = lower === undefined ? 1 : Buffer.compare(key, lower.key);
      const high = upper === undefined ? -1 : Buffer.compare(key, upper.key);
      return (low > 0 || (low === 0 && lower?.isInclusive)) && (high < 0 || (high === 0 && upper?.isInclusive));
    });
    const units = found.map((one) => one.units);
    return bounds.isReverse === true ? units.reverse() : units;
  }
}

function makeKey(random: () => number): Uint8Array {
  const pick = (count: number): number => Math.floor(random() * count);
  const stem = [[], [0x61], [0x61, 0x61, 0x61, 0x61, 0x61, 0x61], Array.from({ length: 90 }, () => 0xff)][pick(4)]!;
  const rest = Array.from({ length: pick(4) }, () => ALPHABET[pick(ALPHABET.length)]!);
  return new Uint8Array([...stem, ...rest]);
}

/** Purging drops tombstones from the tree whenever it likes: the model forgets those that are gone. */
function forgetPurged(model: Model, grove: Grove, keepFrom: number): void {
  const there = new Set(grove.range({}, 64));
  for (const one of model.held.slice()) {
    if (there.has(one.units)) continue;
    if (!one.isTombstone || one.units >= keepFrom) throw new Error(`position ${one.units} is lost`);
    model.drop(one.key);
  }
}

function expectSound(grove: Grove): void {
  expect(grove.check()).toMatchObject({ faults: [], tombstones: grove.countedTombstones });
}

/** One run of random operations; throws with the seed. */
function run(seed: number, shape: Shape, attached: number): void {
  using grove = new Grove({ shape, attached });
  const model = new Model();
  const random = randomFrom(seed);
  let keepFrom = Infinity;
  for (let step = 0; step < 400; step++) {
    const key = makeKey(random);
    const known = model.at(key);
    const last = random() < 0.8 ? (known?.units ?? 0) : 0;
    // Phases of growth and of decay.
    const growth = Math.floor(step / 100) % 2 === 0 ? 0.8 : 0.35;
    if (random() < 0.02) keepFrom = random() < 0.5 ? Infinity : grove.keys.keys.length;
    if (random() < growth || known === undefined) {
      model.set(key, grove.put(key, last, keepFrom), false);
    } else if (known.isTombstone || random() < 0.2) {
      // An old tombstone may be gone already.
      if (!grove.erase(key)) expect(known.isTombstone && known.units < keepFrom).toBe(true);
      model.drop(key);
    } else {
      model.set(key, grove.remove(key, last, keepFrom), true);
    }
    if (step % 16 === 0) grove.index.tidy(grove.tree, keepFrom, { records: 0, leaves: 3 });
    if (step % 8 !== 0) continue;
    expectSound(grove);
    forgetPurged(model, grove, keepFrom);
    for (let one = 0; one < 3; one++) {
      const bound = (): Bound => ({ key: makeKey(random), isInclusive: random() < 0.5 });
      const bounds = {
        ...(random() < 0.7 ? { lower: bound() } : {}),
        ...(random() < 0.7 ? { upper: bound() } : {}),
        isReverse: random() < 0.5,
      };
      expect(grove.range(bounds, 1 + Math.floor(random() * 5))).toEqual(model.range(bounds));
    }
  }
  forgetPurged(model, grove, keepFrom);
  for (const { key } of model.held) expect(grove.erase(key)).toBe(true);
  expectSound(grove);
  expect(grove.range()).toEqual([]);
  grove.index.retireTree(grove.tree);
}

const shapes: readonly (readonly [string, Shape])[] = [
  ["tiny nodes", TINY],
  ["nodes of five that tell one byte and leave out no prefix", { capacity: 5, inlineBytes: 1, prefixBytesMax: 0 }],
  ["nodes of seven that tell eight bytes", { capacity: 7, inlineBytes: 8, prefixBytesMax: 240 }],
  ["whole nodes", FULL_SHAPE],
];

for (const [name, shape] of shapes) {
  for (const attached of [1, 2]) {
    test(`a tree of ${name} is the sorted array, with ${attached === 1 ? "one handle" : "two"}`, () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        try {
          run(seed, shape, attached);
        } catch (error) {
          throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
        }
      }
    });
  }
}
