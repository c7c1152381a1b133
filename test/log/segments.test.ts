/** Places that a table of moves gives for frames of files that compactions have replaced. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import type { Address } from "../../src/ffi/system.ts";
import { PAIR_BYTES } from "../../src/log/moves.ts";
import { SEGMENT_COUNT_MAX, SEGMENT_NUMBERS, Segments, type SegmentFacts } from "../../src/log/segments.ts";

test("a place that a table of moves gives by rot leads nowhere, and never in a circle", () => {
  const base = 2 ** 21;
  const next = 2 ** 22;
  const lsn = base + 800;
  const table = pinned(PAIR_BYTES);
  for (const [place, present] of [
    [next + 512, next + 512],
    [lsn, 0],
    [lsn - 8, 0],
    [base, 0],
    [NaN, 0],
  ] as const) {
    const words = {
      numbers: new Float64Array(SEGMENT_COUNT_MAX * SEGMENT_NUMBERS + 1),
      flags: new Int32Array(1),
    };
    const segments = new Segments(words, { first: 1, fence: 0 });
    table.f64[0] = lsn / 8;
    table.f64[1] = (place - next) / 8;
    const moves = { address: table.address, pairs: 1, bytes: PAIR_BYTES };
    segments.add(segments.free(), { base, end: base + 8000, origin: 0, next, generation: 1, session: 0, moves });
    const follow = segments.follow.bind(segments);
    let steps = 0;
    segments.follow = (at, from) => {
      steps += 1;
      if (steps > 10) throw new Error("it goes in a circle");
      return follow(at, from);
    };
    expect([place, segments.present(lsn)]).toEqual([place, present]);
  }
});

const BASE = 2 ** 21;
const BYTES = 2 ** 20;

/** What an entry of the table says of the file of a number; each file is as long as there is room for up to the next one. */
function factsOf(number: number, table: Address): SegmentFacts {
  const base = BASE + number * BYTES;
  const moves = { address: table, pairs: 3, bytes: 3 * PAIR_BYTES };
  return {
    base,
    end: base + BYTES,
    origin: 64 * number,
    next: base + BYTES,
    generation: 5 + number,
    session: 96,
    moves,
  };
}

/** A table among other words, which it has to leave alone. */
function tableAmongOthers(): { readonly segments: Segments; readonly numbers: Float64Array } {
  const numbers = new Float64Array(SEGMENT_COUNT_MAX * SEGMENT_NUMBERS + 20).fill(-7);
  numbers.fill(0, 10, 10 + SEGMENT_COUNT_MAX * SEGMENT_NUMBERS);
  return { segments: new Segments({ numbers, flags: new Int32Array(1) }, { first: 10, fence: 0 }), numbers };
}

test("eight files are told apart by their positions and bases, whichever entries they have, and nothing else is changed", () => {
  const { segments, numbers } = tableAmongOthers();
  const { address } = pinned(PAIR_BYTES);
  const entries: number[] = [];
  expect([segments.list(), segments.oldestInUse, segments.holding(BASE)]).toEqual([[], undefined, 0]);
  // The newest first: the order of the entries is not that of the files.
  for (let number = SEGMENT_COUNT_MAX - 1; number >= 0; number--) {
    entries[number] = segments.free();
    expect(segments.holding(BASE + number * BYTES)).toBe(0);
    segments.add(entries[number]!, factsOf(number, address));
    segments.file(entries[number]!).numbers[segments.file(entries[number]!).handleAt] = 100 + number;
    segments.movesFile(entries[number]!).numbers[segments.movesFile(entries[number]!).handleAt] = 200 + number;
    for (const file of [segments.file(entries[number]!), segments.movesFile(entries[number]!)])
      file.numbers[file.stateAt] = 300 + number;
  }
  expect([segments.free(), new Set(entries).size, segments.list()]).toEqual([0, SEGMENT_COUNT_MAX, entries]);
  for (const [number, at] of entries.entries()) {
    const facts = factsOf(number, address);
    const { base, end, origin, generation, session } = facts;
    expect(segments.facts(at)).toEqual(facts);
    expect([segments.base(at), segments.end(at), segments.origin(at)]).toEqual([base, end, origin]);
    expect([segments.generation(at), segments.session(at), segments.neededTo(at)]).toEqual([generation, session, 0]);
    expect([segments.holding(base), segments.holding(end - 8), segments.ofBase(base)]).toEqual([at, at, at]);
    const [file, moves] = [segments.file(at), segments.movesFile(at)];
    expect([numbers[file.handleAt], numbers[moves.handleAt]]).toEqual([100 + number, 200 + number]);
    expect([numbers[file.stateAt], numbers[moves.stateAt]]).toEqual([300 + number, 300 + number]);
  }
  expect([segments.holding(BASE - 8), segments.holding(BASE + SEGMENT_COUNT_MAX * BYTES)]).toEqual([0, 0]);
  expect([segments.ofBase(BASE + 8), segments.ofBase(-7)]).toEqual([0, 0]);
  expect([numbers.subarray(0, 10), numbers.subarray(-10)].every((others) => others.every((word) => word === -7))).toBe(
    true,
  );
});

