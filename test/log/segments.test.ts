/** Places that a table of moves gives for frames of files that compactions have replaced. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { PAIR_BYTES } from "../../src/log/moves.ts";
import { SEGMENT_COUNT_MAX, SEGMENT_NUMBERS, Segments } from "../../src/log/segments.ts";

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
