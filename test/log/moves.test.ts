/** A table of moves answers in both directions, whether it is being filled or whole, whatever was left out between the rest. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { Moves, PAIR_BYTES, leftOutOf, removalOf } from "../../src/log/moves.ts";
import { Random } from "../sim/random.ts";

interface Frame {
  readonly former: number;
  /** Where the copy is; 0 for a frame that was left out. */
  readonly present: number;
  readonly held: number;
}

/** Frames at random, and the pairs that stand for them; `leftOut` is the chance that one is left out. */
function draw(random: Random, count: number, leftOut: number): { frames: Frame[]; pairs: number[] } {
  const frames: Frame[] = [];
  const pairs: number[] = [];
  // Far up, where quarters of a unit are as small as they get beside it.
  let former = 2 ** 50 - 500 * count;
  let present = 512;
  while (pairs.length < 2 * count) {
    // Mostly close together, and far apart now and then: where a pair stands cannot be told from those around it.
    former += 3 + random.below(random.chance(0.1) ? 900 : 10);
    if (random.chance(leftOut)) {
      // Of its versions before it, one or none was copied.
      const held = random.chance(0.2) ? 0 : 512 + random.below(present);
      frames.push({ former, present: 0, held });
      if (held !== 0) pairs.push(leftOutOf(former), held);
      continue;
    }
    present += 3 + random.below(40);
    const isRemoval = random.chance(0.3);
    frames.push({ former, present, held: isRemoval ? 0 : present });
    pairs.push(isRemoval ? removalOf(former) : former, present);
  }
  return { frames, pairs };
}

function expectFound(moves: Moves, frames: readonly Frame[]): void {
  const wrong = frames.filter(({ former, present, held }) => {
    const isNamed = moves.beforeNext(former) === (present === 0 ? held : present);
    const isThere = moves.present(former) === present && moves.heldAt(former) === held && isNamed;
    return !isThere || moves.present(former + 1) !== 0 || moves.heldAt(former + 1) !== 0;
  });
  expect(wrong).toEqual([]);
}

function expectFoundBack(moves: Moves, frames: readonly Frame[]): void {
  expect(frames.filter(({ former, present }) => present !== 0 && moves.former(present) !== former)).toEqual([]);
  const presents = new Set(frames.map(({ present }) => present));
  const strays = frames.filter(({ present }) => !presents.has(present + 1) && moves.former(present + 1) !== 0);
  expect(strays).toEqual([]);
}

/** Many at once, in any order, with positions of the new file among them. */
function expectFollowed(moves: Moves, frames: readonly Frame[], random: Random): void {
  const next = 2 ** 50;
  const asked = frames.flatMap(({ former }) => [former, former + 1, next + random.below(1000)]);
  asked.sort(() => random.below(3) - 1);
  const expected = asked.map((units) => {
    const place = units >= next ? 0 : moves.present(units);
    return units >= next ? units : place === 0 ? 0 : next + place;
  });
  const units = Float64Array.from([...asked, 600]);
  moves.follow(units, asked.length, next);
  expect([...units]).toEqual([...expected, 600]);
}

test.each([0, 0.02, 0.5, 0.98, 0.999])("of 1 to 2000 pairs, a share of %d of which was left out", (leftOut) => {
  const random = new Random(77);
  for (const count of [1, 2, 63, 64, 65, 200, 2000]) {
    const { frames, pairs } = draw(random, count, leftOut);
    const memory = pinned(count * PAIR_BYTES);
    const filling = new Moves((to, first, some) => {
      to.f64.set(memory.f64.subarray(first * 2, (first + some) * 2));
    });
    for (let pair = 0; pair < count; pair += 1) {
      memory.f64.set(pairs.slice(pair * 2, pair * 2 + 2), pair * 2);
      filling.note(pairs[pair * 2]!);
    }
    expectFound(filling, frames);
    const whole = Moves.at(memory.address, count);
    expectFound(whole, frames);
    expectFoundBack(whole, frames);
    expectFollowed(whole, frames, random);
  }
});

test("of no pairs", () => {
  const moves = Moves.at(pinned(PAIR_BYTES).address, 0);
  expect([moves.present(600), moves.heldAt(600), moves.former(600)]).toEqual([0, 0, 0]);
});