test("an entry that is given up says to where and when, is in use until its positions are left, and is empty when it is used anew", () => {
  const { segments } = tableAmongOthers();
  const { address } = pinned(PAIR_BYTES);
  const [first, second] = [0, 1].map((number) => {
    const at = segments.free();
    segments.add(at, factsOf(number, address));
    return at;
  }) as [number, number];
  expect(segments.oldestInUse).toBe(first);
  segments.giveUp(first, 800, 33);
  expect([segments.neededTo(first), segments.era(first), segments.neededTo(second)]).toEqual([800, 33, 0]);
  segments.leavePositions(first);
  expect([segments.neededTo(first) < 0, segments.oldestInUse]).toEqual([true, second]);
  segments.drop(first);
  expect([segments.list(), segments.holding(BASE), segments.ofBase(BASE), segments.free()]).toEqual([
    [second],
    0,
    0,
    first,
  ]);
  // Who dies while an entry is freed leaves some of it.
  segments.giveUp(first, 800, 33);
  segments.add(first, factsOf(2, address));
  expect([segments.neededTo(first), segments.era(first), segments.facts(first)]).toEqual([0, 0, factsOf(2, address)]);
});

test("a frame is followed through the files that replaced its own, to its place now and back to the one before", () => {
  const { segments } = tableAmongOthers();
  const pairs = [
    [512, 512],
    [1024, 600],
    [4096, 608],
  ] as const;
  const table = pinned(pairs.length * PAIR_BYTES);
  const entries = [0, 1].map((number) => {
    const base = BASE + number * BYTES;
    for (const [index, [former, present]] of pairs.entries()) {
      table.f64[2 * index] = base / 8 + former;
      table.f64[2 * index + 1] = present;
    }
    const copied = pinned(pairs.length * PAIR_BYTES);
    copied.f64.set(table.f64);
    const at = segments.free();
    segments.add(at, { ...factsOf(number, copied.address) });
    return { at, copied, base };
  });
  const [older, newer] = entries as [(typeof entries)[0], (typeof entries)[0]];
  expect(segments.follow(older.at, older.base + 1024 * 8)).toBe(newer.base + 600 * 8);
  expect(segments.follow(older.at, older.base + 1032 * 8)).toBe(0);
  // The second file has no frame at 600 that was copied on; the first place is the first one in both.
  const current = BASE + 2 * BYTES;
  expect(segments.present(older.base + 512 * 8)).toBe(current + 512 * 8);
  expect(segments.present(older.base + 1024 * 8)).toBe(0);
  expect(segments.present(newer.base + 4096 * 8)).toBe(current + 608 * 8);
  expect(segments.present(current + 8)).toBe(current + 8);
  expect(segments.former(current + 608 * 8, current)).toBe(newer.base + 4096 * 8);
  expect([segments.former(current + 616 * 8, current), segments.former(current, current + BYTES)]).toEqual([0, 0]);
  const units = new Float64Array([older.base / 8 + 4096, older.base / 8 + 1, newer.base / 8 + 4096, 9]);
  segments.followMany(older.at, units, 3);
  expect([...units]).toEqual([newer.base / 8 + 608, 0, newer.base / 8 + 4096, 9]);
  expect(segments.moves(older.at)).toBe(segments.moves(older.at));
});

test("what was learned of a table of moves is kept as long as its file is there, and no longer", () => {
  const { segments } = tableAmongOthers();
  const table = pinned(PAIR_BYTES);
  [table.f64[0], table.f64[1]] = [BASE / 8 + 512, 700];
  const [first, second] = [0, 1].map((number) => {
    const at = segments.free();
    segments.add(at, {
      ...factsOf(number, table.address),
      moves: { address: table.address, pairs: 1, bytes: PAIR_BYTES },
    });
    return at;
  }) as [number, number];
  const learned = [segments.moves(first), segments.moves(second)] as const;
  segments.drop(first);
  const third = segments.free();
  segments.add(third, factsOf(2, table.address));
  segments.moves(third);
  expect(segments.moves(second)).toBe(learned[1]);
  segments.drop(third);
  segments.add(segments.free(), factsOf(0, table.address));
  expect(segments.moves(segments.ofBase(BASE))).not.toBe(learned[0]);
});
